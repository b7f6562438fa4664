"""Promises about shards and hosts: together they serve every record, and none of them twice.

Hosts are simulated: each builds a source of its own, and reads its rows of every batch as its process would. Processes take
seconds to start, and change nothing of which rows are read.
"""

from collections import Counter
from itertools import chain
from typing import Any, Final

import jax
import numpy as np
import pytest

from datarax_core.pipeline.definition import BatchRule
from datarax_core.pipeline.stream_reader import StreamReader
from datarax_core.records.spec import Batch
from datarax_core.sources.source import DataSourceModule

from ._compare import difference, joined, part, rows_of
from ._subject import Subject
from ._verdict import not_claimed, require

ROWS: Final = 42
"""Records in a batch: divided by 1, 2, 3 and 7."""

HOSTS: Final = (1, 2, 3, 7)


class Host:
    """One of several processes that share a stream: it reads its block of the rows of each batch."""

    def __init__(self, subject: Subject, number: int, of: int) -> None:
        self.number, self.of = number, of
        source = subject.build()
        split = source.process_part(number, of) if subject.is_stream and of > 1 else None
        self.reads_a_part = split is not None
        self.source: DataSourceModule = source if split is None else split
        self._stream, self._position = None, 0
        if subject.is_stream:
            self._stream = StreamReader(self.source, BatchRule(ROWS, None), of if self.reads_a_part else 1)

    def read(self) -> Batch:
        """Its rows of the next batch."""
        rows = np.array_split(np.arange(ROWS), self.of)[self.number]
        if self._stream is None:
            cursor, words = self.source.cursor, self.source.order_key_data()
            indices = np.asarray(self.source.record_indices_at(cursor.position, ROWS, words))
            cursor.move(cursor.position + ROWS)
            return self.source.fetch(indices[rows])
        batch, size, state = self._stream.read(self._position, ROWS, self._stream.claim(self))
        self._position += size
        self._stream.hand_over(self._position, state)
        return batch if self.reads_a_part else part(batch, rows)

    def get_state(self) -> Any:
        """What it saves, behind the batch that it read last."""
        return self.source.get_state() if self._stream is None else self._stream.get_state()

    def set_state(self, state: Any) -> None:
        """Stand where a state was saved."""
        if self._stream is None:
            self.source.set_state(state)
        else:
            self._stream.set_state(state)
            self._position = state["position"]


def hosts_of(subject: Subject, count: int) -> list[Host]:
    """So many hosts."""
    return [Host(subject, number, count) for number in range(count)]


class HostPromises:
    """Several processes that read one stream, and configs that name a shard."""

    @pytest.mark.parametrize("count", HOSTS[1:])
    def test_hosts_share_every_batch(self, subject: Subject, count: int) -> None:
        """What they read together are the records of the batch, each once; of a stream in parts, those of the epoch."""
        hosts = hosts_of(subject, count)
        if hosts[0].reads_a_part:
            self._parts_make_up_an_epoch(subject, hosts)
            return
        for position in range(0, subject.stretch - ROWS + 1, ROWS):
            rows = np.array_split(np.arange(position, position + ROWS), count)
            parts = [difference(part(subject.served, own), host.read()) for own, host in zip(rows, hosts, strict=True)]
            text = next(filter(None, parts), "")
            require(
                not text,
                f"{subject.title} promises {count} hosts disjoint rows that make up each batch, but at position {position} "
                f"one of them read other records: {text}. Let records be a function of their index, and streams of their "
                "position",
            )

    def _parts_make_up_an_epoch(self, subject: Subject, hosts: list["Host"]) -> None:
        lengths = [host.source.epoch_length or 0 for host in hosts]
        seen = Counter(
            _told_apart(joined(host.source.get_batch(length) for host, length in zip(hosts, lengths, strict=True)))
        )
        wanted = Counter(_told_apart(subject.build().get_batch(subject.length or sum(lengths))))
        require(
            not seen - wanted and len(set(lengths)) == 1 and sum(lengths) > (subject.length or 0) - len(hosts),
            f"{subject.title} promises {len(hosts)} hosts disjoint parts of one length that make up an epoch, but they have "
            f"{lengths} records, {(seen - wanted).total()} of which others have too, or no epoch has; cut "
            "process_part(part, num_parts) out of the one order",
        )

    def test_shards_are_disjoint_and_complete(self, subject: Subject) -> None:
        """Configs that say ``shard_id`` of ``num_workers``: every route of a shard serves its records, and no other."""
        fields = type(subject.config).model_fields
        if not {"shard_id", "num_workers"} <= fields.keys():
            not_claimed(f"{type(subject.config).__name__} has no shard_id and num_workers")
        for count in (2, 3):
            shards = [
                subject.build(config=subject.validated({**subject.fields, "num_workers": count, "shard_id": shard}))
                for shard in range(count)
            ]
            lengths = [shard.epoch_length or 0 for shard in shards]
            for way, read in _SHARD_ROUTES.items():
                epochs = [read(shard, length) for shard, length in zip(shards, lengths, strict=True)]
                seen = Counter(chain.from_iterable(map(_told_apart, epochs)))
                wanted = Counter(_told_apart(subject.source.fetch(np.arange(subject.records))))
                require(
                    seen == wanted,
                    f"{subject.title} promises {count} shards that are disjoint and complete, but in an epoch {way} gives "
                    f"{(seen - wanted).total()} records twice, and {(wanted - seen).total()} never; cut the one order by "
                    "`Order(length, shard, num_shards)`, which every route reads by",
                )


_SHARD_ROUTES: Final[dict[str, Any]] = {
    "get_batch_at()": lambda source, length: source.get_batch_at(0, length, source.order_key_data()),
    "get_batch()": lambda source, length: source.get_batch(length),
    "a loop": lambda source, _length: jax.tree.map(lambda *values: np.stack(values), *source),
}


def _told_apart(batch: Batch) -> list[str]:
    """A text for each record, of its content."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(batch)]
    return [repr([leaf[row].tolist() for leaf in leaves]) for row in range(rows_of(batch))]
