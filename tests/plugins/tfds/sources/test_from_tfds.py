"""The choice between eager and streaming: which one, the reason in the log, and its options."""

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tfds_data
from flax import nnx
from pydantic import ValidationError

from datarax_core import Pipeline, SourceRegistry, build_source
from datarax_tfds import (
    TFDSConfig,
    TFDSEagerConfig,
    TFDSEagerSource,
    TFDSSource,
    TFDSStreamingConfig,
    TFDSStreamingSource,
    from_tfds,
)
from datarax_tfds.sources import choosing


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "datarax_tfds")
    return caplog


def test_a_data_set_that_fits_into_memory_is_eager(data_dir: Path, said: pytest.LogCaptureFixture) -> None:
    source = from_tfds("digits", "train", data_dir=data_dir)
    assert isinstance(source, TFDSEagerSource)
    assert source.length == tfds_data.SPLITS["train"]
    assert any(
        message.startswith(
            "digits, split train: eager, because its 1,500 records take 105.5 KiB, which fits the device"
        )
        for message in said.messages
    )


@pytest.mark.parametrize("name", ["captions", "digits"])
def test_a_data_set_that_does_not_fit_into_memory_streams(
    data_dirs: Path, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(choosing, "host_memory", lambda: 100_000)  # bytes
    keys = {"exclude_keys": ["image", "numbers", "words", "boxes"]} if name == "captions" else {}
    split = "+".join(["train"] * 20)
    source = from_tfds(name, split, data_dir=data_dirs / "tfrecord", **keys)
    assert isinstance(source, TFDSStreamingSource)
    assert "more than a quarter of this machine's memory, 24.4 KiB" in said.messages[-1]


def test_a_data_set_that_does_not_fit_the_device_streams(
    data_dirs: Path, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "fits_device_memory", lambda nbytes: nbytes < 100_000)
    assert isinstance(from_tfds("digits", "train", data_dir=data_dirs / "array_record"), TFDSStreamingSource)
    assert said.messages[-1].endswith(
        "streaming, because its 1,500 records take 105.5 KiB, more than may lie on the device"
    )
    assert isinstance(from_tfds("digits", "train[:500]", data_dir=data_dirs / "array_record"), TFDSEagerSource)


def test_a_data_set_with_fields_of_varying_shape_streams(data_dirs: Path, said: pytest.LogCaptureFixture) -> None:
    source = from_tfds("captions", "train", data_dir=data_dirs / "tfrecord")
    assert isinstance(source, TFDSStreamingSource)
    assert "streaming, because the shape of " in said.messages[-1]
    assert "'image'" in said.messages[-1]
    kept = from_tfds("captions", "train", data_dir=data_dirs / "tfrecord", include_keys=["id", "text"])
    assert isinstance(kept, TFDSEagerSource)


STREAMING: list[dict[str, Any]] = [{"shuffle_buffer_size": 10}, {"prefetch_buffer": 0}, {"cacheable": True}]


@pytest.mark.parametrize("options", STREAMING, ids=str)
def test_an_option_of_streaming_sources_selects_a_streaming_source(
    data_dirs: Path, said: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    source = from_tfds("digits", "train", data_dir=data_dirs / "array_record", **options)
    (name, value), *_ = options.items()
    assert isinstance(source, TFDSStreamingSource)
    assert getattr(source.config, name) == value
    assert said.messages[-1] == f"digits, split train: streaming, because {name} is an option of streaming sources"


def test_placement_selects_an_eager_source(data_dirs: Path, said: pytest.LogCaptureFixture) -> None:
    source = from_tfds("digits", "test", data_dir=data_dirs / "array_record", placement="host")
    assert isinstance(source, TFDSEagerSource)
    assert source.access == "host"
    assert said.messages[-1] == "digits, split test: eager, because placement is an option of eager sources"


@pytest.mark.parametrize("options", STREAMING, ids=str)
def test_options_of_both_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(
        ValidationError, match=f"placement is an option of eager sources, {next(iter(options))} of streaming"
    ):
        TFDSConfig(name="digits", split="train", placement="host", **options)


def test_an_eager_source_is_cacheable_and_has_no_buffers() -> None:
    assert TFDSEagerConfig(name="digits", split="train", cacheable=True).cacheable
    for buffer in ("shuffle_buffer_size", "prefetch_buffer"):
        with pytest.raises(
            ValidationError, match=f"{buffer} is an option of TFDSStreamingConfig .*shuffle=True shuffles all"
        ):
            TFDSEagerConfig(name="digits", split="train", **{buffer: 10})


def test_an_unknown_option_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ValidationError, match=r"unknown field 'shufle'; did you mean 'shuffle'\?"):
        from_tfds("digits", "train", shufle=True)
    with pytest.raises(ValidationError, match=r"unknown field 'prefetch_bufer'; did you mean 'prefetch_buffer'\?"):
        from_tfds("digits", "train", prefetch_bufer=1)


@pytest.mark.parametrize("config_type", [TFDSEagerConfig, TFDSStreamingConfig])
def test_every_option_arrives_at_the_source(data_dirs: Path, config_type: type[Any]) -> None:
    options = {
        "data_dir": str(data_dirs / "array_record"),
        "include_keys": {"signal", "answer"},
        "shuffle": True,
        "seed": 7,
        "local_files_only": True,
    }
    only = {"placement": "host"} if config_type is TFDSEagerConfig else {"prefetch_buffer": 1, "shuffle_buffer_size": 5}
    source = from_tfds("pairs", "train[:20]", source_name="these", **options, **only)
    assert source.config == config_type(name="pairs", split="train[:20]", **options, **only)
    assert source.name == "these"
    only.pop("shuffle_buffer_size", None)  # a backend with random access refuses it
    options = {
        "data_dir": str(data_dirs / "tfrecord"),
        "as_supervised": True,
        "backend": "tfrecord",
        "stochastic": False,
    }
    assert from_tfds("pairs", "train", **options, **only).config == config_type(
        name="pairs", split="train", **options, **only
    )


def test_both_serve_the_same_records_in_the_same_order(data_dirs: Path) -> None:
    def served(**options: Any) -> list[int]:
        source = from_tfds(
            "captions",
            "train",
            rngs=nnx.Rngs(3),
            data_dir=data_dirs / "tfrecord",
            include_keys=["id"],
            shuffle=True,
            **options,
        )
        return [int(number) for batch in Pipeline(source=source, batch_size=7) for number in np.asarray(batch["id"])]

    assert served(placement="host") == served(prefetch_buffer=2) != sorted(served(placement="device"))
    assert sorted(served(placement="host")) == list(range(tfds_data.NUM_SMALL))


def test_the_type_tfds_of_a_config_builds_the_chosen_source(data_dirs: Path) -> None:
    config = {"type": "tfds", "name": "digits", "split": "test", "data_dir": str(data_dirs / "tfrecord")}
    assert SourceRegistry.from_environment().get("tfds") is TFDSSource
    source = build_source(config)
    assert isinstance(source, TFDSEagerSource)
    assert isinstance(build_source({**config, "prefetch_buffer": 1}), TFDSStreamingSource)
    batches = list(Pipeline.from_config({"batch_size": 100, "source": config}))
    assert sum(len(jax.tree.leaves(batch)[0]) for batch in batches) == tfds_data.SPLITS["test"]


def test_calling_the_class_returns_the_chosen_source(data_dirs: Path) -> None:
    config = TFDSConfig(name="digits", split="test", data_dir=data_dirs / "tfrecord")
    assert isinstance(TFDSSource(config, name="digits"), TFDSEagerSource)
    with pytest.raises(TypeError, match=r"TFDSSource needs a TFDSConfig, not TFDSEagerConfig"):
        TFDSSource(TFDSEagerConfig(name="digits", split="test"))  # type: ignore[arg-type]  # the test
