"""Cost against size: records, files, children, fields, batches, sizes of records, hosts, plugins, depth of configs.

Run: ``python benchmarks/growth.py [--most 1e9] [--rounds 9] [--markdown] [curve ...]``. Each curve says what it is to be: flat,
or linear in the size above what a small one costs. Sizes alternate, forwards and backwards, so that a slow moment affects all
of them; of the rounds, the quickest counts, since what the machine does besides only adds. `docs/speed.md` has what each curve
is, and why.
"""

import argparse
import gc
import json
import math
import os
import statistics
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from _measure import LEAST, duration, in_turn, seconds
from flat import Numbers
from flax import nnx

from datarax_core import Pipeline
from datarax_core.files import FileTable
from datarax_core.registry import parse_config
from datarax_memory import MemorySource, MemorySourceConfig

SHORTEST = 8e-3
"""Seconds that a measurement takes at least; a call that is quicker is repeated."""

SLACK = 1.5
"""How many times the cost of the smallest size a flat curve may cost; and a linear one beside its line."""

Shape = Literal["flat", "logarithmic", "linear", "quadratic"]
Call = Callable[[], object]


@dataclass(frozen=True)
class Curve:
    """Cost at several sizes, and the shape that the docs promise."""

    what: str
    unit: str
    shape: Shape
    costs: Mapping[int, float]
    form: str = ""

    @property
    def is_as_told(self) -> bool:
        """Whether the curve has its shape: neither its last step nor the whole grows by more than that, times the slack."""
        sizes, taken = list(self.costs), list(self.costs.values())
        if self.shape == "logarithmic":
            return taken[-1] <= SLACK * taken[0] * (1 + math.log10(sizes[-1] / sizes[0]))
        power = {"flat": 0, "linear": 1, "quadratic": 2}[self.shape]
        if power == 0 or len(sizes) == 1:
            return taken[-1] <= SLACK * statistics.median(taken)
        dearest = max(cost / size**power for size, cost in zip(sizes[:-1], taken[:-1], strict=True))
        last = taken[-1] / taken[-2] / (sizes[-1] / sizes[-2]) ** power
        return last <= SLACK and taken[-1] <= SLACK * dearest * sizes[-1] ** power

    def lines(self) -> Iterator[tuple[str, ...]]:
        """Yield a line for each size: size, cost, growth from the size before, growth of the cost for the same, plot."""
        highest, lowest = max(self.costs.values()), min(self.costs.values())
        before: tuple[int, float] | None = None
        for size, taken in self.costs.items():
            grown = ("", "") if before is None else (f"x {size / before[0]:.3g}", f"x {taken / before[1]:.2f}")
            width = 1 + round(24 * math.log(taken / lowest) / math.log(max(highest / lowest, 10)))
            cost = self.form.format(taken) if self.form else duration(taken)
            yield (f"{size:,}", cost, *grown, "#" * width)
            before = size, taken


def curve(what: str, unit: str, shape: Shape, calls: Mapping[int, Call], rounds: int) -> Curve:
    """Return the curve of the seconds of a call at each size, in the quickest round."""
    repeats = {size: max(1, math.ceil(SHORTEST / max(_warm(call), 1e-7))) for size, call in calls.items()}
    gc.collect()

    def timed(size: int) -> Callable[[], float]:
        call, times = calls[size], repeats[size]
        return lambda: seconds(lambda: [call() for _ in range(times)]) / times

    gc.disable()  # as timeit does: a pass over the objects of JAX takes as long as a thousand batches
    try:
        found = in_turn({size: timed(size) for size in calls}, rounds)
    finally:
        gc.enable()
    return Curve(what, unit, shape, {size: min(taken) for size, taken in found.items()})


def _warm(call: Call) -> float:
    first = seconds(call)
    return first if first > 1 else min(seconds(call) for _ in range(3))


def sizes_up_to(most: float, *, least: int = 1, factor: int = 10) -> list[int]:
    """Return sizes from the least on, each so many times the one before."""
    found = [least]
    while found[-1] * factor <= most:
        found.append(found[-1] * factor)
    return found


# -- records ----------------------------------------------------------------------------------------------------------------


def of_records(most: int, rounds: int) -> Iterator[Curve]:
    """Yield the curves of the number of records."""
    sizes = sizes_up_to(min(most, 10**9), least=1000)
    sources = {size: Numbers(size) for size in sizes}
    starts = count(0, 256)
    orders = {
        size: lambda source=source: source.record_indices_at(next(starts), 256, source.order_key_data())
        for size, source in sources.items()
    }
    yield curve("256 record indices of a shuffled order", "records", "flat", orders, rounds)
    loops = {
        size: iter(Pipeline(source=source, batch_size=256, num_epochs=None, prefetch=0))
        for size, source in sources.items()
    }
    batches = {size: lambda loop=loop: next(loop) for size, loop in loops.items()}
    yield curve("batch of 256 in a loop, shuffled, read on the host", "records", "flat", batches, rounds)
    pipelines = {size: Pipeline(source=Numbers(size), batch_size=256) for size in sizes}
    yield curve("step(), shuffled, read on the host", "records", "flat", _each(pipelines, Pipeline.step), rounds)
    states = _each(pipelines, Pipeline.get_state)
    yield curve("get_state()", "records", "flat", states, rounds)
    yield Curve("bytes of a state as JSON", "records", "flat", _bytes_of(states), form="{:.0f} bytes")
    for loop in loops.values():
        loop.close()
    held = {size: _memory({"x": np.zeros((size, 4), np.uint8)}) for size in sizes if size <= 10**8}
    placed = {size: Pipeline(source=source, batch_size=256) for size, source in held.items()}
    yield curve("step(), shuffled, gathered on the device", "records", "flat", _each(placed, Pipeline.step), rounds)


def _each(objects: Mapping[int, Any], method: Callable[[Any], Any]) -> dict[int, Call]:
    return {size: lambda given=given: jax.block_until_ready(method(given)) for size, given in objects.items()}


def _memory(data: Any, *, shuffle: bool = True, placement: Any = "auto") -> MemorySource:
    return MemorySource(MemorySourceConfig(shuffle=shuffle, placement=placement), data, rngs=nnx.Rngs(0))


def _bytes_of(states: Mapping[int, Call]) -> dict[int, float]:
    return {size: float(len(json.dumps(state()))) for size, state in states.items()}


# -- files ------------------------------------------------------------------------------------------------------------------


def of_files(most: int, rounds: int) -> Iterator[Curve]:
    """Yield the curves of the number of files: a table of them alone, and TFRecord files of eight records."""
    from datarax_tfds import TFRecordSource, TFRecordSourceConfig

    rng = np.random.default_rng(0)
    tables = {
        size: FileTable.of([f"{number}.rows" for number in range(size)], [1000] * size, [None] * size)
        for size in sizes_up_to(min(most, 10**5))
    }

    def parts(table: FileTable) -> Call:
        records = rng.integers(0, 1000 * len(table.paths), 256)
        return lambda: table.rows_of(records, table.parts_of(records))

    found_in = {size: parts(table) for size, table in tables.items()}
    yield curve("file and row of 256 records at random", "files", "logarithmic", found_in, rounds)
    sizes = sizes_up_to(min(most, 10**4))
    with tempfile.TemporaryDirectory() as folder, _cache_in(folder):
        paths = _linked_files(Path(folder, "files"), max(sizes))

        def source(size: int) -> TFRecordSource:
            decoder = {"type": "raw"}
            config = TFRecordSourceConfig(paths=paths[:size], decoder=decoder, shuffle=True)
            return TFRecordSource(config, rngs=nnx.Rngs(0))

        few = min(rounds, 3)  # 10^5 files take seconds
        opened = {size: source(size) for size in sizes}
        yield curve("open a source again", "files", "linear", {size: lambda n=size: source(n) for size in sizes}, few)
        starts = count(0, 256)
        order = {
            size: lambda s=found: s.get_records(s.record_indices_at(next(starts), 256, s.order_key_data()))
            for size, found in opened.items()
        }
        yield curve("batch of 256 at random, eight records a file", "files", "linear", order, rounds)
        pipelines = {size: Pipeline(source=found, batch_size=8) for size, found in opened.items()}
        states = _each(pipelines, Pipeline.get_state)
        yield curve("get_state()", "files", "linear", states, few)
        yield Curve("bytes of a state as JSON", "files", "flat", _bytes_of(states), form="{:.0f} bytes")


@contextmanager
def _cache_in(folder: str) -> Iterator[None]:
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = folder
    try:
        yield
    finally:
        os.environ.pop("XDG_CACHE_HOME") if before is None else os.environ.update(XDG_CACHE_HOME=before)


def _linked_files(folder: Path, number: int) -> list[str]:
    """Write files of eight records; many names of few files, which cost no room."""
    folder.mkdir()
    content, paths = b"".join(_tfrecord_of(bytes([row]) * 64) for row in range(8)), []
    for each in range(number):
        path = folder / f"{each:06d}.tfrecord"
        if each % 1000 == 0:
            path.write_bytes(content)
            first = path
        else:
            path.hardlink_to(first)
        paths.append(str(path))
    return paths


def _tfrecord_of(content: bytes) -> bytes:
    from google_crc32c import value

    def masked(part: bytes) -> bytes:
        checksum = value(part)
        return struct.pack("<I", (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(content))
    return length + masked(length) + content + masked(content)


# -- mixtures, fields, batches, sizes of records ----------------------------------------------------------------------------


def of_children(most: int, rounds: int) -> Iterator[Curve]:
    """Yield the curves of the number of children of a mixture, over the same records in all."""
    from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode

    sizes = sizes_up_to(min(most, 1000))
    data = np.zeros((10_000, 64), np.uint8)

    def mixture(size: int) -> MixDataSourcesNode:
        children = [_memory({"x": part}, placement="host") for part in np.array_split(data, size)]
        config = MixDataSourcesConfig(num_sources=size, weights=(1.0,) * size)
        return MixDataSourcesNode(config, children, rngs=nnx.Rngs(0))

    few = min(rounds, 3)  # a thousand children take seconds
    yield curve("build a mixture", "children", "linear", {size: lambda n=size: mixture(n) for size in sizes}, few)
    mixtures = {size: mixture(size) for size in sizes}
    pipelines = {
        size: Pipeline(source=mix, batch_size=256, num_epochs=None, prefetch=0) for size, mix in mixtures.items()
    }
    loops = {size: iter(pipeline) for size, pipeline in pipelines.items()}
    batches = {size: lambda i=loop: jax.block_until_ready(next(i)) for size, loop in loops.items()}
    yield curve("batch of 256 in a loop, read on the host", "children", "linear", batches, rounds)
    for loop in loops.values():
        loop.close()
    states = _each(pipelines, Pipeline.get_state)
    yield curve("get_state()", "children", "linear", states, few)
    yield Curve("bytes of a state as JSON", "children", "linear", _bytes_of(states), form="{:.0f} bytes")


def of_fields(most: int, rounds: int) -> Iterator[Curve]:
    """Yield the curves of the number of fields, each a number of 4 bytes."""
    sizes = sizes_up_to(min(most, 1000))
    columns = {size: {f"field_{number}": np.zeros(4096, np.float32) for number in range(size)} for size in sizes}
    build = {size: lambda c=given: _memory(c, placement="host") for size, given in columns.items()}
    yield curve("build a source in memory", "fields", "linear", build, min(rounds, 5))
    for placement in ("host", "device"):
        pipelines = {
            size: Pipeline(source=_memory(given, placement=placement), batch_size=256, num_epochs=None, prefetch=0)
            for size, given in columns.items()
        }
        loops = {size: iter(pipeline) for size, pipeline in pipelines.items()}
        what = f"batch of 256 in a loop, placement {placement}"
        yield curve(what, "fields", "linear", {size: lambda i=loop: next(i) for size, loop in loops.items()}, rounds)
        for loop in loops.values():
            loop.close()


def of_batches(most: int, rounds: int) -> Iterator[Curve]:
    """Yield the curve of the number of records of a batch, of 64 bytes each."""
    source = _memory({"x": np.zeros((131_072, 64), np.uint8)})
    sizes = sizes_up_to(min(most, 65_536), factor=4)
    loops = {size: iter(Pipeline(source=source, batch_size=size, num_epochs=None, prefetch=0)) for size in sizes}
    calls = {size: lambda i=loop: jax.block_until_ready(next(i)) for size, loop in loops.items()}
    yield curve(
        "batch in a loop, gathered on the device, 64 bytes a record", "records a batch", "linear", calls, rounds
    )


def of_record_bytes(most: int, rounds: int) -> Iterator[Curve]:
    """Yield the curves of the size of a record, in batches of four."""
    sizes = sizes_up_to(min(most, 2**24), least=4, factor=8)
    for placement in ("host", "device"):
        loops = {}
        for size in sizes:
            source = _memory({"x": np.zeros((8, size), np.uint8)}, placement=placement)
            loops[size] = iter(Pipeline(source=source, batch_size=4, num_epochs=None, prefetch=0))
        calls = {size: lambda i=loop: jax.block_until_ready(next(i)) for size, loop in loops.items()}
        yield curve(f"batch of 4 in a loop, placement {placement}", "bytes a record", "linear", calls, rounds)
        for loop in loops.values():
            loop.close()


# -- hosts, plugins, configs ------------------------------------------------------------------------------------------------


def of_hosts(most: int, rounds: int) -> Iterator[Curve]:
    """Yield the curve of the number of hosts: what one of them computes to read its 64 rows of each batch."""
    sizes = sizes_up_to(min(most, 1024), factor=4)
    source = _memory({"x": np.zeros((10_000_000, 4), np.uint8)}, placement="host")
    key = source.order_key_data()

    def own_rows(hosts: int) -> Call:
        starts, own = count(0, 64 * hosts), np.arange(64) + 64 * (hosts // 2)
        return lambda: source.get_records(np.asarray(source.record_indices_at(next(starts), 64 * hosts, key))[own])

    calls = {size: own_rows(size) for size in sizes}
    yield curve("one host's 64 rows of a batch of 64 a host", "hosts", "linear", calls, rounds)


def of_plugins(most: int, rounds: int) -> Iterator[Curve]:
    """Yield the curves of the number of installed plugins, which are not imported."""
    from registry import NEEDED, install, listed_in

    sizes = sizes_up_to(min(most, 1000), least=10)
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            Path(folder, str(size)).mkdir()
            install(Path(folder, str(size)), size + len(NEEDED))
        lists: dict[int, Call] = {size: lambda f=str(Path(folder, str(size))): listed_in(f) for size in sizes}
        yield curve("describe() of all sources", "distributions", "linear", lists, rounds)


def of_depth(most: int, rounds: int) -> Iterator[Curve]:
    """Yield the curves of the depth of a config: mixtures of one mixture of ... one source in memory."""
    from datarax_core import build_source

    sizes = [size for size in (1, 3, 10, 30, 100) if size <= most]
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "x.npz"), x=np.zeros((1000, 4), np.float32))

        def nested(depth: int) -> dict[str, Any]:
            source: dict[str, Any] = {"type": "memory", "path": str(Path(folder, "x.npz")), "placement": "host"}
            for _ in range(depth - 1):
                source = {"type": "mix", "weights": [1], "sources": [source]}
            return {"source": source, "batch_size": 8}

        configs = {size: nested(size) for size in sizes}
        parse = {size: lambda c=config: parse_config(c) for size, config in configs.items()}
        yield curve("validate a config", "levels", "linear", parse, rounds)
        parsed = {size: parse_config(config).source for size, config in configs.items()}
        build = {size: lambda c=config: build_source(c) for size, config in parsed.items()}
        yield curve("build its source", "levels", "linear", build, min(rounds, 5))
        sources = {size: make() for size, make in build.items()}
        starts = count(0, 8)
        read = {
            size: lambda s=source: s.get_records(s.record_indices_at(next(starts), 8, s.order_key_data()))
            for size, source in sources.items()
        }
        yield curve("batch of 8", "levels", "quadratic", read, rounds)


CURVES: dict[str, Callable[[int, int], Iterator[Curve]]] = {
    "records": of_records,
    "files": of_files,
    "children": of_children,
    "fields": of_fields,
    "batches": of_batches,
    "record_bytes": of_record_bytes,
    "hosts": of_hosts,
    "plugins": of_plugins,
    "depth": of_depth,
}


def report(curves: Iterable[Curve], *, markdown: bool) -> list[Curve]:
    """Print each curve as a table, and return them."""
    found = []
    for each in curves:
        found.append(each)
        verdict = each.shape if each.is_as_told else f"NOT {each.shape}"
        print(f"\n{'### ' if markdown else ''}{each.what}: {verdict}\n")
        lines: list[Sequence[str]] = [(each.unit, "cost", "size", "cost grew", ""), *each.lines()]
        if markdown:
            lines.insert(1, ("---:",) * 4 + ("---",))
            print(*(f"| {' | '.join(cells)} |" for cells in lines), sep="\n", flush=True)
        else:
            widths = [max(len(line[column]) for line in lines) for column in range(4)]
            for line in lines:
                print(
                    *(cell.rjust(width) for cell, width in zip(line, widths, strict=False)),
                    line[4],
                    sep="  ",
                    flush=True,
                )
    return found


def main(arguments: Sequence[str] | None = None) -> list[Curve]:
    """Run the named curves, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("curves", nargs="*", choices=[*CURVES, []], help="which to run; all if none is named")
    parser.add_argument("--most", type=float, default=1e9, help="the largest size of any curve")
    parser.add_argument("--rounds", type=int, default=LEAST, help="measurements of each point")
    parser.add_argument("--markdown", action="store_true", help="print tables for a file of results")
    given = parser.parse_args(arguments)
    found = []
    for name in given.curves or CURVES:
        found += report(CURVES[name](int(given.most), given.rounds), markdown=given.markdown)
    return found


if __name__ == "__main__":
    main()
