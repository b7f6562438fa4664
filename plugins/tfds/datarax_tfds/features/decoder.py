"""From the bytes of records to the arrays of a batch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from datarax_core.records import Batch, ElementSpec, aligned_empty, nested_fields
from datarax_tfds.backends import NeedsTensorFlow

from .fields import (
    OBJECT,
    BytesField,
    DynamicField,
    Field,
    ForeignField,
    ItemField,
    NumberField,
    SequenceField,
    Shape,
    fill_field,
)
from .images import ImageItem
from .items import Item, TensorItem
from .numbers import AnyArray
from .ragged import RaggedField
from .stored import Records


class FeatureDecoder:
    """Decodes the records of a data set, as its features declare them, without TensorFlow.

    A field has the dtype that TFDS declares. Text and other bytes are objects: ``bytes``, as TFDS gives them, or arrays of them
    where there are several. Arrays whose shape differs from record to record are objects too: NumPy arrays, and lists of them
    for sequences in sequences. A sequence of dicts is a dict of sequences.

    It holds no state, so that threads may share it; it pickles.

    Args:
        features: The FeaturesDict of the data set.
        kept: Which of its features to decode.

    Raises:
        NeedsTensorFlow: One of these has no decoder without it.
    """

    def __init__(self, features: Any, kept: Sequence[str]) -> None:
        self._fields = fields_of(features, kept)

    @property
    def spec(self) -> ElementSpec:
        """What one record looks like, from the declarations alone."""
        return nested_fields({field.name: field.struct for field in self._fields})

    @property
    def text(self) -> dict[str, str]:
        """The fields whose values are bytes, which no device holds, each with what is declared of it."""
        return {field.name: str(field) for field in self._fields if field.is_text}

    @property
    def varying(self) -> dict[str, str]:
        """The fields whose arrays differ in shape from record to record, each with what is declared of it."""
        return {field.name: str(field) for field in self._fields if field.is_varying}

    def decode(self, records: Sequence[bytes | memoryview]) -> Batch:
        """The records as a batch of new arrays, rows in their order.

        Raises:
            UndecodableRecord: One is not as declared; says which row, and what is wrong with it.
        """
        columns = {field.name: _column(field.struct, len(records)) for field in self._fields}
        self._fill(records, columns)
        return nested_fields(columns)

    def decode_into(self, records: Sequence[bytes | memoryview], out: Batch, first_row: int) -> None:
        """Fill the rows from ``first_row`` on of the arrays of a batch.

        Raises:
            UndecodableRecord: As `decode`; the rows may be partly filled then.
        """
        rows = slice(first_row, first_row + len(records))
        self._fill(records, {field.name: _at(out, field.name)[rows] for field in self._fields})

    def _fill(self, records: Sequence[bytes | memoryview], columns: Mapping[str, AnyArray]) -> None:
        parsed = Records.parsed(records)
        for field in self._fields:
            fill_field(field, parsed, columns[field.name])


def _column(struct: Any, count: int) -> AnyArray:
    shape = (count, *struct.shape)
    return np.empty(shape, object) if struct.dtype == OBJECT else aligned_empty(shape, struct.dtype)


def _at(tree: Any, name: str) -> Any:
    for part in name.split("."):
        tree = tree[part]
    return tree


_READING: Final = ("_flatten", "_nest", "get_serialized_info", "get_tensor_info")
"""How TFDS reads a feature that consists of others. A subclass that leaves these as they are is read in the same way."""

_ANY_ARRAY: Final = (None,)


def fields_of(features: Any, kept: Sequence[str]) -> list[Field]:
    """The fields of the ``kept`` features of a FeaturesDict, in this order; nested ones by their dotted names.

    Raises:
        NeedsTensorFlow: A feature has no decoder without it.
    """
    return [field for name in kept for field in _walked(features[name], _Place((name,)))]


class _Place(NamedTuple):
    """Where a feature stands: names of dicts, and lengths of sequences, from the outside in."""

    steps: tuple[str | int | None, ...]

    def inside(self, step: str | int | None) -> "_Place":
        return _Place((*self.steps, step))

    @property
    def names(self) -> dict[str, str]:
        """The name of the field, and the key that TFDS stores it by."""
        names = [step for step in self.steps if isinstance(step, str)]
        return {"name": ".".join(names), "key": "/".join(names)}

    @property
    def lengths(self) -> Shape:
        """Of the sequences."""
        return tuple(step for step in self.steps if not isinstance(step, str))

    def alone(self, feature: Any) -> Any:
        """The declaration of the feature in its place, without any other."""
        from tensorflow_datasets import features as f  # noqa: PLC0415 - the plugin's import does not load TFDS

        for step in reversed(self.steps):
            feature = f.FeaturesDict({step: feature}) if isinstance(step, str) else f.Sequence(feature, length=step)
        return feature


def _walked(feature: Any, place: _Place) -> Iterator[Field]:
    from tensorflow_datasets import features as f  # noqa: PLC0415 - as above

    if _is_read_like(feature, f.FeaturesDict):
        for name, inner in sorted(feature.items()):  # in the order of TFDS
            yield from _walked(inner, place.inside(name))
    elif _is_read_like(feature, f.Sequence):
        yield from _walked(feature.feature, place.inside(feature._length))  # noqa: SLF001 - it has no other name
    else:
        yield _known(feature, place) or _foreign(feature, place)


def _is_read_like(feature: Any, base: Any) -> bool:
    return isinstance(feature, base) and all(getattr(type(feature), name) is getattr(base, name) for name in _READING)


def _known(feature: Any, place: _Place) -> Field | None:
    """The field of a feature that is decoded here; None for any other, be it a subclass of such a one."""
    from tensorflow_datasets import features as f  # noqa: PLC0415 - as above

    kind = type(feature)
    if kind in (f.Image, f.LabeledImage) and len(feature.shape) == 3:
        return _of_items(ImageItem(tuple(feature.shape), np.dtype(feature.np_dtype)), place, None)
    is_lazy = kind is f.Audio and feature._lazy_decode  # noqa: SLF001 - as above: stored as a file of its own
    if kind in (f.Tensor, f.Scalar, f.ClassLabel, f.BBoxFeature, f.Text, f.Audio) and not is_lazy:
        return _tensor(feature, place)
    return None


def _tensor(feature: Any, place: _Place) -> Field | None:
    """The field of a tensor; None for a form that is left to TFDS."""
    shape, dtype = tuple(feature.shape), np.dtype(feature.np_dtype)
    default, lengths = feature.get_tensor_info().default_value, place.lengths
    if feature._encoded_to_bytes:  # noqa: SLF001 - as above
        item = TensorItem(shape, dtype, feature._encoding.value == "zlib")  # noqa: SLF001 - likewise
        if shape.count(None) < 2:
            return _of_items(item, place, default)
        is_plain = not lengths and default is None
        return DynamicField(shape=shape, dtype=dtype, item=item, **place.names) if is_plain else None
    dtype = OBJECT if dtype.kind in "SUO" else dtype
    whole = (*lengths, *shape)
    if len(lengths) > 1 and None not in shape:
        return RaggedField(shape=whole, dtype=dtype, levels=len(lengths), **place.names)  # type: ignore[arg-type]  # names
    if whole.count(None) > 1:
        return None
    made = BytesField if dtype == OBJECT else NumberField
    return made(shape=whole, dtype=dtype, default=None if lengths else default, **place.names)


def _of_items(item: Item, place: _Place, default: Any) -> Field:
    lengths = place.lengths
    whole = (*lengths, *item.shape)
    if len(lengths) > 1:
        return RaggedField(shape=whole, dtype=item.dtype, item=item, levels=len(lengths), **place.names)
    if lengths:
        return SequenceField(shape=whole, dtype=item.dtype, item=item, **place.names)
    return ItemField(shape=whole, dtype=item.dtype, item=item, default=default, **place.names)


def _foreign(feature: Any, place: _Place) -> Field:
    """The field of a feature that TFDS decodes.

    Raises:
        NeedsTensorFlow: It does so by TensorFlow only.
    """
    from tensorflow_datasets import features as f  # noqa: PLC0415 - as above

    name, kind = place.names["name"], type(feature).__name__
    if isinstance(feature, f.Image) and len(feature.shape) != 3:
        raise NeedsTensorFlow(name, f"images of the shape {list(feature.shape)}, which are GIFs")
    if not _says_how_numpy_decodes(feature, f.FeatureConnector):
        raise NeedsTensorFlow(name, f"{kind} has no decoder for NumPy of its own")
    info = feature.get_tensor_info()
    if isinstance(info, dict) or isinstance(feature, f.Dataset):
        shape, dtype = _ANY_ARRAY, OBJECT
    else:
        shape, dtype = tuple(info.shape), np.dtype(info.np_dtype)
    return ForeignField(shape=(*place.lengths, *shape), dtype=dtype, alone=place.alone(feature), **place.names)


def _says_how_numpy_decodes(feature: Any, base: Any) -> bool:
    """Whether the class that says how NumPy decodes it knew how TensorFlow does: what is inherited may be outdated."""
    by_tensorflow, by_numpy = (
        next(cls for cls in type(feature).__mro__ if method in vars(cls))
        for method in ("decode_example", "decode_example_np")
    )
    return by_numpy is not base and issubclass(by_numpy, by_tensorflow)
