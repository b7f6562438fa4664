"""Layouts made for a config and a source: their windows counted, what does not fit refused, and a summary of both."""

import numpy as np

from datarax_core.errors import SpecError
from datarax_core.sources import DataSourceModule, field_struct
from datarax_views.sequences.lengths import lengths_of

from .config import WindowViewConfig
from .fields import WindowFields
from .layout import CrossLayout, Layout, RecordLayout, RowLayout, require_equal_lengths, require_planned
from .plan import Cut, WindowsOfAlike, WindowsOfMany


def layout_of(config: WindowViewConfig, fields: WindowFields, parent: DataSourceModule, title: str) -> Layout:
    """Return where the windows of a source lie.

    Args:
        config: Config of the view.
        fields: Its fields.
        parent: The source.
        title: The view, in errors.

    Raises:
        SpecError: A window is longer than what it is cut from, or an option has no use with these fields; says which record,
            and how many there are.
    """
    cut, num_records = config.cut(), parent.num_records
    if not fields.is_inside:
        _require_no_lengths(config, title, "the records that follow one another are one sequence")
        what = f"{num_records:,} records"
        rows = _one_sequence(cut, num_records, what, title)
        return RowLayout(rows, num_records, None, _summary_of_one(cut, num_records, f"over {what}"))
    size = field_struct(parent, fields.cut[0]).shape[0]
    lengths = (
        _lengths(config, fields, parent, title) if size is None else np.broadcast_to(np.int64(size), (num_records,))
    )
    if size is not None and config.length_field is not None:
        raise SpecError(
            f"length_field of {title} has no use: field {fields.cut[0]!r} has {size:,} elements in each record"
        )
    if config.cross:
        offsets = np.zeros(num_records + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        total = int(offsets[-1])
        what = f"{num_records:,} records of {total:,} elements in all"
        windows = _one_sequence(cut, total, what, title)
        return CrossLayout(windows, offsets, checks=size is None, summary=_summary_of_one(cut, total, f"across {what}"))
    _require_long_enough(config, cut, lengths, fields.cut[0], title)
    if size is not None:
        alike = WindowsOfAlike(cut, size, num_records)
        return RecordLayout(
            alike, num_records, None, _summary_of_many(cut, lengths[:1], alike.num_windows, num_records)
        )
    many = WindowsOfMany(cut, lengths)
    return RecordLayout(many, num_records, many.ends, _summary_of_many(cut, lengths, many.num_windows, num_records))


def _lengths(config: WindowViewConfig, fields: WindowFields, parent: DataSourceModule, title: str) -> np.ndarray:
    first, *others = fields.cut
    lengths = lengths_of(parent, first, length_field=config.length_field)
    if config.length_field is not None and (held := parent.record_lengths(first)) is not None:
        require_planned(parent.title, np.arange(len(held)), first, lengths, held)
    for other in others:
        known = parent.record_lengths(other)
        if known is not None:
            require_equal_lengths(title, (first, lengths), (other, known))
    return lengths


def _require_no_lengths(config: WindowViewConfig, title: str, reason: str) -> None:
    for name in ("too_short", "length_field"):
        if getattr(config, name) is not None:
            raise SpecError(f"{name} of {title} has no use: {reason}; leave it out")


def _one_sequence(cut: Cut, length: int, what: str, title: str) -> WindowsOfAlike:
    windows = WindowsOfAlike(cut, length)
    if not windows.num_windows:
        raise SpecError(f"{title} is empty: {what} are too few for {_window_title(cut)}{_advice(cut)}")
    return windows


def _require_long_enough(config: WindowViewConfig, cut: Cut, lengths: np.ndarray, field: str, title: str) -> None:
    """Raise if a record is too short for a window, unless such records are left out, or if all are."""
    is_short = lengths < cut.shortest
    count = int(np.count_nonzero(is_short))
    if not count:
        return
    first = int(np.argmax(is_short))
    found = f"{int(lengths[first]):,} elements in field {field!r}"
    text = f"record {first} of {title} has {found}, too few for {_window_title(cut)}"
    if count == len(lengths):
        raise SpecError(f"{text}, as have all {count:,} records; the longest has {int(lengths.max()):,}{_advice(cut)}")
    if config.too_short != "drop":
        others = f", as have {count - 1:,} more of {len(lengths):,} records" if count > 1 else ""
        pad = "; remainder: pad completes them" if cut.remainder != "pad" else ""
        raise SpecError(f"{text}{others}. Say what to do: too_short: drop leaves such records out{pad}")


def _window_title(cut: Cut) -> str:
    if cut.remainder == "pad":
        return (
            f"one element and its target, {cut.shift:,} further on" if cut.shift else "a window, which has one at least"
        )
    return f"a window of {cut.length:,}" + (f" and its targets, {cut.shift:,} further on" if cut.shift else "")


def _advice(cut: Cut) -> str:
    return "" if cut.remainder == "pad" else "; take a smaller length, or remainder: pad, which completes them"


def _summary_of_one(cut: Cut, length: int, what: str) -> str:
    count, left = cut.count(length), cut.left_over(length)
    return f"{_counted(cut, count)} {what}{_ends(cut, left, 1)}"


def _summary_of_many(cut: Cut, lengths: np.ndarray, count: int, num_records: int) -> str:
    least, most = int(lengths.min()), int(lengths.max())
    sizes = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    counts = cut.counts(lengths)
    short = int(np.count_nonzero(counts == 0))
    covered = np.minimum(lengths, (counts - 1) * cut.stride + cut.span)
    left = int(np.where(counts > 0, lengths - covered, 0).sum()) * (num_records // len(lengths))
    dropped = f"; {short:,} {'record' if short == 1 else 'records'} too short left out" if short else ""
    return f"{_counted(cut, count)} inside {num_records:,} records of {sizes}{_ends(cut, left, num_records)}{dropped}"


def _counted(cut: Cut, count: int) -> str:
    targets = f", targets {cut.shift:,} further on," if cut.shift else ""
    return f"{count:,} windows of {cut.length:,} every {cut.stride:,}{targets}"


def _ends(cut: Cut, left: int, sequences: int) -> str:
    if cut.remainder == "drop":
        return f"; {left:,} left over" if left else ""
    ends = "the end" if sequences == 1 else "ends"
    return f"; {ends} {'completed by padding' if cut.remainder == 'pad' else 'covered by windows that begin earlier'}"
