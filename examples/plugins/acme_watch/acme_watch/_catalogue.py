"""Data sets of a catalogue: ``{"digits": {"type": "memory", "path": "digits.npz"}}``, each by its name in a config."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import TypeAdapter, create_model, model_validator

from datarax_core import AnySource, ConfigError, DataSourceModule, SourceConfig, hookimpl
from datarax_core.extensions import Registrar

VARIABLE: Final = "ACME_CATALOGUE"
"""Environment variable with the path of the catalogue."""

_SOURCE: Final[TypeAdapter[SourceConfig]] = TypeAdapter(AnySource)


class Catalogue:
    """A hook that registers a source for each entry of a file, a JSON object; without a path it registers none."""

    def __init__(self, path: str | None) -> None:
        self._path = path

    @classmethod
    def of_environment(cls) -> Self:
        """Return the catalogue that the environment names."""
        return cls(os.environ.get(VARIABLE))

    @hookimpl
    def datarax_register_sources(self, registry: Registrar) -> None:
        """Register the entries. No source of an entry is imported before its name is used.

        Raises:
            ConfigError: The file cannot be read, or is no catalogue.
        """
        for name, entry in self._entries().items():
            registry.register(_source_class(name, entry, str(self._path)))

    def _entries(self) -> Mapping[str, Any]:
        if self._path is None:
            return {}
        try:
            entries = json.loads(Path(self._path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{VARIABLE} names {self._path}, which cannot be read: {error}") from error
        if not isinstance(entries, dict):
            raise ConfigError(f"{self._path} is no catalogue, a JSON object with the config of a source for each name")
        return entries


class EntryConfig(SourceConfig):
    """Base of the configs of entries, which have no options: a name stands for a whole config."""

    catalogue: ClassVar[str] = ""

    @model_validator(mode="after")
    def _takes_no_options(self) -> Self:
        if given := sorted(self.model_fields_set - {"type"}):
            raise ValueError(f"{', '.join(given)}: {self.type!r} is a whole config; set options in {self.catalogue}")
        return self


class Entry(DataSourceModule):
    """Base of the classes of entries, which only build the source of the catalogue: none of them is ever made or pickled."""

    entry: ClassVar[Any] = None

    @classmethod
    def from_config(cls, config: SourceConfig, build: Callable[[SourceConfig], DataSourceModule]) -> Any:  # noqa: ARG003
        """Return the source that the catalogue describes; its paths are relative to the catalogue."""
        path = Path(cls.config_class.catalogue)  # type: ignore[attr-defined]  # an EntryConfig
        return build(_SOURCE.validate_python(cls.entry, context={"base": path.parent.absolute()}))


def _source_class(name: str, entry: Any, path: str) -> type[Entry]:
    """Return the class that stands for an entry in the registry."""
    kind: Any = Literal
    config = create_model(f"{name}_config", __base__=EntryConfig, type=(kind[name], name))
    config.catalogue = path
    about = f"The entry {name!r} of {path}."
    return type(name, (Entry,), {"config_class": config, "entry": entry, "__doc__": about, "__module__": __name__})
