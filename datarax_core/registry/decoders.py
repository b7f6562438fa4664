"""Decoders, which turn the bytes of records into arrays: small immutable configs with methods, found by name."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast

from pydantic import (
    BeforeValidator,
    Field,
    InstanceOf,
    SerializeAsAny,
    ValidationInfo,
    WithJsonSchema,
    field_serializer,
    field_validator,
    model_serializer,
)

from datarax_core.config.base import FrozenConfig, Name, plugin_config, plugin_schema
from datarax_core.config.messages import plugin_error, shown
from datarax_core.extensions.catalog import EntryPointGroup
from datarax_core.extensions.contract import config_plugin_problems, require_contract
from datarax_core.extensions.defaults import made_once
from datarax_core.extensions.known import owners
from datarax_core.extensions.plugin_registry import PluginRegistry

from .record_errors import raise_record_errors

if TYPE_CHECKING:
    from datarax_core.records.spec import Batch, ElementSpec


class Decoder(FrozenConfig):
    """Base of decoders, which turn the bytes of records into arrays, and arrays into bytes.

    A decoder is its own config: it holds validated fields and nothing else, so that it compares, pickles and goes to JSON. A
    subclass gives ``type`` its registered name as default and defines:

    - `decode_record`, or `decode` to decode many records at once;
    - `element_spec`, if the spec follows from the fields;
    - `encode` if it can write, and then also `for_spec` if it has fields.

    Bytes of another format raise a ``ValueError`` that says for each field what is expected and what was found. It reaches the
    caller of the decoder as a `RecordError`, and so does any other error of the three methods that decode, unless it does not
    come from the bytes (no memory, a time-out). The reader that called the decoder adds the record and its file.
    """

    type: Name = Field(description="The registered name of the decoder.")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        raise_record_errors(cls)

    def element_spec(self) -> "ElementSpec | None":
        """Return the spec of one record, if it follows from the decoder's fields; None if only a record shows it.

        Called: once by each reader of records, when it is made, and by `spec_from`.
        Default: None: the first records show it.
        """
        return None

    def spec_from(self, record: bytes) -> "ElementSpec":
        """Return the spec of one record: that of `element_spec`, or else of this record.

        Called: with the first record of a source if `element_spec` returns None, and with those that are verified; on the
            thread that first asks for the spec.
        Default: the spec of what `decode_record` returns.
        """
        if (declared := self.element_spec()) is not None:
            return declared
        from datarax_core.records.elements import element_spec_of  # noqa: PLC0415 - configs load no JAX

        return element_spec_of(self.decode_record(record), "the record")

    def covering(self, spec: "ElementSpec", record: bytes) -> "ElementSpec":
        """Return ``spec`` with None for each axis in which a record differs from it: columns of such fields are ragged.

        Called with some records of the source if `element_spec` returns None.

        Called: with up to 16 records, spread over the source, if `element_spec` returns None; on the thread that first asks
            for the spec.
        Default: compares `spec_from` of the record with the spec.
        """
        from datarax_core.records.spec import varying_spec  # noqa: PLC0415 - configs load no JAX

        return varying_spec(spec, self.spec_from(record))

    def difference(self, record: bytes, spec: "ElementSpec") -> str:  # noqa: ARG002 - for subclasses
        """Return how the fields of a record differ from ``spec``; "" if they do not, or if `decode` says so itself.

        Called with some records of the source if `element_spec` returns None.

        Called: as `covering` is, before it.
        Default: "".
        """
        return ""

    def decode_record(self, record: bytes) -> Any:
        """Return one record as a pytree of values that NumPy converts to arrays.

        Called: by `decode` and `spec_from`, for each record.
        Default: none; a decoder writes it, or `decode`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} defines neither decode_record() nor decode(); write one of them"
        )

    def decode(self, records: "Sequence[bytes]", spec: "ElementSpec") -> "Batch":
        """Return the records as a batch of NumPy arrays that match ``spec``, rows in the order of the records.

        Args:
            records: Their bytes; at least one record.
            spec: The result of `element_spec`, or if that is None, of `spec_from` for the first record of the source, with
                None for axes that vary from record to record, see `covering`. Their columns are `Ragged`.

        Raises:
            ValueError: A record cannot be decoded, or does not match ``spec``.

        Called: for each batch, or part of one, with at least one record; on any thread that reads, several at once, in
            worker processes, and in callbacks of compiled code: it must call no JAX. Where a batch fails, record by record.
        Default: calls `decode_record` for each record, and stacks the values.
        """
        return stack_values([self.decode_record(record) for record in records], spec)

    def encode(self, batch: "Batch") -> list[bytes]:
        """Return the bytes of each record of a batch, from which `decode` returns the same batch.

        Called: by ``write`` of datarax-arrayrecord and ``drx convert``, for each block of records; on one thread.
        Default: raises NotImplementedError: the decoder only reads.
        """
        raise NotImplementedError(f"the decoder {self.type!r} only reads: it does not define encode()")

    @classmethod
    def for_spec(cls, spec: "ElementSpec") -> Self:  # noqa: ARG003 - for subclasses
        """Return the decoder of this class that reads and writes records of ``spec``.

        Raises:
            ValueError: This format cannot hold such records; names the field.

        Called: by ``write`` of datarax-arrayrecord and ``drx convert``, once before they write, if no decoder is given but
            its name.
        Default: ``cls()``.
        """
        return cls()  # type: ignore[call-arg]  # a subclass gives `type` its default


raise_record_errors(Decoder)


class FunctionDecoder(Decoder):
    """Decoder that calls a function with the bytes of each record; for Python only, since a config file names no code."""

    type: Literal["function"] = "function"
    function: Callable[[bytes], Any] = Field(description="Returns the values of a record, given its bytes.")
    spec: Any = Field(
        default=None,
        description="Element spec of a record, with None for axes that vary; null takes that of the first records.",
    )

    def element_spec(self) -> "ElementSpec | None":
        """Return ``spec``; None in pickles of version 0.1.0, which have none."""
        return vars(self).get("spec")

    def decode_record(self, record: bytes) -> Any:
        """Return the result of the function."""
        return self.function(record)

    @field_serializer("function")
    def _name_function(self, function: Any) -> str:
        return f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', type(function).__name__)}"

    @field_validator("spec")
    @classmethod
    def _of_structs(cls, spec: Any) -> Any:
        from datarax_core.records.spec import named_fields  # noqa: PLC0415 - configs load no JAX

        leaves = named_fields(spec).values()
        if odd := [leaf for leaf in leaves if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype"))]:
            raise ValueError(f"an element spec has a jax.ShapeDtypeStruct for each field, not {odd[0]!r:.80}")
        return spec

    @field_serializer("spec")
    def _describe_spec(self, spec: Any) -> Any:
        from datarax_core.records.spec import describe  # noqa: PLC0415 - configs load no JAX

        return None if spec is None else describe(spec)

    @model_serializer(mode="wrap")
    def _without_absent_spec(self, write: Any) -> dict[str, Any]:
        """Leave out a spec that is None: earlier versions, whose states must fit, had no such field."""
        return {name: value for name, value in write(self).items() if name != "spec" or value is not None}


class DecoderRegistry(PluginRegistry[type[Decoder]]):
    """The decoders that a config can name."""

    group = EntryPointGroup(name="datarax.decoders", noun="decoder", example="array", first_party=owners("decoder"))

    def check(self, loaded: object, name: str | None, origin: str) -> type[Decoder]:
        """Return ``loaded`` if it is a decoder class with the name of its entry point.

        Raises:
            PluginContractError: It is not; lists everything that is missing, with the code to write.
        """
        problems = config_plugin_problems(loaded, Decoder, name, ("decode_record", "decode"))
        require_contract("decoder", loaded, name, origin, problems)
        return cast("type[Decoder]", loaded)


@made_once
def default_decoders() -> DecoderRegistry:
    """Return the registry of the installed decoders, read once in a process."""
    return DecoderRegistry.from_environment()


def _decoder(value: Any, info: ValidationInfo) -> Any:
    """Return the decoder that the value of a config field stands for."""
    if isinstance(value, str):
        value = {"type": value}
    if callable(value) and not isinstance(value, Decoder):
        return FunctionDecoder(function=value)
    if not isinstance(value, Mapping | Decoder):
        raise plugin_error(
            f"a decoder is a name, such as 'raw', or a mapping with a `type`, or in Python a function, not {shown(value)}"
        )
    registry = (info.context or {}).get("decoders") or default_decoders()
    return plugin_config(value, info, base=Decoder, look_up=registry.get, noun="decoder", example="array")


AnyDecoder = Annotated[
    SerializeAsAny[InstanceOf[Decoder]], BeforeValidator(_decoder), WithJsonSchema(plugin_schema("decoder"))
]
"""Type of a config field for any decoder: a `Decoder`, its name, a mapping with its ``type``, or a Python function."""


def stack_values(values: "Sequence[Any]", spec: "ElementSpec") -> "Batch":
    """Return decoded values as a batch: `datarax_core.records.batch_of`, with errors that name no record.

    A decoder does not know which record it decodes; the reader that called the decoder adds record and file to the error.
    """
    from datarax_core.records.elements import batch_of  # noqa: PLC0415 - configs load no JAX

    return batch_of(values, spec, _the_record)


def _the_record(row: int) -> str:  # noqa: ARG001 - the reader adds which record it is
    return "the record"
