"""Texts through a whole pipeline from a config: tokens, padding, compiled stages; one stream by every route."""

import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tokenizers import Tokenizer

from datarax_core import Cache, ConfigError, Pipeline, StageError, StateError
from datarax_core.records import Ragged
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_text import Detokenize, Tokenize

LENGTH, BATCH = 24, 8
CONFIG = """
batch_size: 8
seed: 3
num_epochs: 2
source: {type: memory, path: texts.npz, shuffle: true}
stages:
  - {type: tokenize, field: text, tokenizer: models/tokenizer.json, to: tokens, eos: </s>}
  - {type: pad, field: tokens, length: 24, truncate: right, mask_field: is_token}
  - {type: select, fields: [tokens, is_token, label]}
  - {type: cast, field: is_token, dtype: float32}
"""


@pytest.fixture
def folder(tmp_path: Path, tokenizers_folder: Path, texts: list[str]) -> Path:
    """Return a folder with a config, its data, and its tokenizer in a folder below."""
    (tmp_path / "models").mkdir()
    shutil.copy(tokenizers_folder / "bytes.json", tmp_path / "models" / "tokenizer.json")
    np.savez(tmp_path / "texts.npz", text=np.array(texts), label=np.arange(len(texts)))
    (tmp_path / "train.yaml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


@pytest.fixture
def rows(tokenizers_folder: Path, texts: list[str]) -> np.ndarray:
    """Return the padded tokens of each text, by the library's own calls."""
    tokenizer = Tokenizer.from_file(str(tokenizers_folder / "bytes.json"))
    padded = np.zeros((len(texts), LENGTH), np.int32)
    for row, text in enumerate(texts):
        ids = [*tokenizer.encode(text).ids, 2][:LENGTH]
        padded[row, : len(ids)] = ids
    return padded


def all_of(pipeline: Any) -> dict[str, np.ndarray]:
    batches = [jax.tree.map(np.asarray, batch) for batch in pipeline]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def test_a_config_serves_tokens_of_one_length(folder: Path, rows: np.ndarray) -> None:
    served = all_of(Pipeline.from_config(folder / "train.yaml"))
    assert sorted(served["label"].tolist()) == sorted([*range(60)] * 2)
    assert np.array_equal(served["tokens"], rows[served["label"]])
    assert served["is_token"].dtype == np.float32
    assert np.array_equal(served["is_token"] > 0, np.arange(LENGTH) < served["is_token"].sum(1)[:, None])


@pytest.mark.parametrize(
    "options",
    [{"threads": 3}, {"threads": 2, "prefetch": 3}, {"prefetch": 0}, {"batch_size": 7}],
    ids=["threads", "threads and prefetch", "no prefetch", "other batches"],
)
def test_the_stream_is_the_same_however_it_is_read(folder: Path, options: dict[str, Any]) -> None:
    expected = all_of(Pipeline.from_config(folder / "train.yaml"))
    config = {**_mapping(folder), **options}
    served = all_of(Pipeline.from_config(config))
    assert all(np.array_equal(expected[name], served[name]) for name in expected)


def test_workers_read_the_tokenizer_by_themselves(folder: Path) -> None:
    expected = all_of(Pipeline.from_config(folder / "train.yaml"))
    served = all_of(Pipeline.from_config({**_mapping(folder), "workers": 1}))
    assert all(np.array_equal(expected[name], served[name]) for name in expected)


def test_steps_and_scans_serve_the_same(folder: Path) -> None:
    expected = all_of(Pipeline.from_config(folder / "train.yaml"))["tokens"][: 4 * BATCH]
    pipeline = Pipeline.from_config(folder / "train.yaml")
    stepped = np.concatenate([np.asarray(pipeline.step()["tokens"]) for _ in range(4)])
    assert np.array_equal(stepped, expected)
    sums = Pipeline.from_config(folder / "train.yaml").scan(lambda batch: jnp.sum(batch["tokens"], 1), length=4)
    assert np.array_equal(np.asarray(sums).ravel(), expected.sum(1))
    compiled = Pipeline.from_config(folder / "train.yaml")
    step = nnx.jit(lambda pipeline: pipeline.step()["tokens"])
    assert np.array_equal(np.concatenate([np.asarray(step(compiled)) for _ in range(4)]), expected)


def test_a_run_is_resumed_with_its_tokenizer_alone(folder: Path) -> None:
    expected = all_of(Pipeline.from_config(folder / "train.yaml"))["tokens"]
    pipeline = Pipeline.from_config(folder / "train.yaml")
    for _ in range(3):
        pipeline.step()
    state = pipeline.get_state()
    (folder / "models").rename(folder / "elsewhere")  # the path may differ, the file may not
    moved = CONFIG.replace("models/", "elsewhere/")
    (folder / "train.yaml").write_text(moved, encoding="utf-8")
    resumed = Pipeline.from_config(folder / "train.yaml")
    resumed.set_state(state)
    assert np.array_equal(all_of(resumed)["tokens"], expected[3 * BATCH :])
    content = (folder / "elsewhere" / "tokenizer.json").read_text(encoding="utf-8")
    (folder / "elsewhere" / "tokenizer.json").write_text(content + "\n", encoding="utf-8")
    message = (
        r"the state is of another stream than .*: host_stages was \{'0 \(tokenize\)': \{'tokenizer': '\w+'\}\} and is"
    )
    with pytest.raises(StateError, match=message):
        Pipeline.from_config(folder / "train.yaml").set_state(state)


def test_variables_of_a_pipeline_with_another_tokenizer_are_refused(folder: Path) -> None:
    pipeline = Pipeline.from_config(folder / "train.yaml")
    pipeline.step()
    variables = nnx.state(pipeline)
    same = Pipeline.from_config(folder / "train.yaml")
    nnx.update(same, variables)
    assert np.array_equal(same.step()["tokens"], pipeline.step()["tokens"])
    path = folder / "models" / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    other = Pipeline.from_config(folder / "train.yaml")
    nnx.update(other, variables)
    with pytest.raises(
        StateError,
        match=r"were written by nnx\.update from those of another stream: its source, order, batch rule or a file",
    ):
        other.step()


def test_text_rides_beside_its_tokens_and_back(tokenizers_folder: Path, texts: list[str]) -> None:
    source = MemorySource(MemorySourceConfig(), {"text": texts})
    path = tokenizers_folder / "bytes.json"
    stages = [
        Tokenize(field="text", to="tokens", tokenizer=path),
        Detokenize(field="tokens", to="again", tokenizer=path),
    ]
    for batch in Pipeline(source=source, stages=stages, batch_size=16):
        assert isinstance(batch["tokens"], Ragged)
        assert batch["again"].tolist() == batch["text"].tolist()


def test_a_cache_keeps_the_tokens(tokenizers_folder: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    source = MemorySource(MemorySourceConfig(), {"text": texts})
    stage = Tokenize(field="text", to="tokens", tokenizer=tokenizers_folder / "bytes.json")
    pipeline = Pipeline(source=source, stages=[Cache(stage, source)], batch_size=16)
    first = [row.tolist() for batch in pipeline for row in batch["tokens"]]
    entries = pipeline.get_state()["fingerprint"]["host_stages"]
    assert list(entries) == ["0 (cache of tokenize)"]
    assert entries["0 (cache of tokenize)"] == stage.fingerprint()
    monkeypatch.setattr(Tokenize, "__call__", lambda *_: pytest.fail("it tokenizes again"))
    assert [row.tolist() for batch in pipeline for row in batch["tokens"]] == first


# -- mistakes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "models/tokenizer.json",
            "tokenizer.json",
            r"train\.yaml:7: stages\[0\]\.tokenizer: there is no file .*/tokenizer\.json",
        ),
        (
            "models/tokenizer.json",
            "texts.npz",
            r"train\.yaml:7: stages\[0\]\.tokenizer: .*texts\.npz cannot be used as a tok",
        ),
        (
            "field: text",
            "field: txt",
            r"train\.yaml:7: stages\[0\]\.field: the records have no field 'txt'; did you mean 'text'",
        ),
        ("eos: </s>", "eos: </z>", r"train\.yaml:7: stages\[0\]\.eos: .* has no token '</z>'; did you mean '</s>'"),
    ],
)
def test_mistakes_in_configs_have_their_place(folder: Path, old: str, new: str, message: str) -> None:
    (folder / "train.yaml").write_text(CONFIG.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        Pipeline.from_config(folder / "train.yaml")


def test_a_text_that_is_none_is_named_by_record(tokenizers_folder: Path) -> None:
    values = [b"fine"] * 20
    values[13] = b"broken \xff"
    source = MemorySource(MemorySourceConfig(), {"text": values})
    pipeline = Pipeline(
        source=source, stages=[Tokenize(field="text", tokenizer=tokenizers_folder / "bytes.json")], batch_size=8
    )
    with pytest.raises(StageError, match=r"of field 'text' is not UTF-8: invalid start byte at byte 7") as caught:
        list(pipeline)
    notes = "\n".join(caught.value.__notes__)
    assert "stage 0 (tokenize)" in notes
    assert "13" in notes


def _mapping(folder: Path) -> dict[str, Any]:
    import yaml  # noqa: PLC0415 - beside its one use

    config: dict[str, Any] = yaml.safe_load(CONFIG)
    config["source"]["path"] = str(folder / "texts.npz")
    config["stages"][0]["tokenizer"] = str(folder / "models" / "tokenizer.json")
    return config
