"""Decoder of records to batches, with a field for each feature that the data set declares."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np

from datarax_core.records import Batch, ElementSpec, aligned_empty
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
    ragged_column,
    require_room,
)
from .images import ImageItem
from .items import Item, TensorItem
from .numbers import AnyArray
from .ragged import RaggedField
from .stored import ParsedRecords

_READING_METHODS: Final = ("_flatten", "_nest", "get_serialized_info", "get_tensor_info")
"""Methods by which TFDS reads a feature that consists of others; a subclass that inherits them is read in the same way."""

_ANY_ARRAY: Final = (None,)

_LARGE: Final = 1 << 24
"""Bytes of a column from which on the first record is looked at before the column is allocated."""


class FeatureDecoder:
    """Decoder of the records of a data set, as its features are declared, without TensorFlow.

    A field has the dtype that TFDS declares. Text and other bytes are objects: ``bytes``, as TFDS returns them, or arrays of
    ``bytes`` if there are several. Arrays whose shape varies from record to record make a ragged column, if each record is one
    array. What varies within a record is an object: a list of arrays for sequences of sequences, an array of arrays for
    sequences of images of several sizes. A sequence of dicts is decoded to a dict of sequences.

    A decoder has no state: threads may share it, and it pickles.

    Args:
        features: The FeaturesDict of the data set.
        kept: Names of the features to decode.
        as_objects: Whether arrays of varying shape are objects, too.

    Raises:
        NeedsTensorFlow: Only TensorFlow decodes one of these features.
    """

    def __init__(self, features: Any, kept: Sequence[str], *, as_objects: bool = False) -> None:
        fields = fields_of(features, kept)
        self._fields = [replace(field, is_ragged=False) for field in fields] if as_objects else fields

    @property
    def spec(self) -> ElementSpec:
        """The element spec, by the declarations alone."""
        return nested({field.path: field.struct for field in self._fields})

    @property
    def text(self) -> dict[str, str]:
        """The fields whose values are bytes, which have no device dtype, each with its declaration as text."""
        return {field.name: str(field) for field in self._fields if field.is_text}

    @property
    def varying(self) -> dict[str, str]:
        """The fields whose shape varies from record to record, each with its declaration as text."""
        return {field.name: str(field) for field in self._fields if field.is_varying}

    @property
    def varying_objects(self) -> dict[str, str]:
        """Those of `varying` that are objects, and not ragged columns."""
        return {field.name: str(field) for field in self._fields if field.is_varying and not field.is_ragged}

    @property
    def has_ragged(self) -> bool:
        """Whether a field is a ragged column."""
        return any(field.is_ragged for field in self._fields)

    @property
    def releases_gil(self) -> bool:
        """Whether most of decoding is the work of codecs, without the interpreter's lock."""
        return any(getattr(field, "item", None) is not None for field in self._fields)

    def decode(self, records: Sequence[bytes | memoryview]) -> Batch:
        """Decode records to a batch of new arrays, one row a record, in their order.

        Raises:
            UndecodableRecord: A record is not as declared; the error names the row, and says what is wrong.
        """
        parsed = ParsedRecords.parsed(records)
        columns: dict[tuple[str, ...], Any] = {}
        for field in self._fields:
            if field.is_ragged:
                columns[field.path] = ragged_column(field, parsed)
                continue
            struct = field.struct
            if records and math.prod(struct.shape) * struct.dtype.itemsize * len(records) > _LARGE:
                require_room(field, parsed)
            columns[field.path] = column_of(struct, len(records))
        self._fill(parsed, columns)
        return nested(columns)

    def require_room(self, record: bytes | memoryview) -> None:
        """Look whether a record can be as the features are declared, before arrays of the declared shapes are made.

        Raises:
            UndecodableRecord: It cannot.
        """
        parsed = ParsedRecords.parsed([record])
        for field in self._fields:
            require_room(field, parsed)

    def decode_into(self, records: Sequence[bytes | memoryview], out: Batch, first_row: int) -> None:
        """Decode records into the rows from ``first_row`` on of existing arrays; no field is a ragged column.

        Raises:
            UndecodableRecord: A record is not as declared; some of the rows may be filled by then.
        """
        rows = slice(first_row, first_row + len(records))
        self._fill(ParsedRecords.parsed(records), {field.path: _at(out, field.path)[rows] for field in self._fields})

    def _fill(self, parsed: ParsedRecords, columns: Mapping[tuple[str, ...], AnyArray]) -> None:
        for field in self._fields:
            if not field.is_ragged:
                fill_field(field, parsed, columns[field.path])


def column_of(struct: Any, count: int) -> AnyArray:
    """Return an array for values of a field in ``count`` records."""
    shape = (count, *struct.shape)
    return np.empty(shape, object) if struct.dtype == OBJECT else aligned_empty(shape, struct.dtype)


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def nested(values: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Return a tree of values by their paths; a dot in a name is part of the name."""
    tree: dict[str, Any] = {}
    for path, value in values.items():
        inner = tree
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = value
    return tree


def fields_of(features: Any, kept: Sequence[str]) -> list[Field]:
    """Return the fields of the ``kept`` features of a FeaturesDict, in this order.

    Raises:
        NeedsTensorFlow: Only TensorFlow decodes a feature.
    """
    return [field for name in kept for field in _fields_below(features[name], _FeaturePath((name,)))]


class _FeaturePath(NamedTuple):
    """The way to a feature from the outside in: a name for each dict, a length (None if it varies) for each sequence."""

    steps: tuple[str | int | None, ...]

    def inside(self, step: str | int | None) -> "_FeaturePath":
        return _FeaturePath((*self.steps, step))

    @property
    def names(self) -> dict[str, Any]:
        """The names of the field, and the key by which TFDS stores it."""
        path = tuple(step for step in self.steps if isinstance(step, str))
        return {"path": path, "key": "/".join(path)}

    @property
    def lengths(self) -> Shape:
        """Lengths of the sequences."""
        return tuple(step for step in self.steps if not isinstance(step, str))

    def alone(self, feature: Any) -> Any:
        """Return a FeaturesDict that declares this feature, in its place, and no other."""
        from tensorflow_datasets import features as f  # noqa: PLC0415 - the plugin's import does not load TFDS

        for step in reversed(self.steps):
            feature = f.FeaturesDict({step: feature}) if isinstance(step, str) else f.Sequence(feature, length=step)
        return feature


def _fields_below(feature: Any, path: _FeaturePath) -> Iterator[Field]:
    if is_dict(feature):
        for name, inner in sorted(feature.items()):  # the order of TFDS
            yield from _fields_below(inner, path.inside(name))
    elif is_sequence(feature):
        yield from _fields_below(feature.feature, path.inside(feature._length))  # noqa: SLF001 - no public name
    else:
        field = _native_field(feature, path) or _foreign_field(feature, path)
        yield replace(field, is_ragged=field.is_varying and is_one_array(feature, path.lengths, field.shape))


def is_one_array(feature: Any, lengths: Shape, shape: Shape) -> bool:
    """Return whether the value of a feature in each record is one array, though of varying shape.

    Args:
        feature: A feature that is no dict, nor a sequence that is read as TFDS reads it.
        lengths: Lengths of the sequences around it.
        shape: ``lengths`` and the shape of the feature.
    """
    from tensorflow_datasets import features as f  # noqa: PLC0415 - the plugin's import does not load TFDS

    if isinstance(feature, f.Dataset) or isinstance(feature.get_tensor_info(), Mapping):
        return False
    return not lengths or None not in shape[1:]


def is_dict(feature: Any) -> bool:
    """Return whether a feature is a dict of features that TFDS reads one by one."""
    from tensorflow_datasets import features as f  # noqa: PLC0415 - the plugin's import does not load TFDS

    return _is_read_like(feature, f.FeaturesDict)


def is_sequence(feature: Any) -> bool:
    """Return whether a feature is a sequence of another feature, whose values TFDS reads one by one."""
    from tensorflow_datasets import features as f  # noqa: PLC0415 - the plugin's import does not load TFDS

    return _is_read_like(feature, f.Sequence)


def _is_read_like(feature: Any, base: Any) -> bool:
    return isinstance(feature, base) and all(
        getattr(type(feature), name) is getattr(base, name) for name in _READING_METHODS
    )


def _native_field(feature: Any, path: _FeaturePath) -> Field | None:
    """Return the field of a feature that this package decodes; None for any other, also for a subclass of such a feature."""
    from tensorflow_datasets import features as f  # noqa: PLC0415 - the plugin's import does not load TFDS

    cls = type(feature)
    if cls in (f.Image, f.LabeledImage) and len(feature.shape) == 3:
        return _item_field(ImageItem(tuple(feature.shape), np.dtype(feature.np_dtype)), path, None)
    is_lazy = cls is f.Audio and feature._lazy_decode  # noqa: SLF001 - no public name; stored as an encoded file
    if cls in (f.Tensor, f.Scalar, f.ClassLabel, f.BBoxFeature, f.Text, f.Audio) and not is_lazy:
        return _tensor_field(feature, path)
    return None


def _tensor_field(feature: Any, path: _FeaturePath) -> Field | None:
    """Return the field of a tensor; None for a form that is left to TFDS."""
    shape, dtype = tuple(feature.shape), np.dtype(feature.np_dtype)
    default, lengths = feature.get_tensor_info().default_value, path.lengths
    if feature._encoded_to_bytes:  # noqa: SLF001 - no public name
        item = TensorItem(shape, dtype, feature._encoding.value == "zlib")  # noqa: SLF001 - no public name
        if shape.count(None) < 2:
            return _item_field(item, path, default)
        is_plain = not lengths and default is None
        return DynamicField(shape=shape, dtype=dtype, item=item, **path.names) if is_plain else None
    dtype = OBJECT if dtype.kind in "SUO" else dtype
    whole = (*lengths, *shape)
    if len(lengths) > 1 and None not in shape:
        return RaggedField(shape=whole, dtype=dtype, levels=len(lengths), **path.names)
    if whole.count(None) > 1:
        return None
    made = BytesField if dtype == OBJECT else NumberField
    return made(shape=whole, dtype=dtype, default=None if lengths else default, **path.names)


def _item_field(item: Item, path: _FeaturePath, default: Any) -> Field:
    lengths = path.lengths
    whole = (*lengths, *item.shape)
    if len(lengths) > 1:
        return RaggedField(shape=whole, dtype=item.dtype, item=item, levels=len(lengths), **path.names)
    if lengths:
        return SequenceField(shape=whole, dtype=item.dtype, item=item, **path.names)
    return ItemField(shape=whole, dtype=item.dtype, item=item, default=default, **path.names)


def _foreign_field(feature: Any, path: _FeaturePath) -> Field:
    """Return the field of a feature that TFDS decodes by NumPy.

    Raises:
        NeedsTensorFlow: TFDS decodes the feature by TensorFlow only.
        ValueError: Nothing decodes the feature to a batch.
    """
    from tensorflow_datasets import features as f  # noqa: PLC0415 - the plugin's import does not load TFDS

    name, class_name = ".".join(path.names["path"]), type(feature).__name__
    if isinstance(feature, f.Image) and len(feature.shape) != 3:
        raise NeedsTensorFlow(name, f"images of the shape {list(feature.shape)}, which are GIFs")
    if isinstance(feature, f.Dataset) and (trouble := _unreadable_steps(feature.feature, name)) is not None:
        raise ValueError(f"field {name!r} has {trouble}; leave it out (exclude_keys={{{name.split('.')[0]!r}}})")
    if not _has_numpy_decoder(feature, f.FeatureConnector):
        raise NeedsTensorFlow(name, f"{class_name} has no decoder for NumPy of its own")
    info = feature.get_tensor_info()
    if isinstance(info, dict) or isinstance(feature, f.Dataset):
        shape, dtype = _ANY_ARRAY, OBJECT
    else:
        shape, dtype = tuple(info.shape), np.dtype(info.np_dtype)
    return ForeignField(shape=(*path.lengths, *shape), dtype=dtype, alone=path.alone(feature), **path.names)


def _unreadable_steps(feature: Any, name: str) -> str | None:
    """Return, as text, a feature in steps, at any depth, that nothing reads back as it was written; None if there is none."""
    from tensorflow_datasets import features as f  # noqa: PLC0415 - the plugin's import does not load TFDS

    if isinstance(feature, f.Dataset):
        return f"steps in steps, {name!r}, which neither TFDS's NumPy decoders nor a batch of tf.data hold"
    if isinstance(feature, f.Sequence):
        if feature._length is not None:  # noqa: SLF001 - no public name
            return (
                f"a sequence of {feature._length} in steps, {name!r}, "  # noqa: SLF001
                "which TFDS writes and cannot read back (a Tensor of that shape, or a Sequence of any length, it can)"
            )
        return _unreadable_steps(feature.feature, name)
    if isinstance(feature, f.FeaturesDict):
        found = (_unreadable_steps(inner, f"{name}.{key}") for key, inner in feature.items())
        return next((each for each in found if each is not None), None)
    if _has_numpy_decoder(feature, f.FeatureConnector):
        return None
    return f"a {type(feature).__name__} in steps, {name!r}, which has no decoder for NumPy of its own"


def holds_steps(feature: Any) -> bool:
    """Return whether a feature is a data set within a record (``tfds.features.Dataset``), or has one at any depth."""
    from tensorflow_datasets import features as f  # noqa: PLC0415 - the plugin's import does not load TFDS

    if isinstance(feature, f.Sequence):  # a Dataset is one, too
        return isinstance(feature, f.Dataset) or holds_steps(feature.feature)
    return isinstance(feature, f.FeaturesDict) and any(holds_steps(inner) for _, inner in feature.items())


def _has_numpy_decoder(feature: Any, base: Any) -> bool:
    """Return whether the NumPy decoder of a feature's class is at least as derived as its TensorFlow decoder.

    An inherited NumPy decoder may contradict a TensorFlow decoder that the subclass overrides.
    """
    by_tensorflow, by_numpy = (
        next(cls for cls in type(feature).__mro__ if method in vars(cls))
        for method in ("decode_example", "decode_example_np")
    )
    return by_numpy is not base and issubclass(by_numpy, by_tensorflow)
