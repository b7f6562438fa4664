"""Hook plugins that break one promise each."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from datarax_core import hookimpl
from datarax_core.extensions.implementations import HOOKS
from datarax_core.testing import HookConformance

from .healthy import Squares

STOP = threading.Event()


class Unmarked:
    def datarax_batch_ready(self, batch: Any) -> None: ...


class Raising:
    @hookimpl
    def datarax_epoch_finished(self, epoch: int) -> None:
        raise LookupError(f"nothing is known of epoch {epoch}")


class Idle:
    """Does nothing of what its author declares."""

    epochs = 0

    @hookimpl
    def datarax_epoch_finished(self, epoch: int) -> None: ...


class Adding:
    @hookimpl
    def datarax_batch_ready(self, step: int, batch: Any) -> None:
        batch["step"] = jnp.full(len(batch["name"]), step)


class InPlace:
    """Writes to host fields."""

    @hookimpl
    def datarax_batch_ready(self, batch: Any) -> None:
        batch["name"][0] = batch["name"][0].upper()


class Rewinding:
    """Moves a pipeline that was closed back to its first record."""

    @hookimpl
    def datarax_pipeline_closed(self, pipeline: Any) -> None:
        pipeline.cursor.restore(0, 0)


class Hoarding:
    def __init__(self) -> None:
        self.batches: list[Any] = []

    @hookimpl
    def datarax_batch_ready(self, batch: Any) -> None:
        self.batches.append(batch)


class Attached:
    """Holds all pipelines that it saw."""

    def __init__(self) -> None:
        self.pipelines: list[Any] = []

    @hookimpl
    def datarax_pipeline_opened(self, pipeline: Any) -> None:
        self.pipelines.append(pipeline)


class Waiting:
    @hookimpl
    def datarax_batch_ready(self, batch: Any) -> None:
        jax.block_until_ready({name: column for name, column in batch.items() if name != "name"})


class Slow:
    @hookimpl
    def datarax_batch_ready(self, step: int) -> None:  # noqa: ARG002 - a hook that is called
        time.sleep(0.002)


class Taking:
    """Makes all sources, also those of others."""

    @hookimpl
    def datarax_create_source(self, config: Any, build: Any) -> Any:
        return build.from_class(config)


class Deciding:
    @hookimpl
    def datarax_record_failed(self) -> str:
        return "substitute"


class Replacing:
    @hookimpl(wrapper=True)
    def datarax_record_failed(self) -> Iterator[Any]:
        yield


class Swallowing:
    @hookimpl(wrapper=True)
    def datarax_record_failed(self) -> Iterator[Any]:
        try:
            return (yield)
        except Exception:  # noqa: BLE001 - the fault
            return None


class OnlyOne:
    def __init__(self) -> None:
        self.pipeline: Any = None

    @hookimpl
    def datarax_pipeline_opened(self, pipeline: Any) -> None:
        if self.pipeline is not None:
            raise RuntimeError("there is a bar already")
        self.pipeline = id(pipeline)

    @hookimpl
    def datarax_pipeline_closed(self) -> None:
        self.pipeline = None


class CallsJax:
    @hookimpl
    def datarax_record_failed(self, index: int) -> None:
        float(jnp.float32(index))


class Boxed:
    """Ties itself to each source."""

    def __init__(self) -> None:
        self.sources = 0

    @hookimpl(wrapper=True)
    def datarax_create_source(self) -> Iterator[Any]:
        source = yield
        source.made_by = self
        return source


class LeavesAThread:
    @hookimpl
    def datarax_pipeline_opened(self) -> None:
        threading.Thread(target=STOP.wait, name="watcher", daemon=True).start()


class Once:
    def __init__(self) -> None:
        self.is_registered = False

    @hookimpl
    def datarax_register_sources(self, registry: Any) -> None:
        if not self.is_registered:
            registry.register(Squares)
        self.is_registered = True


class Conformance(HookConformance):
    """The conformance test of a hook plugin whose effect is shown elsewhere; subclasses name its class."""

    plugin_class: Any = None
    shown_elsewhere = dict.fromkeys(HOOKS, "test_hooks.py")

    def make_plugin(self) -> Any:
        return self.plugin_class()


class IdleConformance(Conformance):
    def check_datarax_epoch_finished(self, plugin: Any, run: Any) -> None:
        assert plugin.epochs == len(run.told("datarax_epoch_finished", "epoch"))


BROKEN = {
    "test_it_can_be_registered": [Unmarked],
    "test_an_ordinary_run_goes_on": [Raising],
    "test_each_hook_has_the_declared_effect": [Idle],
    "test_batches_are_left_alone": [Adding, InPlace],
    "test_the_pipeline_is_left_alone": [Rewinding],
    "test_no_batch_is_kept": [Hoarding],
    "test_no_pipeline_is_kept": [Attached],
    "test_it_does_not_wait_for_batches": [Waiting],
    "test_a_batch_costs_little": [Slow],
    "test_others_are_called_too": [Taking, Deciding],
    "test_a_wrapper_returns_what_it_got": [Replacing],
    "test_errors_of_others_pass": [Swallowing],
    "test_pipelines_may_interleave": [OnlyOne],
    "test_a_record_may_fail_on_any_thread": [CallsJax],
    "test_its_sources_go_to_worker_processes": [Boxed],
    "test_it_leaves_nothing_behind": [LeavesAThread],
    "test_it_can_be_registered_again": [Once],
}
"""For each promise, the hook plugins that break it."""

CONFORMANCES = {plugin: Conformance for plugins in BROKEN.values() for plugin in plugins} | {Idle: IdleConformance}
