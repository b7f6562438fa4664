"""The stage under test: its config, the records that it is called with, and what it makes of them."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from flax import nnx
from pydantic import TypeAdapter

from datarax_core.records.spec import Batch, spec_of
from datarax_core.registry.stages import AnyStage, Stage
from datarax_core.stages.apply import stage_name

from .columns import columns_of
from .declarations import StageDeclarations

_ANY_STAGE: Final[TypeAdapter[Stage]] = TypeAdapter(AnyStage)


class StageSubject:
    """The stage under test, made as its author declares."""

    def __init__(self, author: StageDeclarations, folder: Path) -> None:
        self.author = author
        self.folder = folder
        self.broken: set[str] = set()
        """The names of the tests that failed."""

    @functools.cached_property
    def given(self) -> Mapping[str, Any] | Stage | Callable[..., Batch]:
        """The config, or the callable, as the author declares it."""
        return self.author.make_stage(self.folder)

    @functools.cached_property
    def config(self) -> Any:
        """The config, validated; a callable that is no config is returned as it is."""
        return self.validated(self.given) if isinstance(self.given, Mapping | Stage) else self.given

    def validated(self, config: Mapping[str, Any] | Stage) -> Stage:
        """Return a validated config, of the class registered for its type."""
        return _ANY_STAGE.validate_python(config, context={"stages": self.author.registry})

    @functools.cached_property
    def records(self) -> Batch:
        """The records, in columns on the host."""
        return columns_of(self.author.make_records(self.folder), type(self.author).__name__)

    @property
    def title(self) -> str:
        """The name of the stage in messages."""
        return f"the stage {stage_name(self.config)}"

    def build(self, config: Any = None) -> Any:
        """Return what a config builds for the records; None is the config under test. Other callables are what they are."""
        config = self.config if config is None else config
        return config.build(spec_of(self.records), nnx.Rngs(0)) if isinstance(config, Stage) else config
