"""Metadata of served records: index, epoch and batch, and the PRNG key of each record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from datarax_core.errors import StateError
from datarax_core.modules.module import checked_rngs
from datarax_core.modules.state import exact, is_count, plain, require_dict, require_keys
from datarax_core.order.numbers import whole_number

_COUNTS: Final = ("epoch", "batch_idx", "global_step")


@dataclass(frozen=True, slots=True)
class RecordMetadata:
    """Metadata of one served record. ``index`` always identifies the same record; the other fields say how it was served.

    ``rng_key`` is derived from epoch and record index, so that it does not depend on the batch that a record is in, and
    differs from epoch to epoch. It is None without a random stream.
    """

    index: int
    record_key: str
    rng_key: jax.Array | None = None
    epoch: int = 0
    global_step: int = 0
    batch_idx: int = 0
    shard_id: int | None = None
    source_info: Mapping[str, Any] = field(default_factory=dict)


class MetadataManager:
    """Makes the metadata of the records that a source serves, and counts their batches.

    Args:
        rngs: Random streams; the keys of all records are derived from one key drawn here. None: records have no key.
        track_batches: Count batches (``batch_idx``, ``global_step``); False leaves both at 0.
        shard_id: The shard that serves the records, if there are several.

    Attributes:
        key: The key that the keys of records are derived from; None without random streams.
    """

    def __init__(
        self, *, rngs: nnx.Rngs | None = None, track_batches: bool = True, shard_id: int | None = None
    ) -> None:
        rngs = checked_rngs(rngs, "the metadata")
        if not isinstance(track_batches, bool):
            raise TypeError(f"track_batches is True or False, not {track_batches!r:.80}")
        self.key: jax.Array | None = rngs.metadata() if rngs is not None else None
        self.track_batches = track_batches
        self.shard_id = None if shard_id is None else whole_number("shard_id", shard_id, at_least=0)
        self.epoch = 0
        self.batch_idx = 0
        self.global_step = 0

    def start_epoch(self, epoch: int) -> None:
        """Count batches from 0 again if ``epoch`` is a new one; `global_step` goes on."""
        if epoch != self.epoch:
            self.epoch, self.batch_idx = epoch, 0

    def record(
        self, index: int, *, epoch: int | None = None, source_info: Mapping[str, Any] | None = None
    ) -> RecordMetadata:
        """Return the metadata of a single record; nothing is counted."""
        epoch = self.epoch if epoch is None else epoch
        return self._records([index], [epoch], source_info or {})[0]

    def batch(
        self, indices: Sequence[int], epochs: Sequence[int], *, source_info: Mapping[str, Any] | None = None
    ) -> list[RecordMetadata]:
        """Return the metadata of the records of one batch, and count the batch."""
        if len(indices) != len(epochs):
            raise ValueError(f"each record has an epoch: {len(indices)} indices do not go with {len(epochs)} epochs")
        if len(epochs):
            self.start_epoch(epochs[0])
        records = self._records(indices, epochs, source_info or {})
        if self.track_batches:
            self.batch_idx += 1
            self.global_step += 1
        return records

    def reset(self) -> None:
        """Return to the first batch of the first epoch; the key stays."""
        self.epoch = self.batch_idx = self.global_step = 0

    def get_state(self) -> dict[str, Any]:
        """Return the counts and the key data of `key`, as JSON."""
        key_data = None if self.key is None else jax.random.key_data(self.key).tolist()
        return {"epoch": self.epoch, "batch_idx": self.batch_idx, "global_step": self.global_step, "key": key_data}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state that `get_state` returned; nothing is changed unless all of it fits.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: A key is missing or unknown, or its value is no count or no key; names each such key.
        """
        require_dict(state, "the metadata")
        require_keys(state, {*_COUNTS, "key"}, "the metadata")
        values = plain(state)
        wrong = [f"{name!r} cannot be {values[name]!r:.40}" for name in _COUNTS if not is_count(values[name])]
        key = None
        if values["key"] is not None:
            impl = None if self.key is None else jax.random.key_impl(self.key)
            try:
                key = jax.random.wrap_key_data(jnp.asarray(exact(values["key"], np.dtype(np.uint32))), impl=impl)
            except (OverflowError, TypeError, ValueError):
                key = None
            if key is None or key.ndim:
                wrong.append(f"'key' cannot be {values['key']!r:.40}")
        if wrong:
            raise StateError(f"the state does not fit the metadata: {', '.join(wrong)}")
        self.key = key
        self.epoch, self.batch_idx, self.global_step = (values[name] for name in _COUNTS)

    def _records(
        self, indices: Sequence[int], epochs: Sequence[int], source_info: Mapping[str, Any]
    ) -> list[RecordMetadata]:
        if not isinstance(source_info, Mapping):
            raise TypeError(f"source_info is a dict of what is known of the source, not {source_info!r:.80}")
        indices = [whole_number("a record index", index, at_least=0) for index in indices]
        epochs = [whole_number("an epoch", epoch, at_least=0) for epoch in epochs]
        name = source_info.get("name", "record")
        shared = (self.global_step, self.batch_idx, self.shard_id, source_info)
        return [
            RecordMetadata(index, f"{name}:{index}", key, epoch, *shared)
            for index, epoch, key in zip(indices, epochs, self._record_keys(indices, epochs), strict=True)
        ]

    def _record_keys(self, indices: Sequence[int], epochs: Sequence[int]) -> Sequence[jax.Array | None]:
        if self.key is None or not len(indices):
            return [None] * len(indices)
        low = [[number & 0xFFFFFFFF for number in numbers] for numbers in (epochs, indices)]
        high = [index >> 32 for index in indices]
        return list(_folded(self.key, *(np.array(column, np.uint32) for column in (*low, high))))


@jax.jit
def _folded(key: jax.Array, epochs: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """Return the keys (k,) of records: ``key`` with epoch, low 32 bits and high 32 bits of the record index folded in.

    One of three rules in core that fold numbers into a key. Unlike `datarax_core.stages.randomness.record_keys`, this rule
    folds in no stage, because the keys belong to records, and leaves out high bits that are 0, so that the key of a record does
    not depend on how many records the source has. A change of values would change the ``rng_key`` that users have seen.
    """

    def fold(epoch: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
        folded = jax.random.fold_in(jax.random.fold_in(key, epoch), low)
        return jnp.where(high > 0, jax.random.fold_in(folded, high), folded)

    if "unsafe" in str(jax.random.key_impl(key)):  # under vmap, keys of an unsafe implementation depend on the batch
        keys: jax.Array = jax.lax.map(lambda numbers: fold(*numbers), (epochs, low, high))
        return keys
    return jax.vmap(fold)(epochs, low, high)
