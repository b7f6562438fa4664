"""Record ids, and the keys (one a record) and record indices that stages are called with."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from datarax_core.moved import rename_attributes
from datarax_core.order.permutation import DEVICE_LIMIT
from datarax_core.sources.source import DataSourceModule


class RecordIds(NamedTuple):
    """Ids of the records of a batch: keys and record indices for stages are computed from them."""

    key_data: Any
    """uint32 (2,): the pipeline's key; None if no stage is stochastic."""
    epoch: Any
    """uint32 (k,): the epoch that serves each record."""
    index_low: Any
    """uint32 (k,): the record index of each record; its low 32 bits if there is ``index_high``."""
    index_high: Any = None
    """uint32 (k,): the high 32 bits of each record index; None where 32 bits hold every index of the source."""


class StageKey(nnx.Variable[Any]):
    """uint32 (2,): data of the key that all stochastic stages of a pipeline draw from."""


class StageKeys(nnx.Module):
    """The key of a pipeline's stochastic stages; without such stages, no random stream is drawn from.

    Raises:
        ValueError: A stage is stochastic, and ``rngs`` is None or has neither a stream ``stages`` nor ``default``.
    """

    def __init__(self, stages: Sequence[Any], rngs: nnx.Rngs | None, on_host: int = 0) -> None:
        stochastic = [number for number, stage in enumerate(stages) if is_stochastic(stage)]
        if stochastic and (rngs is None or not ("stages" in rngs or "default" in rngs)):
            raise ValueError(
                f"stage {stochastic[0]} is stochastic and needs random numbers: pass rngs=nnx.Rngs(0), or any seed"
            )
        # bits, not the key itself: a source built with equal streams draws that key for its order
        drawn = jax.random.bits(rngs.stages(), (2,), np.uint32) if stochastic and rngs is not None else None
        self.key_data = None if drawn is None else StageKey(np.asarray(drawn))
        compiled = stages[on_host:]  # the first ones run on the host, and have ids of their own
        self.needs_record_ids = any(map(is_stochastic, compiled)) or any(map(takes_record_indices, compiled))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # of flax
        rename_attributes(self, {"words": "key_data", "are_names_wanted": "needs_record_ids"})  # of version 0.1.0

    @property
    def raw_key_data(self) -> Any:
        """The array of the key, of NumPy or JAX; None without stochastic stages."""
        return None if self.key_data is None else self.key_data.get_raw_value()

    def record_ids(self, source: DataSourceModule, start: Any, indices: Any) -> RecordIds | None:
        """Return the ids of the records ``indices`` at positions from ``start`` on, of a source read by index.

        None if no stage takes keys or record indices. ``start`` and ``indices`` may be traced.
        """
        if not self.needs_record_ids:
            return None
        key_data = None if self.key_data is None else self.key_data.get_raw_value()
        epochs = source.epochs_at(start, indices.size)
        if not isinstance(indices, np.ndarray):
            return RecordIds(key_data, epochs.astype(np.uint32), indices.astype(np.uint32))
        is_wide = source.num_records > DEVICE_LIMIT
        return _record_ids(key_data, epochs.reshape(indices.shape), indices.astype(np.int64), is_wide=is_wide)

    def stream_record_ids(
        self,
        source: DataSourceModule,
        start: int,
        rows: np.ndarray,
        num_parts: int = 1,
        served: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> RecordIds | None:
        """Return the ids of the records of a stream's batch whose first record is at position ``start``.

        A record of a stream is identified by its place in the epoch. In a stream that is split, that is its place in the
        part, and the number of the part: the same at any batch size. ``rows`` are the rows of the batch that are records,
        part after part; ``served`` is (epochs, places in them) of the records of a part of a stream without a length. None if
        no compiled stage takes keys.
        """
        if self.key_data is None or not self.needs_record_ids:
            return None
        epochs, indices = stream_ids(source, start, rows, num_parts, served)
        is_wide = source.epoch_length is None or source.epoch_length > DEVICE_LIMIT
        return _record_ids(self.key_data.get_raw_value(), epochs, indices, is_wide=is_wide)

    def fingerprint(self) -> dict[str, Any]:
        """Return the entries of a pipeline's fingerprint that a saved state must match."""
        return {} if self.key_data is None else {"stages_seed": np.asarray(self.key_data.get_raw_value()).tolist()}


def stream_ids(
    source: DataSourceModule,
    start: int,
    rows: np.ndarray,
    num_parts: int = 1,
    served: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (epochs, indices), int64 (k,), of the records of a stream's batch; see `StageKeys.stream_record_ids`."""
    length = source.epoch_length
    parts = rows.reshape(num_parts, -1)
    places, part = parts - parts[:, :1], np.arange(num_parts)[:, None]
    if served is not None:
        epochs, indices = served[0][places], served[1][places] * num_parts + part
    elif length is None:
        epochs, indices = np.zeros_like(places), (start // num_parts + places) * num_parts + part
    else:
        epoch, at = divmod(start // num_parts, length)
        epochs, indices = epoch + (at + places) // length, (at + places) % length + part * length
    return epochs.ravel(), indices.ravel()


def _record_ids(key_data: Any, epochs: np.ndarray, indices: np.ndarray, *, is_wide: bool) -> RecordIds:
    low = (indices & 0xFFFFFFFF).astype(np.uint32)
    high = (indices >> 32).astype(np.uint32) if is_wide else None
    return RecordIds(key_data, epochs.astype(np.uint32), low, high)


def structs_of(record_ids: RecordIds | None, size: int) -> RecordIds | None:
    """Return the shapes and dtypes of ids like these for a batch of ``size`` records, for tracing without such arrays."""
    if record_ids is None:
        return None
    key_data, *by_row = record_ids
    structs = (None if ids is None else jax.ShapeDtypeStruct((size,), ids.dtype) for ids in by_row)
    return RecordIds(None if key_data is None else jax.ShapeDtypeStruct(key_data.shape, key_data.dtype), *structs)


def is_stochastic(stage: Any) -> bool:
    """Return whether a stage takes keys: it has ``stochastic = True``."""
    return getattr(stage, "stochastic", False) is True


def takes_record_indices(stage: Any) -> bool:
    """Return whether a stage takes record indices: it has ``takes_record_indices = True``."""
    return getattr(stage, "takes_record_indices", False) is True


def stage_arguments(stage: Any, number: int, record_ids: RecordIds | None) -> tuple[Any, ...]:
    """Return the arguments of a stage after the batch: keys (k,) if it is stochastic, then int32 (k,) indices if it takes them.

    ``number`` is the number of the stage in the pipeline, which is folded into its keys.
    """
    if getattr(stage, "takes_record_ids", False) is True:  # a `CallOverride`, whose own stages take keys and indices
        return (record_ids,)
    keys = (record_keys(record_ids, number),) if is_stochastic(stage) else ()
    return (*keys, record_indices(record_ids)) if takes_record_indices(stage) else keys


def record_keys(record_ids: RecordIds | None, stage: int) -> jax.Array:
    """Return the keys (k,) of the records for one stage: the pipeline's key, with stage, epoch and record index folded in.

    One of three rules in core that fold numbers into a key, each with ``jax.random.fold_in``: here the number of the stage, so
    that two stages draw differently, then the epoch, the low 32 bits of the record index, and the high 32 bits for sources that
    have them. `datarax_core.sources.MetadataManager` leaves the stage out, and the high bits where they are 0;
    `datarax_core.order.fold_in` folds in one number of 64 bits. A change of values would change the draws of saved runs.
    """
    if record_ids is None or record_ids.key_data is None:
        raise ValueError(
            "a stochastic stage has its keys from the records it is given; iterate the pipeline, or call the stage"
        )
    key_data, *numbers = record_ids
    key = jax.random.fold_in(jax.random.wrap_key_data(jnp.asarray(key_data), impl="threefry2x32"), stage)

    def fold(*numbers: Any) -> jax.Array:
        folded = key
        for number in numbers:
            folded = jax.random.fold_in(folded, number)
        return folded

    return jax.vmap(fold)(*(each for each in numbers if each is not None))


def record_indices(record_ids: RecordIds | None) -> Any:
    """Return the record indices, int32 (k,), of a source whose record indices fit."""
    if record_ids is None:
        raise ValueError(
            "a stage that takes record indices has them from the pipeline; iterate that, or call the stage with indices"
        )
    return record_ids.index_low.astype(np.int32)
