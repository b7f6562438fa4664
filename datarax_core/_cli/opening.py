"""The source of a config, and its pipeline, as commands use them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from datarax_core.errors import ConfigError, DataraxError
from datarax_core.registry.pipeline_config import PipelineConfig

if TYPE_CHECKING:
    from datarax_core.pipeline.pipeline import Pipeline
    from datarax_core.sources.source import DataSourceModule


def open_source(path: Path, config: PipelineConfig) -> "DataSourceModule":
    """The source of a config in a file; nothing that it reads is kept.

    Raises:
        DataraxError, OSError: The data that it names cannot be used.
    """
    from datarax_core.pipeline.build import build_source  # noqa: PLC0415 - loads JAX, which an invalid config need not wait for

    with mistakes(path):
        return build_source(config.source.model_copy(update={"cacheable": False}), seed=config.seed)


def open_pipeline(path: Path, config: PipelineConfig) -> "tuple[Pipeline, dict[str, str]]":
    """The pipeline of a config in a file, and its element spec as text.

    Raises:
        DataraxError, OSError: The data that it names cannot be used.
    """
    from datarax_core.pipeline.pipeline import Pipeline  # noqa: PLC0415 - as above
    from datarax_core.records.spec import describe  # noqa: PLC0415

    with mistakes(path):
        pipeline = Pipeline.from_config(config)
        return pipeline, describe(pipeline.element_spec())


@contextmanager
def mistakes(path: Path) -> Iterator[None]:
    """What refuses its data in the block is a mistake of the user, in the config ``path``."""
    try:
        yield
    except DataraxError:
        raise
    except (ValueError, NotImplementedError) as refused:
        raise ConfigError(f"{path}: {refused}") from refused
