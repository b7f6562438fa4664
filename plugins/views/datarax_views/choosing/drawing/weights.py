"""Weights of records: from an array, a file, a field, or so that each class has the same."""

from pathlib import Path
from typing import Any

import numpy as np

from datarax_core.errors import SpecError
from datarax_core.records import describe, fits_device, named_fields
from datarax_core.sources import DataSourceModule, field_struct, kept_table
from datarax_views.choosing.classes import Classes
from datarax_views.choosing.index_files import loaded_array


def checked_weights(weights: Any, source: DataSourceModule, origin: str) -> np.ndarray:
    """Return weights as float64 (num_records,).

    Args:
        weights: Numbers, one for each record of the source.
        source: The source.
        origin: Where they come from, for errors, such as ``weights`` or ``field 'quality'``.

    Raises:
        TypeError: They are no numbers.
        ValueError: There is another number of them than of records, one is negative or not finite, or all are zero.
    """
    title, length = source.title, source.num_records
    given = np.asarray(weights)
    if given.dtype.kind not in "biuf" and not (given.dtype.kind == "V" and fits_device(given.dtype)):
        raise TypeError(f"{origin} of {title} are {given.dtype}, and weights are numbers, one for each record")
    if given.shape != (length,):
        raise ValueError(
            f"{origin} of {title} have shape {list(given.shape)}, and it has {length:,} records; give each record one weight"
        )
    checked = given.astype(np.float64, copy=False)
    for is_wrong, kind in ((np.isnan(checked), "NaN"), (np.isinf(checked), "infinite"), (checked < 0, "negative")):
        if is_wrong.any():
            record = int(np.argmax(is_wrong))
            raise ValueError(
                f"{origin} of {title} are {kind} for {np.count_nonzero(is_wrong):,} of {length:,} records, the first is record "
                f"{record} with {given[record]}; weights are finite numbers from 0"
            )
    if not checked.any():
        raise ValueError(f"{origin} of {title} are all zero: nothing would be drawn; give one record a weight at least")
    return checked


def weights_of_file(path: str, source: DataSourceModule) -> np.ndarray:
    """Return the weights in an ``.npy`` file, float64 (num_records,).

    Raises:
        FileNotFoundError: There is no such file.
        DataFileError, TypeError, ValueError: It holds no weights of this source.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"there is no file {path!r}, which should hold the weights of {source.title}; a name without .npy is a field"
        )
    return checked_weights(loaded_array(path), source, f"the weights in {path!r}")


def weights_of_field(field: str, source: DataSourceModule) -> np.ndarray:
    """Return the values of a field as weights, float64 (num_records,).

    They are taken from memory or from a mapped file if the source has them there; else one pass over the records reads them,
    and what it found is kept in the cache folder.

    Raises:
        SpecError: There is no such field, or it is not one number a record.
        ValueError: Its values are no weights; names the record.
    """
    struct = field_struct(source, field)
    if struct.shape or struct.dtype.kind == "c" or not fits_device(struct.dtype):
        shown = describe(source.element_spec())[field]
        raise SpecError(f"field {field!r} of {source.title} is {shown}, and weights are one number a record")
    column = source.whole_column(field)
    if column is None:
        column = kept_table(
            source,
            lambda batch, indices: np.asarray(named_fields(batch)[field]),  # noqa: ARG005 - as every pass is called
            key={"column": field},
            dtype=struct.dtype,
            fields=(field,),
            what=f"read {field}",
        )
    return checked_weights(column, source, f"the values of field {field!r}")


def balancing_weights(classes: Classes) -> np.ndarray:
    """Return float64 (n,): the weight of each record with which all classes are drawn equally often."""
    weights: np.ndarray = (1.0 / classes.counts)[classes.codes]
    return weights
