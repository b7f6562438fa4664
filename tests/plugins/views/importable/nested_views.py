"""Views nested at random, each with the records that it must have, which plain Python makes of those of its parents."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from flax import nnx

from datarax_core import DataSourceModule, SourceView, StructuralConfig
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode
from datarax_views import (
    BucketView,
    BucketViewConfig,
    ConcatView,
    ConcatViewConfig,
    FilterView,
    FilterViewConfig,
    GroupsView,
    GroupsViewConfig,
    PackView,
    PackViewConfig,
    RepeatView,
    RepeatViewConfig,
    SampleView,
    SampleViewConfig,
    SubsetView,
    SubsetViewConfig,
    WindowView,
    WindowViewConfig,
    ZipView,
    ZipViewConfig,
)

Record = dict[str, Any]
LABELS = 4
BOUNDS = (4, 8, 16)


@dataclass(frozen=True)
class Nested:
    """A source, the records that it has, and how it was made."""

    source: DataSourceModule
    records: list[Record]
    made: str
    children: list["Nested"] = field(default_factory=list)
    """The sources of a mixture."""

    @property
    def has_text(self) -> bool:
        """Whether records have tokens of varying length."""
        return None in self.source.element_spec().get("tokens", np.zeros(())).shape


def nested_views(seed: int, depth: int, *, bucketed: bool = False, remainder: str = "keep") -> Nested:
    """Return views nested ``depth`` deep over a source, drawn from a seed; with ``bucketed``, a view of buckets on top."""
    rng = np.random.default_rng(seed)
    made = base(rng, has_text=bucketed or bool(rng.integers(3)))
    for level in range(depth):
        made = one_more(rng, made, level, keeps_text=bucketed)
    if not bucketed:
        return made
    while not made.source.serves_each_once:  # buckets need each record once
        made = base(rng, has_text=True)
    config = BucketViewConfig(field="tokens", bounds=BOUNDS, batch_size=4, mask_field="mask", remainder=remainder)
    return Nested(BucketView(config, made.source), made.records, f"bucket({made.made})")


def base(rng: np.random.Generator, *, has_text: bool) -> Nested:
    """Return a source in memory of 12 to 30 records; with text on the host, without on the host or the device."""
    count = int(rng.integers(12, 31))
    data: dict[str, Any] = {
        "id": np.arange(count, dtype=np.int32) + 1000 * int(rng.integers(1, 9)),
        "label": rng.integers(0, LABELS, count).astype(np.int32),
    }
    if has_text:
        data["tokens"] = [rng.integers(1, 99, rng.integers(1, BOUNDS[-1] + 1)).astype(np.int32) for _ in range(count)]
    placement = "host" if has_text else str(rng.choice(["host", "device"]))
    config = MemorySourceConfig(shuffle=bool(rng.integers(2)), placement=placement)
    source = MemorySource(config, data, rngs=nnx.Rngs(int(rng.integers(9))))
    records = [{name: column[row] for name, column in data.items()} for row in range(count)]
    return Nested(source, records, f"{placement} {count}")


def one_more(rng: np.random.Generator, under: Nested, level: int, *, keeps_text: bool = False) -> Nested:
    """Return one more view, drawn from those that can be made of what is there."""
    kinds: list[Callable[..., Nested]] = [wrapper, sample, repeat, concat, mixture]
    own_order: list[Callable[..., Nested]] = [subset, part, zipped]
    if "label" in under.source.element_spec():
        own_order += [filtered, group]
    if under.has_text and not keeps_text:
        own_order += [window, packed, fitted]
    if under.source.serves_each_once or under.children:
        kinds += own_order * 2
    if keeps_text:
        kinds = [wrapper, *own_order] if under.source.serves_each_once else [wrapper]
    kind = kinds[int(rng.integers(len(kinds)))]
    if under.children and kind in own_order:
        return each_child(rng, under, kind, level)
    return kind(rng, under, level)


def each_child(rng: np.random.Generator, mixed: Nested, kind: Callable[..., Nested], level: int) -> Nested:
    """Return the mixture of a view over each child."""
    if kind is zipped:  # a mixture is no source to be paired by index
        return wrapper(rng, mixed, level)
    seed = int(rng.integers(2**31))
    children = [kind(np.random.default_rng(seed), child, level) for child in mixed.children]
    makers = iter(children)
    source = mixed.source.over_children(lambda _: next(makers).source)
    assert source is not None
    records = [record for child in children for record in child.records]
    return Nested(source, records, f"mix of {children[0].made}, {children[1].made}", children)


def wrapper(rng: np.random.Generator, under: Nested, level: int) -> Nested:  # noqa: ARG001 - one signature for all
    """Return a view without methods of its own."""
    return replace(
        under, source=SourceView(StructuralConfig(), under.source), made=f"wrapper({under.made})", children=[]
    )


def subset(rng: np.random.Generator, under: Nested, level: int) -> Nested:  # noqa: ARG001
    """Return the records at some indices, in another sequence."""
    count = len(under.records)
    rows = rng.permutation(count)[: max(1, count // 2 + int(rng.integers(count // 2 + 1)))]
    view = SubsetView(SubsetViewConfig(indices=tuple(rows.tolist())), under.source)
    return Nested(view, [under.records[row] for row in rows], f"subset({under.made})")


def part(rng: np.random.Generator, under: Nested, level: int) -> Nested:  # noqa: ARG001
    """Return a slice of the records."""
    start, step = int(rng.integers(len(under.records) // 2 + 1)), int(rng.integers(1, 3))
    return Nested(under.source[start::step], under.records[start::step], f"slice({under.made})")


def filtered(rng: np.random.Generator, under: Nested, level: int) -> Nested:  # noqa: ARG001
    """Return the records of the labels that are there, but for one."""
    there = sorted({int(record["label"]) for record in under.records})
    kept = there[1:] or there
    view = FilterView(FilterViewConfig(where={"label": kept}), under.source)
    return Nested(view, [r for r in under.records if r["label"] in kept], f"filter({under.made})")


def group(rng: np.random.Generator, under: Nested, level: int) -> Nested:  # noqa: ARG001
    """Return the records of one label."""
    label = int(under.records[int(rng.integers(len(under.records)))]["label"])
    view = GroupsView(GroupsViewConfig(by="label"), under.source).groups[label]
    return Nested(view, [r for r in under.records if r["label"] == label], f"group({under.made})")


def sample(rng: np.random.Generator, under: Nested, level: int) -> Nested:  # noqa: ARG001
    """Return draws by weight."""
    weights = rng.random(len(under.records)) + 0.01
    view = SampleView(SampleViewConfig(draws=int(rng.integers(8, 40))), under.source, weights=weights, rngs=nnx.Rngs(3))
    return Nested(view, under.records, f"sample({under.made})")


def repeat(rng: np.random.Generator, under: Nested, level: int) -> Nested:  # noqa: ARG001
    """Return each record two or three times."""
    config = RepeatViewConfig(times=int(rng.integers(2, 4)), order=str(rng.choice(["passes", "adjacent"])))
    return Nested(RepeatView(config, under.source), under.records, f"repeat({under.made})")


def concat(rng: np.random.Generator, under: Nested, level: int) -> Nested:
    """Return the source, and another view of it behind it."""
    other = wrapper(rng, under, level) if not under.source.serves_each_once else part(rng, under, level)
    view = ConcatView(ConcatViewConfig(), [under.source, other.source])
    return Nested(view, under.records + other.records, f"concat({under.made}, {other.made})")


def mixture(rng: np.random.Generator, under: Nested, level: int) -> Nested:
    """Return the mixture of the source and another view of it."""
    other = wrapper(rng, under, level) if not under.source.serves_each_once else part(rng, under, level)
    config = MixDataSourcesConfig(num_sources=2, weights=(0.7, 0.3))
    view = MixDataSourcesNode(config, [under.source, other.source], rngs=nnx.Rngs(5))
    children = [under, other] if under.source.serves_each_once else []
    return Nested(view, under.records + other.records, f"mix({under.made}, {other.made})", children)


def zipped(rng: np.random.Generator, under: Nested, level: int) -> Nested:
    """Return the records with one more field beside theirs."""
    name, values = f"z{level}", rng.integers(0, 99, len(under.records)).astype(np.int32)
    beside = MemorySource(MemorySourceConfig(placement=str(rng.choice(["host", "device"]))), {name: values})
    view = ZipView(ZipViewConfig(), [under.source, beside])
    records = [{**record, name: value} for record, value in zip(under.records, values, strict=True)]
    return Nested(view, records, f"zip({under.made})")


def window(rng: np.random.Generator, under: Nested, level: int) -> Nested:  # noqa: ARG001
    """Return windows of 2 inside the records, those of one token left out."""
    longest = max(len(record["tokens"]) for record in under.records)
    length, stride = min(2, longest), int(rng.integers(1, 3))
    view = WindowView(WindowViewConfig(length=length, stride=stride, too_short="drop"), under.source)
    records = [
        {**record, "tokens": record["tokens"][start : start + length]}
        for record in under.records
        for start in range(0, len(record["tokens"]) - length + 1, stride)
    ]
    return Nested(view, records, f"window({under.made})")


def packed(rng: np.random.Generator, under: Nested, level: int) -> Nested:  # noqa: ARG001
    """Return rows of all tokens, cut where a row ends."""
    length = int(rng.integers(5, 20))
    view = PackView(PackViewConfig(length=length, field="tokens", strategy="concat"), under.source)
    tokens = np.concatenate([record["tokens"] for record in under.records])
    numbers = np.repeat(np.arange(len(under.records)), [len(record["tokens"]) for record in under.records])
    records = []
    for start in range(0, len(tokens), length):
        row, documents = tokens[start : start + length], numbers[start : start + length]
        segments = documents - documents[0] + 1
        positions = np.concatenate([np.arange(count) for count in np.bincount(documents - documents[0])])
        columns = {"tokens": row, "segment_ids": segments, "positions": positions}
        records.append({name: np.pad(value, (0, length - len(row))) for name, value in columns.items()})
    return Nested(view, records, f"pack({under.made})")


def fitted(rng: np.random.Generator, under: Nested, level: int) -> Nested:  # noqa: ARG001
    """Return rows of whole documents, as the view packs them: of which each is there once."""
    view = PackView(PackViewConfig(length=20, field="tokens", max_segments=int(rng.integers(2, 9))), under.source)
    batch = view.fetch(np.arange(view.num_records))
    records = [{name: np.asarray(column)[row] for name, column in batch.items()} for row in range(view.num_records)]
    found = [record["tokens"][record["segment_ids"] == k + 1].tobytes() for record in records for k in range(9)]
    assert sorted(filter(None, found)) == sorted(record["tokens"].tobytes() for record in under.records)
    return Nested(view, records, f"fit({under.made})")
