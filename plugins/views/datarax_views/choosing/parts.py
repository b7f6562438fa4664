"""The record indices of parts and folds of a source: by arithmetic, or in a table if each holds its share of every class."""

from collections.abc import Mapping
from itertools import pairwise

from datarax_core.order import Selection, TableSelection, cut
from datarax_core.sources import DataSourceModule

from .chosen import Chosen
from .classes import classes_of
from .strata import fold_tables, part_tables


def parts_of_split(
    source: DataSourceModule, shares: Mapping[str, float], *, seed: int, stratify: str | None
) -> dict[str, Chosen]:
    """Return the record indices of each part of a split; those of ``source.split(...)`` unless ``stratify`` names a field.

    Raises:
        TypeError, ValueError: The shares cannot work.
        SpecError: ``stratify`` names no field of classes.
    """
    length = source.num_records
    ranges = cut(shares, length, source.title)
    if stratify is None:
        return {name: Selection(length, rows, seed) for name, rows in ranges.items()}
    tables = part_tables(classes_of(source, stratify).codes, [len(rows) for rows in ranges.values()], seed)
    return {name: TableSelection(length, table) for name, table in zip(ranges, tables, strict=True)}


def folds_of(source: DataSourceModule, count: int, *, seed: int, stratify: str | None) -> list[tuple[Chosen, Chosen]]:
    """Return (indices of the other folds, indices of the fold) for each of ``count`` folds.

    Sizes of folds differ by one at most; with ``stratify``, the numbers of records of each class do, too.

    Raises:
        ValueError: There are fewer records than folds.
        SpecError: ``stratify`` names no field of classes.
    """
    length = source.num_records
    if length < count:
        raise ValueError(f"{source.title} has {length} records, which cannot be {count} folds; ask for fewer")
    if stratify is None:
        bounds = [number * length // count for number in range(count + 1)]
        return [
            (Selection(length, range(end, length + start), seed), Selection(length, range(start, end), seed))
            for start, end in pairwise(bounds)
        ]
    tables = fold_tables(classes_of(source, stratify).codes, count, seed)
    return [(TableSelection(length, others), TableSelection(length, table)) for others, table in tables]
