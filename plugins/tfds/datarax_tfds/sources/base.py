"""Base of the TFDS sources: the data set, its name and options, and the seed of its order."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from flax import nnx

from datarax_core.config import SourceConfig
from datarax_core.sources import DataSetInfo, DataSourceModule, LocalFilesOnlyMixin
from datarax_tfds.config import DEFAULT_SEED, TFDSConfigBase
from datarax_tfds.dataset.data_set import DataSet
from datarax_tfds.dataset.folders import guessed_fields


class TFDSSourceBase(LocalFilesOnlyMixin, DataSourceModule):
    """A source over a split of a prepared data set. A subclass has `data_set` before it calls the constructor of this class."""

    config_class: ClassVar[type[SourceConfig]]
    config_in_fingerprint: ClassVar[bool] = False
    config: TFDSConfigBase

    @classmethod
    def guess(cls, path: str) -> Mapping[str, Any] | None:
        """Return the config of a folder that TFDS wrote, with its split train, or else its first one; None for other paths."""
        return guessed_fields(Path(path))

    @property
    def data_set(self) -> DataSet:
        """Description of the data set on disk."""
        raise NotImplementedError

    @property
    def dataset_name(self) -> str:
        """Name of the data set, as the config gives it."""
        return self.config.name

    @property
    def split_name(self) -> str:
        """The split, as the config gives it, such as ``train[:80%]``."""
        return self.config.split

    @property
    def as_supervised(self) -> bool:
        """Whether the (input, target) pair is served as ``image`` and ``label``."""
        return self.config.as_supervised

    def as_objects(self) -> Self:
        """Return a copy of this source that serves arrays of varying shape as objects, and not as ragged columns."""
        return self.copy(config=self.config.model_copy(update={"as_objects": True}))

    @property
    def include_keys(self) -> frozenset[str] | None:
        """The fields that are kept; None keeps all."""
        return self.config.include_keys

    @property
    def exclude_keys(self) -> frozenset[str] | None:
        """The fields that are left out."""
        return self.config.exclude_keys

    @property
    def local_files_only(self) -> bool:  # type: ignore[override]  # read-only: the config decides, and is frozen
        """Whether nothing is ever downloaded or prepared."""
        return self.config.local_files_only

    def get_dataset_info(self) -> DataSetInfo:
        """Return the description of the data set, with the number of records of the split, and their element spec."""
        entries = {**self.data_set.info(), "num_records": len(self), "element_spec": self.element_spec()}
        return DataSetInfo(entries, features=self.data_set.features)

    def fingerprint(self) -> dict[str, Any]:
        """Return the facts that a restored state must match: those of every source, and name, version and split."""
        return {**super().fingerprint(), "data_set": self.data_set.full_name, "split": self.data_set.split}

    def __len__(self) -> int:
        return self.data_set.num_records

    @property
    def order_seed(self) -> int | None:
        """The config's seed; None for the default one, with which the random streams alone decide the order."""
        return None if self.config.seed == DEFAULT_SEED else self.config.seed


def require_config(config: Any, expected: type[TFDSConfigBase], title: str) -> None:
    """Raise if a config is not of the class that a source needs.

    Raises:
        TypeError: ``config`` is not an ``expected``.
    """
    if not isinstance(config, expected):
        raise TypeError(f"{title} needs a {expected.__name__}, not {config!r:.80}")


def own_streams(config: TFDSConfigBase, rngs: nnx.Rngs | None) -> nnx.Rngs | None:
    """Return the given random streams; ``nnx.Rngs(config.seed)`` if none are given and the config is stochastic."""
    return nnx.Rngs(config.seed) if rngs is None and config.stochastic else rngs
