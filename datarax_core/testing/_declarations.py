"""What an author says of a source: how it is made, and what to expect of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from datarax_core.config.models import SourceConfig
from datarax_core.pipeline.build import build_source
from datarax_core.registry.sources import SourceRegistry, default_registry
from datarax_core.sources.source import DataSourceModule

from ._effects import Shows
from ._subject import Subject
from ._verdict import broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """A config of a source with one record that cannot be read: which, and the path that errors name, if it has one."""

    config: Mapping[str, Any] | SourceConfig
    record: int
    path: str | Path | None = None


class Declarations:
    """What an author writes in a subclass of `SourceConformance`; all has a default but the config."""

    config: Mapping[str, Any] | SourceConfig | None = None
    """The config of the source under test. One with files to write first overrides `make_config` instead."""

    expected_length: int | None = None
    """Number of records; None leaves it to what the source says, or says that it has no length."""

    expected_records: Mapping[int, Any] = {}
    """What some records are, by record index: pytrees of values as `element_spec` describes them. Of a stream, by position."""

    effective: Mapping[str, Any | Shows] = {}
    """For fields of the config whose effect the kit cannot guess: a value that changes something, or `Shows`.

    Flags, choices, whole numbers and paths are tried without. Values that name files may be set by `make_config`.
    """

    shown_elsewhere: Mapping[str, str] = {}
    """Fields whose effect cannot be seen from outside: the test of yours that shows it, ``"test_x.py::test_y"``."""

    every_record_once: bool = True
    """Whether an epoch serves each record once; False for mixtures, and whatever else draws records as it likes."""

    heavy_modules: tuple[str, ...] = ()
    """Modules that importing the plugin must not import, besides tensorflow, torch and tensorflow_datasets."""

    @property
    def registry(self) -> SourceRegistry:
        """Where the config's ``type`` is looked up: what is installed, unless this is overridden."""
        return default_registry()

    def make_config(self, folder: Path) -> Mapping[str, Any] | SourceConfig:  # noqa: ARG002 - what an author needs
        """The config of the source under test; files that it names are written to ``folder``. Asked for once a class."""
        if self.config is None:
            broken(
                f'{type(self).__name__} says of no source how it is made; give it config = {{"type": ...}}, or define '
                "make_config(self, folder)"
            )
        return self.config

    def make_source(self, config: SourceConfig, seed: int) -> DataSourceModule:
        """The source of a config; overridden where the constructor takes data that no config names.

        Args:
            config: `config`, validated, or one with a field changed.
            seed: Selects the order: ``return AcmeSource(config, DATA, rngs=nnx.Rngs(seed))``.
        """
        return build_source(config, self.registry, seed=seed)

    def make_sized_source(self, length: int, folder: Path) -> DataSourceModule | None:  # noqa: ARG002
        """A shuffled source of so many records, whatever they are, to see its order at lengths 1, 2 and 65,537.

        None, if the order is the core's own: that is proven for every length already.
        """
        return None

    def make_damaged(self, folder: Path) -> Damaged | None:  # noqa: ARG002
        """A source with a damaged record, written to ``folder``; None if there is no such thing."""
        return None

    @pytest.fixture
    def subject(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
        """The source under test, made once a class."""
        stash = request.node.parent.stash
        if _SUBJECT not in stash:
            stash[_SUBJECT] = Subject(self, tmp_path_factory.mktemp(type(self).__name__, numbered=True))
        made: Subject = stash[_SUBJECT]
        return made


_SUBJECT = pytest.StashKey[Subject]()
