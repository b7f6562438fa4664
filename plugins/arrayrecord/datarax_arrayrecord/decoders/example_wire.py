"""Wire format of a tf.train.Example: its features found and written in bytes, without building protobuf messages.

All known writers write one form: the features message; in it an entry for each feature; in the entry the name and the feature;
in the feature its list; in the list the payload. Each part is a tag, a length and its content. The payload is one value of
bytes, or all floats or integers packed. Records of any other valid form are parsed by protobuf.
"""

from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]  # no stubs

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
    if not begin or not record.startswith(begin):
        return None
    return entries_between(record, len(begin), len(record)) or None


def entries_between(record: bytes, at: int, stop: int) -> list[Entry] | None:
    """Return the entries in these bytes of a record; None if there is a name twice, or something else."""
    found = []
    while at < stop:
        entry = _entry_at(record, at)
        if entry is None:
            return None
        found.append(entry)
        at = entry.stop
    return found if at == stop and len({entry.name for entry in found}) == len(found) else None


def _entry_at(record: bytes, at: int) -> Entry | None:
    """Return the entry that begins at a byte of a record; None if it has another form."""
    try:
        start, stop = span_at(record, at, _FIRST)
        name_start, name_stop = span_at(record, start, _FIRST)
        feature_start, feature_stop = span_at(record, name_stop, _SECOND)
        kind = record[feature_start]
        list_start, list_stop = span_at(record, feature_start, kind)
        payload_start, payload_stop = span_at(record, list_start, _FIRST)
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


def parsed_feature(feature: Any) -> tuple[int, Payload] | None:
    """Return the kind and payload of a feature that protobuf parsed; None if it has no list."""
    kind = feature.WhichOneof("kind")
    if not kind:
        return None
    values = getattr(feature, kind)
    tag = next(tag for tag, name in LISTS.items() if name == kind)
    return tag, _one_or_many(list(values.value)) if tag == BYTES else _packed(values)


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


def span_at(record: bytes, at: int, tag: int) -> tuple[int, int]:
    """Return start and stop of the value with this tag; raise ValueError if another tag is there."""
    if record[at] != tag:
        raise ValueError
    length = record[at + 1]
    if length < 0x80:  # most are, and a call costs more than they do
        return at + 2, at + 2 + length
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
    return whole[slice(*span_at(whole, 0, _FIRST))]


def _message_classes() -> tuple[Any, Any]:
    """Return the message classes of tf.train.Example, and of SequenceExample, whose context has the place of its features.

    They are in a pool of their own: TensorFlow registers the same names in the default.
    """
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    lists = {"BytesList": field.TYPE_BYTES, "FloatList": field.TYPE_FLOAT, "Int64List": field.TYPE_INT64}
    for name, type_ in lists.items():
        file.message_type.add(name=name).field.add(name="value", number=1, label=field.LABEL_REPEATED, type=type_)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, list_name) in enumerate(zip(lists, LISTS.values(), strict=True), start=1):
        _add_message(feature, number, list_name, name, oneof_index=0)
    feature_list = file.message_type.add(name="FeatureList")
    _add_message(feature_list, 1, "feature", "Feature", label=field.LABEL_REPEATED)
    for name, item, value in (("Features", "feature", "Feature"), ("FeatureLists", "feature_list", "FeatureList")):
        of_names = file.message_type.add(name=name)
        kind = f"{value}Entry"
        entry = of_names.nested_type.add(name=kind)
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=field.LABEL_OPTIONAL, type=field.TYPE_STRING)
        _add_message(entry, 2, "value", value)
        _add_message(of_names, 1, item, f"{name}.{kind}", label=field.LABEL_REPEATED)
    _add_message(file.message_type.add(name="Example"), 1, "features", "Features")
    sequence = file.message_type.add(name="SequenceExample")
    _add_message(sequence, 1, "context", "Features")
    _add_message(sequence, 2, "feature_lists", "FeatureLists")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    types = [pool.FindMessageTypeByName(f"tensorflow.{name}") for name in ("Example", "SequenceExample")]
    return message_factory.GetMessageClass(types[0]), message_factory.GetMessageClass(types[1])


def _add_message(
    to: Any, number: int, name: str, type_name: str, *, label: int = 1, oneof_index: int | None = None
) -> None:
    """Add a field that is a message to a message type."""
    field = to.field.add(name=name, number=number, label=label, type_name=f".tensorflow.{type_name}")
    field.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
    if oneof_index is not None:
        field.oneof_index = oneof_index


Example, SequenceExample = _message_classes()
