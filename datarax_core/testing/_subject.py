"""The source under test: its config, and sources made of it."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from ..config import AnySource, SourceConfig
from ..source import DataSourceModule

if TYPE_CHECKING:
    from ._declarations import Declarations

_ANY_SOURCE: TypeAdapter[SourceConfig] = TypeAdapter(AnySource)


class Subject:
    """The source under test, made as its author says."""

    def __init__(self, author: "Declarations", folder: Path) -> None:
        self.author = author
        self.folder = folder

    @functools.cached_property
    def given(self) -> Mapping[str, Any] | SourceConfig:
        """The config as the author gives it."""
        return self.author.make_config(self.folder)

    @functools.cached_property
    def config(self) -> SourceConfig:
        """The config, validated."""
        return self.validated(self.given)

    @functools.cached_property
    def source(self) -> DataSourceModule:
        """One source of it, for tests that do not move it."""
        return self.build()

    def validated(self, config: Mapping[str, Any] | SourceConfig) -> SourceConfig:
        """A config of the registered class."""
        return _ANY_SOURCE.validate_python(config, context={"registry": self.author.registry})

    def build(self, seed: int = 0, config: SourceConfig | None = None) -> DataSourceModule:
        """A new source."""
        return self.author.make_source(self.config if config is None else config, seed)
