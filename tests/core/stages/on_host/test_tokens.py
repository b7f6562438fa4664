"""Tokens of bytes: those of UTF-8, special ones around them, and back to text."""

from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import StageError, TokenizeBytes
from datarax_core.records.ragged import Ragged

TEXT = {"text": jax.ShapeDtypeStruct((), np.dtype("U")), "raw": jax.ShapeDtypeStruct((), np.dtype("S")),
        "n": jax.ShapeDtypeStruct((), np.dtype("int64")), "two": jax.ShapeDtypeStruct((2,), np.dtype("U"))}  # fmt: skip


def column(*values: Any) -> np.ndarray:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def around(token: int | None) -> list[int]:
    return [] if token is None else [token]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(max_size=6), max_size=5), st.sampled_from([None, 300]), st.sampled_from([None, 301]),
    st.sampled_from([0, 3]), st.none() | st.integers(3, 8),
)  # fmt: skip
def test_each_byte_of_a_text_is_a_token_between_special_ones(
    texts: list[str], bos: int | None, eos: int | None, offset: int, length: int | None
) -> None:
    stage = TokenizeBytes(field="text", bos=bos, eos=eos, offset=offset, length=length)
    made = stage({"text": column(*texts)})["text"]
    special = (bos is not None) + (eos is not None)
    kept = [text.encode()[: None if length is None else length - special] for text in texts]
    expected = [[*around(bos), *(byte + offset for byte in text), *around(eos)] for text in kept]
    assert isinstance(made, Ragged)
    assert (made.dtype, made.shape) == (np.int32, (len(texts), None))
    assert [tokens.tolist() for tokens in made] == expected
    if length is None:
        assert stage.texts(made).tolist() == texts


def test_bytes_are_taken_as_they_are_and_a_new_field_leaves_the_text() -> None:
    stage = TokenizeBytes(field="raw", to="seen.tokens", dtype="uint8")
    batch = {"raw": column(b"\xff\x00", b""), "n": np.arange(2)}
    made = stage(batch)
    assert made["raw"] is batch["raw"]
    assert [tokens.tolist() for tokens in made["seen"]["tokens"]] == [[255, 0], []]
    spec = stage.element_spec(TEXT)
    assert spec["raw"] == TEXT["raw"]
    assert spec["seen"]["tokens"] == jax.ShapeDtypeStruct((None,), np.dtype("uint8"))
    fixed = TokenizeBytes(field="text")({"text": np.array(["ab", "c"])})["text"]
    assert [tokens.tolist() for tokens in fixed] == [[97, 98], [99]]


def test_text_is_made_of_padded_tokens_and_of_a_character_that_was_cut() -> None:
    stage = TokenizeBytes(field="text", bos=1, eos=2, offset=3, length=5)
    tokens = stage({"text": column("ab", "é\u2603")})["text"]
    assert stage.texts(tokens).tolist() == ["ab", "é\ufffd"]
    assert stage.texts(tokens.to_padded(7)).tolist() == ["ab", "é\ufffd"]


def test_a_byte_that_utf8_never_has_may_be_special() -> None:
    stage = TokenizeBytes(field="text", eos=255, bos=254, dtype="uint8")
    stage.build(TEXT, None)
    assert stage({"text": column("a")})["text"][0].tolist() == [254, 97, 255]
    one = TokenizeBytes(field="text", bos=256, eos=256)
    assert one({"text": column("a")})["text"][0].tolist() == [256, 97, 256]


@pytest.mark.parametrize(
    ("options", "option", "message"),
    [
        ({"field": "txt"}, ("field",), r"no field 'txt'; did you mean 'text'\?"),
        ({"field": "n"}, ("field",), r"field 'n' is int64\[\]; tokens are made of one text, or one bytes, a record"),
        ({"field": "two"}, ("field",), r"field 'two' is text\[2\]; tokens are made of one text"),
        ({"field": "text", "to": "n"}, ("to",), "the name 'n' is taken by another field"),
        ({"field": "text", "eos": 0}, ("eos",), "0 is also the token of the byte 0; choose one from 256 on; or of a byte that"),
        ({"field": "text", "bos": 258, "offset": 3}, ("bos",), "258 is also the token of the byte 255|choose one from 259 on"),
        ({"field": "raw", "bos": 255}, ("bos",), "255 is also the token of the byte 255; choose one from 256 on$"),
        ({"field": "text", "bos": 256, "dtype": "uint8"}, ("bos",), "uint8 does not hold the token 256; choose another dtype"),
        ({"field": "text", "offset": 1, "dtype": "uint8"}, ("offset",), "the byte 255 becomes the token 256, which uint8 does"),
        ({"field": "text", "bos": 300, "length": 1}, ("length",), "has no room for a byte beside 1 special tokens"),
    ],
)  # fmt: skip
def test_a_stage_that_cannot_work_is_refused_when_it_is_built(options: Any, option: Any, message: str) -> None:
    stage = TokenizeBytes(**options)
    if options == {"field": "text", "bos": 258, "offset": 3}:  # of text, byte 255 is free
        stage.build(TEXT, None)
        stage = TokenizeBytes(**{**options, "field": "raw"})
    with pytest.raises(StageError, match=message) as refused:
        stage.build(TEXT, None)
    assert refused.value.option == option


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", None], "field 'text' holds None, a NoneType, where text is expected"),
        (["a", b"b"], "field 'text' holds b'b', a bytes, where text is expected"),
        ([b"a", "b"], "field 'text' holds 'b', a str, where bytes is expected"),
        (["a\ud800"], "field 'text' holds text that UTF-8 does not have: .* surrogates not allowed"),
    ],
)
def test_what_is_no_text_is_refused(values: list[Any], message: str) -> None:
    with pytest.raises(StageError, match=message):
        TokenizeBytes(field="text")({"text": column(*values)})
