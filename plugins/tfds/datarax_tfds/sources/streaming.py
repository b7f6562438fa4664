"""The streaming source: one class for its users, and behind it one class for each way of reading files."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Self

from flax import nnx

from datarax_core.config import SourceConfig
from datarax_tfds.backends import Reader
from datarax_tfds.config import TFDSConfigBase, TFDSStreamingConfig
from datarax_tfds.dataset.data_set import DataSet

from .base import TFDSSourceBase, own_streams, require_config
from .opened import Opened, reads_alike

_ORDER_OPTIONS: Final = {"type", "shuffle", "seed", "stochastic", "stream_name"}


class TFDSStreamingSource(TFDSSourceBase):
    """A split of a prepared data set, whose records are read when they are requested.

    If the format of the files has random access, this is an indexed source: it reads records by index, shuffles all of them,
    shards them, and resumes in O(1), without TensorFlow. On the ``tf.data`` backend it is a stream, and resumes exactly too.
    The property `access` says which of the two a source is. Both are instances of subclasses of this class, from which users
    cannot derive.

    Args:
        config: Settings.
        opened: The opened data set of another source of this class, which `copy` passes on.
        rngs: Random streams; a shuffled source draws its key from the stream ``shuffle``. None stands for
            ``nnx.Rngs(config.seed)``.
        name: Name of this source, for messages.

    Raises:
        TypeError: ``config`` is of another class, or this class was derived from.
        ValueError: The config has ``cacheable``, and TensorFlow reads the files.
        Whatever `Opened` raises if the data set cannot be read.
    """

    config_class: ClassVar[type[SourceConfig]] = TFDSStreamingConfig
    config: TFDSStreamingConfig

    _class_of: ClassVar[dict[Reader, type["TFDSStreamingSource"]]] = {}
    """The subclass for each reader; a subclass registers as it is defined."""

    def __init_subclass__(cls, *, readers: Sequence[Reader] = (), **kwargs: Any) -> None:
        """Register a subclass.

        Args:
            readers: The readers of files whose data sets instances of the subclass serve.
            kwargs: Arguments of the class statement for nnx.
        """
        super().__init_subclass__(**kwargs)
        TFDSStreamingSource._class_of.update(dict.fromkeys(readers, cls))

    def __new__(
        cls,
        config: TFDSStreamingConfig | None = None,
        opened: Opened | None = None,
        *,
        rngs: nnx.Rngs | None = None,  # noqa: ARG004 - for the constructor
        name: str | None = None,
    ) -> Self:
        """Return an instance of the subclass that reads the files of the data set."""
        if config is None:  # unpickling, which sets the attributes itself
            return object.__new__(cls)
        if cls is not TFDSStreamingSource and cls not in cls._class_of.values():
            raise TypeError(
                f"{cls.__name__} derives from TFDSStreamingSource, whose instances are of the class that can read the files; "
                "hold such a source in yours instead"
            )
        title = "TFDSStreamingSource" + (f" {name!r}" if isinstance(name, str) and name else "")
        require_config(config, TFDSStreamingConfig, title)
        if opened is None or not reads_alike(config, opened.config):
            opened = Opened(config, title)
        if config.cacheable and opened.data_set.backend == "tf.data":
            raise ValueError(
                f"{title} reads {opened.data_set.full_name} by tf.data, forward only, which keeps no records: cacheable has no "
                "use; leave it out, or load the data set with TFDSEagerSource"
            )
        made = object.__new__(cls._class_of[opened.data_set.backend])
        object.__setattr__(made, "_opened", opened)  # Python calls its constructor next, with the same arguments
        return made  # type: ignore[return-value]  # an instance of a subclass

    _opened: Opened

    def __init__(
        self,
        config: TFDSStreamingConfig,
        opened: Opened | None = None,  # noqa: ARG002 - `__new__` used it
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(config, rngs=own_streams(config, rngs), name=name)
        self._begin()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for old in vars(self).keys() & {
            "_loop",
            "_reads",
        }:  # host state by the names that pickles of version 0.1.0 have
            delattr(self, old)
            self._begin()

    def _begin(self) -> None:
        """Make the host state that reads the files."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """Public class and name, for messages."""
        return "TFDSStreamingSource" + (f" {self.name!r}" if self.name else "")

    @property
    def data_set(self) -> DataSet:
        """Description of the data set on disk."""
        return self._opened.data_set

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the opened data set, which copies share."""
        return (self._opened,)


def stream_of(opened: Opened) -> TFDSStreamingSource:
    """Return a source over an opened data set, with its records in the order of their index."""
    shared = TFDSConfigBase.model_fields.keys() & opened.config.model_fields_set
    options = {field: getattr(opened.config, field) for field in shared - _ORDER_OPTIONS}
    return TFDSStreamingSource(TFDSStreamingConfig(**options), opened)
