"""The source of a config, as commands use it that read records and serve no batches."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .config import PipelineConfig
from .errors import ConfigError, DataraxError

if TYPE_CHECKING:
    from .source import DataSourceModule


def open_source(path: Path, config: PipelineConfig) -> "DataSourceModule":
    """The source of a config in a file; nothing that it reads is kept.

    Raises:
        DataraxError, OSError: The data that it names cannot be used.
    """
    from .build import build_source  # noqa: PLC0415 - loads JAX, which an invalid config need not wait for

    with mistakes(path):
        return build_source(config.source.model_copy(update={"cacheable": False}), seed=config.seed)


@contextmanager
def mistakes(path: Path) -> Iterator[None]:
    """What refuses its data in the block is a mistake of the user, in the config ``path``."""
    try:
        yield
    except DataraxError:
        raise
    except (ValueError, NotImplementedError) as refused:
        raise ConfigError(f"{path}: {refused}") from refused
