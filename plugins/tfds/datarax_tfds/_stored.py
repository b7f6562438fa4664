"""The bytes of tf.train.Examples as the stored values of their features: bytes, and numbers as they are packed.

Protobuf parses the records, by a schema of our own: on the wire packed numbers look like one value of bytes, and this schema
calls them so. The parser checks the whole structure of a record as ever, and makes no Python object of each number: 2 us for
a record of 3,072 integers, against 45 by the usual schema.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple, Self, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]  # no stubs
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # likewise

from ._undecodable import UndecodableRecord, Unfit

NumberKind: TypeAlias = Literal["float_list", "int64_list"]
Features: TypeAlias = Mapping[str, Any]
"""The features of one record by key, as messages."""

_WORDS: Final = {"bytes_list": "bytes", "float_list": "floats", "int64_list": "integers"}


class Missing(Exception):  # noqa: N818 - no error where there is a default
    """The record does not have the feature."""


class Records(NamedTuple):
    """The records of a batch."""

    stored: Sequence[bytes | memoryview]
    features: list[Features]

    @classmethod
    def parsed(cls, stored: Sequence[bytes | memoryview]) -> Self:
        """The records of these bytes.

        Raises:
            UndecodableRecord: One is no Example.
        """
        parse = _Example.FromString
        try:
            return cls(stored, [parse(record).features.feature for record in stored])
        except DecodeError:
            row = next(row for row, record in enumerate(stored) if not _parses(record))
            raise UndecodableRecord(row, None, f"its {len(stored[row])} bytes are no tf.train.Example") from None

    def only(self, row: int) -> Self:
        """One of them."""
        return self._replace(stored=self.stored[row : row + 1], features=self.features[row : row + 1])


def bytes_values(record: Features, key: str) -> list[bytes]:
    """The values of a feature of bytes.

    Raises:
        Missing: The record does not have the feature.
        Unfit: It is of numbers.
    """
    feature = record[key]
    values = feature.bytes_list.value
    if not values:
        _require_kind(feature, "bytes_list")
    return list(values)


def bytes_value(record: Features, key: str) -> bytes:
    """The only value of a feature of bytes.

    Raises:
        Missing: The record does not have the feature.
        Unfit: It is of numbers, or has none or several values.
    """
    values = record[key].bytes_list.value
    if len(values) != 1:
        raise Unfit(f"{len(bytes_values(record, key))} values")
    only: bytes = values[0]
    return only


def packed_reader(kind: NumberKind) -> Callable[[Features, str], bytes]:
    """What takes a record and a key to the numbers of that feature: floats as 4 bytes each, integers as varints.

    It raises `Missing` and `Unfit` as `bytes_values` does.
    """
    numbers_of = attrgetter(kind)

    def read(record: Features, key: str) -> bytes:
        feature = record[key]
        numbers = numbers_of(feature)
        values = numbers.value
        if len(values) == 1:
            packed: bytes = values[0]
            size = len(packed)
            # Numbers that are not packed are legal too, and unknown to this schema: they would stand behind these.
            if numbers.ByteSize() == size + 2 + (size > 0x7F) + (size > 0x3FFF) + (size > 0x1FFFFF) + (
                size > 0xFFFFFFF
            ):
                return packed
        _require_kind(feature, kind)
        return _packed_again(numbers, kind)

    return read


def _parses(record: bytes | memoryview) -> bool:
    try:
        _Example.FromString(record)
    except DecodeError:
        return False
    return True


def _require_kind(feature: Any, kind: str) -> None:
    found = feature.WhichOneof("kind")
    if found is None:
        raise Missing
    if found != kind:
        raise Unfit(_WORDS[found])


def _packed_again(numbers: Any, kind: NumberKind) -> bytes:
    """Numbers in several pieces, or not packed, as protobuf reads and packs them."""
    from tensorflow_datasets.proto import tf_feature_pb2  # noqa: PLC0415 - the plugin's import does not load TFDS

    if numbers.value:
        if type(numbers)(value=numbers.value).ByteSize() != numbers.ByteSize():
            raise Unfit(f"{_WORDS[kind]} of which some are packed and some are not, in an order that is lost")
        return b"".join(numbers.value)
    usual = tf_feature_pb2.FloatList if kind == "float_list" else tf_feature_pb2.Int64List
    packed = type(numbers).FromString(usual.FromString(numbers.SerializeToString()).SerializeToString()).value
    return bytes(packed[0]) if packed else b""


def _message_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="stored.proto", package="datarax", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    file.message_type.add(name="Values").field.add(name="value", number=1, label=3, type=field.TYPE_BYTES)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, kind in enumerate(_WORDS, start=1):
        feature.field.add(
            name=kind, number=number, label=1, type=field.TYPE_MESSAGE, type_name=".datarax.Values", oneof_index=0
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=1, type=field.TYPE_STRING)
    entry.field.add(name="value", number=2, label=1, type=field.TYPE_MESSAGE, type_name=".datarax.Feature")
    features.field.add(
        name="feature", number=1, label=3, type=field.TYPE_MESSAGE, type_name=".datarax.Features.FeatureEntry"
    )
    example = file.message_type.add(name="Example")
    example.field.add(name="features", number=1, label=1, type=field.TYPE_MESSAGE, type_name=".datarax.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("datarax.Example"))


_Example = _message_class()
