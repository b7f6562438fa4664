"""The streaming source: one class to its users, and behind it one for each way that files are read."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Self

from flax import nnx

from datarax_core.config import SourceConfig
from datarax_tfds.backends import Reader
from datarax_tfds.config import TFDSConfigBase, TFDSStreamingConfig
from datarax_tfds.dataset.data_set import DataSet

from .base import TFDSSourceBase, own_streams, require_config
from .opened import Opened, reads_alike

_OF_ORDER: Final = {"type", "shuffle", "seed", "stochastic", "stream_name"}


class TFDSStreamingSource(TFDSSourceBase):
    """A split of a prepared data set, its records read as they are asked for.

    Where the format of the files gives random access, it is an indexed source: records of any index, all of them shuffled,
    sharded, and resumed in O(1), without TensorFlow. On the ``tf.data`` backend it is a stream, resumed exactly too. Which
    one it is shows in `access`; either is an instance of this class, which is not to be derived from.

    Args:
        config: Its settings.
        opened: What another source of this class has opened; given by `copy`.
        rngs: Random streams; a shuffled source draws its key from the stream ``shuffle``. None are those of
            ``nnx.Rngs(config.seed)``.
        name: What errors call this source.

    Raises:
        TypeError: ``config`` is of another class.
        ValueError: ``cacheable``, where TensorFlow reads the files.
        Whatever `Opened` raises of a data set that cannot be read.
    """

    config_class: ClassVar[type[SourceConfig]] = TFDSStreamingConfig
    config: TFDSStreamingConfig

    _class_of: ClassVar[dict[Reader, type["TFDSStreamingSource"]]] = {}
    """The class of the instances, by what reads the files; each class enters itself as it is defined."""

    def __init_subclass__(cls, *, readers: Sequence[Reader] = (), **kwargs: Any) -> None:
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
        """An instance of the class that reads the files that the config names."""
        if config is None:  # a pickle, which brings what it has
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
        object.__setattr__(made, "_opened", opened)  # its constructor is called next, with what was given here
        return made  # type: ignore[return-value]  # it is a subclass of this class, as the docstring says

    _opened: Opened

    def __init__(
        self,
        config: TFDSStreamingConfig,
        opened: Opened | None = None,  # noqa: ARG002 - `__new__` has looked at it
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(config, rngs=own_streams(config, rngs), name=name)
        self.set_random_order(config.shuffle)
        self._begin()

    def _begin(self) -> None:
        """Make what reads, which is on the host only."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """Class and name, as errors give it."""
        return "TFDSStreamingSource" + (f" {self.name!r}" if self.name else "")

    @property
    def data_set(self) -> DataSet:
        """The data set on disk."""
        return self._opened.data_set

    def constructor_data(self) -> tuple[Any, ...]:
        """The data set and its open files, which copies share."""
        return (self._opened,)


def stream_of(opened: Opened) -> TFDSStreamingSource:
    """A source over what another one has opened, its records in the order of their index."""
    shared = TFDSConfigBase.model_fields.keys() & opened.config.model_fields_set
    options = {field: getattr(opened.config, field) for field in shared - _OF_ORDER}
    return TFDSStreamingSource(TFDSStreamingConfig(**options), opened)
