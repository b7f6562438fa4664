"""Which fields of a data set are served, and by which names."""

from collections.abc import Iterable
from typing import Any, Final

from datarax_tfds.backends import tensorflow_datasets
from datarax_tfds.config import TFDSConfigBase

SUPERVISED: Final = ("image", "label")
"""The names by which an (input, target) pair is served."""


def served_fields(
    config: TFDSConfigBase, features: Any, supervised_keys: Any, full_name: str
) -> tuple[tuple[str, str], ...]:
    """The name by which each field is served, and its name in the data set.

    Raises:
        ValueError: A key is unknown, or none is left; the data set has no fields, or no (input, target) pair.
    """
    if not isinstance(features, tensorflow_datasets().features.FeaturesDict):
        raise ValueError(  # noqa: TRY004 - it is the data set that has another type
            f"the records of {full_name} are of {type(features).__name__}, without names for their fields; only data sets "
            "whose features are a FeaturesDict are served"
        )
    if not config.as_supervised:
        return tuple((key, key) for key in config.kept_keys(sorted(features.keys())))
    return tuple(zip(SUPERVISED, _pair(supervised_keys, features.keys(), full_name), strict=True))


def _pair(supervised_keys: Any, fields: Iterable[str], full_name: str) -> tuple[str, str]:
    remedy = "leave as_supervised out, and choose fields by include_keys"
    if supervised_keys is None:
        raise ValueError(
            f"as_supervised has no use for {full_name}, which does not say what its input and target are; {remedy}: its "
            f"fields are {', '.join(map(repr, sorted(fields)))}"
        )
    if len(supervised_keys) != len(SUPERVISED) or not all(isinstance(key, str) for key in supervised_keys):
        raise ValueError(
            f"as_supervised serves an input and a target that are a field each, but those of {full_name} are "
            f"{supervised_keys!r}; {remedy}"
        )
    return supervised_keys[0], supervised_keys[1]
