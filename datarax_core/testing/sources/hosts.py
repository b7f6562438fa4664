"""Promises about hosts and shards: together they serve every record, and no record twice.

Hosts are simulated: each builds its own source and reads its rows of every batch, as a process of a multi-host program
would. Real processes take seconds to start, and would read the same rows.
"""

from collections import Counter
from collections.abc import Callable
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
from datarax_core.testing.checks import batch_of_records, batches, joined, not_claimed, part, require, rows_of

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
            position = cursor.position
            indices = np.asarray(self.source.record_indices_at(position, ROWS, key_data))
            cursor.move(position + ROWS)
            return self.source.fetch(self.source.indices_to_read(position, indices)[rows])
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
        remedy = "let process_part(part, num_parts) cut the one order of the source into blocks"
        lengths = [host.source.epoch_length or 0 for host in hosts]
        if all(lengths):
            seen = Counter(
                _contents(joined(host.source.get_batch(length) for host, length in zip(hosts, lengths, strict=True)))
            )
            wanted = Counter(_contents(subject.build().get_batch(subject.length or sum(lengths))))
            require(
                seen == wanted and len(set(lengths)) == 1,
                f"{subject.title} promises {len(hosts)} hosts disjoint parts of one length that make up an epoch, but the "
                f"parts have {lengths} records, {(seen - wanted).total()} of these are elsewhere too, or in no epoch, and "
                f"{(wanted - seen).total()} records are in no part; {remedy}, and return None if there is no equal division",
            )
        elif subject.num_compared < subject.wanted:  # an epoch that ends, and so can be read as a whole
            parts = [
                Counter(_contents(batch)) for host in hosts for batch in batches(host.source, subject.num_compared + 1)
            ]
            seen, wanted = sum(parts, Counter()), Counter(_contents(subject.served))
            require(
                seen == wanted,
                f"{subject.title} promises {len(hosts)} hosts disjoint parts that make up an epoch of {wanted.total()} "
                f"records, but {(seen - wanted).total()} records of the parts are in another part or in no epoch, and "
                f"{(wanted - seen).total()} are in no part; {remedy}",
            )

    def test_shards_are_disjoint_and_complete(self, subject: Subject) -> None:
        """If the config has ``shard_id`` and ``num_workers``: by every route, a shard serves its own records and no others."""
        fields = type(subject.config).model_fields
        if not {"shard_id", "num_workers"} <= fields.keys():
            not_claimed(f"{type(subject.config).__name__} has no shard_id and num_workers")
        if subject.is_stream and (
            (subject.num_compared == subject.wanted and subject.length is None) or not subject.has_loops
        ):
            not_claimed(f"{subject.title} is a stream without an end, or without loops")
        whole = (
            _by_loop(subject.build())
            if subject.is_stream
            else _contents(subject.source.fetch(np.arange(subject.records)))
        )
        wanted = Counter(whole)
        for count in (2, 3):
            shards = [
                subject.build(config=subject.validated({**subject.fields, "num_workers": count, "shard_id": shard}))
                for shard in range(count)
            ]
            for way, read in _SHARD_ROUTES.items():
                epochs = [epoch for shard in shards if (epoch := read(shard)) is not None]
                if len(epochs) < count:
                    continue  # a stream has no such route
                seen = Counter(chain.from_iterable(epochs))
                require(
                    seen == wanted,
                    f"{subject.title} promises {count} shards that are disjoint and complete, but an epoch by {way} serves "
                    f"{(seen - wanted).total()} records twice and {(wanted - seen).total()} records never; cut the one order "
                    "with `Order(length, shard, num_shards)`, and read by it in every route",
                )


def _by_position(source: DataSourceModule) -> list[str] | None:
    if source.access == "stream" or not source.epoch_length:
        return None if source.access == "stream" else []
    return _contents(source.get_batch_at(0, source.epoch_length, source.order_key_data()))


def _by_batch(source: DataSourceModule) -> list[str] | None:
    length = source.epoch_length
    return None if length is None else _contents(source.get_batch(length)) if length else []


def _by_loop(source: DataSourceModule) -> list[str]:
    return [content for record in source for content in _contents(batch_of_records([record], source.element_spec()))]


_SHARD_ROUTES: Final[dict[str, Callable[[DataSourceModule], list[str] | None]]] = {
    "get_batch_at()": _by_position,
    "get_batch()": _by_batch,
    "a loop": _by_loop,
}


def _contents(batch: Batch) -> list[str]:
    """Return a text for each record of a batch, equal for records of equal values."""
    leaves = [host_column(leaf) for leaf in jax.tree.leaves(batch)]
    return [repr([leaf[row : row + 1].tolist() for leaf in leaves]) for row in range(rows_of(batch))]
