"""The records of a split such as ``train[:200]+test[10%:]``, by TFDS's own arithmetic."""

import ast
import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, Final, Literal, TypeAlias

from datarax_core.errors import did_you_mean

from .backends import tensorflow_datasets

FileFormat: TypeAlias = Literal["array_record", "tfrecord"]
"""The formats that are read without TensorFlow."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """The records ``start .. stop`` of a file; the records of a split are those of its parts, one part behind another."""

    path: str
    start: int
    stop: int
    records_in_file: int
    """How many records the data set says the file has; what is on disk is held against it."""

    @property
    def num_records(self) -> int:
        """Records of this part."""
        return self.stop - self.start


_JOINED: Final = re.compile(r"\s*\+\s*")
_BOUND: Final = r"(?:-?\d+(?:_\d+)*(?:\.\d+)?(?:%|shard)?)?"
_SLICED: Final = re.compile(rf"(?P<split>[\w-]+)(?:\[(?P<start>{_BOUND})(?P<colon>:(?P<stop>{_BOUND}))?\])?")
_FORMS: Final = "write train, train[:200], train[10%:90%], train[-2shard:], all, or several joined by +"
_EVENLY: Final = "even_splits("


def split_text(value: Any) -> Any:
    """The text that means the same split as TFDS's own objects, ``tfds.even_splits(...)[k]`` among them; texts as they are.

    Raises:
        ValueError: It is such an object, but no text says what it does.
    """
    if isinstance(value, str):
        return str(value)
    if not type(value).__module__.startswith("tensorflow_datasets."):
        return value
    kind = type(value).__name__
    if kind == "ReadInstruction" and (value.unit != "%" or value.rounding == "closest"):
        unit = "" if value.unit == "abs" else value.unit
        start, stop = ("" if bound is None else f"{bound}{unit}" for bound in (value.from_, value.to))
        return f"{value.split_name}[{start}:{stop}]" if start or stop else value.split_name
    if kind == "_SplitAll":
        return "all"
    if kind == "_EvenSplit":
        drop = ", drop_remainder=True" if value.drop_remainder else ""
        return f"even_splits({split_text(value.split)!r}, n={value.count}{drop})[{value.index}]"
    if kind == "_SplitAdd":
        both = [split_text(value.left), split_text(value.right)]
        if not any(text.startswith(_EVENLY) for text in both):
            return "+".join(both)
    raise ValueError(f"{value!r:.200} cannot be written as a text, as a config has it; {_FORMS}")


def require_form(text: str) -> None:
    """Refuse a text that is no split of any data set.

    Raises:
        ValueError: Says what is wrong with it.
    """
    if text.startswith(_EVENLY):
        require_form(_evenly(text).split)
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
    """The records of a split, in the order in which TFDS counts them; one part for each file, or stretch of one.

    Args:
        splits: Of TFDS's ``DatasetInfo``.
        text: Such as ``train[:200]``.
        full_name: Of the data set, for messages.

    Raises:
        ValueError: There is no such split, the slice goes beyond its records, or it, or one that it joins, has none.
    """
    pieces = [text] if text.startswith(_EVENLY) else _JOINED.split(text)
    for piece in pieces:
        _require_name(splits, piece, full_name)
    return tuple(part for piece in pieces for part in _piece_parts(splits, piece, text, full_name))


def _piece_parts(splits: Mapping[str, Any], piece: str, text: str, full_name: str) -> tuple[FilePart, ...]:
    whole = f"split {piece!r}" if piece == text else f"{piece!r}, in the split {text!r},"
    try:
        found = splits[_asked(piece)].file_instructions
    except ValueError as beyond:
        raise ValueError(f"{whole} goes beyond the records of {full_name}: {described(splits)}") from beyond
    parts = tuple(FilePart(str(f.filename), f.skip, f.skip + f.take, f.examples_in_shard) for f in found)
    if not parts or any(part.num_records <= 0 for part in parts):  # TFDS takes less than none, if from is beyond to
        raise ValueError(f"{whole} of {full_name} has no records: {described(splits)}")
    return parts


def described(splits: Mapping[str, Any]) -> str:
    """``train has 1500 records, test 297``."""
    counts = [f"{name} has {split.num_examples}" for name, split in splits.items()]
    return ", ".join([f"{counts[0]} records", *counts[1:]]) if counts else "it has no splits"


def _require_name(splits: Mapping[str, Any], piece: str, full_name: str) -> None:
    if piece.startswith(_EVENLY):
        for inner in _JOINED.split(_evenly(piece).split):
            _require_name(splits, inner, full_name)
        return
    name = piece.partition("[")[0]
    if name not in splits and name != "all":
        raise ValueError(f"{full_name} has no split {name!r}{did_you_mean(name, splits)} ({described(splits)})")


def _require_bounds(piece: str, start: str, stop: str) -> None:
    units = {re.sub(r"[-\d_.]", "", bound) for bound in (start, stop) if bound.strip("-0_")}
    if len(units) > 1:  # TFDS would take both in the unit of the first that has one
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
class _Even:
    split: str
    count: int
    number: int
    drop: bool


def _asked(piece: str) -> Any:
    """What TFDS takes: its own object for an even split, else the text."""
    if not piece.startswith(_EVENLY):
        return piece
    even = _evenly(piece)
    return tensorflow_datasets().even_splits(_asked(even.split), n=even.count, drop_remainder=even.drop)[even.number]


def _evenly(text: str) -> _Even:
    """The arguments of ``even_splits('train', n=3)[0]``."""
    wrong = ValueError(f"{text!r:.200} is no even split; write even_splits('train', n=3)[0]")
    try:
        call, index = text.removeprefix(_EVENLY).rpartition(")[")[::2]
        tree: Any = ast.parse(f"f({call})", mode="eval").body
        (split,) = map(ast.literal_eval, tree.args)
        given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in tree.keywords}
        number = ast.literal_eval(index.removesuffix("]"))
    except (SyntaxError, ValueError, AttributeError) as cause:
        raise wrong from cause
    even = _Even(split, given.pop("n", None), number, given.pop("drop_remainder", False))
    if given or [type(value) for value in astuple(even)] != [str, int, int, bool]:
        raise wrong
    if not 0 <= even.number < even.count:
        raise ValueError(f"{text!r:.200} takes number {even.number} of {even.count}, which are counted from 0")
    return even
