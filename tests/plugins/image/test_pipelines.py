"""Whole pipelines over encoded images: one stream by every route, in threads, in workers and resumed."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from pictures import boxes_column, column, encode, noise, png

from datarax_core import Pipeline, StageError
from datarax_core.records import Ragged
from datarax_core.stages import Pad
from datarax_image import CenterCrop, DecodeImage, Flip, Normalize, RandomResizedCrop, Resize
from datarax_memory import MemorySource, MemorySourceConfig

CONFIG = """
seed: 3
batch_size: 4
num_epochs: 2
source: {type: memory, path: photos.npz, shuffle: true}
stages:
  - {type: decode_image, field: image}
  - {type: random_resized_crop, field: image, size: 8}
  - {type: flip, field: image}
  - {type: normalize, field: image, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}
"""


def photos() -> dict[str, Any]:
    sizes = np.random.default_rng(0).integers(9, 30, (10, 2)).tolist()
    files = [encode(noise(*size, seed=number), "PNG") for number, size in enumerate(sizes)]
    return {"image": column(files), "label": np.arange(10) % 3}


def stages(*more: Any) -> list[Any]:
    return [
        DecodeImage(field="image"),
        RandomResizedCrop(field="image", size=8),
        Flip(field="image"),
        *more,
        Normalize(field="image", mean=[0.485], std=[0.229]),
    ]


def pipeline(batch_size: int = 4, **options: Any) -> Pipeline:
    source = MemorySource(MemorySourceConfig(shuffle=True), photos(), rngs=nnx.Rngs(3))
    return Pipeline(source=source, stages=stages(), batch_size=batch_size, num_epochs=2, rngs=nnx.Rngs(3), **options)


def records(batches: Any) -> list[np.ndarray]:
    return [image for batch in batches for image in np.asarray(batch["image"])]


def same(found: list[np.ndarray], wanted: list[np.ndarray]) -> bool:
    return len(found) == len(wanted) and all(map(np.array_equal, found, wanted))


@pytest.fixture(scope="module")
def stream() -> list[np.ndarray]:
    """The records of two epochs, in order."""
    found = records(pipeline())
    assert len(found) == 20
    return found


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 3}, {"batch_size": 20}, {"threads": 3, "prefetch": 4}, {"prefetch": 0}],
    ids=str,
)
def test_one_stream_in_batches_of_any_size_and_threads(options: Any, stream: list[np.ndarray]) -> None:
    assert same(records(pipeline(**options)), stream)


def test_steps_and_scans_serve_the_stream(stream: list[np.ndarray]) -> None:
    stepping = pipeline()
    assert same(records(stepping.step() for _ in range(5)), stream)
    scanned = pipeline().scan(lambda batch: batch["image"], length=5)
    assert same(list(np.asarray(scanned).reshape(20, 8, 8, 3)), stream)


def test_workers_serve_the_stream(stream: list[np.ndarray]) -> None:
    working = pipeline(workers=2)
    assert same(records(working), stream)
    working.close()


def test_a_resumed_pipeline_goes_on(stream: list[np.ndarray]) -> None:
    begun = pipeline()
    served = [next(batches) for batches in [iter(begun)] for _ in range(2)]
    resumed = pipeline()
    resumed.set_state(begun.get_state())
    assert same([*records(served), *records(resumed)], stream)


def test_epochs_are_augmented_differently(stream: list[np.ndarray]) -> None:
    first, second = stream[:10], stream[10:]
    assert not any(np.array_equal(one, other) for one in first for other in second)


def test_a_pipeline_from_a_file(tmp_path: Path) -> None:
    files = [encode(noise(12, 9, seed=seed), "PNG") for seed in range(6)]
    length = max(map(len, files))
    np.savez(tmp_path / "photos.npz", image=np.array(files, f"S{length}"), label=np.arange(6))
    (tmp_path / "train.yaml").write_text(CONFIG)
    found = list(Pipeline.from_config(tmp_path / "train.yaml"))
    assert [batch["image"].shape for batch in found] == [(4, 8, 8, 3)] * 3
    assert sorted(np.concatenate([batch["label"] for batch in found]).tolist()) == sorted([*range(6)] * 2)
    assert same(records(found), records(Pipeline.from_config(tmp_path / "train.yaml")))


def test_detection_with_boxes_padded_to_one_length() -> None:
    boxes = boxes_column([[[0, 0, 4, 4], [8, 8, 12, 12]], [], [[2, 2, 10, 10]]])
    data = {"image": column([encode(noise(12, 12, seed=seed)) for seed in range(3)]), "boxes": boxes}
    source = MemorySource(MemorySourceConfig(), data)
    chain = [
        DecodeImage(field="image"),
        Resize(field="image", size=24, boxes="boxes"),
        CenterCrop(field="image", size=12, boxes="boxes"),
        Pad(field="boxes", length=2, value=-1, mask_field="is_box"),
    ]
    (batch,) = Pipeline(source=source, stages=chain, batch_size=3)
    assert isinstance(batch["image"], jax.Array)
    assert batch["boxes"].tolist() == [
        [[0, 0, 2, 2], [10, 10, 12, 12]],
        [[-1] * 4] * 2,
        [[0, 0, 12, 12], [-1] * 4],
    ]
    assert batch["is_box"].tolist() == [[True, True], [False, False], [True, False]]


def test_images_of_all_sizes_ride_beside_the_batch() -> None:
    source = MemorySource(MemorySourceConfig(), photos())
    batch = next(iter(Pipeline(source=source, stages=[DecodeImage(field="image")], batch_size=4)))
    assert isinstance(batch["image"], Ragged)
    assert np.array_equal(batch["image"][1], noise(*batch["image"][1].shape[:2], seed=1))


def test_an_error_names_stage_source_and_records() -> None:
    data = photos()
    data["image"][6] = data["image"][6][:-60]
    source = MemorySource(MemorySourceConfig(), data, name="photos")
    with pytest.raises(StageError, match=r"a PNG of .* bytes is damaged or cut off") as raised:
        list(Pipeline(source=source, stages=stages(), batch_size=4, rngs=nnx.Rngs(0)))
    notes = " ".join(raised.value.__notes__)
    assert "in row 2 of the batch" in notes
    assert "stage 1 (decode_image + random_resized_crop)" in notes
    assert "records 4, 5, 6, 7 of MemorySource 'photos'" in notes
    assert "record 6 fails by itself" in notes


def test_a_declared_size_is_refused_with_the_name_of_the_limit() -> None:
    data = {"image": column([png(100_000, 100_000, 8, 2, b"\0" * 900)])}
    with pytest.raises(StageError, match="100000 x 100000 pixels, more than max_pixels, which is 100000000"):
        list(Pipeline(source=MemorySource(MemorySourceConfig(), data), stages=stages(), batch_size=1, rngs=nnx.Rngs(0)))


def test_a_stage_on_the_host_behind_a_compiled_one_is_refused() -> None:
    source = MemorySource(MemorySourceConfig(), photos())
    with pytest.raises(
        StageError, match=r"stages\[4\]: resize runs on the host, and stands behind stage 3 \(normalize\)"
    ):
        Pipeline(source=source, stages=[*stages(), Resize(field="image", size=4)], batch_size=4, rngs=nnx.Rngs(0))


def test_a_compiled_stage_says_what_brings_images_to_one_size() -> None:
    source = MemorySource(MemorySourceConfig(), photos())
    chain = [DecodeImage(field="image"), Normalize(field="image", mean=[0.5], std=[0.5])]
    with pytest.raises(StageError, match="image"):
        Pipeline(source=source, stages=chain, batch_size=4)
