"""Sources and pipelines of config files, opened for commands."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from datarax_core.errors import ConfigError, DataraxError, StageError
from datarax_core.registry.pipeline_config import PipelineConfig

from .blame import damage_behind, notes_of

if TYPE_CHECKING:
    from datarax_core.pipeline.pipeline import Pipeline
    from datarax_core.sources.source import DataSourceModule


def open_source(path: Path, config: PipelineConfig) -> "DataSourceModule":
    """Return the source of the config in the file ``path``; it caches no records.

    Raises:
        DataraxError, OSError: The data that the config names cannot be used.
    """
    from datarax_core.pipeline.build import build_source_of  # noqa: PLC0415 - loads JAX; an invalid config is reported before

    with mistakes(path, config):
        return build_source_of(config, source=config.source.model_copy(update={"cacheable": False}))


def open_pipeline(path: Path, config: PipelineConfig) -> "tuple[Pipeline, dict[str, str]]":
    """Return the pipeline of the config in the file ``path``, and its element spec as text.

    Raises:
        DataraxError, OSError: The data that the config names cannot be used.
    """
    from datarax_core.pipeline.pipeline import Pipeline  # noqa: PLC0415 - loads JAX
    from datarax_core.records.spec import describe  # noqa: PLC0415

    with mistakes(path, config):
        pipeline = Pipeline.from_config(config)
        return pipeline, describe(pipeline.element_spec())


@contextmanager
def mistakes(path: Path, config: PipelineConfig | None = None) -> Iterator[None]:
    """Report a ValueError or NotImplementedError of the block as a `ConfigError` of the config in the file ``path``.

    The place of a stage that failed is part of the message, or a note on other errors.
    """
    try:
        yield
    except Exception as error:
        from datarax_core.stages.apply import failed_stage  # noqa: PLC0415 - loads JAX, as the block has done

        number = failed_stage(error)
        place = None if config is None or number is None or number >= len(config.stages) else ("stages", number)
        refused = isinstance(error, ValueError | NotImplementedError) and not isinstance(error, DataraxError)
        if config is not None and place is not None and (refused or isinstance(error, StageError)):
            option = getattr(error, "option", ())
            is_said = isinstance(error, DataraxError) or type(error) in (ValueError, NotImplementedError)
            problem = (
                str(error) if is_said else f"{type(error).__name__}: {error}"
            )  # of a library, whose words may be few
            mistake = ConfigError.of([config.problem((*place, *option), problem)])
            for note in notes_of(error):
                mistake.add_note(note)
            raise mistake from error
        if refused and (damage := damage_behind(error)):
            raise DataraxError(damage) from error
        if refused:
            raise ConfigError("\n".join([f"{path}: {error}", *notes_of(error)])) from error
        if config is not None and place is not None:
            error.add_note(f"that is {config.spot(place)}")
        raise
