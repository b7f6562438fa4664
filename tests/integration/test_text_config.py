"""A config from text to compiled stages: one stream in loops, steps, scans, threads and workers, and after resuming."""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from datarax_core import ConfigError, Pipeline, SpecError, StageError, StateError

RECORDS, LENGTH, BATCH = 44, 12, 8

CONFIG = """
seed: 3
batch_size: 8
num_epochs: 2
source: {type: memory, path: texts.npz, shuffle: true}
stages:
  - {type: lookup, field: label, file: classes.txt}
  - {type: tokenize_bytes, field: text, to: tokens, bos: 256, eos: 257}
  - {type: truncate, field: tokens, length: 12}
  - {type: pad, field: tokens, length: 12, value: 258, mask_field: is_token, length_field: length}
  - {type: select, fields: [tokens, is_token, length, label, number]}
  - {type: one_hot, field: label, classes: 3}
"""
SEVERAL = CONFIG.replace("length: 12, value", "lengths: [4, 8, 12], value")
HEAD = CONFIG.partition("stages:")[0]
CLASSES = ["wren", "owl", "tit"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abé\u2603"), n)) for n in rng.integers(0, 9, RECORDS)]
    labels = [CLASSES[n] for n in rng.integers(0, 3, RECORDS)]
    numbers = np.arange(RECORDS)
    np.savez(tmp_path / "texts.npz", text=texts, label=labels, number=numbers, id=numbers + 2**40)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return tmp_path


def opened(folder: Path, text: str = CONFIG, **options: Any) -> Pipeline:
    path = folder / "train.yaml"
    path.write_text(text + "".join(f"{name}: {value}\n" for name, value in options.items()))
    return Pipeline.from_config(path)


def plain(batch: Any) -> dict[str, list[Any]]:
    return {name: np.asarray(column).tolist() for name, column in batch.items()}


def expected(folder: Path, numbers: list[int], length: int = LENGTH) -> dict[str, list[Any]]:
    """Return the fields of a batch of these records, made without datarax."""
    data = np.load(folder / "texts.npz")
    made: dict[str, list[Any]] = {name: [] for name in ("tokens", "is_token", "length", "label", "number")}
    for number in numbers:
        tokens = [256, *str(data["text"][number]).encode(), 257][:LENGTH]
        made["tokens"].append(tokens + [258] * (length - len(tokens)))
        made["is_token"].append([True] * len(tokens) + [False] * (length - len(tokens)))
        made["length"].append(len(tokens))
        made["label"].append([float(name == data["label"][number]) for name in CLASSES])
        made["number"].append(number)
    return made


def test_a_config_makes_batches_of_text_in_every_route(folder: Path) -> None:
    batches = [plain(batch) for batch in opened(folder)]
    assert [batch["number"] for batch in batches] != [list(range(BATCH))] * 11
    assert sorted(number for batch in batches for number in batch["number"]) == sorted([*range(RECORDS)] * 2)
    for batch in batches:
        assert batch == expected(folder, batch["number"])
    for options in ({"prefetch": 0}, {"threads": 3, "prefetch": 4}, {"workers": 2}):
        assert [plain(batch) for batch in opened(folder, **options)] == batches
    stepped, scanned = opened(folder), opened(folder)
    assert [plain(stepped.step()) for _ in range(3)] == batches[:3]
    results = scanned.scan(lambda batch: batch, length=3)
    assert [plain(jax.tree.map(lambda leaf, n=n: leaf[n], results)) for n in range(3)] == batches[:3]


def test_a_batch_is_as_long_as_its_longest_record_needs_in_every_route(folder: Path) -> None:
    batches = [plain(batch) for batch in opened(folder, SEVERAL)]
    for batch in batches:
        length = min(n for n in (4, 8, 12) if n >= max(batch["length"]))
        assert batch == expected(folder, batch["number"], length)
    short = SEVERAL.replace("batch_size: 8", "batch_size: 2")
    few = [plain(batch) for batch in opened(folder, short)]
    assert len({len(batch["tokens"][0]) for batch in few}) > 1
    for options in ({"prefetch": 0}, {"threads": 2, "prefetch": 4}, {"workers": 2}):
        assert [plain(batch) for batch in opened(folder, short, **options)] == few
    stepped = opened(folder, short)
    assert [plain(stepped.step()) for _ in range(5)] == few[:5]
    with pytest.raises(
        SpecError, match=r"stage 3 \(pad\) makes batches of several shapes, and compiled loops over them"
    ):
        opened(folder, SEVERAL).scan(lambda batch: batch["length"], length=2)


def test_a_run_resumes_under_other_options_and_holds_to_its_classes(folder: Path) -> None:
    whole = [plain(batch) for batch in opened(folder, SEVERAL)]
    begun = opened(folder, SEVERAL)
    assert [plain(batch) for batch in islice(iter(begun), 4)] == whole[:4]
    state = json.loads(json.dumps(begun.get_state()))
    resumed = opened(folder, SEVERAL, threads=2, prefetch=0)
    resumed.set_state(state)
    assert [plain(batch) for batch in resumed] == whole[4:]
    (folder / "classes.txt").write_text("owl\nwren\ntit\n")
    with pytest.raises(StateError, match="lookup"):
        opened(folder, SEVERAL).set_state(state)


def _served(folder: Path, text: str) -> Iterator[Any]:
    return iter(opened(folder, text))


@pytest.mark.parametrize(
    "stages",
    [
        "[{type: select, fields: [text]}, {type: tokenize_bytes, field: text}, {type: pad, field: text, length: 40}]",
        "[{type: tokenize_bytes, field: text}, {type: select, fields: [text]}, {type: pad, field: text, length: 40}]",
        "[{type: tokenize_bytes, field: text}, {type: pad, field: text, length: 40}, {type: select, fields: [text]}]",
        "[{type: tokenize_bytes, field: text, to: a}, {type: select, fields: [a]}, {type: pad, field: a, length: 40}]",
    ],
)
def test_an_id_that_no_device_holds_is_dropped_before_between_and_behind_host_stages(folder: Path, stages: str) -> None:
    text = f"{HEAD}stages: {stages}\n"
    batch = next(_served(folder, text))
    assert [column.shape for column in batch.values()] == [(BATCH, 40)]
    opened(folder, text).scan(lambda batch: batch, length=2)


def test_a_cast_of_an_id_on_the_host_comes_before_narrowing(folder: Path) -> None:
    text = f"{HEAD}stages: [{{type: astype, field: id, dtype: float32, lossy: true}}, {{type: select, fields: [id]}}]\n"
    batch = next(_served(folder, text))
    assert batch["id"].dtype == np.float32
    assert (np.asarray(batch["id"]) >= 2**40).all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("file: classes.txt", "file: birds.txt", r"train\.yaml:7: stages\[0\]\.file: .*birds\.txt cannot be read: No"),
        ("field: text, to", "field: txt, to", r"train\.yaml:8: stages\[1\]\.field: the records have no field 'txt'; did"),
        ("value: 258", "value: 0.5", r"train\.yaml:10: stages\[3\]\.value: field 'tokens' is int32, which has no value 0\.5"),
        ("length: 12, value", "length: 12, lengths: [3], value", r"train\.yaml:10: stages\[3\]: .*both are given"),
        ("classes: 3}", "classes: 3}\n  - {type: truncate, field: tokens, length: 4}",
         r"train\.yaml:13: stages\[6\]: truncate runs on the host, and stands behind stage 5 \(one_hot\)"),
        ("mask_field: is_token", "mask_field: id", r"train\.yaml:10: stages\[3\]\.mask_field: the name 'id' is taken"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_at_its_place_in_the_file(folder: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(folder, CONFIG.replace(old, new))


def test_a_record_that_fails_is_named(folder: Path) -> None:
    (folder / "classes.txt").write_text("wren\ntit\n")
    with pytest.raises(
        StageError, match=r"holds 'owl', which is none of the 2 classes; add it to .*classes\.txt"
    ) as refused:
        list(opened(folder))
    notes = " ".join(refused.value.__notes__)
    assert "in stage 0 (lookup) of the pipeline" in notes
    assert re.search(r"record \d+ fails by itself", notes)


def test_a_pipeline_says_which_stages_run_on_the_host(folder: Path) -> None:
    lines = opened(folder).explain().splitlines()
    assert lines[1].startswith("host route: MemorySource reads records at concrete indices")
    assert (
        "lookup, tokenize_bytes, truncate and pad run on the host, where records are read, before a batch is placed."
        in lines
    )
    assert "step() and scan() inside compiled code reach the source by a callback to the host." in lines
    several = opened(folder, SEVERAL).explain()
    assert "pad is called with whole batches, the stages before it with parts of them." in several
    assert "Batches may differ in shape; stages in compiled code are compiled once for each." in several
    assert "step() and scan() inside compiled code, which have one shape for all batches, are refused." in several
    numbers = (
        f"{HEAD}stages: [{{type: astype, field: id, dtype: float32, lossy: true}}, {{type: select, fields: [id]}}]\n"
    )
    chosen = numbers.replace("shuffle: true", "shuffle: true, columns: [id]")
    assert (
        "MemorySource could be gathered on the device, but host stages are called with its records."
        in opened(folder, chosen).explain()
    )
