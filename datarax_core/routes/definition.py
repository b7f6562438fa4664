"""The definition of a pipeline: all that decides how records become batches, checked before anything is built."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from datarax_core.devices.layout import Layout
from datarax_core.errors import SpecError
from datarax_core.modules.state import checksum_of
from datarax_core.order.batch_sizes import BatchSizes, OneBatchSize, ScheduledBatchSizes, batch_sizes_of
from datarax_core.order.numbers import Auto, whole_number
from datarax_core.order.permutation import DEVICE_LIMIT
from datarax_core.records.foreign_data import advice_for
from datarax_core.records.intake import Intake
from datarax_core.records.spec import Batch, ElementSpec, describe, device_spec, split_host_fields, with_fields
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.apply import stage_name
from datarax_core.stages.before_narrowing import intake_of, takes_part
from datarax_core.stages.call import CallOverride
from datarax_core.stages.on_host.reader import StagedReader
from datarax_core.stages.on_host.side import compiled_stages
from datarax_core.stages.randomness import StageKeys, is_stochastic

from .soundness import require_cacheable, require_sound


@dataclass(frozen=True, slots=True)
class BatchRule:
    """The rule by which records become batches: batch size, epochs in a run, and the handling of a last batch that is short.

    ``batch_size`` is a number; the sizes of a schedule, which is given as pairs of (position, size); or None if the source
    decides, whose sizes take its place in `over`.
    """

    batch_size: Any
    num_epochs: int | None = 1
    drop_last: bool = False
    pad_last: str | None = None

    def __post_init__(self) -> None:
        if self.batch_size is not None:
            object.__setattr__(self, "batch_size", batch_sizes_of(self.batch_size))
        if self.num_epochs is not None:
            epochs = whole_number("num_epochs", self.num_epochs, at_least=1, hint="; None is endless")
            object.__setattr__(self, "num_epochs", epochs)
        if not isinstance(self.drop_last, bool):
            raise TypeError(f"drop_last is True or False, not {self.drop_last!r}")
        if self.pad_last is not None and (not isinstance(self.pad_last, str) or not self.pad_last):
            raise TypeError(
                f"pad_last is the name of the mask's field, such as 'valid', or None, not {self.pad_last!r}"
            )
        if self.pad_last and self.drop_last:
            raise ValueError("drop_last and pad_last exclude each other: the last batch is either dropped or completed")

    def over(self, source: DataSourceModule) -> "BatchRule":
        """Return the rule with the sizes of ``source``, if that decides them; this rule if not.

        Raises:
            ValueError: Neither the source decides the sizes nor a batch size was given, or both.
        """
        sizes = source.batch_sizes
        if sizes is None and self.batch_size is not None:
            return self
        if sizes is None:
            raise ValueError(
                f"batch_size is missing: {source.title} does not decide the sizes of its batches; give a number such as 128, "
                "or a schedule such as [[0, 128], [1_000_000, 256]]"
            )
        if self.batch_size is not None:
            raise ValueError(
                f"batch_size={self.fingerprint()['batch_size']} is given, but {source.title} decides the sizes of its batches "
                f"({sizes.describe()}); leave batch_size out"
            )
        if self.drop_last and sizes.short:
            raise ValueError(
                f"drop_last=True leaves out a short batch at the end of a run, and {source.title} has short batches within it; "
                "leave drop_last out, and set remainder='drop' there"
            )
        return replace(self, batch_size=sizes if sizes.constant is None else sizes.constant)

    @property
    def sizes(self) -> BatchSizes:
        """The sizes of batches by position."""
        size = self.batch_size
        return OneBatchSize(size) if isinstance(size, int) else size

    def size_at(self, position: int) -> int:
        """Return the records of a full batch at ``position``."""
        size: int = self.batch_size if type(self.batch_size) is int else self.batch_size.at(position)
        return size

    def full_size_at(self, position: int) -> int:
        """Return the size to which ``pad_last`` completes the batch at ``position``."""
        size: int = self.batch_size if type(self.batch_size) is int else self.batch_size.full_at(position)
        return size

    def run_length(self, epoch_length: int | None) -> int | None:
        """Return the records of one run; None for a run without end."""
        return None if self.num_epochs is None or epoch_length is None else self.num_epochs * epoch_length

    def num_batches(self, epoch_length: int, run_start: int = 0) -> int | None:
        """Return the batches of the run that begins at ``run_start``; None for a run without end."""
        records = self.run_length(epoch_length)
        if records is None:
            return None
        sizes, end = self.sizes, run_start + records
        return sizes.batches_between(run_start, end) - (self.drop_last and sizes.last_size(run_start, end) > 0)

    def last_sizes(self, epoch_length: int | None) -> dict[int, int]:
        """Return the sizes of short batches that end runs, each with the start of the first such run; empty if none is."""
        records = None if epoch_length is None else self.run_length(epoch_length)
        if records is None or self.drop_last or self.pad_last:
            return {}
        sizes, found, start = self.sizes, dict[int, int](), 0
        while True:
            if last := sizes.last_size(start, start + records):
                found.setdefault(last, start)
            change = sizes.next_change(start)
            if change is None or not isinstance(sizes, ScheduledBatchSizes):
                return found
            start = max(start + records, change // records * records)  # runs of one size are alike

    def next_size(self, position: int, remaining: int | None) -> int:
        """Return the records in the batch at ``position``; 0 if its run is over.

        ``remaining`` is the number of records that are left of the run; None if it is endless.
        """
        size: int = self.batch_size if type(self.batch_size) is int else self.batch_size.at(position)
        if remaining is None or remaining >= size:
            return size
        return 0 if self.drop_last else max(0, remaining)

    def largest_size(self, epoch_length: int | None) -> int:
        """Return the records of the largest batch of a loop: fewer than the largest size if a run has fewer."""
        records, largest = self.run_length(epoch_length), self.sizes.largest
        return largest if records is None else max(1, min(largest, records))

    def padded(self, indices: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return (indices, mask), completed to ``size`` by repeating the last index under ``pad_last``.

        The mask is true for real records, and None without ``pad_last``.
        """
        if self.pad_last is None:
            return indices, None
        real = len(indices)
        missing = size - real
        if missing:
            indices = np.concatenate([indices, np.repeat(indices[-1:], missing)])
        return indices, np.arange(size) < real

    def fingerprint(self) -> dict[str, Any]:
        """Return all that a saved state must match. ``num_epochs`` may differ: it ends the stream, it does not change it."""
        size = self.batch_size
        sizes = size.fingerprint() if isinstance(size, BatchSizes) else size
        return {"batch_size": sizes, "drop_last": self.drop_last, "pad_last": self.pad_last}


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """The parts of a pipeline that decide its batches: source, stages, rule and layout.

    ``reader`` reads the records: the source, or what calls the first ``on_host`` stages with its records.
    ``call`` is the ``__call__`` of a subclass of the pipeline, which then decides what a batch goes through. ``part`` is (k, n)
    where this process reads the k-th of n parts of a stream that was split, else None.
    """

    source: DataSourceModule
    stages: Sequence[Any]
    rule: BatchRule
    stage_keys: StageKeys
    layout: Layout
    part: tuple[int, int] | None
    prefetch: int | Auto
    threads: int | Auto
    workers: int
    reader: "DataSourceModule | StagedReader"
    on_host: int = 0
    call: CallOverride | None = None

    @property
    def compiled(self) -> Sequence[Any]:
        """The stages of the pipeline as compiled code has them, with placeholders for those on the host."""
        return compiled_stages(self.stages, self.on_host) if self.on_host else self.stages

    @property
    def applied(self) -> Sequence[Any]:
        """The stages that a batch goes through in compiled code: those of the pipeline, or ``call`` in their place."""
        return self.compiled if self.call is None else (self.call,)

    @property
    def has_compiled_stages(self) -> bool:
        """Whether a batch goes through stages in compiled code, or through ``call``."""
        return self.call is not None or len(self.stages) > self.on_host

    @property
    def intake(self) -> Intake:
        """The fields of the source's records that are used, and those that are converted before they are narrowed."""
        stages, first = (self.stages[self.on_host :], self.on_host) if self.call is None else ((self.call,), 0)
        if not takes_part(stages):
            return Intake()
        return intake_of(self.reader.element_spec(), stages, self.rule.pad_last, first=first)

    @property
    def epoch_length(self) -> int | None:
        """Records in one epoch, of all processes together; None for a stream without a length."""
        length = self.source.epoch_length
        return None if length is None else length * self.num_parts

    @property
    def num_parts(self) -> int:
        """Parts that the stream was split into; 1 for a source that is whole."""
        return 1 if self.part is None else self.part[1]

    def fingerprint(self) -> dict[str, Any]:
        """Return all that a saved state must match."""
        part = {} if self.part is None else {"part": list(self.part)}
        return self.source.fingerprint() | self.rule_fingerprint() | part

    def checksum(self) -> int:
        """Return 32 bits for variables of the pipeline, to tell streams apart by what is known without reading any data."""
        source = self.source
        order = "stream" if source.access == "stream" else source.order_title
        spec = describe(source.element_spec())
        facts = {"source": type(source).__name__, "element_spec": spec, "order": order}
        return checksum_of(facts | self.rule.fingerprint() | _host_stages_fingerprint(self.stages))

    def rule_fingerprint(self) -> dict[str, Any]:
        """Return the part of the fingerprint that is not the source's; it is equal on all processes."""
        stochastic = {
            str(number): stage_name(stage) for number, stage in enumerate(self.stages) if is_stochastic(stage)
        }
        places = {"stochastic_stages": stochastic} if stochastic else {}  # keys depend on the place of a stage
        return self.rule.fingerprint() | self.stage_keys.fingerprint() | places | _host_stages_fingerprint(self.stages)


def _host_stages_fingerprint(stages: Sequence[Any]) -> dict[str, Any]:
    """Return what the host stages that have a method ``fingerprint`` say of the files that they work with."""
    told = {
        f"{number} ({stage_name(stage)})": entries
        for number, stage in enumerate(stages)
        if getattr(stage, "on_host", False) and hasattr(stage, "fingerprint") and (entries := stage.fingerprint())
    }
    return {"host_stages": told} if told else {}


def first_records(definition: Definition, source: DataSourceModule, count: int) -> Batch:
    """Return the first records of a source like the pipeline's, after host stages and intake, without host fields."""
    reader = definition.reader
    own = reader.over(source) if isinstance(reader, StagedReader) else source
    if source.access != "stream":
        indices = np.asarray(source.record_indices_at(0, count, source.order_key_data()))
        batch = own.fetch_on_host(own.indices_to_read(0, indices))
    else:
        batch = source.read_batch(min(count, definition.rule.sizes.largest))
        if isinstance(own, StagedReader):
            rows = np.arange(len(jax.tree.leaves(batch)[0]))
            batch = own.staged(batch, np.zeros_like(rows), rows)
    return definition.intake.taken(split_host_fields(batch)[0])


def require_source(source: Any) -> None:
    """Raise if ``source`` is not a source, or not a sound one.

    Raises:
        TypeError: Says what a source is.
        PluginContractError: Its class breaks the protocol; see `require_sound`.
        ValueError: It is ``cacheable``, and its records cannot be kept.
    """
    if not isinstance(source, DataSourceModule):
        given = advice_for(source) or type(source).__name__
        raise TypeError(f"source is a DataSourceModule, such as MemorySource(config, data), not {given}")
    require_sound(source)
    require_cacheable(source)


def require_batches(definition: Definition) -> None:
    """Raise if a pipeline would serve no batch, or batches that cannot be laid out over the devices.

    Raises:
        ValueError: Names the argument.
    """
    source, rule, length = definition.source, definition.rule, definition.epoch_length
    spec = definition.reader.element_spec()
    if source.access == "device" and not definition.on_host and source.num_records > DEVICE_LIMIT:
        raise ValueError(
            f"{source.title} is traceable and has {source.num_records} records, more than the {DEVICE_LIMIT} that 32-bit "
            "indices in compiled code can address; give it traceable = False, or placement='host', so that the host reads it"
        )
    if isinstance(definition.reader, StagedReader) and (whole := definition.reader.first_of_whole_batch):
        _require_one_process(*whole, definition.layout.num_processes)
    if rule.pad_last is not None:
        with_fields(spec, {rule.pad_last: None}, "the mask of pad_last")
    if length is None and rule.num_epochs not in (None, 1):
        try:
            source.require_restart()
        except NotImplementedError as refusal:
            raise ValueError(f"num_epochs={rule.num_epochs} asks for more than one epoch, but {refusal}") from None
    if length is not None and rule.num_batches(length) == 0:
        raise ValueError(
            f"batch_size={rule.size_at(0)} with drop_last leaves no batch of the {length} records "
            f"that {source.title} serves; make it smaller"
        )
    of_devices = device_spec(split_host_fields(spec)[0])
    if source.batch_sizes is not None:
        _check_sizes_of_source(definition, of_devices)
        return
    for size in rule.sizes.distinct:
        definition.layout.check(of_devices, size, 0)
    for last in rule.last_sizes(length):
        definition.layout.check({}, 0, last)


def _check_sizes_of_source(definition: Definition, spec: ElementSpec) -> None:
    """Raise if batches of sizes that the source decides cannot be laid out over the devices; says what to set there."""
    source, rule, layout = definition.source, definition.rule, definition.layout
    try:
        for size in rule.sizes.distinct:
            layout.check(spec, size, 0)
    except ValueError as refusal:
        raise ValueError(
            f"{source.title} decides the sizes of its batches: {refusal}, or batch_multiple_of"
        ) from refusal
    try:
        for short in () if rule.pad_last else rule.sizes.short:
            layout.check({}, 0, short)
    except ValueError as refusal:
        raise ValueError(
            f"{source.title} has short batches, the last of each bucket: {refusal}; instead of drop_last, set "
            "remainder='drop' there"
        ) from refusal


def _require_one_process(number: int, stage: Any, num_processes: int) -> None:
    if num_processes > 1:
        raise ValueError(
            f"stage {number} ({stage_name(stage)}) needs all rows of a batch, to find a length for it, and each of "
            f"{num_processes} processes reads its own rows; pad to one length"
        )


def require_sizes_outside(rule: BatchRule, source: DataSourceModule) -> None:
    """Raise if the source decides the sizes of its batches, which compiled code with one shape for all cannot follow.

    Raises:
        SpecError: Names the source.
    """
    if rule.batch_size is None:
        raise SpecError(
            f"{source.title} decides the sizes of its batches, and step() in compiled code has one shape for all: iterate the "
            "pipeline, or call step() outside of compiled code"
        )


def require_one_size(definition: Definition, what: str) -> int:
    """Return the size of all batches.

    Args:
        definition: The pipeline's.
        what: The compiled code that needs it, such as ``"step() in compiled code"``.

    Raises:
        SpecError: There may be several; lists them.
    """
    size = definition.rule.batch_size
    if not isinstance(size, int):
        raise SpecError(
            f"the pipeline over {definition.source.title} has batches of several sizes ({size.describe()}), and {what} has one "
            "shape for all: iterate the pipeline, or call step() outside of compiled code, which compiles a step for each size"
        )
    return size


def require_one_shape(definition: Definition) -> None:
    """Raise if batches may differ in shape, which compiled code that reads them by itself cannot.

    Raises:
        SpecError: Names the source, or the stage.
    """
    source = definition.source
    if source.differs_in_shape:
        raise SpecError(
            f"{source.title} makes batches of several shapes, and compiled loops over them, such as scan, have one shape for "
            "all: iterate the pipeline, which compiles a step for each shape"
        )
    if isinstance(definition.reader, StagedReader) and (whole := definition.reader.first_of_whole_batch):
        number, stage = whole
        raise SpecError(
            f"stage {number} ({stage_name(stage)}) makes batches of several shapes, and compiled loops over them, such as "
            "scan, have one shape for all: pad to one length, or iterate the pipeline, which compiles a step for each shape"
        )
