"""Promises about hosts and shards: together they serve every record, and no record twice.

Hosts are simulated: each builds its own source and reads its rows of every batch, as a process of a multi-host program
would. Real processes take seconds to start, and would read the same rows.
"""

from collections import Counter
from itertools import chain
from typing import Any, Final

import jax
import numpy as np
import pytest

from datarax_core.records.joining import host_column
from datarax_core.records.spec import Batch
from datarax_core.routes.definition import BatchRule
from datarax_core.routes.stream_reader import StreamReader
from datarax_core.sources.source import DataSourceModule
from datarax_core.testing.checks import batch_of_records, joined, not_claimed, part, require, rows_of

from .subject import Subject

ROWS: Final = 42
"""The number of records of a batch, which 1, 2, 3 or 7 hosts can share."""

HOSTS: Final = (1, 2, 3, 7)
"""The numbers of hosts under test."""


class Host:
    """One of several simulated processes that share each batch: it reads a block of the rows."""

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
        """Return this host's rows of the next batch."""
        rows = np.array_split(np.arange(ROWS), self.of)[self.number]
        if self._stream is None:
            cursor, key_data = self.source.cursor, self.source.order_key_data()
            indices = np.asarray(self.source.record_indices_at(cursor.position, ROWS, key_data))
            cursor.move(cursor.position + ROWS)
            return self.source.fetch(indices[rows])
        read = self._stream.read(self._position, ROWS, self._stream.take_over(self), is_loop=False)
        self._position += read.size
        self._stream.hand_over(read.served)
        return read.batch if self.reads_a_part else part(read.batch, rows)

    def get_state(self) -> Any:
        """Return the state to save after the last batch that was read."""
        return self.source.get_state() if self._stream is None else self._stream.get_state()

    def set_state(self, state: Any) -> None:
        """Continue after the batch at which a state was saved."""
        if self._stream is None:
            self.source.set_state(state)
        else:
            self._stream.set_state(state)
            self._position = state["position"]


def hosts_of(subject: Subject, count: int) -> list[Host]:
    """Return ``count`` hosts that share the batches of a source."""
    return [Host(subject, number, count) for number in range(count)]


class HostPromises:
    """Several hosts that read the batches of one source, and configs that name a shard."""

    @pytest.mark.parametrize("count", HOSTS[1:])
    def test_hosts_share_every_batch(self, subject: Subject, count: int) -> None:
        """Together, the hosts read each record of a batch once; of a stream that is cut into parts, each record of an epoch."""
        hosts = hosts_of(subject, count)
        if hosts[0].reads_a_part:
            self._require_parts_of_an_epoch(subject, hosts)
            return
        for position in range(0, subject.num_compared - ROWS + 1, ROWS):
            rows = np.array_split(np.arange(position, position + ROWS), count)
            parts = [
                subject.difference(part(subject.served, own), host.read())
                for own, host in zip(rows, hosts, strict=True)
            ]
            text = next(filter(None, parts), "")
            require(
                not text,
                f"{subject.title} promises that {count} hosts read disjoint rows that make up each batch, but at position "
                f"{position} a host read other records: {text}. Let a record depend on its index only, and the records of a "
                "stream on their position only",
            )

    def _require_parts_of_an_epoch(self, subject: Subject, hosts: list["Host"]) -> None:
        lengths = [host.source.epoch_length or 0 for host in hosts]
        seen = Counter(
            _contents(joined(host.source.get_batch(length) for host, length in zip(hosts, lengths, strict=True)))
        )
        wanted = Counter(_contents(subject.build().get_batch(subject.length or sum(lengths))))
        require(
            not seen - wanted and len(set(lengths)) == 1 and sum(lengths) > (subject.length or 0) - len(hosts),
            f"{subject.title} promises {len(hosts)} hosts disjoint parts of one length that make up an epoch, but the parts "
            f"have {lengths} records, and {(seen - wanted).total()} of these are in another part or in no epoch; let "
            "process_part(part, num_parts) cut the one order of the source into blocks",
        )

    def test_shards_are_disjoint_and_complete(self, subject: Subject) -> None:
        """If the config has ``shard_id`` and ``num_workers``: by every route, a shard serves its own records and no others."""
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
                seen = Counter(chain.from_iterable(map(_contents, epochs)))
                wanted = Counter(_contents(subject.source.fetch(np.arange(subject.records))))
                require(
                    seen == wanted,
                    f"{subject.title} promises {count} shards that are disjoint and complete, but an epoch by {way} serves "
                    f"{(seen - wanted).total()} records twice and {(wanted - seen).total()} records never; cut the one order "
                    "with `Order(length, shard, num_shards)`, and read by it in every route",
                )


_SHARD_ROUTES: Final[dict[str, Any]] = {
    "get_batch_at()": lambda source, length: source.get_batch_at(0, length, source.order_key_data()),
    "get_batch()": lambda source, length: source.get_batch(length),
    "a loop": lambda source, _length: batch_of_records(source),
}


def _contents(batch: Batch) -> list[str]:
    """Return a text for each record of a batch, equal for records of equal values."""
    leaves = [host_column(leaf) for leaf in jax.tree.leaves(batch)]
    return [repr([leaf[row : row + 1].tolist() for leaf in leaves]) for row in range(rows_of(batch))]
