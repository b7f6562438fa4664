"""What the sources of this package have in common: the data set, its name and options, and the seed of its order."""

from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx

from datarax_core.config import SourceConfig
from datarax_core.sources import DataSourceModule, LocalFilesOnlyMixin
from datarax_tfds.config import DEFAULT_SEED, TFDSConfigBase
from datarax_tfds.dataset.data_set import DataSet


class TFDSSourceBase(LocalFilesOnlyMixin, DataSourceModule):
    """A source over a split of a prepared data set. A subclass has `data_set` from the start of its constructor on."""

    config_class: ClassVar[type[SourceConfig]]
    config: TFDSConfigBase

    @property
    def data_set(self) -> DataSet:
        """The data set on disk."""
        raise NotImplementedError

    @property
    def dataset_name(self) -> str:
        """The data set, as it was asked for."""
        return self.config.name

    @property
    def split_name(self) -> str:
        """The split, as it was asked for, such as ``train[:80%]``."""
        return self.config.split

    @property
    def as_supervised(self) -> bool:
        """Whether the (input, target) pair is served as ``image`` and ``label``."""
        return self.config.as_supervised

    @property
    def include_keys(self) -> frozenset[str] | None:
        """The fields that are kept; None keeps all."""
        return self.config.include_keys

    @property
    def exclude_keys(self) -> frozenset[str] | None:
        """The fields that are left out."""
        return self.config.exclude_keys

    @property
    def local_files_only(self) -> bool:  # type: ignore[override]  # the config says, and does not change
        """Whether nothing is ever downloaded or prepared."""
        return self.config.local_files_only

    def get_dataset_info(self) -> dict[str, Any]:
        """What the data set says of itself, with the number of records that are served, and their element spec."""
        return {**self.data_set.info(), "num_records": len(self), "element_spec": self.element_spec()}

    def fingerprint(self) -> dict[str, Any]:
        """That of every source, with the name and version of the data set, and the split."""
        return {**super().fingerprint(), "data_set": self.data_set.full_name, "split": self.data_set.split}

    def __len__(self) -> int:
        return self.data_set.num_records

    def _drawn_key(self, rngs: nnx.Rngs | None) -> np.ndarray:
        if self.config.seed == DEFAULT_SEED or rngs is None:
            return super()._drawn_key(rngs)
        key = jax.random.fold_in(rngs[self.stream_name or "default"](), self.config.seed)
        return super()._drawn_key(nnx.Rngs(key))


def require_config(config: Any, expected: type[TFDSConfigBase], title: str) -> None:
    """Refuse what is no config of a source of this kind.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(config, expected):
        raise TypeError(f"{title} needs a {expected.__name__}, not {config!r:.80}")


def own_streams(config: TFDSConfigBase, rngs: nnx.Rngs | None) -> nnx.Rngs | None:
    """The random streams that were given; where a source shuffles and was given none, those of the config's seed."""
    return nnx.Rngs(config.seed) if rngs is None and config.stochastic else rngs
