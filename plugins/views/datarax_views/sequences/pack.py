"""View of packed rows: documents of varying length put together in rows of one length, with segment ids and positions."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

import jax
import numpy as np
from flax import nnx
from pydantic import ConfigDict, Field, model_validator

from datarax_core.config import NOT_NULL, Count, Flag, Integer, Name, having, never, only_if
from datarax_core.devices import Aside
from datarax_core.errors import RecordError, SpecError
from datarax_core.records import Batch, ElementSpec, Ragged, dtype_title, fits_device, named_fields, nested_fields
from datarax_core.registry import ViewConfig
from datarax_core.sources import DataSourceModule, SourceView, field_struct

from .held_columns import HeldColumns
from .lengths import lengths_of
from .options import FieldNames, Padding, pad_value_of, require_padded
from .packing.pieces import TooLong
from .packing.plan import RowParts
from .packing.planned import Planned, Settings
from .packing.rows import RowSpans
from .plan_once import PlanOnce

BLOCK: Final = 65_536
"""Documents among which rows are filled, unless the config says otherwise."""

_FIT: Final = {"not": having(strategy={"const": "concat"})}
_CONCAT: Final = having(strategy={"const": "concat"})
_IS_SHUFFLED: Final = having(shuffle_documents={"const": True})
_IS_NOT_SHUFFLED: Final = having(shuffle_documents={"const": False})
_DRAWS: Final = {"anyOf": [having(repack={"const": True}), _IS_SHUFFLED, {"allOf": [_FIT, {"not": _IS_NOT_SHUFFLED}]}]}


class PackViewConfig(ViewConfig):
    """Config of a `PackView`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "pack",
                    "length": 2048,
                    "field": "tokens",
                    "too_long": "split",
                    "source": {"type": "arrayrecord", "paths": "corpus/*.array_record", "shuffle": True},
                }
            ]
        }
    )

    type: Literal["pack"] = "pack"
    length: Count = Field(lt=2**31, description="The tokens of a row.")
    field: Name | FieldNames | None = Field(
        default=None,
        json_schema_extra={"uniqueItems": True},
        description="The field of tokens, or several of one length each; null is the only field of varying length.",
    )
    strategy: Literal["fit", "concat"] = Field(
        default="fit",
        description="fit keeps documents whole, by best fit; concat puts one after another and cuts wherever a row ends.",
    )
    too_long: TooLong = Field(
        default="refuse",
        description="What becomes of a document that is longer than a row, with fit: refuse raises, split cuts it into pieces, "
        "truncate keeps its first tokens, drop leaves it out.",
    )
    max_segments: Count | None = Field(
        default=None, description="The most documents of a row, with fit; null is any number."
    )
    block: Count | None = Field(
        default=None, description=f"The documents among which rows are filled, with fit; null is {BLOCK:,}."
    )
    last_row: Literal["pad", "drop"] | None = Field(
        default=None, description="What becomes of a last row that is not full, with concat; null pads it."
    )
    shuffle_documents: Flag | None = Field(
        default=None,
        description="Whether documents are packed in a fixed shuffle of them, so that those of one file do not share all rows; "
        "null does so with fit, not with concat.",
    )
    repack: Flag = Field(
        default=False,
        description="Whether documents of equal length change places in each epoch, so that others share a row.",
    )
    seed: Annotated[Integer, Field(ge=0, lt=2**32)] | None = Field(
        default=None, description="Selects the shuffle of the documents, and the places that they change to; null is 0."
    )
    pad_value: Padding | dict[Name, Padding] = Field(
        default=0, description="What stands behind the last document of a row; a mapping has one for each field."
    )
    segment_field: Name = Field(
        default="segment_ids",
        description="The new field of segment ids: 1 for the first document of a row, 0 for padding.",
    )
    position_field: Name = Field(default="positions", description="The new field of positions, from 0 on.")
    positions_in: Literal["segment", "document"] = Field(
        default="segment",
        description="Whether positions begin anew in each segment, or go on where a document was cut.",
    )
    length_field: Name | None = Field(
        default=None,
        description="A field that holds the number of tokens of each document, so that none is read to plan.",
    )

    schema_rules: ClassVar = (
        *ViewConfig.schema_rules,
        only_if(_FIT, too_long={"not": {"const": "refuse"}}),
        only_if(_FIT, max_segments=NOT_NULL),
        only_if(_FIT, block=NOT_NULL),
        only_if(_CONCAT, last_row=NOT_NULL),
        only_if(_DRAWS, seed=NOT_NULL),
        never(repack={"const": True}, cacheable={"const": True}),
    )

    @model_validator(mode="after")
    def _options_have_a_use(self) -> Self:
        of_fit = [name for name in ("max_segments", "block") if getattr(self, name) is not None]
        of_fit += [] if self.too_long == "refuse" else ["too_long"]
        if self.strategy == "concat" and of_fit:
            raise ValueError(
                f"{of_fit[0]} has no use with strategy='concat', which cuts documents anywhere; leave it out"
            )
        if self.strategy == "fit" and self.last_row is not None:
            raise ValueError(
                "last_row has no use with strategy='fit', whose rows all end where documents do; leave it out"
            )
        if self.seed is not None and not (self.repack or self.shuffles_documents):
            raise ValueError("seed has no use without shuffle_documents or repack, which draw by it; leave it out")
        if self.repack and self.cacheable:
            raise ValueError(
                "repack=True makes rows anew in each epoch, and cacheable=True would keep those of the first"
            )
        if self.segment_field == self.position_field:
            raise ValueError(
                f"segment_field and position_field are both {self.segment_field!r}; give each a name of its own"
            )
        return self

    @property
    def shuffles_documents(self) -> bool:
        """Whether documents are packed in a shuffle of them: as ``shuffle_documents`` says, or with ``fit``."""
        return self.strategy == "fit" if self.shuffle_documents is None else self.shuffle_documents

    def settings(self) -> Settings:
        """Return what a plan depends on besides lengths."""
        seed = self.seed or 0
        return Settings(
            row_length=self.length,
            strategy=self.strategy,
            too_long=self.too_long,
            max_segments=self.max_segments,
            block=self.block or BLOCK,
            keeps_last=self.last_row != "drop",
            shuffle_seed=seed if self.shuffles_documents else None,
            repack_seed=seed if self.repack else None,
        )


class PackView(SourceView):
    """Documents of varying length packed into rows of one length.

    Each record is a row: every packed field as an array (length, ...) of the dtype that it has in the documents,
    ``segment_ids``, int32 (length,), which is 1 for the tokens of the first document of a row, 2 for those of the second and 0
    for padding, and ``positions``, int32 (length,), which begin at 0 in each document. Other fields of documents are left out.
    Documents without tokens are skipped.

    With ``strategy="fit"`` documents stay whole: they are put into rows by best-fit decreasing, in blocks of ``block``
    documents. With ``strategy="concat"`` rows are slices of all documents one after another.

    The plan depends on the lengths of the documents and on the config, never on what was read before: row i holds the same
    documents in every process and after every restart, and rows are shuffled, sharded and resumed as the records of any source.
    With ``repack``, documents of equal length change places by a permutation of their own in each epoch, so that rows have
    other contents and everything else stays. A part of such a view, ``view[a:b]``, keeps the rows of the first epoch, since
    documents would move between parts.

    Lengths come from `lengths_of`: offsets in memory, notes beside files, ``length_field``, or one pass that is kept. Planning
    10^6 documents takes about half a second, when the length of the view is first asked for, and 12 to 30 bytes a document. A
    row is found in O(log n); a batch costs one read of its documents, and a copy of their tokens.

    Args:
        config: The settings.
        parent: The documents. A field that is packed is ragged, and only its first axis varies.
        rngs: Random streams from which another key than the parent's is drawn, for the order of the rows.
        name: Name of the view in errors.

    Raises:
        SpecError: A field is missing, or cannot be packed; or, when the length is first asked for, a document is longer than
            a row.
        NotImplementedError: The parent is a stream.
    """

    config: PackViewConfig
    config_class: ClassVar = PackViewConfig
    renumbers: ClassVar[bool] = True

    _plan = Aside[PlanOnce[Planned]]()

    def __init__(
        self, config: PackViewConfig, parent: DataSourceModule, *, rngs: nnx.Rngs | None = None, name: str | None = None
    ) -> None:
        self._plan = PlanOnce()
        self._held = HeldColumns()
        super().__init__(config, parent, rngs=rngs, name=name)
        self._fields = tuple(_packed_fields(config, parent, self.title))

    def __len__(self) -> int:
        return self.planned.plan.num_rows

    @property
    def planned(self) -> Planned:
        """The plan of the rows, which is made when it is first asked for."""
        return self._plan.get(self._planned)

    def element_spec(self) -> ElementSpec:
        """Return the spec of a row: the packed fields, segment ids and positions."""
        length = self.config.length
        given = {name: field_struct(self.parent, name) for name in self._fields}
        packed = {name: jax.ShapeDtypeStruct((length, *s.shape[1:]), s.dtype) for name, s in given.items()}
        ids = jax.ShapeDtypeStruct((length,), np.dtype(np.int32))
        return nested_fields({**packed, self.config.segment_field: ids, self.config.position_field: ids})

    @property
    def varies_by_epoch(self) -> bool:
        """Whether documents are packed anew in each epoch, or differ from epoch to epoch themselves."""
        return self.config.repack or (self._follows_epochs and not self._keeps_records)

    @property
    def reorders_by_epoch(self) -> bool:
        """Whether a row holds other documents in another epoch."""
        return self.config.repack

    def get_records(self, indices: Any) -> Batch:
        """Return the rows at ``indices``: one read of their documents, and one copy of the tokens of each field."""
        rows, epochs = np.asarray(indices, np.int64), None
        if self.varies_by_epoch:
            epochs, rows = np.divmod(rows, len(self))
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            wrong = rows[(rows < 0) | (rows >= len(self))][0]
            raise IndexError(f"record {wrong} is out of range: {self.title} has {len(self)} records")
        parts = self.planned.plan.parts(rows, epochs)
        columns, which = self._documents(parts, epochs)
        config = self.config
        spans = RowSpans(parts, config.length)
        packed = {
            name: spans.packed(column, which, pad_value_of(self.config.pad_value, name))
            for name, column in columns.items()
        }
        ids, places = spans.segment_ids(), spans.positions(of_documents=config.positions_in == "document")
        return nested_fields({**packed, config.segment_field: ids, config.position_field: places})

    def view_fingerprint(self) -> dict[str, Any]:
        """Return the checksum of the lengths of the documents, and the rule by which they are packed."""
        return dict(self.planned.fingerprint())

    def describe_view(self) -> str:
        """Return how many rows are packed, how full they are, and what is left out."""
        others = [name for name in named_fields(self.parent.element_spec()) if name not in self._fields]
        left_out = f"\nleaves out the field{'s' if len(others) > 1 else ''} {', '.join(others)}" if others else ""
        return self.planned.describe() + left_out

    # -- inside --------------------------------------------------------------------------------------------------------------

    @property
    def _follows_epochs(self) -> bool:
        """Whether the documents differ from epoch to epoch, each under its own index."""
        return self.parent.varies_by_epoch and not self.parent.reorders_by_epoch

    def _planned(self) -> Planned:
        first, *others = self._fields
        lengths = lengths_of(self.parent, first, length_field=self.config.length_field)
        for other in others:
            known = self.parent.record_lengths(other)
            if known is not None:
                self._require_equal(np.arange(len(lengths)), lengths, known, f"field {first!r}", other)
        return Planned.of(lengths, self.config.settings(), self.parent.title, first)

    def _documents(self, parts: RowParts, epochs: np.ndarray | None) -> tuple[dict[str, Ragged], np.ndarray]:
        """Return the columns of the documents that parts are of, and the number of each part's document in them."""
        is_known = not (self._hooks_reads or self.parent.varies_by_epoch)
        columns = self._held.get(self._fields, self.parent) if is_known else None
        if columns is not None:
            documents, which = parts.documents, parts.documents
            lengths = {
                name: column.offsets[documents + 1] - column.offsets[documents] for name, column in columns.items()
            }
        else:
            wanted = parts.documents
            if self._follows_epochs and epochs is not None:
                wanted = wanted + self.parent.num_records * np.repeat(epochs, parts.counts)
            wanted, which = np.unique(wanted, return_inverse=True)
            read = named_fields(self.read_parent(wanted))
            columns = {name: read[name] for name in self._fields}
            documents = wanted % self.parent.num_records
            lengths = {name: column.lengths for name, column in columns.items()}
        for name, found in lengths.items():
            self._require_equal(documents, self.planned.lengths[documents], found, "the plan", name)
        return columns, which

    def _require_equal(
        self, records: np.ndarray, planned: np.ndarray, found: np.ndarray, what: str, field: str
    ) -> None:
        """Raise for the first document that has another number of tokens in a field than it should."""
        wrong = np.flatnonzero(planned != found)
        if not wrong.size:
            return
        record, one, two = (int(numbers[wrong[0]]) for numbers in (records, planned, found))
        reason = f"field {field!r} has {two:,} tokens, and {what} has {one:,}"
        advice = (
            "the records, or the lengths that were noted of them, changed since the plan was made; write the note anew, or "
            "leave out length_field"
            if what == "the plan"
            else "fields that are packed together are as long as one another"
        )
        raise RecordError(f"record {record} of {self.parent.title}: {reason}; {advice}", record=record, reason=reason)


def _packed_fields(config: PackViewConfig, parent: DataSourceModule, title: str) -> Iterator[str]:
    """Yield the fields that are packed, after a check of each; raise `SpecError` for one that cannot be packed."""
    structs = named_fields(parent.element_spec())
    if config.field is None:
        varying = [name for name, struct in structs.items() if struct.shape[:1] == (None,)]
        if len(varying) != 1:
            found = f"it has {', '.join(varying)}: name the field, or fields" if varying else "it has none"
            raise SpecError(f"{title} packs the only field of varying length, and {found}")
        fields: tuple[str, ...] = tuple(varying)
    else:
        fields = (config.field,) if isinstance(config.field, str) else config.field
    require_padded(config.pad_value, fields, title, "packed")
    for name in fields:
        struct = field_struct(parent, name)
        text = f"field {name!r} of {parent.title} is {dtype_title(struct.dtype)}{list(struct.shape)}"
        if struct.shape[:1] != (None,):
            advice = "; {type: window} cuts long arrays of one length" if struct.shape else ""
            raise SpecError(f"{text}, and documents that are packed vary in length{advice}")
        if None in struct.shape[1:] or not fits_device(struct.dtype):
            raise SpecError(f"{text}; packed are numbers, of which only the first axis varies")
        if name in (config.segment_field, config.position_field):
            raise SpecError(
                f"{title} makes a field {name!r}, and packs one of that name; set segment_field or position_field"
            )
        value = config.pad_value.get(name, 0) if isinstance(config.pad_value, Mapping) else config.pad_value
        try:
            Ragged(np.empty((0, *struct.shape[1:]), struct.dtype), [0]).to_padded(0, value)
        except SpecError as error:
            raise SpecError(f"pad_value of {title}: {error}, the dtype of field {name!r}") from None
        yield name
