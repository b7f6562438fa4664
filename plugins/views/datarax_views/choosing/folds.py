"""Folds of a source for cross-validation, and splits in which each part holds its share of every class."""

from collections.abc import Callable
from typing import Any, Literal

from datarax_core.order import seed_number, whole_number
from datarax_core.sources import DataSourceModule

from .chosen import Chosen
from .parts import folds_of, parts_of_split
from .subset import SubsetView
from .subset_config import Fold, SubsetViewConfig


def k_fold(
    source: DataSourceModule, k: int, *, seed: int = 0, stratify: str | None = None
) -> list[tuple[DataSourceModule, DataSourceModule]]:
    """Return k pairs of sources for cross-validation: all records but those of a fold, and those of the fold.

    The folds are disjoint and have all records together; their sizes differ by one at most. They are drawn by the seed, and are
    those of a config ``{type: subset, fold: {of: 5, held_out: 0, keep: train}, seed: 0}``. Of a mixture, each pair is two
    mixtures of the folds of each child, with the same proportions.

    Args:
        source: The records; a source with random access.
        k: Number of folds, 2 at least.
        seed: Selects the folds.
        stratify: A field of whole numbers, booleans or text: the numbers of records of each of its values differ by one at most
            from fold to fold. This needs a table of 8 bytes a record for each pair, and the field of all records once.

    Raises:
        TypeError: ``k`` or ``seed`` is no integer.
        ValueError: ``k`` is less than 2, or there are fewer records than folds.
        SpecError: ``stratify`` names no field of classes.
        NotImplementedError: The source is a stream.
    """
    count, seed = whole_number("k", k, at_least=2), seed_number(seed)
    _require_records(source)
    made: dict[int, list[tuple[Chosen, Chosen]]] = {}

    def of_fold(number: int, keep: Literal["train", "test"]) -> DataSourceModule:
        def choose(child: DataSourceModule) -> Chosen:
            if id(child) not in made:
                made[id(child)] = folds_of(child, count, seed=seed, stratify=stratify)
            return made[id(child)][number][keep == "test"]

        def config() -> SubsetViewConfig:
            return SubsetViewConfig(fold=Fold(of=count, held_out=number, keep=keep), seed=seed, stratify=stratify)

        return _viewed(source, config, f"{keep} of fold {number}", choose)

    return [(of_fold(number, "train"), of_fold(number, "test")) for number in range(count)]


def stratified_split(
    source: DataSourceModule, stratify: str, *, seed: int = 0, **shares: float
) -> dict[str, DataSourceModule]:
    """Return disjoint parts of the records by name, as ``source.split(...)`` does, each with its share of every class.

    ``stratified_split(source, "label", train=0.9, test=0.1, seed=0)``. The parts have the sizes of ``source.split(...)``. Of a
    class with c records, a part that has the share s of all records has ``s * c`` records, within one. A part depends on all
    shares. They are those of a config ``{type: subset, split: {train: 0.9, test: 0.1}, part: train, stratify: label}``.

    Args:
        source: The records; a source with random access.
        stratify: A field of whole numbers, booleans or text.
        seed: Selects the parts.
        shares: Parts of one (floats), or numbers of records (integers).

    Raises:
        TypeError, ValueError: The shares or the seed cannot work; the message says why.
        SpecError: ``stratify`` names no field of classes.
        NotImplementedError: The source is a stream.
    """
    seed = seed_number(seed)
    _require_records(source)
    made: dict[int, dict[str, Chosen]] = {}

    if not shares:
        raise ValueError(f"a split of {source.title} needs a share for each part, such as train=0.9, test=0.1")

    def of_part(name: str) -> DataSourceModule:
        def choose(child: DataSourceModule) -> Chosen:
            if id(child) not in made:
                made[id(child)] = parts_of_split(child, shares, seed=seed, stratify=stratify)
            return made[id(child)][name]

        def config() -> SubsetViewConfig:
            return SubsetViewConfig(split=shares, part=name, seed=seed, stratify=stratify)

        return _viewed(source, config, name, choose)

    return {name: of_part(name) for name in shares}


def _viewed(
    source: DataSourceModule,
    make_config: Callable[[], SubsetViewConfig],
    name: str,
    choose: Callable[[DataSourceModule], Chosen],
) -> DataSourceModule:
    """Return the view of a source that has the records of ``choose``; of a mixture, the mixture of such views.

    The config is made last, so that a mistake is reported in the words of this call.
    """
    if not source.serves_each_once:
        mixed: DataSourceModule | None = source.over_children(lambda child: _viewed(child, make_config, name, choose))
        if mixed is not None:
            return mixed
    source.require_record_indices()
    chosen = choose(source)
    return SubsetView(make_config(), source, name=name, chosen=chosen)


def _require_records(source: Any) -> None:
    """Raise unless a source has records by index."""
    if not isinstance(source, DataSourceModule):
        raise TypeError(
            f"parts are made of a source, not of {source!r:.80}; make a source of it, such as from_sequence(data)"
        )
    source.require_random_access()
