"""What is known of a record besides its fields: where it stands, and which key its randomness comes from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ._state import exact, is_count, plain, require_dict, require_keys
from .errors import StateError

_COUNTS: Final = ("epoch", "batch_idx", "global_step")


@dataclass(frozen=True, slots=True)
class RecordMetadata:
    """One record's place in the stream. ``index`` names the record for ever; the rest says how it was served.

    ``rng_key`` is folded from epoch and record index, so a record is treated alike however it is batched, and differently
    in the next epoch. It is None where there is no random stream.
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
    """Makes the metadata of the records that a source serves, and counts batches as it does.

    Args:
        rngs: Random streams; the key of each record is folded from one key drawn here. None: records have no key.
        track_batches: Count batches (``batch_idx``, ``global_step``); False leaves both at 0.
        shard_id: The shard that these records are served by, if there are several.

    Attributes:
        key: What the records' keys are folded from; None without random streams.
    """

    def __init__(
        self, *, rngs: nnx.Rngs | None = None, track_batches: bool = True, shard_id: int | None = None
    ) -> None:
        self.key: jax.Array | None = rngs.metadata() if rngs is not None else None
        self.track_batches = track_batches
        self.shard_id = shard_id
        self.epoch = 0
        self.batch_idx = 0
        self.global_step = 0

    def start_epoch(self, epoch: int) -> None:
        """Batches are counted from 0 again; `global_step` goes on."""
        if epoch != self.epoch:
            self.epoch, self.batch_idx = epoch, 0

    def record(
        self, index: int, *, epoch: int | None = None, source_info: Mapping[str, Any] | None = None
    ) -> RecordMetadata:
        """Metadata of one record by itself; counts nothing."""
        epoch = self.epoch if epoch is None else epoch
        return RecordMetadata(
            index=index,
            record_key=f"{(source_info or {}).get('name', 'record')}:{index}",
            rng_key=self._record_rng_key(index, epoch),
            epoch=epoch,
            global_step=self.global_step,
            batch_idx=self.batch_idx,
            shard_id=self.shard_id,
            source_info=source_info or {},
        )

    def batch(
        self, indices: Sequence[int], epochs: Sequence[int], *, source_info: Mapping[str, Any] | None = None
    ) -> list[RecordMetadata]:
        """Metadata of the records of one batch, which is counted once they are made."""
        if len(epochs):
            self.start_epoch(epochs[0])
        records = [
            self.record(index, epoch=epoch, source_info=source_info)
            for index, epoch in zip(indices, epochs, strict=True)
        ]
        if self.track_batches:
            self.batch_idx += 1
            self.global_step += 1
        return records

    def reset(self) -> None:
        """Back to the first batch of the first epoch; the key stays."""
        self.epoch = self.batch_idx = self.global_step = 0

    def get_state(self) -> dict[str, Any]:
        """Its counters, and the words of the key that the records' keys are folded from: JSON-able."""
        words = None if self.key is None else jax.random.key_data(self.key).tolist()
        return {"epoch": self.epoch, "batch_idx": self.batch_idx, "global_step": self.global_step, "key": words}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` gave; nothing is changed unless all of it fits.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: Names every key that is missing or unknown, or whose value is no count or no key.
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

    def _record_rng_key(self, index: int, epoch: int) -> jax.Array | None:
        if self.key is None:
            return None
        low, high = index & 0xFFFFFFFF, index >> 32
        key = jax.random.fold_in(jax.random.fold_in(self.key, epoch & 0xFFFFFFFF), low)
        return jax.random.fold_in(key, high) if high else key
