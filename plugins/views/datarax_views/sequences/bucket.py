"""View of buckets: batches whose records are of similar length, padded to the bound of their bucket."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx

from datarax_core.devices import Aside
from datarax_core.errors import RecordError, SpecError
from datarax_core.order import BatchSizes
from datarax_core.records import Batch, ElementSpec, Ragged, aligned_empty, dtype_title, fits_device, named_fields
from datarax_core.sources import DataSourceModule, SourceView, Verified, field_struct

from .bucketing.batches import BucketBatches
from .bucketing.config import BucketViewConfig
from .bucketing.order import BucketOrder, EpochTables
from .bucketing.planned import Planned
from .lengths import lengths_of
from .options import pad_value_of, require_padded
from .plan_once import PlanOnce


class BucketView(SourceView):
    """Records in batches of one length class each, padded to the bound of their bucket.

    Record i is record i of the parent, padded; other fields pass. With ``mask_field`` there is a field bool (bound,) that is
    true for values, with ``lengths_as`` an int32 field. The view decides the batches, so that a pipeline over it takes no
    ``batch_size``: each batch has records of one bucket, ``batch_size`` of them, or ``tokens // bound``. Batches of several
    buckets differ in shape; the element spec says the greatest, and compiled stages are compiled once for each shape.

    In a shuffle, the records of a bucket are permuted anew in each epoch and cut into batches, and the batches of all buckets
    are shuffled. In sequence, records keep their order in a bucket, and a batch comes where its last record does. Either way an
    epoch serves each record once (but for those that ``too_long`` and ``remainder`` leave out), and the records of a position
    follow from key and position alone, so that a run resumes anywhere, on any number of hosts.

    Lengths come from `lengths_of`: offsets in memory, notes beside files, ``length_field``, or one pass that is kept. The plan
    is made when it is first asked for, 0.5 s and 6 bytes a record for 10^7 records; the table of an epoch takes 0.1 s and 16
    bytes a batch for 10^6 batches. A batch costs one read of its records, and a copy of the padded fields.

    Bounds that are found (``buckets``) are those with the least padding of all that are multiples of ``multiple_of``.

    Args:
        config: The settings.
        parent: The records. Only the first axis of a padded field varies.
        rngs: Random streams from which another key than the parent's is drawn.
        name: Name of the view in errors.

    Raises:
        SpecError: A field is missing, or cannot be padded; or, when the plan is first asked for, a record is too long, or a
            bucket has no batch.
        NotImplementedError: The parent is a stream.
        ValueError: The parent serves some records more often than others, one shard of them, or others in each epoch.
    """

    config: BucketViewConfig
    config_class: ClassVar = BucketViewConfig
    has_own_order: ClassVar[bool] = True

    _plan = Aside[PlanOnce[Planned]]()

    def __init__(
        self,
        config: BucketViewConfig,
        parent: DataSourceModule,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        if isinstance(parent, DataSourceModule) and parent.varies_by_epoch:
            raise ValueError(
                f"the records of {parent.title} differ from epoch to epoch, so that their lengths are not known beforehand; "
                "make the buckets of the source below it, and draw at random in stages"
            )
        self._plan = PlanOnce()
        self._epochs = EpochTables()
        super().__init__(config, parent, rngs=rngs, name=name)
        self._require_parent()
        _require_fields(config, parent, self.title)

    # -- order ---------------------------------------------------------------------------------------------------------------

    @property
    def planned(self) -> Planned:
        """The buckets and their batches, which are planned when they are first asked for."""
        return self._plan.get(self._planned)

    @property
    def serves_each_once(self) -> bool:
        """False: the order is one of batches, which another order over these records would tear apart."""
        return False

    @property
    def batch_sizes(self) -> BatchSizes:
        """The sizes of the batches, which this view decides."""
        return BucketBatches(self.planned.order, self._epochs, self.order_key_data)

    @property
    def epoch_length(self) -> int:
        """Number of records that an epoch serves."""
        return self.planned.order.num_records

    def order(self) -> Any:
        """Raise NotImplementedError: positions are those of batches, which no `Order` describes."""
        raise NotImplementedError(f"{self.title} has an order of batches; see record_indices_at()")

    @property
    def order_title(self) -> str:
        """The order in reports."""
        return f"{'shuffled' if self.is_random_order else 'in sequence'}, in batches of one bucket"

    def record_indices_at(self, start: int | jax.Array, size: int, key: Any = None) -> Any:
        """Return int64 (size,): the records at positions ``start .. start + size`` of the order that ``key`` selects.

        Raises:
            NotImplementedError: ``start`` or ``key`` is traced.
            ValueError: The order is random and ``key`` is None.
        """
        if isinstance(start, jax.core.Tracer) or isinstance(key, jax.core.Tracer):
            raise NotImplementedError(
                f"{self.title} finds the batch at a position in a table on the host, which compiled code cannot: iterate a "
                "pipeline over it, which compiles its stages"
            )
        if self.is_random_order and key is None:
            raise ValueError(
                f"{self.title} is shuffled: pass the key that selects the order, such as jax.random.key(0), "
                "or source.order_key_data() for the source's own"
            )
        return self.planned.order.record_indices(
            start,  # type: ignore[arg-type]  # concrete, by the check before
            size,
            key if self.is_random_order else None,
            self._epochs,
        )

    # -- records -------------------------------------------------------------------------------------------------------------

    def element_spec(self) -> ElementSpec:
        """Return the spec of the parent, with the padded fields as long as the greatest bound that a record needs."""
        spec = self.parent.element_spec()
        if not self.config.pad:
            return spec
        bound = self.planned.bounds[-1]
        structs = _columns(spec, self.config.fields)
        padded = {name: jax.ShapeDtypeStruct((bound, *s.shape[1:]), s.dtype) for name, s in structs.items()}
        new = {self.config.mask_field: ((bound,), np.bool_), self.config.lengths_as: ((), np.int32)}
        added = {name: jax.ShapeDtypeStruct(shape, np.dtype(dtype)) for name, (shape, dtype) in new.items() if name}
        return _with(_replaced(spec, padded), added)

    @property
    def differs_in_shape(self) -> bool:
        """Whether batches are padded to several bounds."""
        return self.config.pad and len(self.planned.bounds) > 1

    @property
    def largest_record(self) -> int:
        """Index of a record of the greatest bucket."""
        return self.planned.order.first_record_of(len(self.planned.bounds) - 1)

    def get_records(self, indices: Any) -> Batch:
        """Return the records at ``indices``, padded to the greatest bound among their buckets: one read of the parent."""
        indices = np.asarray(indices, np.int64)
        planned, fields = self.planned, self.config.fields
        bound = planned.bounds[int(self._classes_of(indices).max(initial=0))]
        batch = self.read_parent(indices)
        columns = _columns(batch, fields)
        lengths = {name: column.lengths for name, column in columns.items()}
        if planned.num_long and self.config.too_long == "truncate" and bound == planned.bounds[-1]:
            columns = {name: column.truncate(bound) for name, column in columns.items()}
        else:
            self._require_lengths(indices, lengths, bound)
        if not self.config.pad:
            return _replaced(batch, columns)
        side = self.config.side or "right"
        padded = {
            n: column.to_padded(bound, pad_value_of(self.config.pad_value, n), side) for n, column in columns.items()
        }
        return _with(_replaced(batch, padded), self._new_fields(indices, lengths, bound))

    def fetch(self, indices: np.ndarray) -> Batch:
        """Return `get_records`: what the parent read is checked there, and what is padded here has the shapes of the spec."""
        return self.get_records(indices)

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        """Return the records at ``indices`` one by one, each padded to the bound of its own bucket."""
        classes = self._classes_of(np.asarray(indices, np.int64))
        elements: list[Any] = [None] * len(classes)
        for bucket in np.unique(classes).tolist():
            rows = np.flatnonzero(classes == bucket)
            for row, element in zip(rows.tolist(), super().get_elements(np.asarray(indices)[rows]), strict=True):
                elements[row] = element
        return elements

    def verify_records(self, indices: np.ndarray) -> Verified:
        """Return which records at ``indices`` cannot be read, those included that are too long to be served."""
        return self.parent.verify_records(np.asarray(indices))

    def require_callback(self) -> None:
        """Raise NotImplementedError if batches differ in shape, which a callback of compiled code cannot."""
        super().require_callback()
        if self.differs_in_shape:
            raise NotImplementedError(
                f"{self.title} has records of several shapes, and compiled code that reads them has one for all: iterate a "
                "pipeline over it, which compiles its stages"
            )

    def view_fingerprint(self) -> dict[str, Any]:
        """Return bounds, batch sizes, the checksum of the buckets of the records, and the rule of the plan."""
        return self.planned.fingerprint()

    def describe_view(self) -> str:
        """Return the batches of each bucket, and the share of padding."""
        return "\n".join(self.planned.describe(is_padded=self.config.pad))

    # -- inside --------------------------------------------------------------------------------------------------------------

    def _planned(self) -> Planned:
        first, *others = self.config.fields
        lengths = lengths_of(self.parent, first, length_field=self.config.length_field)
        for other in others if self.config.length_field is None else ():
            lengths = np.maximum(lengths, lengths_of(self.parent, other))
        named = f"field {first!r}" if not others else f"one of the fields {', '.join(map(repr, self.config.fields))}"
        return Planned.of(lengths, self.config.settings(), self.parent.title, named)

    def _require_parent(self) -> None:
        parent = self.parent
        if not parent.serves_each_once:
            raise ValueError(
                f"{self.title} serves each record once an epoch, and {parent.title} serves some more often: its proportions "
                "would be lost. Make the buckets of the sources below it, put together by concat"
            )
        try:
            order = parent.order()
        except NotImplementedError:  # an author's own
            return
        if order.num_shards > 1:
            raise ValueError(
                f"{parent.title} serves shard {order.shard} of {order.num_shards}, and the batches of buckets are made of all "
                "records: leave out the shard; each of several processes reads the rows that its devices hold"
            )

    def _classes_of(self, indices: np.ndarray) -> np.ndarray:
        """Return uint16 (k,): the bucket of each record.

        Raises:
            IndexError: An index is out of range.
            ValueError: A record is in no bucket, since it is too long.
        """
        order: BucketOrder = self.planned.order
        if indices.size and (indices.min() < 0 or indices.max() >= len(order.classes)):
            wrong = indices[(indices < 0) | (indices >= len(order.classes))][0]
            raise IndexError(f"record {wrong} is out of range: {self.title} has {len(order.classes)} records")
        classes: np.ndarray = order.classes[indices]
        if classes.max(initial=0) == len(order.sizes):
            wrong = indices[np.argmax(classes)]
            raise ValueError(
                f"record {wrong} of {self.parent.title} is longer than {self.planned.settings.limit}, and too_long='drop' "
                "leaves it out"
            )
        return classes

    def _require_lengths(self, indices: np.ndarray, lengths: dict[str, np.ndarray], bound: int) -> None:
        """Raise `RecordError` for a record that is longer than its bound."""
        for name, found in lengths.items():
            if found.max(initial=0) <= bound:
                continue
            row = int(np.argmax(found > bound))
            record, reason = (
                int(indices[row]),
                (
                    f"field {name!r} has {int(found[row]):,} values, and the plan has {bound:,} at most; the records, or the "
                    "lengths that were noted of them, changed since the plan was made"
                ),
            )
            raise RecordError(f"record {record} of {self.parent.title}: {reason}", record=record, reason=reason)

    def _new_fields(self, indices: np.ndarray, lengths: dict[str, np.ndarray], bound: int) -> dict[str, np.ndarray]:
        """Return the mask and the lengths, if they are asked for; all fields then have one length in a record."""
        config = self.config
        if config.mask_field is None and config.lengths_as is None:
            return {}
        (first, common), *others = lengths.items()
        for name, each in others:
            if (differ := each != common).any():
                row = int(np.argmax(differ))
                option = "mask_field" if config.mask_field is not None else "lengths_as"
                raise SpecError(
                    f"record {indices[row]} of {self.parent.title} has {common[row]} values in field {first!r} and {each[row]} "
                    f"in field {name!r}, so that one {option} does not fit both; leave it out, and find padding by its value"
                )
        kept, made = np.minimum(common, bound), dict[str, np.ndarray]()
        if config.mask_field is not None:
            made[config.mask_field] = mask = aligned_empty((len(kept), bound), np.bool_)
            places, ends = np.arange(bound, dtype=np.int32), kept.astype(np.int32)[:, None]
            if config.side == "left":
                np.greater_equal(places, bound - ends, out=mask)
            else:
                np.less(places, ends, out=mask)
        if config.lengths_as is not None:
            made[config.lengths_as] = kept.astype(np.int32)
        return made


def _columns(tree: Any, fields: tuple[str, ...]) -> dict[str, Any]:
    """Return some columns of a batch, or structs of a spec, by dotted name."""
    if _has_all(tree, fields):
        return {name: tree[name] for name in fields}
    named = named_fields(tree)
    return {name: named[name] for name in fields}


def _replaced(tree: Any, columns: Mapping[str, Any]) -> Any:
    """Return a batch, or a spec, with other columns in some fields."""
    if _has_all(tree, tuple(columns)):
        return {**tree, **columns}
    leaves = (columns.get(name, leaf) for name, leaf in named_fields(tree).items())
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def _has_all(tree: Any, fields: tuple[str, ...]) -> bool:
    """Return whether a tree is a dict with these fields, none of them in a dict within it; that is quick to see."""
    return type(tree) is dict and all(name in tree and "." not in name for name in fields)


def _with(batch: Any, added: Mapping[str, Any]) -> Any:
    return {**batch, **added} if added else batch


def _require_fields(config: BucketViewConfig, parent: DataSourceModule, title: str) -> None:
    """Raise `SpecError` if a field cannot be padded, or a new field has a name that is taken."""
    spec = parent.element_spec()
    require_padded(config.pad_value, config.fields, title, "padded")
    for name in config.fields:
        struct = field_struct(parent, name)
        text = f"field {name!r} of {parent.title} is {dtype_title(struct.dtype)}{list(struct.shape)}"
        if struct.shape[:1] != (None,):
            advice = "; tokenize_bytes makes tokens of text" if struct.dtype.kind in "UTSO" else ""
            raise SpecError(f"{text}, and buckets are made of records of varying length{advice}")
        if None in struct.shape[1:] or not fits_device(struct.dtype):
            raise SpecError(f"{text}; padded are numbers, of which only the first axis varies")
        try:
            Ragged(np.empty((0, *struct.shape[1:]), struct.dtype), [0]).to_padded(
                0, pad_value_of(config.pad_value, name)
            )
        except SpecError as error:
            raise SpecError(f"pad_value of {title}: {error}, the dtype of field {name!r}") from None
    for option, new in (("mask_field", config.mask_field), ("lengths_as", config.lengths_as)):
        if new is not None and not isinstance(spec, Mapping):
            raise SpecError(f"{option} of {title} adds a field, and its records are no dicts of fields")
        if new is not None and new in spec:
            raise SpecError(f"{option} of {title} is {new!r}, which the records have already; choose another name")
