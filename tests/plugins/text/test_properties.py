"""Any texts, in any column, with any options: the tokens are those of the library, text by text."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import sentencepiece
from flax import nnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from datarax_text import Detokenize, Tokenize

TEXTS = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
        st.text("ab <s>/\n\t\x00\ufeff\u200d😀é", max_size=30),
    ),
    max_size=8,
)
SPECS = {"text": jax.ShapeDtypeStruct((), np.dtype("U"))}, {"text": jax.ShapeDtypeStruct((None,), np.dtype(np.int32))}
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def column(texts: list[str], *, as_bytes: bool) -> np.ndarray:
    made = np.empty(len(texts), object)
    made[:] = [text.encode() for text in texts] if as_bytes else texts
    return made


@QUICK
@given(texts=TEXTS, as_bytes=st.booleans(), own=st.booleans(), split=st.booleans(), with_offsets=st.booleans())
def test_a_tokenizer_json(
    tokenizers_folder: Path, texts: list[str], *, as_bytes: bool, own: bool, split: bool, with_offsets: bool
) -> None:
    path = tokenizers_folder / "words.json"
    options: dict[str, Any] = {"special_tokens": own, "split_special_tokens": split}
    offsets = "places" if with_offsets else None
    stage: Any = Tokenize(field="text", tokenizer=path, offsets=offsets, **options).build(SPECS[0], nnx.Rngs())
    made = stage({"text": column(texts, as_bytes=as_bytes)})
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = split
    expected = [tokenizer.encode(text, add_special_tokens=own) for text in texts]
    assert [row.tolist() for row in made["text"]] == [each.ids for each in expected]
    if with_offsets:
        assert [list(map(tuple, row.tolist())) for row in made["places"]] == [each.offsets for each in expected]


@QUICK
@given(texts=TEXTS, as_bytes=st.booleans(), with_offsets=st.booleans())
def test_a_sentencepiece_model(
    tokenizers_folder: Path, texts: list[str], *, as_bytes: bool, with_offsets: bool
) -> None:
    path = tokenizers_folder / "pieces.model"
    offsets = "places" if with_offsets else None
    stage: Any = Tokenize(field="text", tokenizer=path, offsets=offsets, eos="</s>").build(SPECS[0], nnx.Rngs())
    made = stage({"text": column(texts, as_bytes=as_bytes)})
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    assert [row.tolist() for row in made["text"]] == [model.encode(text, add_eos=True) for text in texts]
    if with_offsets:
        assert made["places"].lengths.tolist() == made["text"].lengths.tolist()


@QUICK
@given(texts=TEXTS)
def test_bytes_come_back_as_they_were(tokenizers_folder: Path, texts: list[str]) -> None:
    path = tokenizers_folder / "bytes.json"
    there: Any = Tokenize(field="text", tokenizer=path, split_special_tokens=True).build(SPECS[0], nnx.Rngs())
    back: Any = Detokenize(field="text", tokenizer=path).build(SPECS[1], nnx.Rngs())
    assert back(there({"text": column(texts, as_bytes=False)}))["text"].tolist() == texts
