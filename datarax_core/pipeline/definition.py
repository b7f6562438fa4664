"""All that decides how a pipeline's records become batches, checked before anything is built."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datarax_core.devices.layout import Layout
from datarax_core.order.numbers import whole_number
from datarax_core.records.spec import device_spec, split_host_fields, with_fields
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.randomness import StageKeys


@dataclass(frozen=True, slots=True)
class BatchRule:
    """Batch size, epochs in a run, and what happens to a last batch that is not full."""

    batch_size: int
    num_epochs: int | None = 1
    drop_last: bool = False
    pad_last: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch_size", whole_number("batch_size", self.batch_size, at_least=1))
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

    def run_length(self, epoch_length: int | None) -> int | None:
        """Records of one run, None without end."""
        return None if self.num_epochs is None or epoch_length is None else self.num_epochs * epoch_length

    def num_batches(self, epoch_length: int) -> int | None:
        """Batches of one run, None without end."""
        records = self.run_length(epoch_length)
        if records is None:
            return None
        return records // self.batch_size if self.drop_last else -(-records // self.batch_size)

    def last_size(self, epoch_length: int | None) -> int:
        """Records in the short batch that ends a run; 0 if all of its batches are full."""
        records = None if epoch_length is None else self.run_length(epoch_length)
        return 0 if records is None or self.drop_last or self.pad_last else records % self.batch_size

    def next_size(self, remaining: int | None) -> int:
        """Records in the next batch of a run that has ``remaining`` left; 0 if it is over."""
        if remaining is None or remaining >= self.batch_size:
            return self.batch_size
        return 0 if self.drop_last else max(0, remaining)

    def padded(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """(indices, mask): completed with the last of them under ``pad_last``; the mask is true for real records."""
        if self.pad_last is None:
            return indices, None
        real = len(indices)
        missing = self.batch_size - real
        if missing:
            indices = np.concatenate([indices, np.repeat(indices[-1:], missing)])
        return indices, np.arange(self.batch_size) < real

    def fingerprint(self) -> dict[str, Any]:
        """What a saved state must find again. ``num_epochs`` may differ: it ends the stream, it does not change it."""
        return {"batch_size": self.batch_size, "drop_last": self.drop_last, "pad_last": self.pad_last}


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """What routes, programs and `Pipeline.explain` go by.

    ``part`` is (k, n) where this process reads the k-th of n parts of a stream that was split, else None.
    """

    source: DataSourceModule
    stages: Sequence[Any]
    rule: BatchRule
    randomness: StageKeys
    layout: Layout
    part: tuple[int, int] | None
    prefetch: int
    workers: int

    @property
    def epoch_length(self) -> int | None:
        """Records in one epoch, of all processes together; None for a stream without a length."""
        length = self.source.epoch_length
        return None if length is None else length * (1 if self.part is None else self.part[1])

    def fingerprint(self) -> dict[str, Any]:
        """What a saved state must find again."""
        part = {} if self.part is None else {"part": list(self.part)}
        return self.source.fingerprint() | self.rule_fingerprint() | part

    def rule_fingerprint(self) -> dict[str, Any]:
        """Of it what is not the source's: equal on all processes."""
        return self.rule.fingerprint() | self.randomness.fingerprint()


def require_source(source: Any) -> None:
    """Refuse what is no source."""
    if not isinstance(source, DataSourceModule):
        raise TypeError(
            f"source is a DataSourceModule, such as MemorySource(config, data), not {type(source).__name__}"
        )


def require_batches(plan: Definition) -> None:
    """Refuse what leaves no batch, cannot be laid out, or reads in a way that the source has no use for."""
    source, rule, length = plan.source, plan.rule, plan.epoch_length
    spec = source.element_spec()
    if rule.pad_last is not None:
        with_fields(spec, {rule.pad_last: None}, "the mask of pad_last")
    if length is None and rule.num_epochs not in (None, 1):
        raise ValueError(
            f"num_epochs={rule.num_epochs} counts epochs, but {source.title} is a stream without a length: a loop "
            "over it runs until it ends; leave num_epochs at 1"
        )
    if length is not None and rule.num_batches(length) == 0:
        raise ValueError(
            f"batch_size={rule.batch_size} with drop_last leaves no batch of the {length} records "
            f"that {source.title} serves; make it smaller"
        )
    if plan.workers and source.access != "host":
        raise ValueError(
            f"workers={plan.workers} read records for a source on the host, but {source.title} is "
            f"{'a stream, which only one can read' if source.access == 'stream' else 'on the device'}"
        )
    plan.layout.check(device_spec(split_host_fields(spec)[0]), rule.batch_size, rule.last_size(length))
