"""Declarations of an author about a source: how to make the source, and its expected records and properties."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datarax_core.config.models import SourceConfig
from datarax_core.pipeline.build import build_source
from datarax_core.registry.sources import SourceRegistry, default_registry
from datarax_core.sources.source import DataSourceModule
from datarax_core.testing.checks import broken
from datarax_core.testing.options import Shows


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """A source with a record, or a group of records, that cannot be read; returned by ``make_damaged``.

    Attributes:
        config: The config of the source.
        record: The record index of the damaged record.
        path: The path that errors about the record must name; None if the source reads no files.
        records: In place of ``record``, the sorted record indices that are damaged together, such as those of a row group. The
            error of each must name one of them.
    """

    config: Mapping[str, Any] | SourceConfig
    record: int | None = None
    path: str | Path | None = None
    records: Sequence[int] = ()

    def __post_init__(self) -> None:
        if (self.record is None) == (not len(self.records)):
            raise TypeError(
                "Damaged takes record=..., the index of the damaged record, or records=[...], a group of them"
            )

    @property
    def group(self) -> Sequence[int]:
        """The record indices that are damaged."""
        return self.records if self.record is None else (self.record,)


class Declarations:
    """Attributes and methods that an author overrides in a subclass of `SourceConformance`. Only the config is required."""

    config: Mapping[str, Any] | SourceConfig | None = None
    """The config of the source under test. Override `make_config` instead if files must be written first."""

    expected_length: int | None = None
    """The number of records; None accepts any length, or none."""

    expected_records: Mapping[int, Any] = {}
    """Some records by record index (of a stream, by position), as pytrees of values of the structure of `element_spec`."""

    effective: Mapping[str, Any | Shows] = {}
    """For each option whose effect the kit cannot guess: a value that changes the source, or `Shows`.

    The kit tries flags, choices, integers and paths by itself. `make_config` may set this attribute, for values that name
    files it wrote.
    """

    shown_elsewhere: Mapping[str, str] = {}
    """For each option whose effect cannot be observed from outside: your test that shows it, ``"test_x.py::test_y"``."""

    every_record_once: bool = True
    """Whether each epoch serves every record once; False for mixtures and other sources that draw records."""

    max_examples: int = 25
    """How many programs, of calls in any order, are drawn for a source, and how many for a pipeline over it."""

    heavy_modules: tuple[str, ...] = ()
    """Modules that importing the plugin must not import, in addition to tensorflow, torch and tensorflow_datasets."""

    @property
    def registry(self) -> SourceRegistry:
        """The registry that finds the config's ``type``: all installed sources, unless overridden.

        Called: whenever a config of the source is validated or built.
        Default: all installed sources.
        """
        return default_registry()

    def make_config(self, folder: Path) -> Mapping[str, Any] | SourceConfig:  # noqa: ARG002 - for authors' overrides
        """Return the config of the source under test, after writing the files that it names to ``folder``.

        Called once for each test class.

        Called: by the tests of the kit that need it, once for each test class, on pytest's thread.
        Default: `config`.
        """
        if self.config is None:
            broken(
                f"{type(self).__name__} does not declare how its source is made; give it "
                'config = {"type": ...}, or define make_config(self, folder)'
            )
        return self.config

    def make_source(self, config: SourceConfig, seed: int) -> DataSourceModule:
        """Return the source of a config; override this if the constructor takes data that no config names.

        Args:
            config: `config`, validated, or one with an option changed.
            seed: Selects the order: ``return AcmeSource(config, DATA, rngs=nnx.Rngs(seed))``.

        Called: by nearly every test, for each source that it needs, several in one test, and in processes that tests start.
        Default: `build_source` of the config, with the seed.
        """
        return build_source(config, self.registry, seed=seed)

    def make_sized_source(self, length: int, folder: Path) -> DataSourceModule | None:  # noqa: ARG002
        """Return a shuffled source of ``length`` records of any content, if the source computes an order of its own.

        The kit checks the order at lengths 1, 2 and 65,537. Return None if the source uses core's `Order`, which is
        proven for every length.

        Called: by the tests of the order, for each length.
        Default: None: the source uses core's `Order`.
        """
        return None

    def make_damaged(self, folder: Path) -> Damaged | None:  # noqa: ARG002
        """Return a source with a damaged record, written to ``folder``; None if records cannot be damaged.

        Called: by the test of damaged records.
        Default: None: that test is skipped.
        """
        return None
