"""From the features that a data set declares to the fields of its batches."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from ._fields import OBJECT, BytesField, DynamicField, Field, ItemField, NumberField, SequenceField, Shape
from ._foreign import ForeignField
from ._images import ImageItem
from ._items import Item, TensorItem
from ._ragged import RaggedField
from ._requirements import NeedsTensorFlow

_READING: Final = ("_flatten", "_nest", "get_serialized_info", "get_tensor_info")
"""How TFDS reads a feature that consists of others. A subclass that leaves these as they are is read in the same way."""

_Alone = Callable[[Any], Any]


def fields_of(features: Any, kept: Mapping[str, Any]) -> list[Field]:
    """The fields of the ``kept`` features of a FeaturesDict, nested ones by their dotted names, in the order of ``kept``.

    Raises:
        NeedsTensorFlow: A feature has no decoder without it.
    """
    found: list[Field] = []
    for name, feature in kept.items():
        found += _walked(feature, (name,), (), lambda inner, name=name: type(features)({name: inner}))
    return found


def _walked(feature: Any, path: tuple[str, ...], lengths: Shape, alone: _Alone) -> Iterator[Field]:
    """The fields of a feature at this path, in sequences of these lengths; ``alone`` puts a feature in its place."""
    from tensorflow_datasets import features as f  # noqa: PLC0415 - the plugin's import does not load TFDS

    if _is_read_like(feature, f.FeaturesDict):
        for name, inner in sorted(feature.items()):  # in the order of TFDS
            yield from _walked(
                inner, (*path, name), lengths, lambda inner, name=name: alone(f.FeaturesDict({name: inner}))
            )
    elif _is_read_like(feature, f.Sequence):
        length = feature._length  # noqa: SLF001 - it has no other name
        yield from _walked(
            feature.feature, path, (*lengths, length), lambda inner: alone(f.Sequence(inner, length=length))
        )
    else:
        yield _leaf(feature, path, lengths, alone)


def _is_read_like(feature: Any, base: Any) -> bool:
    return isinstance(feature, base) and all(getattr(type(feature), name) is getattr(base, name) for name in _READING)


def _leaf(feature: Any, path: tuple[str, ...], lengths: Shape, alone: _Alone) -> Field:
    from tensorflow_datasets import features as f  # noqa: PLC0415 - as above

    where = {"name": ".".join(path), "key": "/".join(path)}
    known = type(feature)
    if known in (f.Image, f.LabeledImage) and len(feature.shape) == 3:
        shape = tuple(feature.shape)
        return _of_items(ImageItem(shape, np.dtype(feature.np_dtype)), lengths, where, None)
    if known in (f.Tensor, f.Scalar, f.ClassLabel, f.BBoxFeature, f.Text, f.Audio) and not _is_lazy(feature):
        field = _tensor(feature, lengths, where)
        if field is not None:
            return field
    _require_numpy_decoder(feature, where["name"])
    info = feature.get_tensor_info()
    shape, dtype = ((None,), OBJECT) if isinstance(info, dict) else (tuple(info.shape), np.dtype(info.np_dtype))
    if isinstance(feature, f.Dataset):
        shape, dtype = (None,), OBJECT
    return ForeignField(shape=(*lengths, *shape), dtype=dtype, alone=alone(feature), **where)


def _tensor(feature: Any, lengths: Shape, where: dict[str, str]) -> Field | None:
    """The field of a tensor; None for a form that is left to TFDS."""
    shape, dtype, info = tuple(feature.shape), np.dtype(feature.np_dtype), feature.get_serialized_info()
    default = feature.get_tensor_info().default_value
    if isinstance(info, dict):
        if lengths or default is not None or not _is_encoded(feature):
            return None
        return DynamicField(shape=shape, dtype=dtype, item=_encoded(feature, shape, dtype), **where)
    if dtype.kind in "SUO":
        dtype = OBJECT
    if _is_encoded(feature):
        return _of_items(_encoded(feature, shape, dtype), lengths, where, default)
    whole = (*lengths, *shape)
    if len(lengths) > 1:
        return RaggedField(shape=whole, dtype=dtype, levels=len(lengths), **where)
    if whole.count(None) > 1:
        return None
    made = BytesField if dtype == OBJECT else NumberField
    return made(shape=whole, dtype=dtype, default=None if lengths else default, **where)


def _of_items(item: Item, lengths: Shape, where: dict[str, str], default: Any) -> Field:
    whole = (*lengths, *item.shape)
    if len(lengths) > 1:
        return RaggedField(shape=whole, dtype=item.dtype, item=item, levels=len(lengths), **where)
    if lengths:
        return SequenceField(shape=whole, dtype=item.dtype, item=item, **where)
    return ItemField(shape=whole, dtype=item.dtype, item=item, default=default, **where)


def _is_encoded(feature: Any) -> bool:
    return bool(feature._encoded_to_bytes)  # noqa: SLF001 - no other name, as above


def _encoded(feature: Any, shape: Shape, dtype: np.dtype[Any]) -> TensorItem:
    return TensorItem(shape, dtype, feature._encoding.value == "zlib")  # noqa: SLF001 - likewise


def _is_lazy(feature: Any) -> bool:
    """Whether it is audio that is stored as a file of its own."""
    return bool(getattr(feature, "_lazy_decode", False))


def _require_numpy_decoder(feature: Any, name: str) -> None:
    """Refuse a class that says how TensorFlow decodes it, and inherits how NumPy does from one that is decoded otherwise."""
    classes = type(feature).__mro__
    by_tensorflow, by_numpy = (
        next(place for place, cls in enumerate(classes) if method in vars(cls))
        for method in ("decode_example", "decode_example_np")
    )
    from tensorflow_datasets import features as f  # noqa: PLC0415 - as above

    if isinstance(feature, f.Image) and len(feature.shape) != 3:
        raise NeedsTensorFlow(name, f"images of the shape {list(feature.shape)}, which are GIFs")
    if by_numpy > by_tensorflow or classes[by_numpy] is f.FeatureConnector:
        raise NeedsTensorFlow(name, f"{type(feature).__name__} has no decoder for NumPy of its own")
