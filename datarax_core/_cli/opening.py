"""Sources and pipelines of config files, opened for commands."""

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
    """Return the source of the config in the file ``path``; it caches no records.

    Raises:
        DataraxError, OSError: The data that the config names cannot be used.
    """
    from datarax_core.pipeline.build import build_source  # noqa: PLC0415 - loads JAX, and an invalid config is reported before

    with mistakes(path):
        return build_source(config.source.model_copy(update={"cacheable": False}), seed=config.seed)


def open_pipeline(path: Path, config: PipelineConfig) -> "tuple[Pipeline, dict[str, str]]":
    """Return the pipeline of the config in the file ``path``, and its element spec as text.

    Raises:
        DataraxError, OSError: The data that the config names cannot be used.
    """
    from datarax_core.pipeline.pipeline import Pipeline  # noqa: PLC0415 - loads JAX
    from datarax_core.records.spec import describe  # noqa: PLC0415

    with mistakes(path):
        pipeline = Pipeline.from_config(config)
        return pipeline, describe(pipeline.element_spec())


@contextmanager
def mistakes(path: Path) -> Iterator[None]:
    """Report a ValueError or NotImplementedError of the block as a `ConfigError` of the config ``path``."""
    try:
        yield
    except DataraxError:
        raise
    except (ValueError, NotImplementedError) as refused:
        raise ConfigError(f"{path}: {refused}") from refused
