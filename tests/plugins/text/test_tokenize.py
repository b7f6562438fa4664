"""Tokens are those of the libraries' own calls, whatever the kind of column and the options."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import sentencepiece
from flax import nnx
from tokenizers import Tokenizer, processors

from datarax_core import ConfigError, StageError
from datarax_core.records import Ragged, describe
from datarax_text import Tokenize

FILES = ["bytes.json", "words.json", "pieces.model"]


def objects(values: list[Any]) -> np.ndarray:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def built(spec: Any = None, **options: Any) -> Any:
    text = jax.ShapeDtypeStruct((), np.dtype(object))
    return Tokenize(**{"field": "text", **options}).build({"text": text} if spec is None else spec, nnx.Rngs())


def by_library(path: Path, texts: list[str], **options: Any) -> list[list[int]]:
    """Return tokens by one call of the library for each text."""
    if path.suffix == ".model":
        model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        return [model.encode(text) for text in texts]
    tokenizer = Tokenizer.from_file(str(path))
    return [tokenizer.encode(text, **options).ids for text in texts]


@pytest.mark.parametrize("file", FILES)
def test_tokens_are_those_of_the_library(tokenizers_folder: Path, texts: list[str], file: str) -> None:
    path = tokenizers_folder / file
    batch = {"text": objects(texts), "label": np.arange(len(texts))}
    made = built(tokenizer=path)(batch)
    assert made.keys() == {"text", "label"}
    assert made["label"] is batch["label"]
    tokens = made["text"]
    assert isinstance(tokens, Ragged)
    assert tokens.dtype == np.int32
    assert [row.tolist() for row in tokens.to_list()] == by_library(path, texts)
    assert batch["text"].tolist() == texts


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kind", ["objects", "wide", "bytes", "byte objects", "both"])
def test_columns_of_every_kind_of_text(tokenizers_folder: Path, texts: list[str], file: str, kind: str) -> None:
    texts = [text.strip() for text in texts[:12]]  # NumPy's bytes end with their last byte that is not NUL
    encoded = [text.encode() for text in texts]
    column = {
        "objects": objects(texts),
        "wide": np.array(texts),
        "bytes": np.array(encoded),
        "byte objects": objects(encoded),
        "both": objects([*texts[:6], *encoded[6:]]),
    }[kind]
    path = tokenizers_folder / file
    tokens = built(tokenizer=path)({"text": column})["text"]
    assert [row.tolist() for row in tokens.to_list()] == by_library(path, texts)


@pytest.mark.parametrize("file", FILES)
def test_batches_without_records_and_without_tokens(tokenizers_folder: Path, file: str) -> None:
    stage = built(tokenizer=tokenizers_folder / file, special_tokens=None, offsets="places")
    empty = stage({"text": objects([])})
    assert (empty["text"].shape, empty["text"].dtype) == ((0, None), np.int32)
    assert (empty["places"].shape, empty["places"].dtype) == ((0, None, 2), np.int32)
    none = stage({"text": objects(["", ""])})["text"]
    assert none.lengths.tolist() == ([2, 2] if file == "words.json" else [0, 0])


def test_special_tokens_of_the_file_can_be_left_out(tokenizers_folder: Path, texts: list[str]) -> None:
    path = tokenizers_folder / "words.json"
    for flag in (True, False):
        tokens = built(tokenizer=path, special_tokens=flag)({"text": objects(texts)})["text"]
        assert [row.tolist() for row in tokens.to_list()] == by_library(path, texts, add_special_tokens=flag)


def test_special_tokens_in_a_text_are_ordinary_text_if_asked(tokenizers_folder: Path) -> None:
    path, text = tokenizers_folder / "bytes.json", "a page</s>with <s> in it"
    tokens = {
        flag: built(tokenizer=path, split_special_tokens=flag)({"text": objects([text])})["text"][0].tolist()
        for flag in (None, False, True)
    }
    assert tokens[None] == tokens[False] == by_library(path, [text])[0]
    assert {1, 2} <= set(tokens[False])
    assert not {1, 2} & set(tokens[True])
    assert Tokenizer.from_file(str(path)).decode(tokens[True]) == text
    pieces = built(tokenizer=tokenizers_folder / "pieces.model", split_special_tokens=True)({"text": objects([text])})
    assert not {1, 2} & set(pieces["text"][0].tolist())


@pytest.mark.parametrize("file", ["bytes.json", "pieces.model"])
@pytest.mark.parametrize(("bos", "eos"), [("<s>", None), (None, "</s>"), ("<s>", "</s>")])
def test_tokens_around_a_text(
    tokenizers_folder: Path, texts: list[str], file: str, bos: str | None, eos: str | None
) -> None:
    path = tokenizers_folder / file
    ids = {"<s>": 1, "</s>": 2}
    before, behind = [ids[bos]] if bos else [], [ids[eos]] if eos else []
    made = built(tokenizer=path, bos=bos, eos=eos, offsets="places")({"text": objects(texts)})
    plain = by_library(path, texts)
    assert [row.tolist() for row in made["text"].to_list()] == [[*before, *row, *behind] for row in plain]
    places = made["places"].to_list()
    assert [len(row) for row in places] == made["text"].lengths.tolist()
    if bos:
        assert all(row[0].tolist() == [0, 0] for row in places)
    if eos:
        assert all(row[-1].tolist() == [0, 0] for row in places)


@pytest.mark.parametrize("file", FILES)
def test_offsets_count_characters_of_the_text(tokenizers_folder: Path, texts: list[str], file: str) -> None:
    path = tokenizers_folder / file
    made = built(tokenizer=path, offsets="places")({"text": objects([text.encode() for text in texts])})
    places = made["places"]
    assert places.dtype == np.int32
    assert places.offsets.tolist() == made["text"].offsets.tolist()
    if path.suffix == ".model":
        model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        expected = [model.encode(text, return_type="offset_mapping")["offsets"] for text in texts]
    else:
        tokenizer = Tokenizer.from_file(str(path))
        expected = [tokenizer.encode(text).offsets for text in texts]
    assert [list(map(tuple, row.tolist())) for row in places.to_list()] == expected
    row = texts.index("naïve café")
    if file == "words.json":  # whole characters: bytes of one character share its place
        found = "".join("naïve café"[start:end] for start, end in places[row].tolist())
        assert found == "naïvecafé"


def test_the_tokens_become_a_new_field(tokenizers_folder: Path) -> None:
    batch = {"page": {"text": objects(["one two", "three"])}}
    spec = {"page": {"text": jax.ShapeDtypeStruct((), np.dtype("U5"))}}
    stage = built(spec, field="page.text", to="page.tokens", tokenizer=tokenizers_folder / "bytes.json", dtype="uint16")
    made = stage(batch)
    assert made["page"]["text"] is batch["page"]["text"]
    assert made["page"]["tokens"].dtype == np.uint16
    assert describe(stage.element_spec(spec)) == {"page.text": "text[]", "page.tokens": "uint16[None]"}


@pytest.mark.parametrize("offsets", [None, "places"])
def test_the_spec_is_that_of_the_batches(tokenizers_folder: Path, texts: list[str], offsets: str | None) -> None:
    batch, spec = {"text": objects(texts)}, {"text": jax.ShapeDtypeStruct((), np.dtype("U"))}
    stage = built(spec, tokenizer=tokenizers_folder / "words.json", offsets=offsets, dtype="int64")
    made, said = stage(batch), stage.element_spec(spec)
    assert {name: (struct.shape, struct.dtype) for name, struct in said.items()} == {
        name: (column.shape[1:], column.dtype) for name, column in made.items()
    }


def test_tokens_do_not_depend_on_the_batch(tokenizers_folder: Path, texts: list[str]) -> None:
    for file in FILES:
        stage = built(tokenizer=tokenizers_folder / file)
        whole = stage({"text": objects(texts)})["text"].to_list()
        alone = [stage({"text": objects([text])})["text"][0] for text in texts]
        assert all(np.array_equal(*pair) for pair in zip(whole, alone, strict=True))


# -- pairs ----------------------------------------------------------------------------------------------------------------


PAIRS = {"text": jax.ShapeDtypeStruct((), np.dtype("U")), "other": jax.ShapeDtypeStruct((), np.dtype("S"))}


@pytest.fixture
def pairs(tokenizers_folder: Path, tmp_path: Path) -> Path:
    """Return a tokenizer.json that joins two texts as BERT does."""
    tokenizer = Tokenizer.from_file(str(tokenizers_folder / "words.json"))
    ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    tokenizer.save(str(tmp_path / "pairs.json"))
    return tmp_path / "pairs.json"


@pytest.mark.parametrize("own", [True, False])
def test_pairs_of_texts_are_joined_as_the_file_says(pairs: Path, texts: list[str], *, own: bool) -> None:
    others = texts[::-1]
    batch = {"text": objects(texts), "other": objects([text.encode() for text in others])}
    options = {"to": "ids", "offsets": "places", "type_ids": "types", "special_tokens": own}
    stage = built(PAIRS, tokenizer=pairs, pair="other", **options)
    made = stage(batch)
    tokenizer = Tokenizer.from_file(str(pairs))
    expected = [tokenizer.encode(*pair, add_special_tokens=own) for pair in zip(texts, others, strict=True)]
    assert [row.tolist() for row in made["ids"]] == [each.ids for each in expected]
    assert [row.tolist() for row in made["types"]] == [each.type_ids for each in expected]
    assert [list(map(tuple, row.tolist())) for row in made["places"]] == [each.offsets for each in expected]
    assert made["other"] is batch["other"]
    said = {
        "ids": "int32[None]",
        "other": "bytes[]",
        "places": "int32[None, 2]",
        "text": "text[]",
        "types": "int32[None]",
    }
    assert describe(stage.element_spec(PAIRS)) == said
    assert made["types"].dtype == np.int32


def test_type_ids_of_single_texts_and_added_tokens_are_0(tokenizers_folder: Path, texts: list[str]) -> None:
    stage = built(tokenizer=tokenizers_folder / "bytes.json", type_ids="types", bos="<s>", eos="</s>")
    made = stage({"text": objects(texts)})
    assert made["types"].lengths.tolist() == made["text"].lengths.tolist()
    assert not made["types"].values.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pair": "otter"}, r"the records have no field 'otter'; did you mean 'other'\?"),
        ({"pair": "label"}, r"field 'label' is int32\[\], not one text a record"),
        ({"type_ids": "other"}, r"the name 'other' is taken by another field"),
        ({"pair": "other", "bos": "[CLS]"}, r"puts '\[CLS\]' there by itself"),
        (
            {"pair": "other", "tokenizer": "pieces.model"},
            "is a SentencePiece model, which joins no pairs of texts; leave pair out",
        ),
        ({"type_ids": "types", "tokenizer": "pieces.model"}, "joins no pairs of texts; leave type_ids out"),
    ],
)
def test_pairs_that_cannot_work(pairs: Path, tokenizers_folder: Path, options: dict[str, Any], message: str) -> None:
    spec = {**PAIRS, "label": jax.ShapeDtypeStruct((), np.dtype(np.int32))}
    path = tokenizers_folder / options["tokenizer"] if "tokenizer" in options else pairs
    with pytest.raises(StageError, match=message):
        built(spec, **options | {"tokenizer": path})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"\xff", r"row 1 of field 'other' is not UTF-8: invalid start byte at byte 0"),
        ("\ud83d", r"row 1 of field 'other' is no text that can be stored: character 0 is half of a surrogate pair"),
        (None, r"row 1 of field 'other' is None, a NoneType, not text"),
    ],
)
def test_values_of_a_pair_that_are_no_text(pairs: Path, value: Any, message: str) -> None:
    stage = built(PAIRS, tokenizer=pairs, pair="other")
    with pytest.raises(StageError, match=message):
        stage({"text": objects(["a", "b"]), "other": objects(["a", value])})


# -- mistakes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            b"ok \xff\xfe!",
            r"row 1 of field 'text' is not UTF-8: invalid start byte at byte 3, in b'ok \\xff\\xfe!'; store it",
        ),
        (None, r"row 1 of field 'text' is None, a NoneType, not text; fill it, or leave the record out"),
        (3.5, r"row 1 of field 'text' is 3\.5, a float, not text"),
        (["a"], r"row 1 of field 'text' is \['a'\], a list, not text"),
        ("cut \ud83d", r"row 1 of field 'text' is no text that can be stored: character 4 is half of a surrogate pair"),
    ],
)
@pytest.mark.parametrize("file", ["bytes.json", "pieces.model"])
def test_values_that_are_no_text(tokenizers_folder: Path, file: str, value: Any, message: str) -> None:
    stage = built(tokenizer=tokenizers_folder / file)
    with pytest.raises(StageError, match=message):
        stage({"text": objects(["fine", value, "fine"])})


def test_a_text_that_the_library_refuses(tmp_path: Path) -> None:
    from tokenizers import models  # noqa: PLC0415 - beside its one use

    Tokenizer(models.WordPiece({"a": 0}, unk_token="[UNK]")).save(str(tmp_path / "no-unknown.json"))  # noqa: S106
    stage = built(tokenizer=tmp_path / "no-unknown.json")
    message = r"row 1 of field 'text' cannot be tokenized by .*no-unknown\.json: WordPiece error: Missing \[UNK\] token"
    with pytest.raises(StageError, match=message):
        stage({"text": objects(["a", "b", "a"])})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"field": "txt"}, r"the records have no field 'txt'; did you mean 'text'\?"),
        ({"field": "label"}, r"field 'label' is int32\[\], not one text a record"),
        ({"field": "pair"}, r"field 'pair' is text\[2\], not one text a record"),
        ({"field": "tokens"}, r"field 'tokens' is int32\[None\], not one text a record"),
        ({"to": "label"}, r"the name 'label' is taken by another field; choose one that is free"),
        ({"offsets": "label"}, r"the name 'label' is taken by another field"),
        ({"offsets": "text"}, r"the name 'text' is taken by another field"),
        ({"to": "ids", "offsets": "ids"}, r"the name 'ids' is taken by another field"),
        ({"bos": "<t>"}, r"bytes\.json has no token '<t>'; did you mean '<s>'\? \(special tokens: <pad>, <s>, </s>\)"),
        ({"tokenizer": "pieces.model", "eos": "stop!"}, r"pieces\.model has no token 'stop!' \(special tokens: .*</s>"),
        (
            {"tokenizer": "words.json", "bos": "[CLS]"},
            r"words\.json puts '\[CLS\]' there by itself, and every text would have it twice; leave bos out, or set",
        ),
        ({"tokenizer": "words.json", "eos": "[SEP]"}, r"words\.json puts '\[SEP\]' there by itself.*leave eos out"),
        (
            {"tokenizer": "pieces.model", "special_tokens": True},
            "names no special tokens around a text; leave special_tokens out, and name them as bos and eos",
        ),
        (
            {"tokenizer": "pieces.model", "split_special_tokens": False},
            "is a SentencePiece model, whose library always splits them; leave split_special_tokens out",
        ),
    ],
)
def test_options_that_cannot_work(tokenizers_folder: Path, options: dict[str, Any], message: str) -> None:
    spec = {
        "text": jax.ShapeDtypeStruct((), np.dtype("U")),
        "label": jax.ShapeDtypeStruct((), np.dtype(np.int32)),
        "pair": jax.ShapeDtypeStruct((2,), np.dtype("U")),
        "tokens": jax.ShapeDtypeStruct((None,), np.dtype(np.int32)),
    }
    options = {"tokenizer": "bytes.json", **options}
    with pytest.raises(StageError, match=message):
        built(spec, **options | {"tokenizer": tokenizers_folder / options["tokenizer"]})


def test_a_dtype_that_is_too_small_for_the_vocabulary(tmp_path: Path) -> None:
    from tokenizers import models  # noqa: PLC0415 - beside its one use

    tokenizer = Tokenizer(models.WordLevel({f"w{number}": number for number in range(65_537)}, unk_token="w0"))  # noqa: S106
    tokenizer.save(str(tmp_path / "large.json"))
    message = r"uint16 holds no ids above 65535, and .*large\.json has tokens up to 65536; choose int32"
    with pytest.raises(StageError, match=message):
        built(tokenizer=tmp_path / "large.json", dtype="uint16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "a..b"}, "to"),
        ({"dtype": "float32"}, "dtype"),
        (
            {"tokenizer": "gs://bucket/tokenizer.json"},
            r"is not on this machine, and gs:// is not read; copy the files here",
        ),
        ({"tokenizer": "hf://org/model"}, r"for example with hf download"),
    ],
)
def test_configs_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Tokenize(**{"field": "text", "tokenizer": "tokenizer.json", **options})
    assert not isinstance(caught.value, ConfigError)
