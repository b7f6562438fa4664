"""Text of tokens is that of the libraries' own calls; tokens that are none, and padding, are named."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import sentencepiece
from flax import nnx
from pydantic import ValidationError
from tokenizers import Tokenizer

from datarax_core import StageError
from datarax_core.records import Ragged, describe
from datarax_text import Detokenize

FILES = ["bytes.json", "words.json", "pieces.model"]
RAGGED = jax.ShapeDtypeStruct((None,), np.dtype(np.int32))
PADDED = jax.ShapeDtypeStruct((12,), np.dtype(np.int32))
MASK = jax.ShapeDtypeStruct((12,), np.dtype(np.bool_))
NUMBER = jax.ShapeDtypeStruct((), np.dtype(np.int64))


def built(spec: dict[str, Any], **options: Any) -> Any:
    return Detokenize(**{"field": "tokens", **options}).build(spec, nnx.Rngs())


def tokens_of(path: Path, texts: list[str]) -> list[list[int]]:
    if path.suffix == ".model":
        model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        return [model.encode(text) for text in texts]
    tokenizer = Tokenizer.from_file(str(path))
    return [tokenizer.encode(text).ids for text in texts]


def decoded(path: Path, rows: list[list[int]], **options: Any) -> list[str]:
    if path.suffix == ".model":
        model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        return [model.decode(row) for row in rows]
    tokenizer = Tokenizer.from_file(str(path))
    return [tokenizer.decode(row, **options) for row in rows]


@pytest.mark.parametrize("file", FILES)
def test_texts_are_those_of_the_library(tokenizers_folder: Path, texts: list[str], file: str) -> None:
    path = tokenizers_folder / file
    rows = tokens_of(path, texts)
    batch = {"tokens": Ragged.from_list([np.array(row, np.int32) for row in rows]), "label": np.arange(len(rows))}
    stage = built({"tokens": RAGGED, "label": NUMBER}, tokenizer=path)
    made = stage(batch)
    assert made["tokens"].tolist() == decoded(path, rows)
    assert made["label"] is batch["label"]
    assert describe(stage.element_spec({"tokens": RAGGED})) == {"tokens": "text[]"}
    if file == "bytes.json":
        assert made["tokens"].tolist() == texts


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("rule", ["mask", "length"])
def test_padding_is_left_out(tokenizers_folder: Path, file: str, rule: str) -> None:
    path = tokenizers_folder / file
    rows = [row[:12] for row in tokens_of(path, ["one two", "", "naïve café 😀"])]
    lengths = np.array(list(map(len, rows)))
    padded = np.full((3, 12), -1, np.int32)  # which is no token
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    batch = {"tokens": padded, "mask": np.arange(12) < lengths[:, None], "length": lengths}
    stage = built(
        {"tokens": PADDED, "mask": MASK, "length": NUMBER}, tokenizer=path, to="text", **{f"{rule}_field": rule}
    )
    made = stage(batch)
    assert made["text"].tolist() == decoded(path, rows)
    assert made["tokens"] is padded
    assert made.keys() == {*batch, "text"}


def test_special_tokens_are_written_out_or_not(tokenizers_folder: Path) -> None:
    path = tokenizers_folder / "words.json"
    rows = tokens_of(path, ["a b", "c"])
    batch = {"tokens": Ragged.from_list([np.array(row, np.uint16) for row in rows])}
    spec = {"tokens": jax.ShapeDtypeStruct((None,), np.dtype(np.uint16))}
    for flag in (True, False):
        made = built(spec, tokenizer=path, special_tokens=flag)(batch)["tokens"].tolist()
        assert made == decoded(path, rows, skip_special_tokens=not flag)
        assert ("[CLS]" in made[0]) == flag


@pytest.mark.parametrize("file", FILES)
def test_batches_without_records_and_records_without_tokens(tokenizers_folder: Path, file: str) -> None:
    stage = built({"tokens": RAGGED}, tokenizer=tokenizers_folder / file)
    none = Ragged(np.zeros(0, np.int32), np.zeros(1, np.int64))
    assert stage({"tokens": none})["tokens"].tolist() == []
    assert stage({"tokens": Ragged(np.zeros(0, np.int32), np.zeros(3, np.int64))})["tokens"].tolist() == ["", ""]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("token", [-1, 100_000, -(2**40), 2**40])
def test_tokens_that_are_none(tokenizers_folder: Path, file: str, token: int) -> None:
    stage = built({"tokens": jax.ShapeDtypeStruct((3,), np.dtype(np.int64))}, tokenizer=tokenizers_folder / file)
    message = (
        rf"row 1 of field 'tokens' has the token {token}, and .*{file} has tokens from 0 to \d+; was it made by another"
    )
    with pytest.raises(StageError, match=message):
        stage({"tokens": np.array([[5, 6, 7], [5, token, 7]])})


def test_ids_that_a_vocabulary_leaves_out(tmp_path: Path) -> None:
    from tokenizers import models  # noqa: PLC0415 - beside its one use

    Tokenizer(models.WordLevel({"a": 0, "b": 5}, unk_token="a")).save(str(tmp_path / "gap.json"))  # noqa: S106
    stage = built({"tokens": RAGGED}, tokenizer=tmp_path / "gap.json")
    with pytest.raises(StageError, match="row 0 of field 'tokens' has the token 3, and"):
        stage({"tokens": Ragged.from_list([np.array([0, 3], np.int32)])})


@pytest.mark.parametrize("length", [-1, 13])
def test_lengths_past_the_tokens(tokenizers_folder: Path, length: int) -> None:
    stage = built({"tokens": PADDED, "n": NUMBER}, tokenizer=tokenizers_folder / "bytes.json", length_field="n")
    with pytest.raises(
        StageError, match=rf"row 0 of field 'n' is {length}, and field 'tokens' has 12 places for tokens"
    ):
        stage({"tokens": np.zeros((1, 12), np.int32), "n": np.array([length])})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"field": "token"}, r"the records have no field 'token'; did you mean 'tokens'\?"),
        ({"field": "text"}, r"field 'text' is text\[\], not integers on one axis, which tokens are"),
        ({"field": "n"}, r"field 'n' is int64\[\], not integers on one axis"),
        ({"field": "mask"}, r"field 'mask' is bool\[12\], not integers on one axis"),
        (
            {"field": "ragged", "length_field": "n"},
            r"field 'ragged' is ragged, and nothing of it is padding; leave length_field out",
        ),
        ({"mask_field": "n"}, r"field 'n' is int64\[\], not bool\[12\]"),
        ({"length_field": "mask"}, r"field 'mask' is bool\[12\], not one integer a record"),
        ({"length_field": "m"}, r"the records have no field 'm'"),
        ({"to": "n"}, r"the name 'n' is taken by another field"),
        (
            {"tokenizer": "pieces.model", "special_tokens": True},
            "is a SentencePiece model, whose library always leaves special tokens out; leave the option out",
        ),
    ],
)
def test_options_that_cannot_work(tokenizers_folder: Path, options: dict[str, Any], message: str) -> None:
    text = jax.ShapeDtypeStruct((), np.dtype("U"))
    spec = {"tokens": PADDED, "ragged": RAGGED, "mask": MASK, "n": NUMBER, "text": text}
    options = {"tokenizer": "bytes.json", **options}
    with pytest.raises(StageError, match=message):
        built(spec, **options | {"tokenizer": tokenizers_folder / options["tokenizer"]})


def test_mask_and_length_exclude_each_other() -> None:
    with pytest.raises(
        ValidationError, match="mask_field and length_field exclude each other; both say which tokens are padding"
    ):
        Detokenize(field="tokens", tokenizer="t.json", mask_field="a", length_field="b")
