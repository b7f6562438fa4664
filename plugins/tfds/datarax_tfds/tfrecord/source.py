"""Source of records in TFRecord files."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from flax import nnx

from datarax_core.config import SourceConfig
from datarax_core.files import is_of_kind, is_remote
from datarax_core.record_files import RecordFilesSource
from datarax_core.storage import redacted

from .config import TFRECORD, TFRecordSourceConfig
from .reader import TFRecordReader


class TFRecordSource(RecordFilesSource):
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
        self._reader = reader if reader is not None and reader.is_read_as(config) else TFRecordReader(config)

    @classmethod
    def guess(cls, path: str) -> Mapping[str, Any] | None:
        """Return the config of a TFRecord file, by its name, or of a folder of them; None for other paths."""
        return {"paths": path} if is_of_kind(path, TFRECORD) else None

    @property
    def record_reader(self) -> TFRecordReader:
        """Reader of the records; copies of the source share it."""
        return self._reader

    def data_files(self) -> Sequence[str]:
        """Return the paths of the files."""
        return self._reader.table.paths

    def describe_reading(self) -> str:
        """Return a sentence on records at addresses: whence they are read, and where they are kept."""
        addresses = [path for path in self.paths if is_remote(path)]
        if not addresses:
            return ""
        more = f" and {len(addresses) - 1:,} more" if len(addresses) > 1 else ""
        kept = (
            f", and kept in {self.config.cache_dir}" if self.config.cache_dir else "; cache_dir keeps what was fetched"
        )
        return f"Records are read from {redacted(addresses[0])}{more} when they are asked for, those of a batch at once{kept}."

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the reader, which copies share."""
        return (self._reader,)

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of every source, with names and sizes of the files, decoder and excluded records."""
        return {**super().fingerprint(), **self._reader.fingerprint()}
