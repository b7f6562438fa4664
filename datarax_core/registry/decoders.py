"""Decoders: how the bytes of a record become arrays. Each is a small immutable config with a method, found by name."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, cast

from pydantic import (
    BeforeValidator,
    Field,
    InstanceOf,
    SerializeAsAny,
    ValidationInfo,
    WithJsonSchema,
    field_serializer,
)

from datarax_core.config.base import FrozenConfig, Name, plugin_config, plugin_schema
from datarax_core.config.messages import plugin_error, shown
from datarax_core.extensions.catalog import EntryPointGroup
from datarax_core.extensions.contract import config_plugin_problems, require_contract
from datarax_core.extensions.plugin_registry import PluginRegistry

if TYPE_CHECKING:
    from datarax_core.records.spec import Batch, ElementSpec


_FIRST_PARTY: Final = dict.fromkeys(("array", "example", "msgpack", "npz", "raw"), "datarax-arrayrecord")


class Decoder(FrozenConfig):
    """How the bytes of a record become arrays, and arrays the bytes of a record.

    It is its own config: fields that are validated, and nothing besides, so that it compares, pickles and goes to JSON as it
    is. An author gives ``type`` its registered name as default and writes `decode_record`, or `decode` where many
    records are decoded at once; `element_spec` if the fields tell it; `encode`, and `for_spec` if there are fields, if it
    can write.

    Bytes that are no such record raise a ``ValueError`` that says what is expected and what was found, field by field;
    whoever reads knows the record and its file, and adds them.
    """

    type: Name = Field(description="The registered name of the decoder.")

    def element_spec(self) -> "ElementSpec | None":
        """What one record looks like, if the fields of the decoder tell; None if only a record can."""
        return None

    def spec_from(self, record: bytes) -> "ElementSpec":
        """What one record looks like, as this one does; asked for where `element_spec` cannot tell."""
        from datarax_core.records.elements import element_spec_of  # noqa: PLC0415 - configs load no JAX

        return element_spec_of(self.decode_record(record), "the record")

    def decode_record(self, record: bytes) -> Any:
        """One record, as a pytree of values of which NumPy makes arrays."""
        raise NotImplementedError(
            f"{type(self).__name__} defines neither decode_record() nor decode(); write one of them"
        )

    def decode(self, records: "Sequence[bytes]", spec: "ElementSpec") -> "Batch":
        """The records as a batch of NumPy arrays that ``spec`` describes, rows in their order.

        Args:
            records: At least one.
            spec: `element_spec`, or where that is None, what `spec_from` said of the first record of all.

        Raises:
            ValueError: One of them is no such record, or not as ``spec`` says.
        """
        return stack_values([self.decode_record(record) for record in records], spec)

    def encode(self, batch: "Batch") -> list[bytes]:
        """The bytes of each record of a batch, such that `decode` gives the batch again."""
        raise NotImplementedError(f"the decoder {self.type!r} only reads: it does not define encode()")

    @classmethod
    def for_spec(cls, spec: "ElementSpec") -> Self:  # noqa: ARG003 - what a subclass needs
        """The decoder of this class that reads and writes records like ``spec``.

        Raises:
            ValueError: There is none; says which field it cannot hold.
        """
        return cls()  # type: ignore[call-arg]  # a subclass gives `type` its default


class FunctionDecoder(Decoder):
    """A function from the bytes of one record to a pytree of values; for Python, since a config file names no code."""

    type: Literal["function"] = "function"
    function: Callable[[bytes], Any] = Field(description="From the bytes of a record to its values.")

    def decode_record(self, record: bytes) -> Any:
        """What the function gives."""
        return self.function(record)

    @field_serializer("function")
    def _name_function(self, function: Any) -> str:
        return f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', type(function).__name__)}"


class DecoderRegistry(PluginRegistry[type[Decoder]]):
    """The decoders that a config can name."""

    group = EntryPointGroup(name="datarax.decoders", word="decoder", example="array", first_party=_FIRST_PARTY)

    def check(self, loaded: object, name: str | None, origin: str) -> type[Decoder]:
        """Return ``loaded`` if it is a decoder class with the name of its entry point.

        Raises:
            PluginContractError: It is not; lists everything that is missing, and what to write.
        """
        problems = config_plugin_problems(loaded, Decoder, name, ("decode_record", "decode"))
        require_contract("decoder", loaded, name, origin, problems)
        return cast("type[Decoder]", loaded)


@cache
def default_decoders() -> DecoderRegistry:
    """The decoders that are installed, looked up once in a process."""
    return DecoderRegistry.from_environment()


def _decoder(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str):
        value = {"type": value}
    if callable(value) and not isinstance(value, Decoder):
        return FunctionDecoder(function=value)
    if not isinstance(value, Mapping | Decoder):
        raise plugin_error(
            f"a decoder is a name, such as 'raw', or a mapping with a `type`, or in Python a function, not {shown(value)}"
        )
    registry = (info.context or {}).get("decoders") or default_decoders()
    return plugin_config(value, info, base=Decoder, look_up=registry.get, word="decoder", example="array")


AnyDecoder = Annotated[
    SerializeAsAny[InstanceOf[Decoder]], BeforeValidator(_decoder), WithJsonSchema(plugin_schema("decoder"))
]
"""A field that takes any installed decoder: as it is, by name, as a mapping with its ``type``, or a function of Python's."""


def stack_values(values: "Sequence[Any]", spec: "ElementSpec") -> "Batch":
    """Return decoded values as a batch: `datarax_core.records.batch_of`, with errors that name no record.

    A decoder does not know which record it decodes; the reader that called the decoder adds record and file to the error.
    """
    from datarax_core.records.elements import batch_of  # noqa: PLC0415 - configs load no JAX

    return batch_of(values, spec, _the_record)


def _the_record(row: int) -> str:  # noqa: ARG001 - whoever reads knows which, and says so
    return "the record"
