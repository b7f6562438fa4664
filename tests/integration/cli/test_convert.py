"""``drx convert``: the records of a config, written to files, and the config lines that read them back."""

import importlib.util
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax
import pytest
import yaml
from commands import DRX, MODULE, fails, run, run_on_terminal
from flax import nnx
from installed_sources import install_stream

from datarax_core import Pipeline

if TYPE_CHECKING:
    from conftest import Site

DIGITS = Path(__file__).parents[3] / "examples" / "digits"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a config of 1,000 records, with its data in the folder ``data``."""
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data/train.npz", image=np.zeros((1000, 4), np.uint8), label=np.arange(1000) + 2**40)
    path = tmp_path / "train.yaml"
    path.write_text("batch_size: 64\nsource: {type: memory, path: data/train.npz, shuffle: true, placement: host}\n")
    return path


def printed_source(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the ``source:`` block that a conversion printed."""
    assert done.returncode == 0, done.stderr
    source: dict[str, Any] = yaml.safe_load(done.stdout.partition("\n\nsource:")[2].join(["source:", ""]))["source"]
    return source


def labels(path: Path, source: dict[str, Any]) -> list[int]:
    """Return the labels that a config with this source, in the folder of ``path``, serves."""
    reading = path.with_name("reading.yaml")
    reading.write_text(yaml.safe_dump({"batch_size": 100, "source": source}))
    source_of = Pipeline.from_config(reading).source
    found: list[int] = source_of.fetch(np.arange(len(source_of)))["label"].tolist()
    return found


@pytest.mark.parametrize("command", [DRX, MODULE], ids=["drx", "python -m"])
def test_what_was_written_is_read_back_by_the_lines_that_are_printed(command: list[str], config: Path) -> None:
    done = run(command, "convert", "train.yaml", "data/train.array_record", cwd=config.parent)
    assert re.match(
        r"data/train\.array_record: 1,000 records, 0\.2 MB in [\d.]+ s\n\nto read them, in a config", done.stdout
    )
    assert printed_source(done) == {"type": "arrayrecord", "paths": ["data/train.array_record"]}
    assert labels(config, printed_source(done)) == (np.arange(1000) + 2**40).tolist()
    assert "\x1b" not in done.stdout + done.stderr


def test_shards_are_read_by_the_number_of_them(config: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = run(DRX, "convert", str(config), "x.array_record", "--shards", "3", cwd=elsewhere)
    assert done.stdout.startswith("x.array_record-00000-of-00003 ... x.array_record-00002-of-00003: 1,000 records")
    assert printed_source(done) == {"type": "arrayrecord", "paths": ["elsewhere/x.array_record@3"]}
    assert labels(config, printed_source(done)) == (np.arange(1000) + 2**40).tolist()


def test_a_path_outside_of_the_folder_of_the_config_is_printed_whole(config: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    config = config.rename(inner / "train.yaml")
    config.write_text(config.read_text().replace("data/", "../data/"))
    source = printed_source(run(DRX, "convert", str(config), "x.array_record", cwd=tmp_path))
    assert source["paths"] == [str(tmp_path / "x.array_record")]
    assert labels(config, source) == (np.arange(1000) + 2**40).tolist()


def test_options_are_taken(config: Path) -> None:
    options = "--decoder", "msgpack", "--compression", "uncompressed", "--to", "arrayrecord", "--overwrite"
    source = printed_source(run(DRX, "convert", str(config), str(config.with_name("x.array_record")), *options))
    assert labels(config, source)[-1] == 999 + 2**40
    assert '"type": "msgpack"' in config.with_name("x.array_record.json").read_text()
    again = printed_source(run(DRX, "convert", str(config), str(config.with_name("x.array_record")), "--overwrite"))
    assert again == source
    assert '"type": "array"' in config.with_name("x.array_record.json").read_text()


def test_its_help_says_that_stages_are_not_applied() -> None:
    shown = " ".join(run(DRX, "convert", "--help").stdout.split())
    assert "Stages and the config's settings of batches are not applied." in shown


def test_progress_is_shown_on_a_terminal(config: Path) -> None:
    printed, shown = run_on_terminal(DRX, "convert", str(config), str(config.with_name("x.array_record")))
    assert "1000/1000" in shown
    assert "\x1b" not in printed


def test_a_stream_that_ends_is_written_too(site: "Site", tmp_path: Path) -> None:
    install_stream(site, end="70")
    (tmp_path / "stream.yaml").write_text("batch_size: 2\nsource: {type: acme_stream}\n")
    done = run(DRX, "convert", "stream.yaml", "x.array_record", "--shards", "2", cwd=tmp_path)
    assert labels(tmp_path / "stream.yaml", printed_source(done)) == list(range(70))


def test_an_interrupted_conversion_leaves_nothing(site: "Site", tmp_path: Path) -> None:
    install_stream(site, end="float('inf')")
    (tmp_path / "stream.yaml").write_text("batch_size: 2\nsource: {type: acme_stream}\n")
    with subprocess.Popen(  # noqa: S603 - our own command
        [*DRX, "convert", "stream.yaml", "out/x.array_record"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            while not any((tmp_path / "out").glob(".x.array_record.*/x.array_record")):
                assert child.poll() is None
            child.send_signal(signal.SIGINT)
            printed, complaints = child.communicate(timeout=120)
        finally:
            child.kill()
    assert child.returncode == 130
    assert (printed, complaints) == ("", "")
    assert list((tmp_path / "out").iterdir()) == []


def test_bad_records_that_others_stand_in_for_are_reported(config: Path) -> None:
    printed_source(
        run(DRX, "convert", str(config), str(config.with_name("x.array_record")), "--compression", "uncompressed")
    )
    damaged = bytearray(config.with_name("x.array_record").read_bytes())
    damaged[damaged.index((500 + 2**40).to_bytes(8, "little"))] ^= 255
    config.with_name("x.array_record").write_bytes(damaged)
    source = {"type": "arrayrecord", "paths": "x.array_record", "on_error": "substitute", "quarantine": "bad.jsonl"}
    config.write_text(yaml.safe_dump({"batch_size": 2, "source": source}))
    done = run(DRX, "convert", str(config), str(config.with_name("y.array_record")))
    assert "\n1 of them are substitutes for records that cannot be read\n" in done.stdout
    assert labels(config, printed_source(done))[499:502] == [499 + 2**40, 501 + 2**40, 501 + 2**40]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["x"], r"train\.yaml: 'x' has none of the suffixes .*; name it x\.array_record"),
        (
            ["x.array_record", "--to", "memory"],
            (
                r"train\.yaml: MemorySource cannot write the records of MemorySource to x\.array_record: it does not define "
                r"write_records\(\); choose a type that does, such as arrayrecord"
            ),
        ),
        (["x.array_record", "--to", "arrayrecrd"], "unknown source 'arrayrecrd'; did you mean 'arrayrecord'"),
        (["x.array_record", "--decoder", "aray"], "unknown decoder 'aray'; did you mean 'array'"),
        (
            ["x.array_record", "--decoder", "raw"],
            r"train\.yaml: the decoder 'raw' writes one field, .* not the fields image, label",
        ),
        (
            ["x.array_record", "--shards", "1001"],
            r"train\.yaml: shards=1001 leaves some of them without records, .* has 1000",
        ),
        (["x.array_record", "--compression", "gzip"], r"train\.yaml: compression is 'zstd', .* not 'gzip'"),
        (["train.yaml/x.array_record"], "cannot write to the folder train.yaml: it is a file"),
    ],
)
def test_a_mistake_is_one_clear_message_and_leaves_nothing(config: Path, args: list[str], message: str) -> None:
    assert re.match(message, fails(DRX, "convert", "train.yaml", *args, cwd=config.parent))
    assert sorted(entry.name for entry in config.parent.iterdir()) == ["data", "train.yaml"]


def test_nothing_is_overwritten_unless_that_is_said(config: Path) -> None:
    config.with_name("x.array_record").write_text("mine")
    message = fails(DRX, "convert", str(config), str(config.with_name("x.array_record")))
    assert message.endswith("x.array_record exists; write to another path, or pass overwrite=True (--overwrite)")
    assert config.with_name("x.array_record").read_text() == "mine"


# -- the demo -----------------------------------------------------------------------------------------------------------


def module(name: str) -> Any:
    """Import a module of the demo."""
    spec = importlib.util.spec_from_file_location(f"demo_{name}", DIGITS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def losses(pipeline: Pipeline, count: int) -> list[float]:
    """Return the losses of a number of steps of the demo's training."""
    demo = module("model")
    model = demo.Classifier(rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(2e-3), wrt=nnx.Param)
    return [float(demo.train_step(model, optimizer, batch)) for batch, _ in zip(pipeline, range(count), strict=False)]


def test_the_demo_trains_on_files_as_it_does_from_memory(tmp_path: Path) -> None:
    module("digits").write_digits(tmp_path / "out")
    config = tmp_path / "train.yaml"
    config.write_text((DIGITS / "train.yaml").read_text())
    source = printed_source(run(DRX, "convert", str(config), str(tmp_path / "out/train.array_record"), "--shards", "3"))
    from_files = yaml.safe_load(config.read_text()) | {"source": {**source, "shuffle": True}}
    files = tmp_path / "files.yaml"
    files.write_text(yaml.safe_dump(from_files))

    served = 0
    for one, other in zip(Pipeline.from_config(config), Pipeline.from_config(files), strict=True):
        assert jax.tree.map(lambda x: (x.dtype, x.shape), one) == jax.tree.map(lambda x: (x.dtype, x.shape), other)
        assert np.array_equal(one["image"], other["image"])
        assert np.array_equal(one["label"], other["label"])
        served += 1
    assert served == 24 * 1438 // 64
    assert losses(Pipeline.from_config(config), 40) == losses(Pipeline.from_config(files), 40)


AS_JSON = """
import json
from typing import Literal
from datarax_core import Decoder
class Made(Decoder):
    type: Literal["acme_json"] = "acme_json"
    def encode(self, batch):
        return [json.dumps({n: c[row].tolist() for n, c in batch.items()}).encode() for row in range(len(batch["label"]))]
    def decode_record(self, record):
        return json.loads(record)
"""


def test_fields_that_are_read_back_with_another_dtype_are_named(site: "Site", config: Path) -> None:
    site.install("acme-json", {}, code=AS_JSON)
    entry = "[datarax.decoders]\nacme_json = acme_json:Made\n"
    (site.folder / "acme_json-1.0.dist-info" / "entry_points.txt").write_text(entry)
    done = run(DRX, "convert", "train.yaml", "x.array_record", "--decoder", "acme_json", cwd=config.parent)
    assert "\nnote: field 'image' is int64[4] where uint8[4] was written; the values are equal\n" in done.stdout
    assert "'label'" not in done.stdout
    assert printed_source(done)["paths"] == ["x.array_record"]
