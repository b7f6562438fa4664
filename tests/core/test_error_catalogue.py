"""Catalogue of errors: each class of the tree as a user meets it, with its whole text.

Further texts of a class are tested where they are raised; a class without an entry here fails the last test.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
from worker_sources import EXITS, Records

from datarax_core import Pipeline, errors
from datarax_core.extensions.hooks import Hooks
from datarax_core.pipeline.build import build_source
from datarax_core.registry.pipeline_config import parse_config
from datarax_core.registry.sources import SourceRegistry
from datarax_core.stages.field_paths import field_of
from datarax_core.workers.pool import Workers

if TYPE_CHECKING:
    from conftest import Site

NEVER_RAISED: Final = {errors.DataraxError, errors.PluginError}
"""Base classes, of which only subclasses are raised."""


@dataclass
class World:
    """Tools with which an entry makes its mistake."""

    site: "Site"
    folder: Path
    make_source: Callable[..., Any]
    make_host_source: Callable[..., Any]

    def get(self, name: str, **options: Any) -> None:
        """Install the distribution acme-NAME with a source ``name``, and look the name up."""
        self.site.install(f"acme-{name}", {name: f"acme_{name}:Source"}, **options)
        SourceRegistry.from_environment().get(name)


@dataclass
class Entry:
    error: type[BaseException]
    text: str
    mistake: Callable[[World], object]

    def __str__(self) -> str:
        return self.mistake.__name__


CATALOGUE: list[Entry] = []


def entry(error: type[BaseException], text: str) -> Callable[[Callable[[World], object]], Callable[[World], object]]:
    def add(mistake: Callable[[World], object]) -> Callable[[World], object]:
        CATALOGUE.append(Entry(error, text, mistake))
        return mistake

    return add


# -- plugins ------------------------------------------------------------------------------------------------------------


@entry(
    errors.PluginNotFoundError,
    r"unknown source 'memry'; did you mean 'memory' \(pip install datarax-memory\)\? \(installed: none\)",
)
def misspelt(_: World) -> None:
    SourceRegistry().get("memry")


@entry(errors.PluginNotFoundError, r"source 'tfds' is not installed; pip install datarax-tfds")
def not_installed(_: World) -> None:
    SourceRegistry().get("tfds")


@entry(
    errors.PluginDisabledError,
    r"source 'off' \(acme-off 1\.0\) is disabled by the allowlist of this process; add 'off' or 'acme-off' to `allow` to "
    r"use it",
)
def not_allowed(world: World) -> None:
    world.site.install("acme-off", {"off": "acme_off:Source"})
    SourceRegistry.from_environment(allow=["datarax-memory"]).get("off")


@entry(
    errors.PluginConflictError,
    r"source 'shared' is provided by acme-other 1\.0 \(acme_other:Source\) and acme-shared 1\.0 \(acme_shared:Source\); "
    r"uninstall one, or set DATARAX_DISABLE_PLUGINS to the distribution that you do not want",
)
def clashing(world: World) -> None:
    world.site.install("acme-other", {"shared": "acme_other:Source"})
    world.get("shared")


@entry(
    errors.PluginIncompatibleError,
    r"source 'newer' \(acme-newer 1\.0\) needs datarax-core>=99, and datarax-core [\d.]+ is installed; upgrade acme-newer, or "
    r"install a datarax-core that it accepts",
)
def for_another_core(world: World) -> None:
    world.get("newer", requires=("datarax-core>=99",))


@entry(
    errors.PluginLoadError,
    r"source 'broken' \(acme-broken 1\.0\) failed to import acme_broken:Source: ZeroDivisionError: division by zero, in "
    r".*, line \d+; this is a fault of acme-broken or of its installation",
)
def broken(world: World) -> None:
    world.get("broken", code="1 / 0")


@entry(
    errors.PluginContractError,
    r"source 'odd' \(acme-odd 1\.0\) is no source: it is int 3, not a class; name the source class instead",
)
def no_source(world: World) -> None:
    world.get("odd", code="Source = 3")


@entry(
    errors.PluginContractError,
    r"hook plugin 'Empty' \(registered by hand\) cannot be used: it implements none; mark a function with @hookimpl, named "
    r"datarax_register_sources or datarax_create_source or datarax_pipeline_opened or datarax_batch_ready or "
    r"datarax_epoch_finished or datarax_pipeline_closed or datarax_record_failed",
)
def no_hooks(_: World) -> None:
    Hooks(SourceRegistry()).register(type("Empty", (), {})())


@entry(
    errors.PluginWarning,
    r"hook plugin 'gone' \(acme-gone 1\.0\) failed to import acme_gone: ModuleNotFoundError: No module named 'acme_gone'; this "
    r"is a fault of acme-gone or of its installation; none of its hooks is called",
)
def left_out(world: World) -> None:
    world.site.install("acme-gone", {"gone": "acme_gone"}, group="datarax.hooks")
    Hooks(SourceRegistry()).load_installed()


# -- configs and data ---------------------------------------------------------------------------------------------------


@entry(
    errors.ConfigError,
    r"config: source\.type: unknown source 'qqq' \(installed: none\)\nconfig: batch_size: this field is required",
)
def invalid_config(_: World) -> None:
    parse_config({"source": {"type": "qqq"}}, registry=SourceRegistry())


@entry(
    errors.DataFileError,
    r".*/bad\.array_record is no ArrayRecord file, or is damaged or truncated: Corrupted Riegeli/records file: .*",
)
def foreign_file(world: World) -> None:
    path = world.folder / "bad.array_record"
    path.write_bytes(b"these are no records" * 10_000)
    build_source({"type": "arrayrecord", "paths": str(path)})


@entry(errors.RecordError, r"record 3 of HostRecords cannot be read: OSError: the disk is gone")
def bad_record(world: World) -> None:
    source = world.make_host_source(10)
    source.reads.fail = True
    (error, *_) = source.verify_records(np.arange(3, 4)).errors
    raise error


@entry(
    errors.SpecError, r"the mask of pad_last cannot be added: the batch has a field 'id' already; choose another name"
)
def taken_name(world: World) -> None:
    Pipeline(source=world.make_source(10), batch_size=4, pad_last="id").step()


@entry(errors.StageError, r"the records have no field 'lable'; did you mean 'label'\? \(fields: image, label\)")
def misspelt_field(world: World) -> None:
    columns = {"image": np.zeros((4, 2), np.uint8), "label": np.zeros(4, np.int32)}
    field_of(world.make_source(columns).element_spec(), "lable")


@entry(
    errors.NarrowingError,
    r"field 'id' of EagerSourceBase is int64 and 1099511627783 \(record 1\) does not fit int32, which is what a device keeps; "
    r"let the pipeline begin with a stage that leaves the field out, \{type: select, fields: \[\.\.\.\]\}, or takes the "
    r"nearest values, \{type: cast, field: id, dtype: float32, lossy: true\}, or run with JAX_ENABLE_X64=1",
)
def too_large(world: World) -> None:
    list(Pipeline(source=world.make_source({"id": np.asarray([1, 2**40 + 7])}), batch_size=2))


@entry(
    errors.StateError,
    r"the state is of another stream than the pipeline over EagerSourceBase: length was 20 and is 19; sample was '\w+' and is "
    r"'\w+'; restore it into what saved it, or start anew with reset\(\)",
)
def other_stream(world: World) -> None:
    state = Pipeline(source=world.make_source(20), batch_size=4).get_state()
    Pipeline(source=world.make_source(19), batch_size=4).set_state(state)


@entry(
    errors.WorkerError,
    r"worker process 1 of 1 that reads Records 'bound' ended with exit code 3(?: before it was ready)?; what it wrote "
    r"to stderr says why; the next batch starts new processes",
)
def dead_worker(_: World) -> None:
    workers = Workers(Records(), 1, batch_size=1, ahead=0)
    try:
        workers.fetch(np.asarray([EXITS]))
    finally:
        workers.close()


# -- the tests ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(site: "Site", tmp_path: Path, make_source: Callable[..., Any], make_host_source: Callable[..., Any]) -> World:
    return World(site, tmp_path, make_source, make_host_source)


@pytest.mark.parametrize("case", CATALOGUE, ids=str)
def test_a_mistake_raises_this_error_with_this_text(case: Entry, world: World) -> None:
    with pytest.raises(case.error, match=rf"^(?s:{case.text})$") as caught:
        case.mistake(world)
    assert type(caught.value) is case.error


def test_every_class_of_the_tree_has_an_entry() -> None:
    found = inspect.getmembers(errors, inspect.isclass)
    classes = {cls for _, cls in found if cls.__module__ == errors.__name__ and issubclass(cls, Exception)}
    assert {case.error for case in CATALOGUE} == classes - NEVER_RAISED
