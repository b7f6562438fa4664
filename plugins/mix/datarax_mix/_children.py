"""The children of a mixture: what they have to be, how their records are read, and what they are known by."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from datarax_core.order import DEVICE_LIMIT, as_integer, record_numbers
from datarax_core.records import Batch, split_host_fields, with_host_fields
from datarax_core.sources import Access, DataSourceModule, Verified, fits_device_memory

from ._config import MixDataSourcesConfig
from ._fields import Fields
from ._fractions import Shares, normalised, shares_of
from ._joined import Joined, Part
from ._order import Children, Drawn, Proportional, by_child, child_keys, drawing
from ._rows import in_place
from ._stream import StreamReading
from ._timeline import Ending, Timeline

if TYPE_CHECKING:
    from ._source import MixDataSourcesNode


_FEW: Final = 2**15


@dataclass(frozen=True, eq=False)
class Mixed:
    """What a mixture has worked out about its children, which it is given anew each time: a copy has others."""

    names: tuple[str, ...]
    title: str
    fields: Fields
    offsets: np.ndarray
    timeline: Timeline
    draws: Drawn
    mixing: Proportional | Drawn
    joined: Joined | None
    stream: StreamReading

    @classmethod
    def of(cls, children: Children, config: MixDataSourcesConfig, title: str) -> "Mixed":
        """Of children that are checked already.

        Raises:
            ValueError, SpecError: The config cannot work with them.
        """
        names = config.child_names
        lengths = [_length(child) for child in children]
        shares = _shares(config, lengths, names, title)
        _require_records(shares, lengths, names, title)
        _require_ends(config, children, lengths, title)
        specs = [None if length == 0 else child.element_spec() for child, length in zip(children, lengths, strict=True)]
        fields = Fields(specs, names, fill=config.fill, source_field=config.source_field, title=title)
        counts = [0 if child.access == "stream" else child.num_records for child in children]
        offsets = np.cumsum([0, *counts])
        timeline = Timeline(shares, list(map(Ending, lengths, config.rounds)), config.stop)
        draws = Drawn(timeline, offsets)
        parts = [Part(child, constants) for child, constants in zip(children, fields.constants, strict=True)]
        return cls(
            names=names,
            title=title,
            fields=fields,
            offsets=offsets,
            timeline=timeline,
            draws=draws,
            mixing=draws if config.sampling == "categorical" else Proportional(timeline, offsets),
            joined=Joined(parts, fields.spec) if _are_joined(children, fields) else None,
            stream=StreamReading(timeline, title),
        )

    def renewed(self) -> "Mixed":
        """For a copy, which reads its streams by itself."""
        return replace(self, stream=self.stream.renewed())

    def access(self, children: Children) -> Access:
        """See `MixDataSourcesNode.access`."""
        kinds = {child.access for child in children}
        if kinds != {"device"}:
            return "stream" if "stream" in kinds else "host"
        if self.joined is None:
            return "device"
        fits = self.offsets[-1] <= DEVICE_LIMIT and fits_device_memory(self.joined.nbytes)
        return "device" if fits else "host"

    # -- order ----------------------------------------------------------------------------------------------------------

    def record_indices(self, children: Children, start: Any, size: int, words: Any) -> Any:
        """See `MixDataSourcesNode.record_indices_at`."""
        if not isinstance(start, jax.core.Tracer) and not isinstance(words, jax.core.Tracer):
            return self.mixing.record_indices(children, _position(start), size, np.asarray(words))
        if self.offsets[-1] > DEVICE_LIMIT:
            raise ValueError(
                f"{self.title} has {self.offsets[-1]} records, more than the {DEVICE_LIMIT} that 32-bit positions under jit "
                "can address; iterate from Python"
            )
        return self.mixing.traced_record_indices(children, _traced_position(start), size, jnp.asarray(words))

    def epochs(self, children: Children, start: Any, size: int) -> Any:
        """See `MixDataSourcesNode.epochs_at`."""
        if isinstance(start, int | np.integer):
            return self.mixing.epochs(children, int(start), size)
        return self.mixing.traced_epochs(children, start, size)

    # -- records --------------------------------------------------------------------------------------------------------

    def on_device(self, mix: "MixDataSourcesNode", indices: Any) -> Batch:
        """The records at concrete ``indices``, gathered on the device; text and objects by the host."""
        if self.joined is None:
            return mix.children[0].fetch(indices)
        batch, host_fields = self.joined.fetch(self._numbers(indices), mix.title), self.host_fields(mix, indices)
        return with_host_fields(batch, host_fields) if host_fields else batch

    def on_host(self, mix: "MixDataSourcesNode", indices: Any, *, may_compile: bool = True) -> Batch:
        """The records at concrete ``indices``: each child reads its own in one call, which are then put in place."""
        indices = self._numbers(indices)
        parts = (
            (rows, self.fields.completed(child, self._read(mix, child, own, may_compile=may_compile), len(rows)))
            for child, rows, own in self._by_child(indices)
        )
        return in_place(parts, len(indices), self.fields.spec)

    def host_fields(self, mix: "MixDataSourcesNode", indices: Any) -> dict[str, np.ndarray]:
        """The text and object fields of children on the device, at concrete ``indices``."""
        structs = split_host_fields(self.fields.spec)[1]
        if not structs:
            return {}
        indices = self._numbers(indices)
        parts = []
        for child, rows, own in self._by_child(indices):
            found = self.fields.completed(child, mix.children[child].host_field_records(own), len(rows))
            parts.append((rows, {name: found[name] for name in structs}))
        host_fields: dict[str, np.ndarray] = in_place(parts, len(indices), structs)
        return host_fields

    def elements(self, children: Children, indices: Any) -> list[Any]:
        """The records at concrete ``indices``, each by itself."""
        elements: list[Any] = [None] * len(indices)
        for child, rows, own in self._by_child(self._numbers(indices)):
            for row, element in zip(rows.tolist(), children[child].get_elements(own), strict=True):
                elements[row] = self.fields.element(child, element)
        return elements

    def verify(self, children: Children, indices: Any) -> Verified:
        """See `MixDataSourcesNode.verify_records`."""
        parts = [children[child].verify_records(own) for child, _, own in self._by_child(self._numbers(indices))]
        return sum(parts, Verified(0, 0))

    def read(self, mix: Any, position: int, size: int) -> tuple[Batch, int]:
        """(the next records of a mixture with streams, how many): ``size``, or what is left of it."""
        keys = child_keys(np.asarray(mix.order_key_data()), len(mix.children))

        def read_own(child: int, first: int, count: int) -> Batch:
            own = np.asarray(mix.children[child].record_indices_at(first, count, keys[child]), np.int64)
            return self._read(mix, child, own, may_compile=True)

        found, size = self.stream.parts(mix.children, position, size, read_own)
        parts = ((rows, self.fields.completed(child, batch, len(rows))) for child, rows, batch in found)
        return in_place(parts, size, self.fields.spec), size

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _numbers(self, indices: Any) -> np.ndarray:
        return record_numbers(indices, int(self.offsets[-1]), self.title).astype(np.int64)

    def _by_child(self, indices: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(child, its rows, its own record indices there) for each child that has some of ``indices``."""
        which = np.searchsorted(self.offsets[1:], indices, side="right")
        small = np.int16 if len(self.offsets) < _FEW else np.int32  # which NumPy sorts several times faster
        for child, rows in by_child(which.astype(small)):
            yield child, rows, indices[rows] - self.offsets[child]

    def _read(self, mix: Any, child: int, indices: np.ndarray, *, may_compile: bool) -> Batch:
        source = mix.children[child]
        substituted = source.get_operation_stats()["skipped_count"]
        try:
            compiled = source.access == "device" or not may_compile
            batch = source.fetch_on_host(indices) if compiled else source.fetch(indices)
        except Exception as error:
            error.add_note(f"while {self.title} read {len(indices)} records of its child {self.names[child]!r}")
            raise
        mix.note_substituted(source.get_operation_stats()["skipped_count"] - substituted)
        return batch


def checked_children(sources: Any, config: MixDataSourcesConfig, title: str) -> list[DataSourceModule]:
    """The children as a list; refused if they are none, or others than the config says."""
    if isinstance(sources, Mapping):
        sources = list(sources.values())
    if isinstance(sources, str | DataSourceModule) or not isinstance(sources, Sequence):
        raise TypeError(f"{title} mixes a list of sources, or a mapping of them by name, not {sources!r:.80}")
    if not sources:
        raise ValueError(f"{title} was given no sources; it needs one at least")
    for number, source in enumerate(sources):
        if not isinstance(source, DataSourceModule):
            raise TypeError(f"child {number} of {title} is no source, but {source!r:.80}")
    if len(sources) != config.count:
        raise ValueError(f"{title} was given {len(sources)} sources, and its config says num_sources={config.count}")
    streams = [source for source in sources if source.access == "stream"]
    if len({id(source) for source in streams}) < len(streams):
        raise ValueError(f"{title} was given one stream twice, which would be read in turns; make a second one")
    if config.cacheable and (streams or all(source.access == "device" for source in sources)):
        raise ValueError(
            f"cacheable=True has no use in {title}, whose records are not read by the host at given indices; set it in the "
            "configs of those children that are"
        )
    return list(sources)


def fingerprint_of(mix: "MixDataSourcesNode", own: Mapping[str, Any]) -> dict[str, Any]:
    """What a saved state must find again, each child's under its name; of children with keys from the mixture, no seed."""
    of_children = {
        f"{name}.{entry}": value
        for name, child in zip(mix.names, mix.children, strict=True)
        for entry, value in child.fingerprint().items()
        if entry != "element_spec" and not (entry == "seed" and child.access != "stream")
    }
    fill = [{name: value.tolist() for name, value in constants.items()} for constants in mix.fields.constants]
    return {
        **own,
        "names": list(mix.names),
        "shares": list(map(str, mix.timeline.shares.fractions)),
        "stop": mix.config.stop,
        "rounds": list(mix.config.rounds),
        "fill": fill,
        **of_children,
    }


def _are_joined(children: Children, fields: Fields) -> bool:
    """Whether there is a table of all records to make: not of one child, which has it, nor of streams, which have none."""
    return (len(children) > 1 or fields.adds) and all(child.access != "stream" for child in children)


def _length(child: DataSourceModule) -> int | None:
    if child.access != "stream" and child.num_records == 0:
        return 0
    return child.epoch_length


def _shares(config: MixDataSourcesConfig, lengths: Sequence[int | None], names: Sequence[str], title: str) -> Shares:
    if config.weights is not None:
        return shares_of(config.weights)
    temperature = config.temperature or 1.0
    for name, length in zip(names, lengths, strict=True):
        if length is None:
            raise ValueError(
                f"temperature makes weights of the children's lengths, and child {name!r} of {title} is a stream without one; "
                "give weights"
            )
    largest = max(filter(None, lengths), default=0)
    if not largest:
        raise ValueError(f"all children of {title} are empty: there are no records to serve")
    return shares_of(normalised([((length or 0) / largest) ** (1 / temperature) for length in lengths]))


def _require_records(shares: Shares, lengths: Sequence[int | None], names: Sequence[str], title: str) -> None:
    for name, numerator, length in zip(names, shares.numerators, lengths, strict=True):
        if numerator and length == 0:
            raise ValueError(
                f"child {name!r} of {title} is empty, and has a weight; give it the weight 0, or leave it out"
            )


def _require_ends(config: MixDataSourcesConfig, children: Children, lengths: Sequence[int | None], title: str) -> None:
    for name, child, length, rounds in zip(config.child_names, children, lengths, config.rounds, strict=True):
        if config.sampling == "categorical" and child.access == "stream":
            raise ValueError(
                f"sampling='categorical' draws records at random, and child {name!r} of {title} is a stream; "
                "take 'proportional'"
            )
        if config.sampling == "categorical" and length != child.num_records and drawing(child) is None:
            raise ValueError(
                f"sampling='categorical' draws from all records, and child {name!r} of {title} serves a part of them only; "
                "take 'proportional'"
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
