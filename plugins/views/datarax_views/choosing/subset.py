"""A view of type `subset`: records by a list, a mask, a file, a slice, a named part of a split, or a fold."""

from typing import ClassVar

from flax import nnx

from datarax_core.config import SourceConfig, StructuralConfig
from datarax_core.order import Selection, TableSelection
from datarax_core.sources import DataSourceModule

from .chosen import Chosen, ChosenView
from .index_files import indices_of_file, mask_of_file
from .parts import folds_of, parts_of_split
from .subset_config import SubsetViewConfig


class SubsetView(ChosenView):
    """Some records of a source, which the config names: by index, mask, file or slice, as a part of a split, or as a fold.

    A part is that of ``source.split(...)`` with the same shares and seed, unless ``stratify`` names a field of classes: then
    each class is divided as all records are, within one record. `over` makes of a mixture the mixture of this view of each
    child; this is possible for parts and folds.

    Slices, parts and folds are arithmetic. Lists, masks, files and stratified parts are a table: 8 bytes a record of the view
    on the host, and 4 on a device.

    Args:
        config: Says which records.
        source: Holds the records; stays usable.
        rngs: Random streams from which another key of the order than the source's is drawn.
        name: Name of the view in errors.
        chosen: The record indices, for a caller that has found them already.

    Raises:
        ValueError: The config names no record of the source.
        IndexError: It names a record that the source does not have.
        DataFileError: A file of indices holds something else; names the row or line.
        NotImplementedError: The source is a stream.
    """

    config_class: ClassVar[type[SourceConfig]] = SubsetViewConfig
    config: SubsetViewConfig

    @classmethod
    def over(
        cls,
        config: StructuralConfig,
        parent: DataSourceModule,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> DataSourceModule:
        """Return the subset of a source; of a mixture, the mixture of this part, or fold, of each child.

        Raises:
            ValueError: The parent is a mixture, and the config names records, not a part or a fold.
        """
        if isinstance(config, SubsetViewConfig) and not parent.serves_each_once and config.way not in ("split", "fold"):
            raise ValueError(
                f"{config.way} names records of {parent.title}, whose proportions would be lost with some of its records: put "
                "the subset below it, around the source that has these records; a split or fold is drawn from each of them"
            )
        if isinstance(config, SubsetViewConfig) and name is None:
            name = config.part
        return super().over(config, parent, rngs=rngs, name=name)

    def choose(self, config: SubsetViewConfig, source: DataSourceModule) -> Chosen:
        """Return the records of a source that a config names."""
        length = source.num_records
        if config.slice is not None:
            rows = range(length)[slice(*config.slice)]
            if not rows:
                raise ValueError(f"slice={list(config.slice)} has none of the {length} records of {source.title}")
            return Selection(length, rows)
        if config.split is not None and config.part is not None:
            shares = parts_of_split(source, config.split, seed=config.seed or 0, stratify=config.stratify)
            return shares[config.part]
        if config.fold is not None:
            fold = config.fold
            others, held_out = folds_of(source, fold.of, seed=config.seed or 0, stratify=config.stratify)[fold.held_out]
            return held_out if fold.keep == "test" else others
        if config.mask is not None:
            return TableSelection.of(mask_of_file(config.mask, length, source.title), length, source.title)
        if config.file is not None:
            return TableSelection.of(indices_of_file(config.file, length, source.title), length, source.title)
        try:
            return TableSelection.of(config.indices, length, source.title)
        except IndexError as error:  # of the settings, as a slice or a part that the source does not have
            raise ValueError(f"{error}, counted from 0") from error

    @property
    def _why_chosen(self) -> str:
        config = self.config
        drawn = f" with seed {config.seed or 0}{f', stratified by {config.stratify!r}' if config.stratify else ''}"
        if config.fold is not None:
            fold = config.fold
            side = "all but" if fold.keep == "train" else "only"
            return f": {side} fold {fold.held_out} of {fold.of}, drawn{drawn}"
        if config.part is not None:
            return f": part {config.part!r} of a split{drawn}"
        if config.slice is not None:
            bounds = ":".join("" if bound is None else str(bound) for bound in config.slice)
            return f": slice [{bounds if len(config.slice) > 1 else f':{bounds}'}]"
        path = config.mask or config.file
        return f", those of {path!r}" if path else ", by index"
