"""Checks of what files hold: arrays as columns of one length, values with their offsets, and errors that name file and remedy.

A column of varying length is two arrays, ``x`` and ``x.offsets``, or three where more than the first axis varies, with
``x.shapes``: the parts of a `Ragged`.
"""

import re
import struct
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeAlias

from datarax_core.errors import ConfigError, DataFileError, SpecError
from datarax_core.records import Ragged

REMEDY: Final = "write it with numpy.savez or numpy.save, without object fields"

OFFSETS: Final = ".offsets"
SHAPES: Final = ".shapes"
"""Endings of the names of arrays that belong to one of values."""

Place: TypeAlias = Path | str
"""A path of this machine, or an address as it may be shown."""

_SHARD: Final = re.compile(r"-\d{5,}-of-\d{5,}")

_DAMAGE: Final = (
    *(ValueError, TypeError, SyntaxError, RuntimeError, OSError, EOFError, OverflowError, MemoryError),
    *(LookupError, SystemError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
"""The exceptions that NumPy and zipfile were seen to raise on damaged or foreign files."""


def parts_of(name: str, column: Any) -> list[str]:
    """Return the names of the arrays in the file of which a column, called ``name`` there, was made."""
    if None not in column.shape:
        return [name]
    return [name, name + OFFSETS, *([name + SHAPES] if column.shapes is not None else [])]


def ragged_names(found: Collection[str], wanted: Collection[str]) -> list[str]:
    """Return the names of the arrays that are the values of ragged columns: with offsets that are no column of their own."""
    return [name for name in found if name + OFFSETS in found and name + OFFSETS not in wanted]


def joined_parts(
    arrays: Mapping[str, Any], wanted: Collection[str], path: Place, join: Callable[..., Any] = Ragged
) -> dict[str, Any]:
    """Return arrays as columns: values with their offsets, and shapes, as one ragged column each, which ``join`` makes.

    Raises:
        DataFileError: The parts do not fit one another.
    """
    columns: dict[str, Any] = dict(arrays)
    for name in ragged_names(arrays, wanted):
        values, offsets, shapes = columns[name], columns.pop(name + OFFSETS), columns.pop(name + SHAPES, None)
        try:
            columns[name] = join(values, offsets, shapes)
        except SpecError as cause:
            parts = "offsets" if shapes is None else "offsets and shapes"
            raise DataFileError(
                str(path),
                f"{name!r} in {path} does not fit its {parts}: {cause}; save the parts of one ragged column, or leave out what "
                "belongs to other data",
            ) from cause
    return columns


def require_columns(arrays: Mapping[str, Any], path: Place, chosen: Mapping[str, str] | None) -> None:
    """Raise unless arrays are columns: of one length, and of dtypes that NumPy's files keep.

    Raises:
        DataFileError: Names the arrays, and says which of them could be chosen.
    """
    for name, array in arrays.items():
        if array.dtype.kind == "V" and array.dtype.names is None:
            raise DataFileError(
                str(path),
                f"field {name!r} of {path} is {array.dtype}, raw bytes: NumPy's files forget dtypes such as bfloat16; "
                "save it as float32",
            )
    lengths = {name: len(array) if array.ndim else None for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or None in lengths.values():
        found = ", ".join(f"{n!r} is a scalar" if k is None else f"{n!r} has {k}" for n, k in lengths.items())
        example = _columns_option(_of_one_length(lengths), chosen or {})
        raise DataFileError(
            str(path),
            f"the arrays in {path} are no columns of one length: {found}; each record needs a value in every field"
            + (f": choose those that belong together, such as columns: {example}" if example else ""),
        )


def _columns_option(fields: Sequence[str], chosen: Mapping[str, str]) -> str:
    """Return the option ``columns`` that chooses some fields, under the names that they have now; "" for none."""
    if any(chosen.get(field, field) != field for field in fields):
        return "{" + ", ".join(f"{field}: {chosen[field]}" for field in fields) + "}"
    return f"[{', '.join(fields)}]" if fields else ""


def _of_one_length(lengths: Mapping[str, int | None]) -> list[str]:
    """Return the names of the arrays of the first length that the most arrays have."""
    counts = Counter(length for length in lengths.values() if length is not None)
    return [name for name, length in lengths.items() if counts and length == counts.most_common(1)[0][0]]


def chosen_names(found: Iterable[str], wanted: AbstractSet[str] | None, path: Place) -> list[str]:
    """Return the names that are wanted, in the order of the file; raise if one is missing."""
    names = list(found)
    if wanted is None:
        return names
    for name in sorted(wanted - set(names)):
        close = get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "name one of these"
        raise DataFileError(
            str(path),
            f"columns names {name!r}, which {path} does not have; it has {', '.join(map(repr, names))}; {hint}",
        )
    parts = {name + part for name in wanted if name + OFFSETS in names for part in (OFFSETS, SHAPES)}
    return [name for name in names if name in wanted or name in parts]


def require_no_shard(name: str, file: Place, folder: Place) -> None:
    """Raise if an ``.npy`` file is one shard of a field, by its name.

    Raises:
        DataFileError: Says what to do.
    """
    stem = name.removesuffix(".npy")
    if shard := _SHARD.search(stem):
        raise DataFileError(
            str(file),
            f"the folder {folder} holds shards, such as {name}, and each .npy file is read as a whole field; join "
            f"them to one {stem.replace(shard[0], '')}.npy",
        )


@contextmanager
def load_errors(path: Place, field: str | None = None) -> Iterator[None]:
    """Turn errors of NumPy and zipfile into a `DataFileError` that names the file, the field and the remedy."""
    place = path if field is None else f"{field!r} in {path}"
    try:
        yield
    except (ConfigError, DataFileError, FileNotFoundError, ConnectionError, TimeoutError):
        raise
    except PermissionError as cause:
        if cause.errno is None:
            raise
        raise PermissionError(f"{place} may not be read: permission denied; make it readable for this user") from cause
    except zipfile.BadZipFile as cause:
        if not str(cause).startswith("Bad CRC-32"):
            raise DataFileError(str(path), f"{place} cannot be loaded: {cause}; {REMEDY}") from cause
        raise DataFileError(
            str(path), f"{place} is damaged: its content differs from its checksum ({cause}); restore the file"
        ) from cause
    except _DAMAGE as cause:
        raise DataFileError(str(path), f"{place} cannot be loaded: {cause}; {REMEDY}") from cause
