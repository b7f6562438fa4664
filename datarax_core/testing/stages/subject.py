"""The stage under test: its config, the records that it is called with, and what a pipeline makes of them."""

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import jax
import numpy as np
from flax import nnx
from pydantic import TypeAdapter

from datarax_core.config.models import SourceConfig
from datarax_core.pipeline.pipeline import Pipeline
from datarax_core.records.joining import host_column
from datarax_core.records.spec import Batch, ElementSpec, named_fields, spec_of
from datarax_core.registry.pipeline_config import pipeline_schema
from datarax_core.registry.schema import model_schema
from datarax_core.registry.sources import default_registry
from datarax_core.registry.stages import AnyStage, Stage, StageRegistry
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.apply import stage_name
from datarax_core.stages.build import build_stages
from datarax_core.testing.checks import not_claimed, rows_of
from datarax_core.testing.columns import columns_of
from datarax_core.testing.options import Look, Shows, fields_of, missing_paths

from .declarations import StageDeclarations

_ANY_STAGE: Final[TypeAdapter[Stage]] = TypeAdapter(AnyStage)

_SIZES: Final = (3, 4, 5, 7)
"""Sizes of batches in pipelines. Last batches, which are short, have one to three records then: a program serves several."""


class StageSubject:
    """The stage under test, made as its author declares."""

    noun, base = "stage", "Stage"
    remedy = ". Other records may show the effect: those of the test are all that the stage is observed with"

    def __init__(self, author: StageDeclarations, folder: Path) -> None:
        self.author = author
        self.folder = folder
        self.broken: set[str] = set()
        """The names of the tests that failed."""

    # -- config and records ---------------------------------------------------------------------------------------------

    @functools.cached_property
    def given(self) -> Any:
        """The config, or the callable, as the author declares it."""
        return self.author.make_stage(self.folder)

    @functools.cached_property
    def config(self) -> Any:
        """The config, validated; a callable that is no config is returned as it is."""
        return self.validated(self.given) if isinstance(self.given, Mapping | Stage) else self.given

    def validated(self, config: Mapping[str, Any] | Stage) -> Stage:
        """Return a validated config, of the class registered for its type; or of that of the config under test."""
        own = self.given
        if isinstance(config, Mapping) and isinstance(own, Stage) and not self.is_registered:
            return type(own).model_validate(config)
        return _ANY_STAGE.validate_python(config, context={"stages": self.author.registry})

    @property
    def is_registered(self) -> bool:
        """Whether the registry has a stage of the type of the config; a config that was made in Python needs none."""
        return getattr(self.given, "type", None) in self.author.registry.names()

    @functools.cached_property
    def records(self) -> Batch:
        """The records, in columns on the host."""
        return columns_of(self.author.make_records(self.folder), type(self.author).__name__)

    @functools.cached_property
    def expected(self) -> Batch | None:
        """The batch that the author expects; None if none is declared."""
        expected = self.author.expected
        return None if expected is None else columns_of(expected, type(self.author).__name__, "expected")

    @property
    def size(self) -> int:
        """The number of records."""
        return rows_of(self.records)

    @property
    def batch_size(self) -> int:
        """The number of records of a batch in pipelines: a few, so that the last batch of an epoch is short."""
        sizes = [size for size in _SIZES if self.size % size and size < self.size]
        return sizes[0] if sizes else self.size - 1

    @property
    def title(self) -> str:
        """The name of the stage in messages."""
        return f"the stage {stage_name(self.config)}"

    # -- the stage and pipelines ----------------------------------------------------------------------------------------

    def fresh(self, config: Any = None) -> Any:
        """Return a stage for a new pipeline, which shares no variables with others; None is the config under test."""
        config = self.config if config is None else config
        return nnx.clone(config) if isinstance(config, nnx.Module) else config

    def stages(self, config: Any = None) -> list[Any]:
        """Return the stages of a new pipeline, of which the first is the stage."""
        return [self.fresh(config)]

    def build(self, config: Any = None, records: Batch | None = None) -> Any:
        """Return what a pipeline over the records builds of a stage: a new one at each call, with equal parameters."""
        source = Records(self.records if records is None else records)
        stages = self.stages(config)
        built, _ = build_stages(stages, source, nnx.Rngs(0), batch_size=self.batch_size, mask_field=None)
        return built[0]

    @functools.cached_property
    def built(self) -> Any:
        """What a pipeline over the records builds: shared by all tests that leave it as it is."""
        return self.build()

    def pipeline(self, records: Batch | None = None, *, config: Any = None, **options: Any) -> Pipeline:
        """Return a new pipeline over the records, or others, with the stage alone."""
        source = Records(self.records if records is None else records, is_reversed=options.pop("is_reversed", False))
        options = {"batch_size": self.batch_size, "rngs": nnx.Rngs(0), "prefetch": 0, "threads": 1, **options}
        return Pipeline(source=source, stages=self.stages(config), **options)

    def served(self, config: Any = None) -> Batch:
        """Return all records after the stage, as a loop serves them in one batch, on the host."""
        (batch,) = self.pipeline(config=config, batch_size=self.size)
        return on_host(batch)

    # -- what can be observed of the config -----------------------------------------------------------------------------

    def require_config(self) -> None:
        """Skip the test if the stage is a callable that is no config."""
        if not isinstance(self.config, Stage):
            not_claimed(f"{self.title} is a callable without a config")

    def observed(self, config: Stage | None, at: Look | None) -> Any:
        """Return what ``at`` returns for what a config builds, or the batch that it makes and how a pipeline calls it."""
        return self.looks(self.build(config)) if at is None else at(self.build(config))

    def looks(self, built: Any) -> list[Any]:
        """Return all that can be observed of what a config builds: how a pipeline calls it, and what it makes."""
        raise NotImplementedError

    def usual_trials(self, option: str) -> Sequence[Shows] | None:
        """Return values for an option that holds text: other names of fields, which are refused or new."""
        current, fields = getattr(self.config, option), named_fields(self.records)
        if isinstance(current, str) and current in fields:
            return [Shows(value=f"{current}_missing")]
        kinds = str(type(self.config).model_fields[option].annotation)
        if "str" not in kinds or "Literal" in kinds or "dict[" in kinds or self.is_path(option):
            return None
        if isinstance(current, tuple):
            return [Shows(value=[*current, "another"]), Shows(value=["another", *current[1:]])]
        return [Shows(value=f"{current or 'another'}_field")]

    def is_path(self, option: str) -> bool:
        """Return whether the author gives an option the path of a file."""
        return missing_paths(self.fields.get(option)) is not None

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the stage, a part of that of pipelines."""
        if isinstance(self.given, Stage) and not self.is_registered:
            return model_schema(type(self.given), "stage")
        whole, top = _schema_of(self.author.registry), f"stage.{self.config.type}"
        return {
            "$schema": whole["$schema"],
            "$defs": _with_what_it_names(top, whole["$defs"]),
            "$ref": f"#/$defs/{top}",
        }

    def in_whole_config(
        self,
        fields: dict[str, Any],
        refusal_of: Callable[[Mapping[str, Any]], str] | None = None,  # noqa: ARG002 - for sources
    ) -> dict[str, Any]:
        """Return the options: the schema of a stage is a part of that of pipelines."""
        return fields

    @property
    def fields(self) -> dict[str, Any]:
        """The options that the author set, by name, not validated."""
        return fields_of(self)


@functools.lru_cache(maxsize=4)  # it imports all plugins, and takes a second
def _schema_of(registry: StageRegistry) -> dict[str, Any]:
    return pipeline_schema(default_registry(), stages=registry)[0]


def _with_what_it_names(top: str, defs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the definition ``top`` of a JSON Schema with those that it names, and that these name."""
    found: dict[str, Any] = {}
    wanted = [top]
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = defs[name]
            wanted += re.findall(r'"#/\$defs/([^"]+)"', json.dumps(defs[name]))
    return found


def on_host(batch: Batch) -> Batch:
    """Return a batch in columns on the host."""
    return jax.tree.map(host_column, batch)


# -- source of the records ----------------------------------------------------------------------------------------------------


class RecordsConfig(SourceConfig):
    """Options of `Records`."""

    type: Literal["records_under_test"] = "records_under_test"
    is_reversed: bool = False


class Records(DataSourceModule):
    """Source of columns in memory, read by the host: forward, or backward."""

    config_class = RecordsConfig

    config: RecordsConfig

    def __init__(self, columns: Batch, *, is_reversed: bool = False) -> None:
        super().__init__(RecordsConfig(is_reversed=is_reversed), name="the records under test")
        self._columns = _Columns(columns)

    def __len__(self) -> int:
        return len(jax.tree.leaves(self._columns.batch)[0])

    def element_spec(self) -> ElementSpec:
        """Return the spec of the columns."""
        return spec_of(self._columns.batch)

    def record_indices_at(self, start: Any, size: int, key: Any = None) -> Any:  # noqa: ARG002 - without a shuffle
        """Return the record indices at positions from ``start`` on, int (size,)."""
        xp = np if isinstance(start, int | np.integer) else jax.numpy
        indices = (start + xp.arange(size)) % len(self)
        return len(self) - 1 - indices if self.config.is_reversed else indices

    def get_records(self, indices: Any) -> Batch:
        """Return the rows of the columns at concrete ``indices``."""
        return jax.tree.map(lambda column: column[np.asarray(indices)], self._columns.batch)


class _Columns:
    """Columns, which are no part of the state of a source."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
