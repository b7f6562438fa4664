"""Files of tokenizers: what is none is refused, settings in them are not applied silently, nothing is fetched."""

import gc
import json
import os
import pickle
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
import pytest
from flax import nnx
from forks import in_fork
from tokenizers import Tokenizer, models

from datarax_core import StageError
from datarax_text import Detokenize, Tokenize

SPEC = {"text": jax.ShapeDtypeStruct((), np.dtype("U"))}


def built(path: Path | str, **options: Any) -> Any:
    return Tokenize(field="text", tokenizer=path, **options).build(SPEC, nnx.Rngs())


def changed(source: Path, target: Path, change: Any) -> Path:
    """Write a copy of a tokenizer.json with ``change`` applied to its content."""
    content = json.loads(source.read_text(encoding="utf-8"))
    change(content)
    target.write_text(json.dumps(content), encoding="utf-8")
    return target


# -- settings in the file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["bytes.json", "words.json"])
def test_truncation_and_padding_of_the_file_are_not_applied(
    tokenizers_folder: Path, tmp_path: Path, texts: list[str], file: str
) -> None:
    tokenizer = Tokenizer.from_file(str(tokenizers_folder / file))
    expected = [tokenizer.encode(text).ids for text in texts]
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=16)
    tokenizer.save(str(tmp_path / "cut.json"))
    assert {len(Tokenizer.from_file(str(tmp_path / "cut.json")).encode(text).ids) for text in texts} == {16}
    for offsets in (None, "places"):
        tokens = built(tmp_path / "cut.json", offsets=offsets)({"text": np.array(texts, object)})["text"]
        assert [row.tolist() for row in tokens.to_list()] == expected


def test_a_model_that_splits_at_random_is_refused(tokenizers_folder: Path, tmp_path: Path) -> None:
    path = changed(
        tokenizers_folder / "bytes.json", tmp_path / "random.json", lambda content: content["model"].update(dropout=0.5)
    )
    assert len({tuple(Tokenizer.from_file(str(path)).encode("some words to split").ids) for _ in range(20)}) > 1
    message = r'its model has "dropout": 0\.5, with which the same text is split differently each time, .* set "dropout": null'
    with pytest.raises(StageError, match=message):
        built(path)


@pytest.mark.parametrize("value", [None, 0.0])
def test_a_dropout_of_nothing_is_none(tokenizers_folder: Path, tmp_path: Path, value: float | None) -> None:
    path = changed(
        tokenizers_folder / "bytes.json", tmp_path / "same.json", lambda content: content["model"].update(dropout=value)
    )
    built(path)


# -- files that are none --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [Tokenize, Detokenize])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "tokenizer.json",
            r"there is no file /.*/tokenizer\.json; name a tokenizer\.json, or the model of SentencePiece, on",
        ),
        (
            "bert-base",
            r"there is no file /.*/bert-base, and a stage never downloads one: .* if 'bert-base' is a name on the Hu",
        ),
        ("org/model-1.5", r"`hf download org/model-1\.5 tokenizer\.json --local-dir \.` brings it here"),
        ("n" * 300, r"is no path of a file; name a tokenizer\.json"),
        (".", r"is a folder; name the file in it, such as tokenizer\.json"),
    ],
)
def test_names_of_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: Any, name: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError, match=message) as caught:
        stage(field="text", tokenizer=name).build(SPEC | {"text": SPEC["text"]}, nnx.Rngs())
    assert caught.value.option == ("tokenizer",)


def test_a_folder_of_a_model(tokenizers_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((tokenizers_folder / "bytes.json").read_bytes())
    with pytest.raises(StageError, match=rf"{tmp_path} is a folder; name the file in it, {tmp_path}/tokenizer\.json"):
        built(tmp_path)


def test_a_file_that_may_not_be_read(tmp_path: Path, tokenizers_folder: Path) -> None:
    path = tmp_path / "closed.json"
    path.write_bytes((tokenizers_folder / "bytes.json").read_bytes())
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(StageError, match=r"closed\.json cannot be read: Permission denied; make it readable"):
        built(path)


def test_a_pipe_and_a_file_of_weights(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StageError, match=r"pipe is no ordinary file; name a tokenizer\.json"):
        built(tmp_path / "pipe")
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(3 * 2**30)  # takes no room on the disk
    with pytest.raises(StageError, match=r"weights\.bin has 3\.0 GiB, and no tokenizer is so large"):
        built(tmp_path / "weights.bin")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", b"", r"tokenizer\.json is empty; name a tokenizer\.json, or the model"),
        ("tokenizer.json", b"not JSON", r"tokenizer\.json cannot be used as a tokenizer: expected ident at line 1"),
        (
            "tokenizer.json",
            b"\xff\xfe",
            r"tokenizer\.json cannot be used as a tokenizer: 'utf-8' codec can't decode byte 0xff",
        ),
        (
            "tokenizer.json",
            b'{"version": "1.0"}',
            r'it has no "model"; name a tokenizer\.json, which comes with a model, or is',
        ),
        ("tokenizer.json", b'{"model": {"type": "X"}}', r"tokenizer\.json cannot be used as a tokenizer: .* at line 1"),
        ("list.json", b"[1, 2]", r"list\.json cannot be used as a tokenizer: "),
        (
            "vocab.json",
            b'{"a": 0, "b": 1}',
            r"it is a vocabulary alone \(vocab\.json\), .*; name the tokenizer\.json beside it",
        ),
        (
            "tokenizer_config.json",
            b'{"tokenizer_class": "X"}',
            r"it is the settings of a tokenizer \(tokenizer_config\.json\)",
        ),
        ("config.json", b'{"model_type": "bert"}', r"it is the config of a model; name the tokenizer\.json beside it"),
        (
            "x.model",
            b"\x00\xff\x00",
            r"it is no model of SentencePiece \(.*\), nor a tokenizer\.json, which begins with '\{'",
        ),
        (
            "vocab.txt",
            "[PAD]\n[UNK]\né\n".encode(),
            r"it is a text, and a vocabulary or merges alone do not say how text is",
        ),
        (
            "long.tiktoken",
            "IQ== 0\né\n".encode() * 400,
            r"it is a text, and a vocabulary or merges alone do not say how text",
        ),
    ],
)
def test_files_that_are_no_tokenizer(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StageError, match=message) as caught:
        built(tmp_path / name)
    assert caught.value.option == ("tokenizer",)


def test_damaged_files(tokenizers_folder: Path, tmp_path: Path) -> None:
    for name in ("bytes.json", "pieces.model"):
        content = (tokenizers_folder / name).read_bytes()
        for end in (1, len(content) // 3, len(content) - 20):
            (tmp_path / name).write_bytes(content[:end])
            with pytest.raises(StageError, match=rf"{name} cannot be used as a tokenizer: "):
                built(tmp_path / name)


def test_a_tokenizer_without_tokens(tmp_path: Path) -> None:
    Tokenizer(models.BPE()).save(str(tmp_path / "untrained.json"))
    message = r"untrained\.json cannot be used as a tokenizer: it has no tokens; it was saved before it was trained"
    with pytest.raises(StageError, match=message):
        built(tmp_path / "untrained.json")


def test_a_tokenizer_that_panics_is_an_error(tokenizers_folder: Path, tmp_path: Path) -> None:
    path = changed(
        tokenizers_folder / "words.json",
        tmp_path / "broken.json",
        lambda content: content["post_processor"]["special_tokens"].pop("[CLS]"),
    )
    message = r"broken\.json (tokenizes no text|cannot be used as a tokenizer): .*"
    with pytest.raises(StageError, match=message):
        built(path)


def test_a_model_without_its_library(tokenizers_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "datarax_text.sentence_piece", raising=False)
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    message = r"if it is the model of SentencePiece, pip install 'datarax-text\[sentencepiece\]'"
    with pytest.raises(StageError, match=message):
        built(tokenizers_folder / "pieces.model")
    built(tokenizers_folder / "bytes.json")


def test_nothing_is_ever_fetched(tokenizers_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **_: Any) -> NoReturn:
        raise AssertionError(f"a connection: {args}")

    monkeypatch.chdir(tmp_path)
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for file in ("bytes.json", "pieces.model"):
        built(tokenizers_folder / file)({"text": np.array(["some text"], object)})
    with pytest.raises(StageError, match="a stage never downloads one"):
        built("bert-base-uncased")


# -- copies ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["bytes.json", "pieces.model"])
def test_a_pickle_holds_the_path_and_reads_the_file_again(
    tokenizers_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: list[str], file: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / file).write_bytes((tokenizers_folder / file).read_bytes())
    stage = built(file)  # a relative path
    pickled = pickle.dumps(stage)
    assert len(pickled) < 2_000
    monkeypatch.chdir("/")
    copy = pickle.loads(pickled)  # noqa: S301 - of this test
    batch = {"text": np.array(texts, object)}
    assert [row.tolist() for row in copy(batch)["text"]] == [row.tolist() for row in stage(batch)["text"]]
    assert (copy, hash(copy)) == (stage, hash(stage))


def test_stages_share_the_tokenizers_of_equal_files(tokenizers_folder: Path, tmp_path: Path) -> None:
    path = tokenizers_folder / "bytes.json"
    (tmp_path / "copy.json").write_bytes(path.read_bytes())
    stage, other = built(path), built(tmp_path / "copy.json", eos="</s>")
    assert stage.file.tokenizer is other.file.tokenizer
    (tmp_path / "copy.json").unlink()
    assert pickle.loads(pickle.dumps(other)).file.tokenizer is stage.file.tokenizer  # noqa: S301 - of this test
    assert built(path, split_special_tokens=True).file.tokenizer is not stage.file.tokenizer


@pytest.mark.parametrize("file", ["bytes.json", "pieces.model"])
def test_a_fork_tokenizes_too(tokenizers_folder: Path, file: str) -> None:
    stage = built(tokenizers_folder / file)
    batch = {"text": np.array(["some text in a fork"] * 20, object)}

    def tokens(stage: Any) -> list[int]:
        found: list[int] = stage(batch)["text"].values.tolist()
        return found

    expected = tokens(stage)
    assert in_fork(lambda: tokens(stage)) == expected
    assert in_fork(lambda: len(tokens(built(tokenizers_folder / "words.json")))) > 20


def test_a_copy_refuses_a_file_that_was_replaced(tokenizers_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes((tokenizers_folder / "bytes.json").read_bytes() + b"\n\n")  # of no other test
    pickled = pickle.dumps(built(path))
    gc.collect()  # while a stage exists, its copies share its tokenizer
    path.write_bytes((tokenizers_folder / "words.json").read_bytes())
    copy = pickle.loads(pickled)  # noqa: S301 - of this test
    message = rf"^{path} is another file than when the pipeline was built \(SHA-256 .*\); build the pipeline again"
    with pytest.raises(StageError, match=message):
        copy({"text": np.array(["a"], object)})
    assert built(path) != copy
    path.unlink()
    with pytest.raises(StageError, match=r"^there is no file .*tokenizer\.json"):
        copy({"text": np.array(["a"], object)})
