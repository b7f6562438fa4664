"""Wire format of a tf.train.Example: its features found and written in bytes, without building protobuf messages.

All known writers write one form: the features message; in it an entry for each feature; in the entry the name and the feature;
in the feature its list; in the list the payload. Each part is a tag, a length and its content. The payload is one value of
bytes, or all floats or integers packed. Records of any other valid form are parsed by protobuf.
"""

from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]  # no stubs
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs

BYTES: Final = 0x0A
FLOATS: Final = 0x12
INTEGERS: Final = 0x1A
LISTS: Final = {BYTES: "bytes_list", FLOATS: "float_list", INTEGERS: "int64_list"}
"""Kinds of features: the tag of the list that a feature holds, and the name of that list."""

_FIRST, _SECOND = 0x0A, 0x12  # tags of the first and second field of a message, with a length

Payload: TypeAlias = bytes | list[bytes]
"""Content of a feature: one value of bytes, or packed numbers; a list if there is not exactly one value of bytes."""


class Entry(NamedTuple):
    """Feature in a record: ``prefix`` are the bytes of the entry before its payload, which is ``start .. stop``."""

    prefix: bytes
    name: str
    kind: int
    start: int
    stop: int


@lru_cache(maxsize=4096)
def header(length: int) -> bytes:
    """Return the first bytes of a record of ``length`` bytes; empty if no record of this form has that length."""
    for width in range(1, 6):
        size = length - 1 - width
        if size >= 0 and len(varint(size)) == width:
            return bytes([_FIRST]) + varint(size)
    return b""


def entries(record: bytes) -> list[Entry] | None:
    """Return the entries of a record; None if it has none, has a name twice, or has another form."""
    begin = header(len(record))
    at, found = len(begin), []
    if not at or not record.startswith(begin):
        return None
    while at < len(record):
        entry = _entry_at(record, at)
        if entry is None:
            return None
        found.append(entry)
        at = entry.stop
    return found if found and len({entry.name for entry in found}) == len(found) else None


def _entry_at(record: bytes, at: int) -> Entry | None:
    """Return the entry that begins at a byte of a record; None if it has another form."""
    try:
        start, stop = _span(record, at, _FIRST)
        name_start, name_stop = _span(record, start, _FIRST)
        feature_start, feature_stop = _span(record, name_stop, _SECOND)
        kind = record[feature_start]
        list_start, list_stop = _span(record, feature_start, kind)
        payload_start, payload_stop = _span(record, list_start, _FIRST)
        name = record[name_start:name_stop].decode()
    except (IndexError, ValueError):
        return None
    if kind not in LISTS or not stop == feature_stop == list_stop == payload_stop <= len(record):
        return None
    return Entry(record[at:payload_start], name, kind, payload_start, payload_stop)


def prefix_of(name: str, kind: int, size: int) -> bytes:
    """Return the bytes of the entry of a feature before a payload of ``size`` bytes."""
    payload = bytes([_FIRST]) + varint(size)
    values = bytes([kind]) + varint(len(payload) + size) + payload
    key = name.encode()
    feature = bytes([_FIRST]) + varint(len(key)) + key + bytes([_SECOND]) + varint(len(values) + size) + values
    return bytes([_FIRST]) + varint(len(feature) + size) + feature


def entry_bytes(name: str, kind: int, payload: Payload) -> bytes:
    """Return the entry of a feature."""
    if isinstance(payload, bytes):
        return prefix_of(name, kind, len(payload)) + payload
    values = b"".join(_delimited(_FIRST, value) for value in payload)
    return _delimited(_FIRST, _delimited(_FIRST, name.encode()) + _delimited(_SECOND, _delimited(kind, values)))


def record_of(features: list[bytes]) -> bytes:
    """Return the record of these entries."""
    return _delimited(_FIRST, b"".join(features))


def parsed(record: bytes) -> dict[str, tuple[int, Payload]]:
    """Return the kind and payload of each feature, parsed by protobuf; features without a list are left out.

    Raises:
        ValueError: The record is no Example.
    """
    example = Example()
    try:
        example.ParseFromString(record)
    except DecodeError as error:
        raise ValueError(f"the record is no tf.train.Example: {error}") from error
    features: dict[str, tuple[int, Payload]] = {}
    for name, feature in example.features.feature.items():
        if kind := feature.WhichOneof("kind"):
            values = getattr(feature, kind)
            tag = next(tag for tag, name in LISTS.items() if name == kind)
            features[name] = (tag, _one_or_many(list(values.value)) if tag == BYTES else _packed(values))
    return features


def varint(number: int) -> bytes:
    """Return a number, 0 or more, as protobuf writes it: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _delimited(tag: int, value: bytes) -> bytes:
    """Return a value with its tag and length before it."""
    return bytes([tag]) + varint(len(value)) + value


def _span(record: bytes, at: int, tag: int) -> tuple[int, int]:
    """Return start and stop of the value with this tag; raise ValueError if another tag is there."""
    if record[at] != tag:
        raise ValueError
    length, start = _number(record, at + 1)
    return start, start + length


def _number(record: bytes, at: int) -> tuple[int, int]:
    """Return the number at a byte of a record, and where it ends; a length has five bytes at most."""
    number = 0
    for place in range(5):
        byte = record[at + place]
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, at + place + 1
    raise ValueError


def _one_or_many(values: list[bytes]) -> Payload:
    return values[0] if len(values) == 1 else values


def _packed(values: "message_factory.message.Message") -> bytes:
    """Return the numbers of a list as packed bytes, unchanged; a round trip by Python's floats would change some NaNs."""
    if not values.value:
        return b""
    whole: bytes = values.SerializeToString()  # unknown fields, if there are any, come last
    return whole[slice(*_span(whole, 0, _FIRST))]


def _message_class() -> Any:
    """Return the message class of tf.train.Example, in its own pool: TensorFlow registers the same names in the default."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    lists = {"BytesList": field.TYPE_BYTES, "FloatList": field.TYPE_FLOAT, "Int64List": field.TYPE_INT64}
    for name, type_ in lists.items():
        file.message_type.add(name=name).field.add(name="value", number=1, label=field.LABEL_REPEATED, type=type_)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, list_name) in enumerate(zip(lists, LISTS.values(), strict=True), start=1):
        feature.field.add(
            name=list_name,
            number=number,
            label=1,
            type=field.TYPE_MESSAGE,
            type_name=f".tensorflow.{name}",
            oneof_index=0,
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=1, type=field.TYPE_STRING)
    entry.field.add(name="value", number=2, label=1, type=field.TYPE_MESSAGE, type_name=".tensorflow.Feature")
    features.field.add(
        name="feature", number=1, label=3, type=field.TYPE_MESSAGE, type_name=".tensorflow.Features.FeatureEntry"
    )
    example = file.message_type.add(name="Example")
    example.field.add(name="features", number=1, label=1, type=field.TYPE_MESSAGE, type_name=".tensorflow.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


Example = _message_class()
