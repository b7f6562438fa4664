"""Layouts of batches on devices: the rows that this process reads, and how they become global arrays."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self, TypeAlias

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from datarax_core.records.gathers import aligned_empty
from datarax_core.records.spec import Batch, ElementSpec, batch_struct, named_fields

from .placement import put_on_one, put_parts

Gather: TypeAlias = Callable[[Any, Any], Batch]
"""A function from (arrays, int (k,) indices) to the batch of the rows at these indices."""


class Layout(Protocol):
    """The layout of a pipeline's batches on its devices. Hashable: part of the key of compiled programs."""

    @property
    def data_sharding(self) -> Sharding | None:
        """The sharding of the records of a device source, so that every device gathers rows from its own memory."""

    @property
    def num_processes(self) -> int:
        """The number of processes that hold a part of each batch."""

    @property
    def processes(self) -> tuple[int, ...]:
        """The processes that hold a part of each batch, in ascending order; empty for one that is not asked."""

    def check(self, spec: ElementSpec, batch_size: int, last_size: int) -> None:
        """Raise if batches do not divide over the devices; ``last_size`` is 0 if all batches are full."""

    def rows_here(self, size: int) -> np.ndarray | None:
        """Return the rows, int64, of a batch of ``size`` that this process reads; None for all rows."""

    def part_here(self) -> tuple[int, int] | None:
        """Return (k, n) if each batch is cut into n blocks of which this process reads the k-th; None if not."""

    def place(self, batch: Batch, size: int) -> Batch:
        """Return a batch of ``size`` on the devices, from the rows that this process read."""

    def indices_here(self, indices: np.ndarray) -> Any:
        """Return record indices of a batch, int (size,), as an argument of the compiled step that gathers them."""

    def gathered(self, gather: Gather, arrays: Any, indices: jax.Array) -> Batch:
        """Return ``gather(arrays, indices)`` in a trace; each device gathers its own rows."""

    def by_row(self, values: Any) -> Any:
        """Return arrays with one value a row, laid out as the rows, in a trace."""

    def laid(self, batch: Batch, size: int) -> Batch:
        """Return a batch as it is served, in a trace; the compiler lays out leaves whose leading dimension is not ``size``."""


class _OfThisProcess:
    """Base of layouts over devices, which exist in this process only: a copy shares the layout, and none is pickled."""

    __slots__ = ()

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(
            "a pipeline with `sharding` names devices of this process, which no pickle holds; pickle what it is built from "
            "(source, stages, or their config), or save get_state(), and build it where it is used"
        )


@dataclass(frozen=True, slots=True)
class OneDevice(_OfThisProcess):
    """The layout of batches on one device: the given one, or the default device."""

    data_sharding: SingleDeviceSharding | None = None
    num_processes: int = 1

    def __reduce__(self) -> Any:
        if self.data_sharding is None:  # the default device of whatever process
            return OneDevice, (None, self.num_processes)
        return _OfThisProcess.__reduce__(self)

    @property
    def processes(self) -> tuple[int, ...]:
        """No processes: no others hold a part of a batch."""
        return ()

    def check(self, spec: ElementSpec, batch_size: int, last_size: int) -> None:
        """Do nothing: all sizes fit one device."""

    def rows_here(self, size: int) -> None:
        """Return None: this process reads all rows."""

    def part_here(self) -> tuple[int, int]:
        """Return (0, 1): this process reads the only block."""
        return 0, 1

    def place(self, batch: Batch, size: int) -> Batch:  # noqa: ARG002 - the signature of `Layout`
        """Return a batch of ``size`` on the devices, from the rows that this process read."""
        return put_on_one(batch, self.data_sharding)

    def indices_here(self, indices: np.ndarray) -> np.ndarray:
        """Return the indices unchanged: the step takes them from the host."""
        return indices

    def gathered(self, gather: Gather, arrays: Any, indices: jax.Array) -> Batch:
        """Return ``gather(arrays, indices)`` in a trace."""
        return gather(arrays, indices)

    def by_row(self, values: Any) -> Any:
        """Return the values unchanged: all lie on the device."""
        return values

    def laid(self, batch: Batch, size: int) -> Batch:  # noqa: ARG002 - the signature of `Layout`
        """Return the batch unchanged: it lies on the device."""
        return batch


@dataclass(frozen=True)
class OverMesh(_OfThisProcess):
    """The layout of batches over a mesh of devices, of one process or several.

    A field of fewer dimensions than the partition spec is laid out by the first entries of the spec.
    """

    sharding: NamedSharding

    @property
    def data_sharding(self) -> NamedSharding:
        """The sharding of a device source's records: a copy on every device."""
        return self._sharding_of(PartitionSpec())

    @functools.cached_property
    def num_processes(self) -> int:
        """The number of processes that hold a part of each batch."""
        return len(self.processes)

    @functools.cached_property
    def processes(self) -> tuple[int, ...]:
        """The processes that hold a part of each batch, in ascending order."""
        return tuple(sorted(_processes(self.sharding)))

    @functools.cached_property
    def num_shards(self) -> int:
        """The number of parts into which the leading dimension is cut."""
        return math.prod(self.sharding.mesh.shape[axis] for axis in self._axes)

    def check(self, spec: ElementSpec, batch_size: int, last_size: int) -> None:
        """Raise if batches, or a field of them, do not divide over the shards.

        Raises:
            ValueError: Names the batch size, or the field and its dimension, with the number of shards.
        """
        shards = f"the {self.num_shards} shards of its axis {'x'.join(map(str, self._axes))!r}"
        if over := batch_size % self.num_shards:
            near = " or ".join(str(size) for size in (batch_size - over, batch_size - over + self.num_shards) if size)
            raise ValueError(
                f"batch_size={batch_size} does not divide over {shards} in sharding={self.sharding}; take {near}"
            )
        if last_size % self.num_shards:
            raise ValueError(
                f"the last batch of a run has {last_size} records, which do not divide over {shards}; pass drop_last=True, "
                "or pad_last='valid', which completes it and says which records are real"
            )
        for name, leaf in named_fields(batch_struct(spec, batch_size)).items():
            try:
                self._for_shape(leaf.shape).shard_shape(leaf.shape)
            except ValueError as cause:
                raise ValueError(
                    f"field {name!r} of shape {list(leaf.shape)} cannot be laid out by {self.sharding.spec} over the mesh "
                    f"{dict(self.sharding.mesh.shape)}: {cause}"
                ) from cause

    def rows_here(self, size: int) -> np.ndarray | None:
        """Return the rows that this process reads; None if it reads all.

        Raises:
            ValueError: A stream ended with a batch that does not divide over the shards.
        """
        if size % self.num_shards:
            self.check({}, self.num_shards, size)
        return None if self.sharding.is_fully_addressable else _rows_of(self._rows, size, jax.process_index())

    def part_here(self) -> tuple[int, int] | None:
        """Return (k, n) if the rows of the processes are n contiguous blocks, of which this process reads the k-th."""
        parts = sorted({tuple(_rows_of(self._rows, self.num_shards, process)) for process in _processes(self.sharding)})
        blocks = np.arange(self.num_shards).reshape(len(parts), -1) if self.num_shards % len(parts) == 0 else None
        if blocks is None or parts != [tuple(block) for block in blocks.tolist()]:
            return None
        return parts.index(tuple(_rows_of(self._rows, self.num_shards, jax.process_index()))), len(parts)

    def place(self, batch: Batch, size: int) -> Batch:
        """Return a batch of ``size`` on the devices, from the rows that this process read."""
        if self.sharding.is_fully_addressable:
            return jax.device_put(batch, jax.tree.map(lambda leaf: self._for_shape(leaf.shape), batch))

        def assembled(own: Any) -> Any:
            shape = (size, *own.shape[1:])
            return jax.make_array_from_process_local_data(self._for_shape(shape), np.asarray(own), shape)

        return jax.tree.map(assembled, batch)

    def indices_here(self, indices: np.ndarray) -> Any:
        """Return the indices; where processes share a batch, as an array of which each device has those of its own rows.

        An array on the host, which jax would place on all devices of this process, costs 60 us more a step.
        """
        if self.sharding.is_fully_addressable:
            return indices
        own = aligned_empty(indices.shape, np.int32)
        own[...] = indices
        devices, rows = _rows_by_device(self._rows, len(own))
        return put_parts([own[part] for part in rows], own.shape, self._rows, devices)

    def gathered(self, gather: Gather, arrays: Any, indices: jax.Array) -> Batch:
        """Return ``gather(arrays, indices)`` in a trace, mapped over the devices by hand: no device communicates."""
        leading = self._rows.spec
        spread = jax.shard_map(
            gather,
            mesh=self.sharding.mesh,
            in_specs=(PartitionSpec(), leading),
            out_specs=leading,
            check_vma=False,
        )
        return spread(arrays, self.by_row(indices))

    def by_row(self, values: Any) -> Any:
        """Return arrays with one value a row, laid out as the rows, in a trace."""
        return jax.tree.map(lambda value: self._constrained(value, self._rows), values)

    def laid(self, batch: Batch, size: int) -> Batch:
        """Return a batch as it is served, in a trace."""
        return jax.tree.map(
            lambda leaf: (
                self._constrained(leaf, self._for_shape(leaf.shape)) if leaf.ndim and leaf.shape[0] == size else leaf
            ),
            batch,
        )

    @property
    def _axes(self) -> tuple[Any, ...]:
        leading = self.sharding.spec[0] if len(self.sharding.spec) else None
        return leading if isinstance(leading, tuple) else () if leading is None else (leading,)

    @functools.cached_property
    def _rows(self) -> NamedSharding:
        return self._sharding_of(PartitionSpec(*self.sharding.spec[:1]))

    @functools.cached_property
    def _is_explicit(self) -> bool:
        return any(kind == AxisType.Explicit for kind in self.sharding.mesh.axis_types)

    def _sharding_of(self, spec: PartitionSpec) -> NamedSharding:
        return NamedSharding(self.sharding.mesh, spec, memory_kind=self.sharding.memory_kind)

    def _for_shape(self, shape: tuple[int, ...]) -> NamedSharding:
        return self._by_rank[min(len(shape), len(self.sharding.spec))]

    @functools.cached_property
    def _by_rank(self) -> list[NamedSharding]:
        return [
            self._sharding_of(PartitionSpec(*self.sharding.spec[:rank])) for rank in range(len(self.sharding.spec) + 1)
        ]

    def _constrained(self, value: Any, sharding: NamedSharding) -> Any:
        # On a mesh of explicit axes, a constraint only asserts the sharding that the type has already.
        if self._is_explicit:
            return jax.sharding.reshard(value, sharding)
        return jax.lax.with_sharding_constraint(value, sharding)


DEFAULT: Final[Layout] = OneDevice()
"""The layout of pipelines without a ``sharding``."""

_EXPLICIT_AXES: Final = (0, 10)  # the first jax whose random numbers keep explicit axes without jax.set_mesh


def layout_of(sharding: Any) -> Layout:
    """Return the layout for a pipeline's ``sharding``; None is the default device.

    Raises:
        TypeError: ``sharding`` is no `NamedSharding` over a mesh of devices, and no `SingleDeviceSharding`.
        ValueError: This process has none of its devices, its spec leaves a dimension unconstrained, or its mesh has explicit
            axes, which the installed jax does not keep.
    """
    if sharding is None:
        return DEFAULT
    is_abstract = isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, AbstractMesh)
    if is_abstract or not isinstance(sharding, NamedSharding | SingleDeviceSharding):
        raise TypeError(
            "sharding is a jax.sharding.NamedSharding, such as NamedSharding(jax.make_mesh((4,), ('data',)), "
            f"PartitionSpec('data')), or a SingleDeviceSharding, not {sharding!r:.80}"
        )
    if not sharding.addressable_devices:
        raise ValueError(
            f"process {jax.process_index()} has none of the devices of sharding={sharding}; every process that builds the "
            "pipeline needs one, so make the mesh of jax.devices()"
        )
    if isinstance(sharding, SingleDeviceSharding):
        return OneDevice(sharding)
    if PartitionSpec.UNCONSTRAINED in tuple(sharding.spec):
        raise ValueError(f"sharding={sharding} leaves a dimension unconstrained; name its axis, or None")
    if AxisType.Explicit in sharding.mesh.axis_types and jax.__version_info__ < _EXPLICIT_AXES:
        raise ValueError(
            f"jax {jax.__version__} loses the axes of an explicit mesh in compiled code; make the mesh with "
            "axis_types=(AxisType.Auto, ...), or take jax 0.10 or newer"
        )
    return OverMesh(sharding)


@functools.lru_cache(maxsize=256)
def _rows_of(rows: NamedSharding, size: int, process: int) -> np.ndarray:
    """Return the rows, int64 and sorted, of a batch of ``size`` that the devices of a process hold; not writable."""
    spans = {
        (span.start or 0, size if span.stop is None else span.stop)
        for device, (span,) in rows.devices_indices_map((size,)).items()
        if _process(device) == process
    }
    found = np.concatenate([np.arange(*span) for span in sorted(spans)])
    found.flags.writeable = False
    return found


@functools.lru_cache(maxsize=256)
def _rows_by_device(rows: NamedSharding, size: int) -> tuple[list[jax.Device], list[slice]]:
    """Return (the devices of this process, the rows of a batch of ``size`` that each of them holds)."""
    spans = rows.addressable_devices_indices_map((size,))
    return list(spans), [span[0] for span in spans.values() if span is not None]


def _processes(sharding: Sharding) -> set[int]:
    return {_process(device) for device in sharding.device_set}


def _process(device: Any) -> int:
    index: int = device.process_index
    return index
