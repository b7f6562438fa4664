"""From the features that a data set declares to the fields of its batches."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from ._fields import OBJECT, BytesField, DynamicField, Field, ItemField, NumberField, SequenceField, Shape
from ._foreign import ForeignField
from ._images import ImageItem
from ._items import Item, TensorItem
from ._ragged import RaggedField
from ._requirements import NeedsTensorFlow

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
