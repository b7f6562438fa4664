"""Decoders: look-up by name, checks of classes, configs, and batches of decoded values."""

import json
import pickle
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np
import pytest

from datarax_core.config.base import Count, FrozenConfig
from datarax_core.errors import (
    PluginConflictError,
    PluginContractError,
    PluginDisabledError,
    PluginNotFoundError,
    SpecError,
)
from datarax_core.registry.decoders import (
    AnyDecoder,
    Decoder,
    DecoderRegistry,
    FunctionDecoder,
    default_decoders,
    stack_values,
)

if TYPE_CHECKING:
    from conftest import Site

WORKING = """
from typing import Literal
from datarax_core.registry.decoders import Decoder
class Made(Decoder):
    type: Literal["acme"] = "acme"
    def decode_record(self, record): return {"n": len(record)}
"""


class Words(Decoder):
    """Decoder of a third party that defines decode_record() only."""

    type: Literal["words"] = "words"
    width: Count = 2

    def decode_record(self, record: bytes) -> Any:
        return {"word": record[: self.width].decode(), "length": len(record)}


class Configured(FrozenConfig):
    decoder: AnyDecoder


def _registry() -> DecoderRegistry:
    registry = DecoderRegistry()
    registry.register(Words)
    return registry


def _configured(decoder: Any, registry: DecoderRegistry | None = None) -> Decoder:
    made: Decoder = Configured.model_validate({"decoder": decoder}, context={"decoders": registry}).decoder
    return made


def _install(site: "Site", code: str, *, dist: str = "acme-decode", name: str = "acme") -> None:
    site.install(dist, {}, code=code)
    package = dist.replace("-", "_")
    entry = f"[datarax.decoders]\n{name} = {package}:Made\n"
    (site.folder / f"{package}-1.0.dist-info" / "entry_points.txt").write_text(entry)


# -- by name --------------------------------------------------------------------------------------------------------------


def test_an_installed_decoder_is_loaded_when_its_name_is_first_used(site: "Site") -> None:
    _install(site, WORKING)
    registry = DecoderRegistry.from_environment()
    assert ("acme", "ready", "acme-decode 1.0") in [(i.name, i.status, i.origin) for i in registry.describe()]
    assert "acme_decode" not in sys.modules
    assert _configured("acme", registry).decode_record(b"abc") == {"n": 3}


def test_configs_and_their_decoders_are_read_without_jax() -> None:
    script = (
        "import sys, datarax_core.registry.decoders as d; d.default_decoders().names();"
        "print([m for m in ('jax', 'numpy', 'datarax_arrayrecord') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout  # noqa: S603
    assert printed.strip() == "[]"


def test_a_registered_decoder_has_the_name_of_its_type() -> None:
    registry = _registry()
    assert registry.names() == ["words"]
    assert registry.get("words") is Words
    assert DecoderRegistry().names() == []


@pytest.mark.parametrize(
    "given", ["words", {"type": "words"}, {"type": "words", "width": 2}, Words(), Words(width=2)], ids=repr
)
def test_a_field_takes_a_name_a_mapping_or_a_decoder(given: Any) -> None:
    assert _configured(given, _registry()) == Words()


def test_a_field_takes_a_function() -> None:
    decoder = _configured(len)
    assert isinstance(decoder, FunctionDecoder)
    assert decoder.decode([b"a", b"bcd"], decoder.spec_from(b"a")).tolist() == [1, 3]


@pytest.mark.parametrize(
    ("given", "place", "message"),
    [
        (3, (), "a decoder is a name, such as 'raw', or a mapping with a `type`, or in Python a function, not 3"),
        (None, (), "a decoder is a name, .*, not None"),
        ({}, ("type",), "the decoder's `type` is missing; name an installed decoder, such as array"),
        ({"type": 3}, ("type",), "the decoder's `type` is 3; name an installed decoder"),
        ("wordz", ("type",), r"unknown decoder 'wordz'; did you mean 'words'\?"),
        (
            {"type": "aray"},
            ("type",),
            r"unknown decoder 'aray'; did you mean 'array' \(pip install datarax-arrayrecord\)\?",
        ),
        ("function", ("type",), "unknown decoder 'function'"),
        ("array", ("type",), "decoder 'array' is not installed; pip install datarax-arrayrecord"),
        ({"type": "words", "width": 0}, ("width",), "greater than or equal to 1"),
        ({"type": "words", "widht": 1}, ("widht",), "unknown field 'widht'; did you mean 'width'"),
    ],
)
def test_a_value_that_names_no_decoder_is_refused_at_its_place(
    given: Any, place: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        _configured(given, _registry())
    assert [error["loc"] for error in refused.value.errors()] == [("decoder", *place)]  # type: ignore[attr-defined]


def test_an_unknown_name_is_a_plugin_error_about_a_decoder() -> None:
    with pytest.raises(PluginNotFoundError, match="unknown decoder 'wordz'") as missing:
        _registry().get("wordz")
    assert (missing.value.kind, missing.value.name) == ("decoder", "wordz")


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="the name of a decoder is text, such as 'array', not 3"):
        _registry().get(3)  # type: ignore[arg-type]


def test_a_disabled_decoder_is_refused_with_the_reason(site: "Site", monkeypatch: pytest.MonkeyPatch) -> None:
    _install(site, WORKING)
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "acme")
    with pytest.raises(PluginDisabledError, match="decoder 'acme'"):
        DecoderRegistry.from_environment().get("acme")


def test_a_first_party_name_belongs_to_its_distribution(site: "Site") -> None:
    _install(site, WORKING.replace('"acme"', '"msgpack"'), name="msgpack")
    with pytest.raises(PluginConflictError, match="belongs to datarax-arrayrecord"):
        DecoderRegistry.from_environment().get("msgpack")


# -- the contract ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("Made = 3", "it is int 3, not a class; name the decoder class instead"),
        ("class Made: pass", r"it does not derive from Decoder; write `class Made\(Decoder\):`"),
        (
            WORKING.replace('"acme"', '"other"'),
            "Made.type defaults to 'other', but it is registered by the name 'acme'",
        ),
        (WORKING.replace(' = "acme"', ""), "Made.type has no default; write `type: Literal"),
        (WORKING.replace("decode_record", "decode_recrod"), r"it defines neither decode_record\(\) nor decode\(\)"),
    ],
)
def test_an_object_that_is_no_decoder_is_refused_with_what_to_write(site: "Site", code: str, message: str) -> None:
    _install(site, code)
    with pytest.raises(PluginContractError, match=rf"decoder 'acme' \(acme-decode 1\.0\) is no decoder: {message}"):
        DecoderRegistry.from_environment().get("acme")


def test_a_class_that_is_no_decoder_is_not_registered() -> None:
    class Nothing(Decoder):
        type: Literal["nothing"] = "nothing"

    with pytest.raises(
        PluginContractError, match=r"decoder .*Nothing .registered by hand. is no decoder: it defines neither"
    ):
        DecoderRegistry().register(Nothing)
    with pytest.raises(NotImplementedError, match=r"Nothing defines neither decode_record\(\) nor decode\(\)"):
        Nothing().decode([b""], {})


def test_a_decoder_without_encode_refuses_to_write() -> None:
    with pytest.raises(NotImplementedError, match=r"the decoder 'words' only reads: it does not define encode\(\)"):
        Words().encode({})


# -- configs --------------------------------------------------------------------------------------------------------------


def test_a_decoder_compares_hashes_and_pickles_as_a_config() -> None:
    assert Words(width=3) == Words(width=3) != Words(width=4)
    assert len({Words(width=3), Words(width=3), Words(width=4)}) == 2
    assert pickle.loads(pickle.dumps(Words(width=3))) == Words(width=3)  # noqa: S301 - our own bytes
    with pytest.raises(ValueError, match="frozen"):
        Words().width = 3  # type: ignore[misc]


def test_a_config_with_a_decoder_survives_json() -> None:
    config = Configured(decoder=Words(width=3))
    written = config.model_dump_json()
    assert json.loads(written) == {"decoder": {"type": "words", "width": 3}}
    assert Configured.model_validate_json(written, context={"decoders": _registry()}) == config


def test_a_function_is_dumped_as_its_name_and_never_loaded_from_it() -> None:
    written = json.loads(Configured(decoder=struct.unpack).model_dump_json())  # type: ignore[arg-type]
    assert written == {"decoder": {"type": "function", "function": "_struct:unpack"}}
    with pytest.raises(ValueError, match="unknown decoder 'function'"):
        Configured.model_validate(written)


def test_the_installed_decoders_are_looked_up_once() -> None:
    assert default_decoders() is default_decoders()


# -- batches of decoded values --------------------------------------------------------------------------------------------


def test_the_spec_is_taken_from_the_first_record() -> None:
    decoder = Words()
    assert decoder.element_spec() is None
    spec = decoder.spec_from(b"abc")
    batch = decoder.decode([b"abc", b"defg"], spec)
    assert batch["word"].tolist() == ["ab", "de"]
    assert (batch["length"].dtype, batch["length"].tolist()) == (np.int64, [3, 4])


def test_a_decoder_without_fields_fits_any_spec() -> None:
    assert Words.for_spec({}) == Words()


def _struct(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, np.dtype(dtype))


@pytest.mark.parametrize(
    ("values", "struct", "expected"),
    [
        ([1, 2], _struct(np.int64), [1, 2]),
        ([1, 255], _struct(np.uint8), [1, 255]),
        ([1, 2**64 - 1], _struct(np.uint64), [1, 2**64 - 1]),
        ([1, 2], _struct(np.float32), [1.0, 2.0]),
        ([1, 0.5], _struct(np.float64), [1.0, 0.5]),
        ([0.5, float("inf")], _struct(np.float16), [0.5, float("inf")]),
        ([0.5, 1.5], _struct(jax.numpy.bfloat16), [0.5, 1.5]),
        ([True, False], _struct(bool), [True, False]),
        (["a\0", ""], _struct(object), ["a\0", ""]),
        ([b"a\0", b""], _struct(object), [b"a\0", b""]),
        ([b"a", "a"], _struct(object), [b"a", "a"]),
        ([np.int8(1), np.int8(2)], _struct(np.int8), [1, 2]),
        ([np.arange(2), np.ones(2, int)], _struct(np.int64, 2), [[0, 1], [1, 1]]),
        ([[0, 1], [1, 1]], _struct(np.int64, 2), [[0, 1], [1, 1]]),
        ([["a", "b\0"], ["c", ""]], _struct(object, 2), [["a", "b\0"], ["c", ""]]),
        ([[b"a\0"], [b""]], _struct(object, 1), [[b"a\0"], [b""]]),
        (["ab", "c"], _struct("U2"), ["ab", "c"]),
    ],
)
def test_values_of_many_records_become_columns(values: list[Any], struct: Any, expected: list[Any]) -> None:
    for records, spec, column_of in (
        (values, struct, lambda batch: batch),
        ([{"a": v} for v in values], {"a": struct}, lambda batch: batch["a"]),
        (
            [{"a": (v, {"b": 1})} for v in values],
            {"a": (struct, {"b": _struct(np.int64)})},
            lambda batch: batch["a"][0],
        ),
    ):
        column = column_of(stack_values(records, spec))
        assert (column.dtype, column.shape) == (struct.dtype, (len(values), *struct.shape))
        assert column.tolist() == expected


def test_columns_of_numbers_are_aligned_for_devices() -> None:
    spec = {"x": _struct(np.float32, 3), "y": _struct(np.int32)}
    for records in ([{"x": np.zeros(3, np.float32), "y": 1}] * 5, [{"x": [0.0] * 3, "y": 1}] * 5):
        batch = stack_values(records, spec)
        assert all(column.ctypes.data % 64 == 0 for column in batch.values())


@pytest.mark.parametrize(
    ("values", "struct", "message"),
    [
        ([1, 300], _struct(np.uint8), r"field 'a' is int64\[\] \(300\) where uint8\[\] is expected"),
        ([1, -1], _struct(np.uint64), r"field 'a' is int64\[\] \(-1\) where uint64\[\] is expected"),
        (
            [1, 2**64],
            _struct(np.int64),
            r"field 'a' is object\[\] \(18446744073709551616\) where int64\[\] is expected",
        ),
        ([0.5, 1e30], _struct(np.float16), r"field 'a' is float64\[\] \(1e\+30\) where float16\[\] is expected"),
        ([0.5, 1.5], _struct(np.int64), r"field 'a' is float64\[\] \(0.5\) where int64\[\] is expected"),
        ([True, 1], _struct(bool), r"field 'a' is int64\[\] \(1\) where bool\[\] is expected"),
        ([1, "a"], _struct(np.int64), r"field 'a' is object\[\] \('a'\) where int64\[\] is expected"),
        ([1, None], _struct(np.int64), r"field 'a' of the record is None"),
        ([np.zeros(2), np.zeros(3)], _struct(float, 2), r"field 'a' is float64\[3\] where float64\[2\] is expected"),
        (
            [np.zeros(2), np.zeros(2, "f4")],
            _struct(float, 2),
            r"field 'a' is float32\[2\] where float64\[2\] is expected",
        ),
        ([["a", "b"], ["a", 1]], _struct(object, 2), r"field 'a' of the record is a list of str with 1 in it"),
        ([[b"a"], [b"a", 1]], _struct(object, 1), r"field 'a' of the record is a list of bytes with 1 in it"),
    ],
)
def test_a_value_that_does_not_match_the_spec_is_an_error(values: list[Any], struct: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        stack_values([{"a": value} for value in values], {"a": struct})


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"a": 1}, {}], r"field 'a' \(int64\[\]\) is missing"),
        ([{"a": 1}, {"b": 1}], r"field 'a' \(int64\[\]\) is missing; field 'b' \(int64\[\]\) is not expected"),
        ([{"a": 1}, {"a": 1, "b": 1}], r"field 'b' \(int64\[\]\) is not expected"),
        ([{"a": 1}, {"a": (1,)}], r"field 'a' \(int64\[\]\) is missing"),
        ([{"a": 1}, 3], r"field 'a' \(int64\[\]\) is missing"),
    ],
)
def test_a_record_of_another_structure_is_an_error(records: Sequence[Any], message: str) -> None:
    with pytest.raises(SpecError, match=rf"the record is not what the element spec says: {message}"):
        stack_values(records, {"a": _struct(np.int64)})


def test_a_field_that_is_none_is_an_error_in_the_first_record_too() -> None:
    class Lost(Words):
        def decode_record(self, record: bytes) -> Any:
            return {"word": None, "length": len(record)}

    with pytest.raises(SpecError, match="field 'word' of the record is None, which no array holds"):
        Lost().spec_from(b"abc")
