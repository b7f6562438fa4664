"""What stages are told of their records: one key a record, from (stage, epoch, record index), and the index itself."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from datarax_core.order.permutation import DEVICE_LIMIT
from datarax_core.sources.source import DataSourceModule

RecordIds: TypeAlias = tuple[Any, ...]
"""(words of the pipeline's key or None, then uint32 (k,) arrays that together name each record's epoch and index)."""


class StageKey(nnx.Variable[Any]):
    """uint32 (2,): the words of the key that all stochastic stages of a pipeline draw from."""


class StageKeys(nnx.Module):
    """Where the stochastic stages of a pipeline get their keys from; without such stages, nothing is drawn."""

    def __init__(self, stages: Sequence[Any], rngs: nnx.Rngs | None) -> None:
        stochastic = [number for number, stage in enumerate(stages) if is_stochastic(stage)]
        if stochastic and (rngs is None or not ("stages" in rngs or "default" in rngs)):
            raise ValueError(
                f"stage {stochastic[0]} is stochastic and needs random numbers: pass rngs=nnx.Rngs(0), or any seed"
            )
        # bits, not the key itself: a source built with equal streams draws that key for its order
        drawn = jax.random.bits(rngs.stages(), (2,), np.uint32) if stochastic and rngs is not None else None
        self.words = None if drawn is None else StageKey(np.asarray(drawn))
        self.needs_record_ids = drawn is not None or any(map(takes_record_indices, stages))

    def record_ids(self, source: DataSourceModule, start: Any, indices: Any) -> RecordIds | None:
        """What `record_keys` and `record_indices` need for the records ``indices`` at positions from ``start`` on.

        None if no stage asks for keys or indices.
        """
        if not self.needs_record_ids:
            return None
        words = None if self.words is None else self.words.get_raw_value()
        epochs = (
            np.zeros(indices.size, np.int64) if source.epoch_length is None else source.epochs_at(start, indices.size)
        )
        if not isinstance(indices, np.ndarray):
            return words, epochs.astype(np.uint32), indices.astype(np.uint32)
        epochs = epochs.reshape(indices.shape)
        return _names(source, words, epochs, indices.astype(np.int64))

    def stream_record_ids(
        self, source: DataSourceModule, start: int, rows: np.ndarray, num_parts: int = 1
    ) -> RecordIds | None:
        """`names` for ``rows`` of a stream's batch from ``start`` on: its records are called by their place in the epoch.

        In a stream of several parts that is the place in the part, and which part it is: the same at any batch size.
        """
        if self.words is None:
            return None
        words, length = self.words.get_raw_value(), source.epoch_length
        parts = rows.reshape(num_parts, -1)
        places, part = parts - parts[:, :1], np.arange(num_parts)[:, None]
        if length is None:
            epochs, indices = np.zeros_like(places), (start // num_parts + places) * num_parts + part
        else:
            epoch, at = divmod(start // num_parts, length)
            epochs, indices = epoch + (at + places) // length, (at + places) % length + part * length
        return _names(source, words, epochs.ravel(), indices.ravel())

    def fingerprint(self) -> dict[str, Any]:
        """What a saved state must find again."""
        return {} if self.words is None else {"stages_seed": np.asarray(self.words.get_raw_value()).tolist()}


def _names(source: DataSourceModule, words: Any, epochs: np.ndarray, indices: np.ndarray) -> RecordIds:
    low = (indices & 0xFFFFFFFF).astype(np.uint32)
    if _is_addressed_by_32_bits(source):
        return words, epochs.astype(np.uint32), low
    return words, epochs.astype(np.uint32), low, (indices >> 32).astype(np.uint32)


def _is_addressed_by_32_bits(source: DataSourceModule) -> bool:
    if source.access == "stream":
        return source.epoch_length is not None and source.epoch_length <= DEVICE_LIMIT
    return source.num_records <= DEVICE_LIMIT


def is_stochastic(stage: Any) -> bool:
    """Whether a stage asks for keys: it says ``stochastic = True``."""
    return getattr(stage, "stochastic", False) is True


def takes_record_indices(stage: Any) -> bool:
    """Whether a stage asks for record indices: it says ``takes_record_indices = True``."""
    return getattr(stage, "takes_record_indices", False) is True


def stage_arguments(stage: Any, number: int, names: RecordIds | None) -> tuple[Any, ...]:
    """What a stage is called with behind the batch: keys (k,) if it is stochastic, then int32 (k,) indices if it asks."""
    keys = (record_keys(names, number),) if is_stochastic(stage) else ()
    return (*keys, record_indices(names)) if takes_record_indices(stage) else keys


def record_keys(names: RecordIds | None, stage: int) -> jax.Array:
    """Keys (k,) of the records for one stage: the pipeline's key, with stage, epoch and record index folded in."""
    if names is None or names[0] is None:
        raise ValueError(
            "a stochastic stage has its keys from the records it is given; iterate the pipeline, or call the stage"
        )
    words, *parts = names
    key = jax.random.fold_in(jax.random.wrap_key_data(jnp.asarray(words), impl="threefry2x32"), stage)

    def fold(*numbers: Any) -> jax.Array:
        folded = key
        for number in numbers:
            folded = jax.random.fold_in(folded, number)
        return folded

    return jax.vmap(fold)(*parts)


def record_indices(names: RecordIds | None) -> Any:
    """The indices of the records, int32 (k,); of a source that has no more than fit."""
    if names is None:
        raise ValueError(
            "a stage that takes record indices has them from the pipeline; iterate that, or call the stage with indices"
        )
    return names[2].astype(np.int32)
