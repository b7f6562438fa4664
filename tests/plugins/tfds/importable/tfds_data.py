"""Real TFDS data sets on disk, in both formats and several shards. TensorFlow writes them in another process.

``tfds_data.write_all(folder)`` fills ``folder/tfrecord`` and ``folder/array_record``, each a TFDS data_dir with the data sets:

- ``digits``: uint8 images as raw tensors, int64 labels; supervised; splits train (1,500 in 3 shards) and test (297 in 3).
- ``digits_png``: the same, PNG-encoded, the label a class label.
- ``captions``: text, ragged numbers, images of varying size, a sequence of dicts.
- ``nested``: nested features, text among them.
- ``episodes``: steps (a data set in each record) with frames, text, and sequences; another field beside them.
- ``pairs``: supervised; its (input, target) pair has other names than image and label.

The records of each data set are in the order of their number, which is also in the field ``id`` if the data set has one.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

FORMATS = ("tfrecord", "array_record")
SPLITS = {"train": 1500, "test": 297}
NUM_SMALL = 60
"""Number of records of captions, nested, episodes and pairs, whose only split is train."""


def digit_images() -> np.ndarray:
    """Return the images of train, then of test, uint8 (1797, 8, 8, 1)."""
    images: np.ndarray = (load_digits().images * 15).astype(np.uint8)[..., None]
    return images


def digit_labels() -> np.ndarray:
    """Return the labels of train, then of test, int64 (1797,)."""
    labels: np.ndarray = load_digits().target.astype(np.int64)
    return labels


def caption(number: int) -> dict[str, Any]:
    """Return record ``number`` of captions."""
    size = 4 + number % 3
    return {
        "id": number,
        "text": f"the digit {number}, öäü" if number % 7 else "",
        "words": [f"w{k}" for k in range(number % 4)],
        "numbers": [number * 10 + k for k in range(number % 5)],
        "image": np.full((size, size + 1, 3), number * 4, np.uint8),
        "boxes": [{"x": k * 0.5, "tag": f"b{k}"} for k in range(number % 3)],
    }


def nested(number: int) -> dict[str, Any]:
    """Return record ``number`` of nested."""
    return {
        "id": number,
        "observation": {
            "image": digit_images()[number],
            "state": np.array([number, 0.5, -1], np.float32),
            "where": {"row": number % 7, "is_last": number % 2 == 0},
        },
        "about": {"text": f"record {number}", "weight": number / 4},
        "window": [number, number + 1, number + 2],
    }


def episode(number: int) -> dict[str, Any]:
    """Return record ``number`` of episodes."""
    steps = [
        {
            "frame": digit_images()[number + k],
            "action": np.array([number, k], np.float32),
            "told": f"do {k}",
            "seen": list(range(k)),
            "where": {"is_last": k == number % 4},
        }
        for k in range(number % 4 + 1)
    ]
    return {"id": number, "steps": steps, "about": {"file": f"episode {number}"}}


def pair(number: int) -> dict[str, Any]:
    """Return record ``number`` of pairs."""
    return {"signal": np.array([number, number * 2], np.float32), "answer": number % 5, "noise": float(number)}


def write_all(folder: Path) -> None:
    """Write every data set in every format."""
    subprocess.run([sys.executable, __file__, str(folder)], check=True, capture_output=True)  # noqa: S603


def _write(where: tuple[Path, str]) -> None:
    from tensorflow_datasets import features as f  # noqa: PLC0415 - imported by the writing process only

    images, labels = digit_images(), digit_labels()

    def digits(number: int) -> dict[str, Any]:
        return {"image": images[number], "label": int(labels[number])}

    image = f.Image(shape=(8, 8, 1), encoding_format="png")
    raw = f.Tensor(shape=(8, 8, 1), dtype=np.uint8)
    _store(where, "digits", {"image": raw, "label": f.Scalar(np.int64)}, digits, ("image", "label"))
    png = {"image": image, "label": f.ClassLabel(num_classes=10)}
    _store(where, "digits_png", png, digits, ("image", "label"))
    captions = {
        "id": f.Scalar(np.int64),
        "text": f.Text(),
        "words": f.Sequence(f.Text()),
        "numbers": f.Sequence(f.Scalar(np.int32)),
        "image": f.Image(shape=(None, None, 3), encoding_format="png"),
        "boxes": f.Sequence({"x": f.Scalar(np.float32), "tag": f.Text()}),
    }
    _store(where, "captions", captions, caption)
    in_each_other = {
        "id": f.Scalar(np.int64),
        "observation": {
            "image": image,
            "state": f.Tensor(shape=(3,), dtype=np.float32),
            "where": {"row": f.Scalar(np.int32), "is_last": f.Scalar(np.bool_)},
        },
        "about": {"text": f.Text(), "weight": f.Scalar(np.float64)},
        "window": f.Sequence(f.Scalar(np.int64), length=3),
    }
    _store(where, "nested", in_each_other, nested)
    steps = {
        "frame": image,
        "action": f.Tensor(shape=(2,), dtype=np.float32),
        "told": f.Text(),
        "seen": f.Sequence(f.Scalar(np.int64)),
        "where": {"is_last": f.Scalar(np.bool_)},
    }
    episodes = {"id": f.Scalar(np.int64), "steps": f.Dataset(steps), "about": {"file": f.Text()}}
    _store(where, "episodes", episodes, episode)
    signal = {
        "signal": f.Tensor(shape=(2,), dtype=np.float32),
        "answer": f.Scalar(np.int64),
        "noise": f.Scalar(np.float32),
    }
    _store(where, "pairs", signal, pair, ("signal", "answer"))


def _store(
    where: tuple[Path, str],
    name: str,
    features: dict[str, Any],
    record: Callable[[int], dict[str, Any]],
    supervised: tuple[str, str] | None = None,
) -> None:
    import tensorflow_datasets as tfds  # noqa: PLC0415 - imported by the writing process only
    from tensorflow_datasets.core.dataset_builders.adhoc_builder import AdhocBuilder  # noqa: PLC0415

    class Made(AdhocBuilder, skip_registration=True):  # type: ignore[misc,call-arg]  # TFDS ships no types
        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"{name}, made for tests.",
                features=tfds.features.FeaturesDict(features),
                supervised_keys=supervised,
                disable_shuffling=True,
            )

    numbers = {"train": range(NUM_SMALL)}
    if name.startswith("digits"):
        numbers = {"train": range(SPLITS["train"]), "test": range(SPLITS["train"], sum(SPLITS.values()))}
    builder = Made(
        name=name,
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={split: [(number, record(number)) for number in those] for split, those in numbers.items()},
        data_dir=where[0],
        disable_shuffling=True,
    )
    shards = 3 if name.startswith("digits") else 2
    config = tfds.download.DownloadConfig(num_shards=shards, try_download_gcs=False)
    builder.download_and_prepare(download_config=config, file_format=where[1])


if __name__ == "__main__":
    for wanted in FORMATS:
        _write((Path(sys.argv[1]) / wanted, wanted))
