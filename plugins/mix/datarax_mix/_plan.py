"""What a mixture will serve, told before anything is read."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ._order import Drawn

if TYPE_CHECKING:
    from ._source import MixDataSourcesNode

_COLUMNS: Final = ("child", "share", "records", "of", "epochs", "at its end")
_NUMBERS: Final = {2, 3, 4}
_ENDS: Final = {
    "total": "as many records as its children have",
    "first_exhausted": "the first child that is exhausted",
    "all_seen": "the last child to have been served in full",
}


def plan_of(mix: "MixDataSourcesNode", num_epochs: int | None) -> str:
    """Records and epochs by child in a run, when each child ends, and what ends the mixture."""
    length, title = mix.epoch_length, f"{mix.title}, {mix.config.sampling}"
    if length is None:
        total = mix.timeline.shares.denominator
        heading = f"{title}: without a length; by child, of the first {total:,} records:"
    else:
        total = length * (num_epochs or 1)
        epochs = "without end" if num_epochs is None else f"{num_epochs} epoch{'s' if num_epochs > 1 else ''}"
        heading = f"{title}: {length:,} records an epoch, {epochs}; by child, of {total:,} records:"
    return "\n".join([heading, *_aligned([_COLUMNS, *_rows_at(mix, total, "")]), *_remarks(mix)])


def _rows_at(mix: "MixDataSourcesNode", position: int, prefix: str) -> Iterator[tuple[str, ...]]:
    names, shares = mix.names, mix.timeline.shares
    expected = isinstance(mix.mixing, Drawn)
    if expected:
        counts = [position * numerator / shares.denominator for numerator in shares.numerators]
    else:
        counts = [int(count) for count in mix.timeline.counts(position)]
    for number, child in enumerate(mix.children):
        count, own = counts[number], child.epoch_length
        yield (
            f"{prefix}{names[number]}",
            str(shares.fractions[number]),
            f"about {count:,.0f}" if expected else f"{count:,}",
            "?" if own is None else f"{own:,}",
            f"{count / own:.2f}" if own else "?",
            "drawn at random" if expected else _end_of(mix, number),
        )
        if isinstance(child, type(mix)) and not expected:
            yield from _rows_at(child, int(count), f"{prefix}{names[number]}.")


def _end_of(mix: "MixDataSourcesNode", child: int) -> str:
    ending, timeline = mix.timeline.endings[child], mix.timeline
    if child not in timeline.served:
        return "never served"
    if ending.length is None:
        return "nobody knows when it ends; " + (
            "then the mixture does" if timeline.stop == "first_exhausted" else "repeats"
        )
    position = timeline.position_after(child, ending.exhausted_at)
    then = "repeats" if ending.rounds is None else "drops out"
    epoch = mix.epoch_length
    if epoch is not None and position > epoch and not timeline.is_continuous:
        return f"not reached: the epoch ends before record {position:,}"
    if epoch is not None and position > epoch:
        return f"after record {position:,}, in epoch {(position - 1) // epoch + 1}; {then}"
    return f"after record {position:,}; {then}"


def _remarks(mix: "MixDataSourcesNode") -> Iterator[str]:
    shares, length = mix.timeline.shares, mix.epoch_length
    if shares.off:
        yield (
            f"The weights are rounded to {shares.denominator:,}ths, by {shares.off:.1g} at most: no common denominator up to "
            "2^20 holds them."
        )
    if length is None:
        ends = mix.timeline.stop == "first_exhausted"
        yield "It ends with the first child that is exhausted." if ends else "It does not end: its children repeat."
    else:
        yield f"An epoch ends after {length:,} records: {_ENDS[mix.timeline.stop]}."


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
