"""Hook plugins that keep every promise: those of the page about hooks, and others as third parties write them."""

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, Literal
from weakref import WeakKeyDictionary

import jax
import numpy as np
import pytest

from datarax_core import DataSourceModule, RecordError, SourceConfig, hookimpl
from datarax_core.testing import HookConformance, ServedRun

from . import rates


class NoNans:
    @hookimpl
    def datarax_batch_ready(self, step: int, batch: Any) -> None:
        for name, values in batch.items():
            if values.dtype != object and np.isnan(values).any():
                raise ValueError(f"batch {step} has NaN in {name!r}")


class NoNansConformance(HookConformance):
    plugin = NoNans()
    waits = True

    def check_datarax_batch_ready(self, plugin: NoNans, run: ServedRun) -> None:  # noqa: ARG002 - the kit's signature
        with pytest.raises(ValueError, match="batch 1 has NaN in 'x'"):
            list(run.pipeline({"x": np.array([0.0, 1.0, np.nan])}, batch_size=2))


class RatesConformance(HookConformance):
    def make_plugin(self) -> Any:
        rates.lines.clear()
        return rates

    def check_datarax_epoch_finished(self, plugin: Any, run: ServedRun) -> None:
        told = zip(
            run.told("datarax_epoch_finished", "epoch"), run.told("datarax_epoch_finished", "records"), strict=True
        )
        assert plugin.lines == [f"epoch {epoch}: {records} records" for epoch, records in told]
        assert plugin.lines


class Traces:
    """Notes each pipeline that is opened and closed, and how many batches it served."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.batches: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    @hookimpl
    def datarax_pipeline_opened(self, pipeline: Any) -> None:
        self.batches[pipeline] = 0
        self.lines.append(f"opened at {pipeline.cursor.position}")

    @hookimpl(trylast=True)
    def datarax_batch_ready(self, pipeline: Any) -> None:
        self.batches[pipeline] = self.batches.get(pipeline, 0) + 1

    @hookimpl
    def datarax_pipeline_closed(self, pipeline: Any) -> None:
        self.lines.append(f"closed at {pipeline.cursor.position} after {self.batches.pop(pipeline, 0)} batches")


class TracesConformance(HookConformance):
    def make_plugin(self) -> Traces:
        return Traces()

    def check_datarax_pipeline_opened(self, plugin: Traces, run: ServedRun) -> None:
        wanted = [f"opened at {position}" for position in run.told("datarax_pipeline_opened", "position")]
        assert [line for line in plugin.lines if "opened" in line] == wanted

    def check_datarax_batch_ready(self, plugin: Traces, run: ServedRun) -> None:
        assert plugin.lines[1] == "closed at 20 after 5 batches"
        assert len(run.batches["loop"]) == 5

    def check_datarax_pipeline_closed(self, plugin: Traces, run: ServedRun) -> None:
        assert len([line for line in plugin.lines if "closed" in line]) == len(
            run.told("datarax_pipeline_closed", "position")
        )


class Names:
    @hookimpl(wrapper=True)
    def datarax_create_source(self, config: SourceConfig) -> Iterator[Any]:
        source = yield
        source.name = source.name or f"a {config.type} source"
        return source


class NamesConformance(HookConformance):
    plugin = Names()

    def check_datarax_create_source(self, plugin: Names, run: ServedRun) -> None:  # noqa: ARG002 - the kit's signature
        assert run.source is not None
        assert run.source.name == "a tiny source"


class SquaresConfig(SourceConfig):
    type: Literal["squares"] = "squares"
    count: int = 100


class Squares(DataSourceModule):
    config_class = SquaresConfig
    config: SquaresConfig

    def __len__(self) -> int:
        return self.config.count

    def element_spec(self) -> Any:
        return {"x": jax.ShapeDtypeStruct((), np.int32)}

    def get_records(self, indices: Any) -> Any:
        return {"x": np.asarray(indices, np.int32) ** 2}


class Catalogue:
    @hookimpl
    def datarax_register_sources(self, registry: Any) -> None:
        registry.register(Squares)


class CatalogueConformance(HookConformance):
    plugin = Catalogue()

    def check_datarax_register_sources(self, plugin: Catalogue, run: ServedRun) -> None:  # noqa: ARG002 - the kit's signature
        assert run.build({"type": "squares", "count": 5}).get_batch_at(0, 5)["x"].tolist() == [0, 1, 4, 9, 16]


class FewOnly:
    def __init__(self, limit: int) -> None:
        self.failed: list[int] = []
        self.limit = limit
        self._lock = threading.Lock()

    @hookimpl
    def datarax_record_failed(self, index: int) -> str | None:
        with self._lock:
            self.failed.append(index)
            return "raise" if len(self.failed) > self.limit else None


class FewOnlyConformance(HookConformance):
    def make_plugin(self) -> FewOnly:
        return FewOnly(limit=1)

    def check_datarax_record_failed(self, plugin: FewOnly, run: ServedRun) -> None:
        assert plugin.failed == run.told("datarax_record_failed", "index") == [3]
        with pytest.raises(RecordError, match="record 5 cannot be read"):
            run.record_failed(5)


class Doubles:
    """Changes batches on purpose."""

    @hookimpl
    def datarax_batch_ready(self, batch: Any) -> None:
        batch["x"] = batch["x"] * 2


class DoublesConformance(HookConformance):
    plugin = Doubles()
    changes = ("datarax_batch_ready",)

    def check_datarax_batch_ready(self, plugin: Doubles, run: ServedRun) -> None:  # noqa: ARG002 - the kit's signature
        assert run.batches["loop"][0]["x"].tolist() == [0.0, 2.0, 4.0, 6.0]


class Last:
    """Keeps the last batch for a report."""

    def __init__(self) -> None:
        self.batch: Any = None

    @hookimpl
    def datarax_batch_ready(self, batch: Any) -> None:
        self.batch = batch


class LastConformance(HookConformance):
    keeps_batches = 1

    def make_plugin(self) -> Last:
        return Last()

    def check_datarax_batch_ready(self, plugin: Last, run: ServedRun) -> None:
        assert plugin.batch["x"].tolist() == run.batches["failing"][-1]["x"].tolist()


class Timed:
    """Measures the hooks of others."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    @hookimpl(wrapper=True)
    def datarax_batch_ready(self) -> Iterator[Any]:
        began = time.perf_counter()
        try:
            return (yield)
        finally:
            self.seconds.append(time.perf_counter() - began)


class TimedConformance(HookConformance):
    def make_plugin(self) -> Timed:
        return Timed()

    def check_datarax_batch_ready(self, plugin: Timed, run: ServedRun) -> None:
        assert len(plugin.seconds) == len(run.told("datarax_batch_ready", "step"))


class Writes:
    """Writes what it hears on a thread, one for each pipeline that is open."""

    def __init__(self) -> None:
        self.written: list[int] = []
        self.open: dict[int, tuple[Any, threading.Thread]] = {}

    def _write(self, steps: Any) -> None:
        while (step := steps.get()) is not None:
            self.written.append(step)

    @hookimpl
    def datarax_pipeline_opened(self, pipeline: Any) -> None:
        steps: Any = queue.Queue()
        thread = threading.Thread(target=self._write, args=(steps,))
        self.open[id(pipeline)] = steps, thread
        thread.start()

    @hookimpl(tryfirst=True)
    def datarax_batch_ready(self, pipeline: Any, step: int) -> None:
        if id(pipeline) in self.open:
            self.open[id(pipeline)][0].put(step)

    @hookimpl
    def datarax_pipeline_closed(self, pipeline: Any) -> None:
        steps, thread = self.open.pop(id(pipeline))
        steps.put(None)
        thread.join()


class WritesConformance(HookConformance):
    shown_elsewhere = {"datarax_pipeline_opened": "test_writes.py"}

    def make_plugin(self) -> Writes:
        return Writes()

    def check_datarax_batch_ready(self, plugin: Writes, run: ServedRun) -> None:
        assert plugin.written == run.told("datarax_batch_ready", "step")

    def check_datarax_pipeline_closed(self, plugin: Writes, run: ServedRun) -> None:  # noqa: ARG002 - the kit's signature
        assert plugin.written
        assert not plugin.open


class Strict:
    """Lets no record be replaced."""

    @hookimpl
    def datarax_record_failed(self) -> str:
        return "raise"


class StrictConformance(HookConformance):
    plugin = Strict()
    changes = ("datarax_record_failed",)

    def check_datarax_record_failed(self, plugin: Strict, run: ServedRun) -> None:  # noqa: ARG002 - the kit's signature
        assert "record 3 cannot be read" in str(run.error)
