"""The plan of a run of a mixture, as a table in text; made from lengths and shares, before any record is read."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from .children import Mixture
from .order import CategoricalOrder
from .shares import Shares
from .stages import StagedTimeline

_COLUMNS: Final = ("child", "share", "records", "of", "epochs", "at its end")
_STAGE_COLUMNS: Final = ("positions", "child", "share", "records", "at its end", "epochs")
_RIGHT_ALIGNED: Final = {2, 3, 4}
_ENDS: Final = {
    "total": "as many records as its children have",
    "first_exhausted": "the first child that is exhausted",
    "all_seen": "the last child to have been served in full",
}


def plan_of(mix: Mixture, num_epochs: int | None) -> str:
    """Return the plan: records and epochs by child, the end of each child, and the end of an epoch of the mixture."""
    length, title = mix.epoch_length, f"{mix.title}, {mix.config.sampling}"
    if length is None:
        total = mix.mixed.timeline.shares.denominator
        heading = f"{title}: without a length; by child, of the first {total:,} records:"
    else:
        total = length * (num_epochs or 1)
        epochs = "without end" if num_epochs is None else f"{num_epochs} epoch{'s' if num_epochs > 1 else ''}"
        heading = f"{title}: {length:,} records an epoch, {epochs}; by child, of {total:,} records:"
    table = _aligned([_COLUMNS, *_rows_at(mix, total, "")], _RIGHT_ALIGNED)
    return "\n".join([heading, *table, *_stages_of(mix, total), *_remarks(mix)])


def _rows_at(mix: Mixture, position: int, prefix: str) -> Iterator[tuple[str, ...]]:
    names, shares = mix.mixed.names, mix.mixed.timeline.shares
    is_random, is_staged = (
        isinstance(mix.mixed.mixing, CategoricalOrder),
        isinstance(mix.mixed.timeline, StagedTimeline),
    )
    if is_random and not is_staged:
        counts = [position * numerator / shares.denominator for numerator in shares.numerators]
    else:
        counts = [int(count) for count in mix.mixed.timeline.counts(position)]
    for number, child in enumerate(mix.children):
        count, own = counts[number], child.epoch_length
        yield (
            f"{prefix}{names[number]}",
            "in stages" if is_staged else str(shares.fractions[number]),
            f"about {count:,.0f}" if is_random else f"{count:,}",
            "?" if own is None else f"{own:,}",
            f"{count / own:.2f}" if own else "?",
            "drawn at random" if is_random else _end_of(mix, number),
        )
        if isinstance(child, type(mix)) and not is_random:
            yield from _rows_at(child, int(count), f"{prefix}{names[number]}.")


def _end_of(mix: Mixture, child: int) -> str:
    ending, timeline = mix.mixed.timeline.endings[child], mix.mixed.timeline
    if child not in timeline.served:
        return "never served"
    if ending.length is None:
        return "unknown end; " + ("the mixture ends with it" if timeline.stop == "first_exhausted" else "repeats")
    try:
        position = timeline.position_after(child, ending.exhausted_at)
    except ValueError:  # in the stages that follow its share is 0
        return "not reached: its share becomes 0 before"
    then = "repeats" if ending.rounds is None else "drops out"
    epoch = mix.epoch_length
    if epoch is not None and position > epoch and not timeline.is_continuous:
        return f"not reached: the epoch ends before record {position:,}"
    if epoch is not None and position > epoch:
        return f"after record {position:,}, in epoch {(position - 1) // epoch + 1}; {then}"
    return f"after record {position:,}; {then}"


def _remarks(mix: Mixture) -> Iterator[str]:
    timeline, length = mix.mixed.timeline, mix.epoch_length
    stages = [stage.shares for stage in timeline.stages] if isinstance(timeline, StagedTimeline) else [timeline.shares]
    if (shares := max(stages, key=lambda one: one.max_error)).max_error:
        yield (
            f"The weights are rounded to {shares.denominator:,}ths, by {shares.max_error:.1g} at most: no common denominator "
            "up to 2^20 holds them."
        )
    if length is None:
        ends = mix.mixed.timeline.stop == "first_exhausted"
        yield "It ends with the first child that is exhausted." if ends else "It does not end: its children repeat."
    else:
        yield f"An epoch ends after {length:,} records: {_ENDS[mix.mixed.timeline.stop]}."


def _stages_of(mix: Mixture, total: int) -> Iterator[str]:
    """Yield a table of the stages: for each, the records of every child in it, and the child's epochs at its end."""
    timeline = mix.mixed.timeline
    if not isinstance(timeline, StagedTimeline):
        return
    rows, about = [_STAGE_COLUMNS], "about " if isinstance(mix.mixed.mixing, CategoricalOrder) else ""
    for start, end, before, after in _spans(timeline):
        stop = max(start, total) if end is None else end
        counts, until = timeline.counts(start), timeline.counts(stop)
        for number, name in enumerate(mix.mixed.names):
            own, share = timeline.endings[number].length, str(after.fractions[number])
            positions = f"{start:,} - {'...' if end is None else format(end, ',')}"
            rows.append(
                (
                    "" if number else positions,
                    name,
                    share if before is after else f"{before.fractions[number]} to {share}",
                    f"{about}{until[number] - counts[number]:,}",
                    f"{about}{until[number]:,}",
                    f"{until[number] / own:.2f}" if own else "?",
                )
            )
    yield f"Stages; the last one is counted to record {max(total, timeline.stages[-1].end or timeline.stages[-1].start):,}:"
    yield from _aligned(rows, {3, 4, 5})


def _spans(timeline: StagedTimeline) -> Iterator[tuple[int, int | None, Shares, Shares]]:
    """Yield (first position, end, shares at the start, shares at the end) of each part of the stages; the last has no end."""
    before, ends = timeline.shares, [*(stage.start for stage in timeline.stages[1:]), None]
    for stage, end in zip(timeline.stages, ends, strict=True):
        start = stage.start
        if stage.end is not None:
            yield start, stage.end, before, stage.shares
            start = stage.end
        if start != end:
            yield start, end, stage.shares, stage.shares
        before = stage.shares


def _aligned(rows: Sequence[tuple[str, ...]], right: AbstractSet[int]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
