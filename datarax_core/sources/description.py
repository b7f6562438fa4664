"""Descriptions of sources in words: for ``repr``, for plans of runs, and of the views that a source is made of."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from datarax_core.modules.shown import Shown

_NAMED_PARTS: Final = 8
"""Children of a mixture whose views are listed one by one."""


class Described(Protocol):
    """A source, as far as its description uses it."""

    @property
    def title(self) -> str:
        """The source in messages."""

    @property
    def access(self) -> str:
        """How records are reached."""

    @property
    def epoch_length(self) -> int | None:
        """Number of records in one epoch."""

    @property
    def order_title(self) -> str:
        """The order in reports."""

    def describe_data(self) -> str:
        """Return the files or the data set that records are read from."""

    def sources_below(self) -> Mapping[str, Any]:
        """Return the sources that this one reads, by name."""


class DescribedSource(Shown):
    """The part of a source that describes it in words."""

    def describe_data(self: Any) -> str:
        """Return the files or the data set that records are read from, for ``repr(source)``; empty if the config names none.

        Called: by ``repr`` and reports.
        Default: ``path``, ``paths`` and ``name`` of the config.
        """
        given = [getattr(self.config, field, None) for field in ("path", "paths", "name")]
        named = next((value for value in given if isinstance(value, str | list | tuple) and value), "")
        files = [named] if isinstance(named, str) else list(named)
        split = getattr(self.config, "split", None)
        more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
        return "" if not named else f"{files[0]!r}{more}" + (f", split {split!r}" if isinstance(split, str) else "")

    def describe_reading(self) -> str:
        """Return a sentence on where records are read from, and what is kept of it, for `Pipeline.explain`; "" if nothing.

        Called: by `Pipeline.explain`.
        Default: "".
        """
        return ""

    def __repr__(self: Any) -> str:
        try:
            return text_of(self)
        except Exception:  # noqa: BLE001 - of a source that is not whole, in a debugger or in a message about that
            return object.__repr__(self)

    def plan(self: Any, num_epochs: int | None = 1) -> str:
        """Describe what a run of ``num_epochs`` epochs (None is endless) serves, and below it what each view does.

        Called: by users, `Pipeline.plan` and ``drx plan``.
        Default: records, order, and a line for each view.
        """
        return plan_of(self, num_epochs)


def reading_lines(source: Any) -> list[str]:
    """Return what a source, and those that it reads, say of where their records are read from."""
    below = [line for child in source.sources_below().values() for line in reading_lines(child)]
    return list(dict.fromkeys(line for line in (source.describe_reading(), *below) if line))


def text_of(source: Described) -> str:
    """Return a source with its data, its length and its order in one line."""
    length, data = source.epoch_length, source.describe_data()
    if source.access == "stream":
        records = "a stream" if length is None else f"a stream of {length:,} records an epoch"
    else:
        records = f"{length:,} records {source.order_title}"
    return f"{source.title}({f'{data}: ' if data else ''}{records})"


def plan_of(source: Described, num_epochs: int | None) -> str:
    """Return what a run of ``num_epochs`` epochs (None is endless) serves, and below it what each view does."""
    length = source.epoch_length
    epochs = "without end" if num_epochs is None else f"{num_epochs} epoch{'s' if num_epochs > 1 else ''}"
    if length is None:
        first = f"{source.title}: a stream without a length, whose epochs end where its records do; {epochs}"
    else:
        order = "as they come" if source.access == "stream" else source.order_title
        total = "" if num_epochs is None else f", {length * num_epochs:,} records in all"
        first = f"{source.title}: {length:,} records an epoch, {order}; {epochs}{total}"
    return "\n".join([first, *view_lines(source)])


def view_lines(source: Any) -> list[str]:
    """Return lines on what each view in a source does, from the outermost on, the views below a view indented."""
    below = source.sources_below()
    own = describe_view().splitlines() if (describe_view := getattr(source, "describe_view", None)) else []
    lines = [f"{_short_title(source)}: {own[0]}", *(f"  {line}" for line in own[1:])] if own else []
    parts = {name: view_lines(part) for name, part in below.items()}
    inner = [(name, of_part) for name, of_part in parts.items() if of_part]
    named = inner[:_NAMED_PARTS]
    for name, of_part in named:
        if len(below) > 1:
            lines += [f"  {name}:", *(f"    {line}" for line in of_part)]
        else:
            lines += [f"  {line}" for line in of_part] if own else of_part
    if len(inner) > len(named):
        lines.append(f"  and views of {len(inner) - len(named)} more")
    return lines


def _short_title(source: Any) -> str:
    return type(source).__name__ + (f" {source.name!r}" if source.name else "")
