"""Splits such as ``train[:200]+test[10%:]``: their form, and their parts of files, by TFDS's own arithmetic."""

import ast
import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, Final, Literal, TypeAlias

from datarax_core.errors import did_you_mean

from .backends import tensorflow_datasets

FileFormat: TypeAlias = Literal["array_record", "tfrecord"]
"""Formats of files that are read without TensorFlow."""

_JOINED: Final = re.compile(r"\s*\+\s*")
_BOUND: Final = r"(?:-?\d+(?:_\d+)*(?:\.\d+)?(?:%|shard)?)?"
_SLICED: Final = re.compile(rf"(?P<split>[\w-]+)(?:\[(?P<start>{_BOUND})(?P<colon>:(?P<stop>{_BOUND}))?\])?")
_FORMS: Final = "write train, train[:200], train[10%:90%], train[-2shard:], all, or several joined by +"
_EVEN_SPLITS: Final = "even_splits("


@dataclass(frozen=True, slots=True)
class FilePart:
    """The records ``start .. stop`` of a file; the records of a split are the records of its parts, one part after another."""

    path: str
    start: int
    stop: int
    records_in_file: int
    """Records that the file should have, as the data set describes it; readers check the file against this number."""

    @property
    def num_records(self) -> int:
        """Number of records of this part."""
        return self.stop - self.start


def split_text(value: Any) -> Any:
    """Return a split as text: TFDS's split objects, such as ``tfds.even_splits(...)[k]``, are written out; text is unchanged.

    Any other value is returned unchanged, for the config to refuse.

    Raises:
        ValueError: The value is a split object of TFDS that no text can express.
    """
    if isinstance(value, str):
        return str(value)
    if not type(value).__module__.startswith("tensorflow_datasets."):
        return value
    class_name = type(value).__name__
    if class_name == "ReadInstruction" and (value.unit != "%" or value.rounding == "closest"):
        unit = "" if value.unit == "abs" else value.unit
        start, stop = ("" if bound is None else f"{bound}{unit}" for bound in (value.from_, value.to))
        return f"{value.split_name}[{start}:{stop}]" if start or stop else value.split_name
    if class_name == "_SplitAll":
        return "all"
    if class_name == "_EvenSplit":
        drop = ", drop_remainder=True" if value.drop_remainder else ""
        return f"even_splits({split_text(value.split)!r}, n={value.count}{drop})[{value.index}]"
    if class_name == "_SplitAdd":
        both = [split_text(value.left), split_text(value.right)]
        if not any(text.startswith(_EVEN_SPLITS) for text in both):
            return "+".join(both)
    raise ValueError(f"{value!r:.200} cannot be written as a text, as a config has it; {_FORMS}")


def require_form(text: str) -> None:
    """Raise if a text cannot be a split of any data set.

    Raises:
        ValueError: The text has no valid form; the message says what is wrong with it.
    """
    if text.startswith(_EVEN_SPLITS):
        require_form(_even_split(text).split)
        return
    for piece in _JOINED.split(text):
        match = _SLICED.fullmatch(piece)
        start, stop = (match["start"], match["stop"]) if match else (None, None)
        if match is None or (start == "" and not stop):
            of = "" if piece == text else f", in {text!r:.200},"
            raise ValueError(f"{piece!r:.200}{of} is no split, nor a slice of one; {_FORMS}")
        if start is None:
            continue
        if match["split"] == "all":
            raise ValueError(f"{piece!r:.200}: all cannot be sliced; slice what it joins: train[:10%]+test[:10%]")
        if not match["colon"] and not start.endswith("shard"):
            raise ValueError(f"{piece!r:.200} is one record, not a slice; write {match['split']}[a:b]")
        _require_bounds(piece, start, stop or "")


def split_parts(splits: Mapping[str, Any], text: str, full_name: str) -> tuple[FilePart, ...]:
    """Return the parts of files that make up a split, in the order in which TFDS counts their records.

    Args:
        splits: The splits of TFDS's ``DatasetInfo``, by name.
        text: The split, such as ``train[:200]``.
        full_name: Name of the data set, for messages.

    Raises:
        ValueError: There is no such split, a slice goes beyond its records, or the split or a slice of it is empty.
    """
    pieces = [text] if text.startswith(_EVEN_SPLITS) else _JOINED.split(text)
    for piece in pieces:
        _require_name(splits, piece, full_name)
    return tuple(part for piece in pieces for part in _piece_parts(splits, piece, text, full_name))


def _piece_parts(splits: Mapping[str, Any], piece: str, text: str, full_name: str) -> tuple[FilePart, ...]:
    whole = f"split {piece!r}" if piece == text else f"{piece!r}, in the split {text!r},"
    try:
        found = splits[tfds_split(piece)].file_instructions
    except ValueError as beyond:
        if piece in splits:  # a whole split is never too long: its description is damaged
            raise DamagedSplit(piece, beyond) from beyond
        raise ValueError(f"{whole} goes beyond the records of {full_name}: {described(splits)}") from beyond
    parts = tuple(FilePart(str(f.filename), f.skip, f.skip + f.take, f.examples_in_shard) for f in found)
    # TFDS counts fewer than 0 records if `from` is beyond `to`.
    if not parts or any(part.num_records <= 0 for part in parts):
        raise ValueError(f"{whole} of {full_name} has no records: {described(splits)}")
    return parts


class DamagedSplit(Exception):  # noqa: N818 - the caller, who knows the file, raises DataFileError from it
    """Error of a split whose description TFDS refuses."""

    def __init__(self, split: str, cause: Exception) -> None:
        super().__init__(f"split {split!r:.200}: {cause}")


def described(splits: Mapping[str, Any]) -> str:
    """Return the splits with their sizes as text: ``train has 1500 records, test has 297``."""
    counts = [f"{name} has {split.num_examples}" for name, split in splits.items()]
    return ", ".join([f"{counts[0]} records", *counts[1:]]) if counts else "it has no splits"


def _require_name(splits: Mapping[str, Any], piece: str, full_name: str) -> None:
    if piece.startswith(_EVEN_SPLITS):
        for inner in _JOINED.split(_even_split(piece).split):
            _require_name(splits, inner, full_name)
        return
    name = piece.partition("[")[0]
    if name not in splits and name != "all":
        raise ValueError(f"{full_name} has no split {name!r}{did_you_mean(name, splits)} ({described(splits)})")


def _require_bounds(piece: str, start: str, stop: str) -> None:
    units = {re.sub(r"[-\d_.]", "", bound) for bound in (start, stop) if bound.strip("-0_")}
    if len(units) > 1:  # TFDS would read both in the unit of the first bound that has one
        raise ValueError(
            f"{piece!r:.200} counts its two ends in different units; write both in records, in %, or in shards"
        )
    for bound in (start, stop):
        number = bound.removesuffix("%").removesuffix("shard")
        if "." in number and not bound.endswith("%"):
            raise ValueError(f"{piece!r:.200} is not in whole records; only a percentage may have a fraction")
        if bound.endswith("%") and abs(float(number)) > 100:
            raise ValueError(f"{piece!r:.200} goes beyond 100%")


@dataclass(frozen=True, slots=True)
class _EvenSplit:
    """One of ``count`` equal parts of a split; ``drop`` leaves out the records that do not divide."""

    split: str
    count: int
    number: int
    drop: bool


def tfds_split(piece: str) -> Any:
    """Return a split in the form that TFDS takes: its own object for an even split, else the text."""
    if not piece.startswith(_EVEN_SPLITS):
        return piece
    even = _even_split(piece)
    parts = tensorflow_datasets().even_splits(tfds_split(even.split), n=even.count, drop_remainder=even.drop)
    return parts[even.number]


def _even_split(text: str) -> _EvenSplit:
    """Parse ``even_splits('train', n=3)[0]``."""
    wrong = ValueError(f"{text!r:.200} is no even split; write even_splits('train', n=3)[0]")
    try:
        call, index = text.removeprefix(_EVEN_SPLITS).rpartition(")[")[::2]
        tree: Any = ast.parse(f"f({call})", mode="eval").body
        (split,) = map(ast.literal_eval, tree.args)
        given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in tree.keywords}
        number = ast.literal_eval(index.removesuffix("]"))
    except (SyntaxError, ValueError, AttributeError) as cause:
        raise wrong from cause
    even = _EvenSplit(split, given.pop("n", None), number, given.pop("drop_remainder", False))
    if given or [type(value) for value in astuple(even)] != [str, int, int, bool]:
        raise wrong
    if not 0 <= even.number < even.count:
        raise ValueError(f"{text!r:.200} takes number {even.number} of {even.count}, which are counted from 0")
    return even
