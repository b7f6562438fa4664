"""The parents of a view: checks of them, and what their titles and fingerprints add to those of the view."""

from collections.abc import Sequence
from typing import Any, Final

from datarax_core.config.models import StructuralConfig
from datarax_core.records.foreign_data import advice_for
from datarax_core.sources.source import DataSourceModule

_NAMED: Final = 3  # parents that a title names one by one

_OF_ORDER: Final = {"order", "seed"}


def checked_parents(
    parents: Sequence[Any], title: str, *, one_only: bool, needs_indices: bool, each_once: bool
) -> None:
    """Raise if a view cannot be made of these parents.

    Args:
        parents: The parents as they were given.
        title: Class and name of the view.
        one_only: Whether the view reads exactly one source.
        needs_indices: Whether it needs the records by index.
        each_once: Whether it has record indices of its own, which an order of its own serves.

    Raises:
        TypeError: A parent is no source, or there is another number of them.
        NotImplementedError: A parent is a stream, and the view needs records by index.
        ValueError: A parent serves some records more often than others, which the view would lose, or decides its batches.
    """
    if not parents or (one_only and len(parents) > 1):
        count = "one source" if one_only else "one source at least"
        raise TypeError(f"{title} is a view of {count}, and was given {len(parents)}")
    for parent in parents:
        if isinstance(parent, StructuralConfig):
            raise TypeError(f"{title} is a view of a source, not of a {type(parent).__name__}: the config goes first")
        if not isinstance(parent, DataSourceModule):
            advice = advice_for(parent) or (
                f"{parent!r:.80}; make a source of it, such as from_sequence(data) or MemorySource(config, data)"
            )
            raise TypeError(f"{title} is a view of a source, not of {advice}")
        if needs_indices and parent.access == "stream":
            raise NotImplementedError(
                f"{title} needs records by index, and {parent.title} is a stream, which is read forward only; write its "
                "records to files, and make the view of these"
            )
        if needs_indices:
            parent.require_record_indices()
            parent.require_no_batches(title)
        if each_once and not parent.serves_each_once:
            raise ValueError(
                f"{title} has an order of its own, which would lose how often {parent.title} serves each record: make it "
                "of each source below that; for a mixture, ViewClass.over(config, mixture) does so for all of its children"
            )


def titles_of(parents: Sequence[DataSourceModule]) -> str:
    """Return the titles of parents, or their number if there are many."""
    if len(parents) > _NAMED:
        return f"{len(parents)} sources"
    return " and ".join(parent.title for parent in parents)


def names_of(parents: Sequence[DataSourceModule]) -> str:
    """Return the data that parents are read from."""
    if len(parents) > _NAMED:
        return f"{len(parents)} sources"
    return " and ".join(filter(None, (parent.describe_data() for parent in parents)))


def entries_of_parents(parents: Sequence[DataSourceModule], *, with_order: bool) -> dict[str, Any]:
    """Return the fingerprints of parents as entries of their view's: ``parents.0.length`` and so on.

    The order of a parent is left out unless the view serves it.
    """
    left_out = {"element_spec"} | (set() if with_order else _OF_ORDER)
    return {
        f"parents.{number}.{name}": value
        for number, parent in enumerate(parents)
        for name, value in parent.fingerprint().items()
        if name not in left_out
    }
