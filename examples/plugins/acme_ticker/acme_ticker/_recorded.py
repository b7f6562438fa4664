"""The stream of recorded ticks."""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import numpy as np
from flax import nnx

from datarax_core import Order, SourceConfig, StreamingSourceBase
from datarax_core.order import ORDER_RULE

from ._config import AcmeTickerConfig
from ._recording import Recording
from ._ticks import SPEC


class AcmeTicker(StreamingSourceBase):
    """The ticks of a recording, file after file; with ``shuffle``, the files in another sequence in each epoch.

    A gzip file is read forward only, so that this is a stream. Resuming opens the file of the next tick, and reads past the
    ticks before it without making records of them: it costs at most one file.

    Args:
        config: Config of the source.
        rngs: Random streams; a shuffled source draws its key from the stream ``shuffle``.
        name: Name of the source in errors.
        part: The part of each epoch that this stream serves.
        num_parts: The number of equal parts of an epoch.

    Raises:
        FileNotFoundError: The recording, or one of its files, is not there.
        DataFileError: The list of files is no such list, or lists no tick.
    """

    config_class: ClassVar[type[SourceConfig]] = AcmeTickerConfig
    config: AcmeTickerConfig

    def __init__(
        self,
        config: AcmeTickerConfig,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
        part: int = 0,
        num_parts: int = 1,
    ) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self._recording = Recording.at(config.recording)
        self._part, self._num_parts = part, num_parts

    @classmethod
    def guess(cls, path: str) -> Mapping[str, Any] | None:
        """Return the config of a folder with a recording; None for other paths."""
        recording = Path(path, "recording.json")
        return {"recording": str(recording)} if recording.is_file() else None

    def __len__(self) -> int:
        return self._recording.num_ticks // self._num_parts

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Return dtype and shape of each field; no tick is read."""
        return dict(SPEC)

    def records_from(self, epoch: int, start: int) -> Iterator[dict[str, Any]]:
        """Yield the ticks of an epoch from the ``start``-th on."""
        ticks = self._ticks_from(self._sequence(epoch), self._part * len(self) + start)
        return ticks if self._num_parts == 1 else islice(ticks, len(self) - start)

    def process_part(self, part: int, num_parts: int) -> Self | None:
        """Return the stream of one of ``num_parts`` equal blocks of each epoch; None if there is no equal division."""
        if self._num_parts > 1 or len(self) % num_parts:
            return None
        twin = type(self)(self.config, rngs=self.rngs, name=self.name, part=part, num_parts=num_parts)
        if twin.order_key is not None and self.order_key is not None:
            twin.order_key.set_raw_value(self.order_key.get_raw_value())  # one order, of which each host reads a block
        return twin

    def fingerprint(self) -> dict[str, Any]:
        """Return the entries that a saved state must match: those of every stream, of this recording, and of its order."""
        order = f"files by rule {ORDER_RULE}" if self.is_random_order else "files in sequence"
        part = [self._part, self._num_parts]
        return {**super().fingerprint(), **self._recording.fingerprint(), "order": order, "part": part}

    def _sequence(self, epoch: int) -> list[int]:
        """Return the numbers of the files in the sequence of an epoch, which depends on the key and the epoch only."""
        count = self._recording.num_files
        key = self.order_key_data()
        if key is None:
            return list(range(count))
        return [int(file) for file in Order(count).record_indices(epoch * count, count, np.asarray(key))]

    def _ticks_from(self, files: list[int], start: int) -> Iterator[dict[str, Any]]:
        """Yield the ticks of these files from the ``start``-th on; files before it are not opened."""
        for file in files:
            count = self._recording.counts[file]
            if start < count:
                yield from self._recording.ticks(file, start)
            start = max(0, start - count)
