"""The source."""

from typing import Any, ClassVar

import jax
import numpy as np
from datarax_core import DataSourceModule, SourceConfig
from datarax_core.indices import record_numbers
from flax import nnx

from ._config import AcmeGridConfig


class AcmeGrid(DataSourceModule):
    """Numbers and their square roots: put your own records in their place.

    Args:
        config: Its settings.
        rngs: Random streams; a shuffled source draws its key from the stream ``shuffle``.
        name: What errors call this source.
    """

    API_VERSION: ClassVar[int] = 1  # of the contract with datarax-core that this class keeps
    config_class: ClassVar[type[SourceConfig]] = AcmeGridConfig
    config: AcmeGridConfig

    def __init__(
        self,
        config: AcmeGridConfig,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.set_random_order(config.shuffle)

    def __len__(self) -> int:
        return self.config.num_records

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What one record looks like. Asked for before anything is read, so it reads as little as it can."""
        return {
            "number": jax.ShapeDtypeStruct((), np.dtype(np.int32)),
            "root": jax.ShapeDtypeStruct((), np.dtype(np.float32)),
        }

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        """The records at ``indices`` as one batch, rows in that order; the same ones whenever it is asked.

        Raises:
            IndexError: An index is out of range.
        """
        numbers = record_numbers(indices, len(self), self.title).astype(np.int32)
        return {"number": numbers, "root": np.sqrt(numbers, dtype=np.float32)}
