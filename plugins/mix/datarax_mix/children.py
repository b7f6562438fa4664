"""The children of a mixture: checks of them, and their records as one set of records.

A copy of a mixture has other children but shares everything else here, so that most methods take the mixture or its children.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from datarax_core.order import DEVICE_LIMIT, as_integer, record_numbers
from datarax_core.records import (
    Batch,
    ElementSpec,
    Ragged,
    advice_for,
    named_fields,
    placed_batch,
    split_host_fields,
    with_host_fields,
)
from datarax_core.sources import Access, DataSourceModule, Verified, fits_device_memory, lengths_of_column

from .chosen_fields import ChosenFields, chosen_fields
from .config import MixDataSourcesConfig
from .device_table import DeviceTable, Part
from .fields import Fields
from .order import (
    CategoricalOrder,
    Children,
    ProportionalOrder,
    StagedCategoricalOrder,
    by_child,
    is_staged,
    nested_draw,
)
from .shares import Shares, normalised, shares_of
from .stages import Stage, StagedTimeline
from .timeline import Ending, Timeline
from .weight_stages import WeightStage, are_stages

_FEW: Final = 2**15


class Mixture(Protocol):
    """The part of a `MixDataSourcesNode` that its helpers use."""

    config: MixDataSourcesConfig
    children: Any

    @property
    def title(self) -> str:
        """Name of the mixture in errors."""

    @property
    def mixed(self) -> "MixedChildren":
        """The children as one set of records."""

    @property
    def epoch_length(self) -> int | None:
        """Records in an epoch; None if a child has no length."""

    def order_key_data(self) -> Any:
        """Return the key data of the mixture's own order."""

    def note_substituted(self, records: int) -> None:
        """Count records that a child served others for."""


class HasParts(Protocol):
    """A source whose records are in parts, such as groups of one value each."""

    def parts(self) -> Mapping[str, DataSourceModule]:
        """Return the parts by name."""


@dataclass(frozen=True, eq=False)
class MixedChildren:
    """The children of a mixture as one set of records: fields, order, and how batches are put together."""

    names: tuple[str, ...]
    title: str
    fields: Fields
    offsets: np.ndarray
    """int64 (k + 1,): index of the first record of each child, and the number of all records."""

    timeline: Timeline | StagedTimeline
    draws: CategoricalOrder
    """How a record of this mixture is drawn at random: by itself, or as a child of a mixture that draws."""

    mixing: ProportionalOrder | CategoricalOrder
    table: DeviceTable | None
    """All records in one table; None if the only child has a table of its own, or if a child is a stream."""

    @classmethod
    def of(cls, children: Children, config: MixDataSourcesConfig, title: str) -> "MixedChildren":
        """Combine children that `checked_children` returned.

        Raises:
            ValueError, SpecError: The config cannot be applied to these children.
        """
        names = config.child_names
        lengths = [_length(child) for child in children]
        timeline = _timeline(config, lengths, title)
        _require_records(timeline.served, lengths, names, title)
        _require_ends(config, children, lengths, title)
        specs = [None if length == 0 else child.element_spec() for child, length in zip(children, lengths, strict=True)]
        chosen = _chosen(config, specs, title)
        fields = Fields(specs, names, chosen=chosen, fill=config.fill, source_field=config.source_field, title=title)
        counts = [0 if child.access == "stream" else child.num_records for child in children]
        offsets = np.cumsum([0, *counts])
        draws = (
            StagedCategoricalOrder(timeline, offsets)
            if isinstance(timeline, StagedTimeline)
            else CategoricalOrder(timeline, offsets)
        )
        parts = [
            Part(child, named_fields(constants), {} if taken is None or spec is None else taken.stored_names(spec))
            for child, constants, taken, spec in zip(children, fields.constants, chosen, specs, strict=True)
        ]
        return cls(
            names=names,
            title=title,
            fields=fields,
            offsets=offsets,
            timeline=timeline,
            draws=draws,
            mixing=draws if config.sampling == "categorical" else ProportionalOrder(timeline, offsets),
            table=DeviceTable(parts, fields.spec) if _need_table(children, fields) else None,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if "joined" in state:  # the table's name in pickles of version 0.1.0
            vars(self)["table"] = vars(self).pop("joined")

    def access(self, children: Children) -> Access:
        """Return how the records are reached: a stream if any child is, on the device if all are and fit there together."""
        accesses = {child.access for child in children}
        if accesses != {"device"}:
            return "stream" if "stream" in accesses else "host"
        if self.table is None:
            return "device"
        fits = self.offsets[-1] <= DEVICE_LIMIT and fits_device_memory(self.table.nbytes)
        return "device" if fits else "host"

    # -- order ----------------------------------------------------------------------------------------------------------

    def record_indices(self, children: Children, start: Any, size: int, key_data: Any) -> Any:
        """Return int (size,): the records at positions ``start .. start + size``, traced or not."""
        if not isinstance(start, jax.core.Tracer) and not isinstance(key_data, jax.core.Tracer):
            return self.mixing.record_indices(children, _position(start), size, np.asarray(key_data))
        if self.offsets[-1] > DEVICE_LIMIT:
            raise ValueError(
                f"{self.title} has {self.offsets[-1]} records, more than the {DEVICE_LIMIT} that 32-bit positions under jit "
                "can address; iterate from Python"
            )
        return self.mixing.traced_record_indices(children, _traced_position(start), size, jnp.asarray(key_data))

    def epochs(self, children: Children, start: Any, size: int) -> Any:
        """Return int (size,): the epoch of each record at positions ``start .. start + size``, traced or not."""
        if isinstance(start, int | np.integer):
            return self.mixing.epochs(children, int(start), size)
        return self.mixing.traced_epochs(children, start, size)

    # -- records --------------------------------------------------------------------------------------------------------

    def on_device(self, mix: Mixture, indices: Any) -> Batch:
        """Return the records at concrete ``indices``, gathered on the device; host fields are read by the host."""
        if self.table is None:
            return mix.children[0].fetch(indices)
        batch, host_fields = self.table.fetch(self._checked(indices), self.title), self.host_fields(mix, indices)
        return with_host_fields(batch, host_fields) if host_fields else batch

    def on_host(self, mix: Mixture, indices: Any, *, may_compile: bool = True) -> Batch:
        """Return the records at concrete ``indices``; each child reads its records in one call."""
        parts = (
            (child, rows, self.read_child(mix, child, own, may_compile=may_compile))
            for child, rows, own in self._to_read(mix.children, indices)
        )
        return self.merged(parts, len(indices))

    def host_fields(self, mix: Mixture, indices: Any) -> dict[str, np.ndarray]:
        """Return the host fields of children on the device, at concrete ``indices``."""
        structs = split_host_fields(self.fields.spec)[1]
        if not structs:
            return {}
        indices = self._checked(indices)
        parts = []
        for child, rows, own in self._by_child(indices):
            found = self.fields.completed(child, mix.children[child].host_field_records(own), len(rows))
            parts.append((rows, {name: found[name] for name in structs}))
        host_fields: dict[str, np.ndarray] = placed_batch(parts, len(indices), structs)
        return host_fields

    def elements(self, children: Children, indices: Any) -> list[Any]:
        """Return the records at concrete ``indices`` as single elements."""
        elements: list[Any] = [None] * len(indices)
        for child, rows, own in self._to_read(children, indices):
            for row, element in zip(rows.tolist(), children[child].get_elements(own), strict=True):
                elements[row] = self.fields.element(child, element)
        return elements

    def record_lengths(self, children: Children, field: str) -> np.ndarray | None:
        """Return int64 (num_records,): the lengths that the children know of a field, which some of them lack; see `fill`."""
        parts: list[np.ndarray] = []
        chosen = self.fields.chosen or (None,) * len(self.names)
        for child, taken, constants, count in zip(
            children, chosen, self.fields.constants, np.diff(self.offsets), strict=True
        ):
            if not count:
                continue
            filled = named_fields(constants).get(field)
            if filled is not None:
                lengths: np.ndarray | None = np.broadcast_to(
                    lengths_of_column(filled) if isinstance(filled, Ragged) else len(filled), count
                )
            else:
                stored = field if taken is None else taken.stored_names(child.element_spec())[field]
                lengths = child.record_lengths(stored)
            if lengths is None:
                return None
            parts.append(lengths)
        return np.concatenate(parts, dtype=np.int64)

    def verify(self, children: Children, indices: Any) -> Verified:
        """Return which of the records at ``indices`` cannot be read; errors name the children's record indices."""
        parts = [children[child].verify_records(own) for child, _, own in self._by_child(self._checked(indices))]
        return sum(parts, Verified(0, 0))

    def read_child(self, mix: Mixture, child: int, indices: np.ndarray, *, may_compile: bool = True) -> Batch:
        """Return the records of one child at ``indices`` of its own, read by the host; an error gets a note with the child."""
        source = mix.children[child]
        before = source.substituted_here
        try:
            compiled = source.access == "device" or not may_compile
            batch = source.fetch_on_host(indices) if compiled else source.fetch(indices)
        except Exception as error:
            error.add_note(f"while {self.title} read {len(indices)} records of its child {self.names[child]!r}")
            raise
        mix.note_substituted(source.substituted_here - before)
        return batch

    def merged(self, parts: Iterable[tuple[int, np.ndarray, Batch]], size: int) -> Batch:
        """Return one batch of ``size`` records from (child, its rows in the batch, its records) of each child."""
        return placed_batch(
            ((rows, self.fields.completed(child, batch, len(rows))) for child, rows, batch in parts),
            size,
            self.fields.spec,
        )

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _checked(self, indices: Any) -> np.ndarray:
        return record_numbers(indices, int(self.offsets[-1]), self.title).astype(np.int64)

    def _to_read(self, children: Children, indices: Any) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield (child, its rows in the batch, the indices by which to read them) for each child that has some of ``indices``.

        If a child varies by epoch, so does the mixture, and its indices hold the epoch of the child.
        """
        if not any(child.varies_by_epoch for child in children):
            yield from self._by_child(self._checked(indices))
            return
        epochs, indices = np.divmod(np.asarray(indices, np.int64), int(self.offsets[-1]))
        for child, rows, own in self._by_child(self._checked(indices)):
            source = children[child]
            yield child, rows, own + source.num_records * epochs[rows] if source.varies_by_epoch else own

    def _by_child(self, indices: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield (child, its rows, its own record indices there) for each child that has some of ``indices``."""
        which = np.searchsorted(self.offsets[1:], indices, side="right")
        small = np.int16 if len(self.offsets) < _FEW else np.int32  # NumPy sorts int16 several times faster than int64
        for child, rows in by_child(which.astype(small)):
            yield child, rows, indices[rows] - self.offsets[child]


def parts_of(sources: Any, config: MixDataSourcesConfig) -> Mapping[str, DataSourceModule] | None:
    """Return the parts of one source that has ``parts()``, by name, in the order of the config; None for any other sources.

    Raises:
        TypeError: ``parts()`` returned no mapping.
        ValueError: The parts have other names than the config.
    """
    if isinstance(sources, Mapping | Sequence) or not callable(parts := getattr(sources, "parts", None)):
        return None
    found = parts()
    if not isinstance(found, Mapping):
        raise TypeError(f"parts() of {sources!r:.80} returns a mapping of sources by name, not {found!r:.80}")
    if config.names is None:
        return found
    if wrong := sorted(set(found) ^ set(config.names)):
        raise ValueError(
            f"the parts of {getattr(sources, 'title', sources)!s:.80} are called {', '.join(map(repr, found))!s:.200}, and "
            f"differ from the names in the config in {wrong[0]!r}; give each part a weight, 0 for those to leave out"
        )
    return {name: found[name] for name in config.names}


def checked_children(sources: Any, config: MixDataSourcesConfig, title: str) -> list[DataSourceModule]:
    """Return the children as a list.

    Raises:
        TypeError: ``sources`` are no sources.
        ValueError: The sources contradict the config, a stream is given twice, or a source decides its batches.
    """
    if isinstance(sources, Mapping):
        sources = list(sources.values())
    if isinstance(sources, DataSourceModule):
        raise TypeError(
            f"{title} mixes several sources, and was given one, {sources.title}, which has no parts: give a list, a mapping by "
            "name, or groups of it, which mix takes apart"
        )
    if isinstance(sources, str) or not isinstance(sources, Sequence):
        raise TypeError(f"{title} mixes a list of sources, or a mapping of them by name, not {sources!r:.80}")
    if not sources:
        raise ValueError(f"{title} was given no sources; it needs one at least")
    for number, source in enumerate(sources):
        if not isinstance(source, DataSourceModule):
            raise TypeError(f"child {number} of {title} is no source, but {_words_for(source)}")
        source.require_no_batches(title)
    if len(sources) != config.count:
        raise ValueError(f"{title} was given {len(sources)} sources, and its config says num_sources={config.count}")
    streams = [source for source in sources if source.access == "stream"]
    if len({id(source) for source in streams}) < len(streams):
        raise ValueError(
            f"{title} was given one stream twice, and each would get a part of its records; build a second stream"
        )
    if config.cacheable and (streams or all(source.access == "device" for source in sources)):
        raise ValueError(
            f"cacheable=True has no use in {title}, whose records are not read by the host at given indices; set it in the "
            "configs of those children that are"
        )
    return list(sources)


def _words_for(data: Any) -> str:
    if advice := advice_for(data):
        return advice
    return f"{data!r:.80}; make a source of it, such as from_sequence(data) or MemorySource(config, data)"


def fingerprint_of(mix: Mixture, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fingerprint of a mixture: ``own`` entries, the shares and rules, and each child's entries under its name.

    A child that gets its key from the mixture contributes no seed.
    """
    mixed = mix.mixed
    of_children = {
        f"{name}.{entry}": value
        for name, child in zip(mixed.names, mix.children, strict=True)
        for entry, value in child.fingerprint().items()
        if entry != "element_spec" and not (entry == "seed" and child.access != "stream")
    }
    fields = mixed.fields
    fill = [{n: value.tolist() for n, value in fields.values_of(child).items()} for child in range(len(mix.children))]
    return {
        **own,
        "names": list(mixed.names),
        "shares": mixed.timeline.describe(),
        "stop": mix.config.stop,
        "rounds": list(mix.config.rounds),
        "fill": fill,
        **({"fields": mixed.fields.stored_names} if any(mixed.fields.chosen) else {}),
        **of_children,
    }


def _need_table(children: Children, fields: Fields) -> bool:
    return (len(children) > 1 or fields.changes) and all(child.access != "stream" for child in children)


def _length(child: DataSourceModule) -> int | None:
    if child.access != "stream" and child.num_records == 0:
        return 0
    return child.epoch_length


def _chosen(config: MixDataSourcesConfig, specs: Sequence[ElementSpec | None], title: str) -> list[ChosenFields | None]:
    """Return the fields that are taken of each child, or raise for the child whose fields cannot be taken."""
    names = config.child_names
    for word, named in (("select", config.select), ("rename", config.rename)):
        if unknown := [name for name in named if name not in names]:
            raise ValueError(
                f"{word} names the child {unknown[0]!r}, and the children of {title} are {', '.join(map(repr, names))}"
            )
    return [
        None
        if spec is None
        else chosen_fields(spec, config.select.get(name), config.rename.get(name), f"child {name!r} of {title}")
        for name, spec in zip(names, specs, strict=True)
    ]


def _timeline(config: MixDataSourcesConfig, lengths: Sequence[int | None], title: str) -> Timeline | StagedTimeline:
    endings = list(map(Ending, lengths, config.rounds))
    if not are_stages(config.weights):
        return Timeline(_shares(config, lengths, title), endings, config.stop)
    stages: Sequence[WeightStage] = config.weights
    return StagedTimeline([Stage(stage.start, shares_of(stage.shares), stage.end) for stage in stages], endings)


def _shares(config: MixDataSourcesConfig, lengths: Sequence[int | None], title: str) -> Shares:
    if config.weights is not None:
        return shares_of(config.weights)  # type: ignore[arg-type]  # not stages, by the caller
    temperature = config.temperature or 1.0
    for name, length in zip(config.child_names, lengths, strict=True):
        if length is None:
            raise ValueError(
                f"temperature makes weights of the children's lengths, and child {name!r} of {title} is a stream without one; "
                "give weights"
            )
    largest = max(filter(None, lengths), default=0)
    if not largest:
        raise ValueError(f"all children of {title} are empty: there are no records to serve")
    return shares_of(normalised([((length or 0) / largest) ** (1 / temperature) for length in lengths]))


def _require_records(served: Sequence[int], lengths: Sequence[int | None], names: Sequence[str], title: str) -> None:
    for child in served:
        if lengths[child] == 0:
            raise ValueError(
                f"child {names[child]!r} of {title} is empty, and has a weight; give it the weight 0, or leave it out"
            )


def _require_ends(config: MixDataSourcesConfig, children: Children, lengths: Sequence[int | None], title: str) -> None:
    for name, child, length, rounds in zip(config.child_names, children, lengths, config.rounds, strict=True):
        if child.access != "stream":
            child.require_record_indices()
        if config.sampling == "categorical" and child.access == "stream":
            raise ValueError(
                f"sampling='categorical' draws records at random, and child {name!r} of {title} is a stream; "
                "take 'proportional'"
            )
        draws_evenly = config.sampling == "categorical" and nested_draw(child) is None
        if draws_evenly and not child.serves_each_once:
            raise ValueError(
                f"sampling='categorical' draws single records, and child {name!r} of {title} serves some more often than "
                "others, which would be lost; take 'proportional'"
            )
        if draws_evenly and length != child.num_records:
            raise ValueError(
                f"sampling='categorical' draws from all records, and child {name!r} of {title} serves a part of them only; "
                "take 'proportional'"
            )
        if config.sampling == "categorical" and is_staged(child):
            raise ValueError(
                f"sampling='categorical' draws from child {name!r} of {title} in no order, and the weights of that mixture are "
                "stages, which begin at positions; take 'proportional', or constant weights there"
            )
        if length is None and (rounds is not None or config.stop == "all_seen"):
            raise ValueError(
                f"{'at_end' if rounds is not None else 'stop=' + repr(config.stop)} has to know when child {name!r} of {title} "
                "ends, which is a stream without a length; let it repeat"
            )


def _position(start: Any) -> int:
    position = as_integer("a position", start)
    if position < 0:
        raise ValueError(f"position {position} is before the start of the stream; positions count from 0")
    return position


def _traced_position(start: Any) -> jax.Array:
    if isinstance(start, jax.core.Tracer):
        if not jnp.issubdtype(start.dtype, np.integer):
            raise TypeError(f"a position is an integer, not {start.dtype}")
        return start.astype(np.int32)
    if (position := _position(start)) > DEVICE_LIMIT:
        raise ValueError(
            f"position {position} is past what 32-bit positions under jit can address; iterate from Python"
        )
    return jnp.asarray(position, np.int32)
