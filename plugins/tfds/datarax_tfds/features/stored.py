"""Parsing of tf.train.Examples: each feature as the bytes of its values, numbers still packed.

Protobuf parses the records with a schema of this module, which keeps each feature as unparsed bytes. Every common writer writes
a feature in one form, whose header follows from the feature's length: the type of the list, one list, and in it one value or
all numbers packed; the rest is the value. Features in any other legal form are parsed one by one. A record of 3,072 integers
takes 2 us this way; the usual schema, which makes a Python object of each number, takes 45 us.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Self, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]  # no stubs
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs

from .layouts import RecordsOfOneLayout, Slices

Features: TypeAlias = Mapping[str, bytes]
"""The features of one record by key, each as its stored bytes; the bytes of a missing feature are empty."""

BYTES, FLOATS, INTEGERS = 0x0A, 0x12, 0x1A
"""Types of features: the protobuf tag of the list that a feature holds."""

_TYPE_NAMES: Final = {BYTES: "bytes", FLOATS: "floats", INTEGERS: "integers"}
_LIST_FIELDS: Final = {BYTES: "bytes_list", FLOATS: "float_list", INTEGERS: "int64_list"}
_NO_HEADER: Final = b"\xff"
_HEADERS: Final = 1 << 14  # kept headers, one per length: compressed images of one size have thousands of lengths


class UndecodableRecord(ValueError):  # noqa: N818 - the reader of the files raises RecordError from it
    """Error of a record that does not parse, or has a field that is not as declared.

    ``row`` is the record's row in the batch, ``field`` the dotted name of the field (None: the record is no Example), and
    ``reason`` says what was found and what is expected.
    """

    def __init__(self, row: int, field: str | None, reason: str) -> None:
        super().__init__(f"record {row} of the batch: {reason}")
        self.row, self.field, self.reason = row, field, reason

    def __reduce__(self) -> tuple[type["UndecodableRecord"], tuple[int, str | None, str]]:
        return type(self), (self.row, self.field, self.reason)


class Unfit(ValueError):  # noqa: N818 - the caller, who knows row and field, raises UndecodableRecord from it
    """Error of a stored value that is not as declared; the message says what was found, such as "3 values"."""


def counted(count: int, word: str) -> str:
    """Return a count with its noun in singular or plural: "1 value", "3 values"."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


class Missing(Exception):  # noqa: N818 - it is no error if the field has a default
    """Raised if a record does not have a feature."""


class ParsedRecords:
    """The records of a batch: their bytes, and their features.

    Args:
        stored: The bytes of each record.
        features: The features of each record; None if ``together`` has them.
        together: The records, if all of them are of one layout.
    """

    def __init__(
        self,
        stored: Sequence[bytes | memoryview],
        features: list[Features] | None,
        together: RecordsOfOneLayout | None = None,
    ) -> None:
        self.stored, self._features, self._together = stored, features, together

    @classmethod
    def parsed(cls, stored: Sequence[bytes | memoryview]) -> Self:
        """Parse records.

        Raises:
            UndecodableRecord: A record is no Example; the error names its row.
        """
        together = RecordsOfOneLayout.found_in(stored)
        return cls(stored, _parsed(stored) if together is None else None, together)

    @property
    def features(self) -> list[Features]:
        """The features of each record."""
        if self._features is None:
            self._features = _parsed(self.stored)
        return self._features

    def only(self, row: int) -> "ParsedRecords":
        """Return the record of one row."""
        features = None if self._features is None else self._features[row : row + 1]
        return ParsedRecords(self.stored[row : row + 1], features)

    def single_values(self, key: str, feature_type: int) -> Slices | None:
        """Return `single_value` of each record; None if they have to be read, and looked at, one by one."""
        return None if self._together is None else self._together.values(key, feature_type)


def _parsed(stored: Sequence[bytes | memoryview]) -> list[Features]:
    parse = _Example.FromString
    try:
        return [parse(record).features.feature for record in stored]
    except DecodeError:
        row = next(row for row, record in enumerate(stored) if not _parses(record))
        raise UndecodableRecord(row, None, f"its {len(stored[row])} bytes are no tf.train.Example") from None


def single_value(record: Features, key: str, feature_type: int) -> bytes:
    """Return the one value of a bytes feature, or all numbers of another: floats of 4 bytes each, integers as varints.

    Raises:
        Missing: The record does not have the feature.
        Unfit: The feature is not of the type ``feature_type``, or is of ``BYTES`` and has not exactly one value.
    """
    stored = record[key]
    header = _header(feature_type, len(stored))
    if stored.startswith(header):
        return stored[len(header) :]
    values = all_values(record, key, feature_type)
    if feature_type == BYTES:
        if len(values) != 1:
            raise Unfit(counted(len(values), "value"))
        return values[0]
    if any(len(piece) % 4 if feature_type == FLOATS else piece[-1:] > b"\x7f" for piece in values):
        raise Unfit(f"{_TYPE_NAMES[feature_type]} in pieces that end within a number")
    return b"".join(values)


def all_values(record: Features, key: str, feature_type: int) -> list[bytes]:
    """Return all values of a bytes feature, or the packed numbers of another in pieces.

    Raises:
        Missing: The record does not have the feature.
        Unfit: The feature is not of the type ``feature_type``.
    """
    stored = record[key]
    try:
        feature = _Feature.FromString(stored)
    except DecodeError as error:
        raise Unfit(f"{len(stored)} bytes that are no feature") from error
    found = feature.WhichOneof("kind")
    if found is None:
        raise Unfit(f"{len(stored)} bytes that are no feature") if stored else Missing
    if found != _LIST_FIELDS[feature_type]:
        raise Unfit(next(word for tag, word in _TYPE_NAMES.items() if _LIST_FIELDS[tag] == found))
    values = getattr(feature, found)
    return list(values.value) if feature_type == BYTES else _pieces(values, feature_type)


@lru_cache(maxsize=_HEADERS)
def _header(feature_type: int, length: int) -> bytes:
    """Return the bytes in front of the value of a feature of this length, if it is written in the common form."""
    for outer in range(1, 6):
        of_list = length - 1 - outer
        for inner in range(1, 6):
            of_value = of_list - 1 - inner
            if of_value >= 0 and (len(_varint(of_list)), len(_varint(of_value))) == (outer, inner):
                return bytes([feature_type]) + _varint(of_list) + bytes([BYTES]) + _varint(of_value)
    return _NO_HEADER


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def require_example(record: bytes | memoryview) -> None:
    """Raise if a record is no Example by protobuf's usual schema, which looks into every feature.

    Called if a feature is missing, since a damaged record may hide it.

    Raises:
        Unfit: The record is damaged.
    """
    from tensorflow_datasets.proto import tf_example_pb2  # noqa: PLC0415 - the plugin's import does not load TFDS

    try:
        tf_example_pb2.Example.FromString(record)
    except DecodeError:
        raise Unfit("no value, in a record that is damaged,") from None


def _pieces(numbers: Any, feature_type: int) -> list[bytes]:
    """Return packed numbers that are stored in several pieces, or not packed: legal forms that this module's schema misses."""
    packed: list[bytes] = list(numbers.value)
    if type(numbers)(value=packed).ByteSize() == numbers.ByteSize():
        return packed
    if packed:
        raise Unfit(f"{_TYPE_NAMES[feature_type]} of which some are packed and some are not, in an order that is lost")
    from tensorflow_datasets.proto import tf_feature_pb2  # noqa: PLC0415 - the plugin's import does not load TFDS

    usual = tf_feature_pb2.FloatList if feature_type == FLOATS else tf_feature_pb2.Int64List
    again = type(numbers).FromString(usual.FromString(numbers.SerializeToString()).SerializeToString())
    return list(again.value)


def _parses(record: bytes | memoryview) -> bool:
    try:
        _Example.FromString(record)
    except DecodeError:
        return False
    return True


def _message_classes() -> tuple[Any, Any]:
    """Return the message classes of an Example and of a Feature with unparsed values, in a descriptor pool of their own."""
    file = descriptor_pb2.FileDescriptorProto(name="stored.proto", package="datarax", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    one, many, message = field.LABEL_OPTIONAL, field.LABEL_REPEATED, field.TYPE_MESSAGE
    file.message_type.add(name="Values").field.add(name="value", number=1, label=many, type=field.TYPE_BYTES)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, list_field in enumerate(_LIST_FIELDS.values(), start=1):
        feature.field.add(
            name=list_field, number=number, label=one, type=message, type_name=".datarax.Values", oneof_index=0
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=one, type=field.TYPE_STRING)
    entry.field.add(name="value", number=2, label=one, type=field.TYPE_BYTES)
    features.field.add(name="feature", number=1, label=many, type=message, type_name=".datarax.Features.FeatureEntry")
    example = file.message_type.add(name="Example")
    example.field.add(name="features", number=1, label=one, type=message, type_name=".datarax.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return tuple(
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"datarax.{name}"))
        for name in ("Example", "Feature")
    )


_Example, _Feature = _message_classes()
