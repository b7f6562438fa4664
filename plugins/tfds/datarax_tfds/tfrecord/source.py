"""Source of records in TFRecord files."""

from typing import Any, ClassVar

import numpy as np
from flax import nnx

from datarax_core.config import SourceConfig
from datarax_core.order import Order, record_numbers
from datarax_core.records import Batch, ElementSpec
from datarax_core.registry import Decoder
from datarax_core.sources import DataSourceModule, Verified

from .config import DEFAULT_SEED, TFRecordSourceConfig
from .reader import TFRecordReader


class TFRecordSource(DataSourceModule):
    """Source of the records in TFRecord files, with random access to each of them, without TensorFlow.

    Each file is walked through once, and the offsets of its records are kept in the user's cache folder; so is the content of
    a compressed file, which has no random access. The checksums of a record are verified whenever it is read.

    Args:
        config: Settings.
        reader: Reader of another source of this class, which `copy` passes on.
        rngs: Random streams; a shuffled source draws its key from the stream ``shuffle``. None stands for
            ``nnx.Rngs(config.seed)``.
        name: Name of the source in error messages.

    Raises:
        TypeError: ``config`` is of another class.
        Whatever `TFRecordReader` raises if the files cannot be read.
    """

    config_class: ClassVar[type[SourceConfig]] = TFRecordSourceConfig
    config_in_fingerprint: ClassVar[bool] = False
    config: TFRecordSourceConfig

    def __init__(
        self,
        config: TFRecordSourceConfig,
        reader: TFRecordReader | None = None,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(config, TFRecordSourceConfig):
            raise TypeError(f"{type(self).__name__} needs a TFRecordSourceConfig, not {config!r:.80}")
        if rngs is None and config.stochastic:
            rngs = nnx.Rngs(config.seed)
        super().__init__(config, rngs=rngs, name=name)
        self.set_random_order(config.shuffle)
        self._reader = reader if reader is not None and reader.is_read_as(config) else TFRecordReader(config)

    @property
    def paths(self) -> tuple[str, ...]:
        """Files, in the order of their records."""
        return self._reader.table.paths

    @property
    def decoder(self) -> Decoder:
        """Decoder of the bytes of a record."""
        return self._reader.decoder

    @property
    def order_seed(self) -> int | None:
        """``seed`` of the config, which is folded into the order's key; None if it is the default."""
        return None if self.config.seed == DEFAULT_SEED else self.config.seed

    def __len__(self) -> int:
        return self._reader.length

    def element_spec(self) -> ElementSpec:
        """Return the element spec that the decoder declares, or else that of the first record, which is read once for it.

        Raises:
            ValueError: There are no records.
            RecordError: The first record cannot be read or decoded.
        """
        return self._reader.spec(self)

    def order(self) -> Order:
        """Return the order of the records.

        Raises:
            ValueError: There are no records.
        """
        self._reader.require_records(self)
        return super().order()

    def get_records(self, indices: Any) -> Batch:
        """Return the records at concrete ``indices`` as a batch of NumPy arrays.

        Raises:
            IndexError: An index is out of range.
            RecordError: A record cannot be read or decoded; names file, record and cause. With ``on_error="substitute"``,
                only if more records are bad than ``max_errors`` allows.
            DataFileError: A file changed since the source was built.
        """
        batch, substituted = self._reader.batch_of(self._checked(indices), self)
        self.note_substituted(substituted)
        return batch

    def verify_records(self, indices: np.ndarray) -> Verified:
        """Return which of the records cannot be read or decoded; ``on_error="substitute"`` makes no difference here."""
        return self._reader.verified(self._checked(indices), self)

    def close(self) -> None:
        """Close all files that are not in use; the next read opens them again."""
        self._reader.close()

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the reader, which copies share."""
        return (self._reader,)

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of every source, with names and sizes of the files, decoder and excluded records."""
        return {**super().fingerprint(), **self._reader.fingerprint()}

    def _checked(self, indices: Any) -> np.ndarray:
        self._reader.require_records(self)
        numbers = record_numbers(indices, len(self), self.title)
        return numbers.astype(np.int64, copy=False)  # sums of uint8 would wrap
