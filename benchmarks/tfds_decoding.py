"""Speed of decoding TFDS records, against TFDS's own decoders for NumPy, and against the image codec alone."""

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from _measure import Row, against
from sklearn.datasets import load_sample_image
from tensorflow_datasets import features as f
from tensorflow_datasets.proto import tf_example_pb2

from datarax_tfds.features import FeatureDecoder

RECORDS, LARGE_RECORDS = 256, 32


def crops(size: int, count: int) -> np.ndarray:
    """Return crops of a photograph."""
    rng, photograph = np.random.default_rng(0), load_sample_image("china.jpg")
    corners = rng.integers(0, np.array(photograph.shape[:2]) - size, (count, 2))
    return np.stack([photograph[y : y + size, x : x + size] for y, x in corners.tolist()])


def records_of(images: list[Any]) -> list[bytes]:
    """Return a serialized Example of each image, as bytes or integers, with a label."""
    records = []
    for number, image in enumerate(images):
        example = tf_example_pb2.Example()
        feature = example.features.feature
        feature["label"].int64_list.value.append(number % 10)
        if isinstance(image, bytes):
            feature["image"].bytes_list.value.append(image)
        else:
            feature["image"].int64_list.value.extend(image.reshape(-1).tolist())
        records.append(example.SerializeToString())
    return records


def compared(what: str, image: Any, values: list[Any], target: float, codec: Callable[..., Any] | None = None) -> Row:
    """Return the row for our decoder against TFDS's, record by record, with the results dropped; or against the codec alone."""
    features = f.FeaturesDict({"image": image, "label": f.ClassLabel(num_classes=10)})
    decoder, records = FeatureDecoder(features, ["image", "label"]), records_of(values)

    def by_tfds() -> None:
        for record in records:
            features.deserialize_example_np(record)

    def by_codec() -> None:
        out = np.empty((len(values), *image.shape), np.uint8)
        for row, value in enumerate(values):
            codec(value, out=out[row])

    return against(
        by_codec if codec else by_tfds,
        lambda: decoder.decode(records),
        records=len(records),
        what=f"{what}, {'the codec alone' if codec else 'TFDS decodes'}",
        target=target,
        runs=31,  # short runs, which a busy machine seldom interrupts
    )


def rows() -> list[Row]:
    """Measure raw tensors as TFDS stores them, and encoded images, small and large."""
    small, large = crops(32, RECORDS), crops(224, LARGE_RECORDS)
    png = [imagecodecs.png_encode(image) for image in small]
    jpeg = [imagecodecs.jpeg8_encode(image, level=90) for image in large]
    png_32, jpeg_224 = f.Image(shape=(32, 32, 3)), f.Image(shape=(224, 224, 3), encoding_format="jpeg")
    raw = f.Tensor(shape=(32, 32, 3), dtype=np.uint8)
    in_bytes = f.Tensor(shape=(32, 32, 3), dtype=np.uint8, encoding="bytes")
    return [
        compared("uint8 32x32x3 as integers", raw, list(small), 3.0),
        compared("uint8 32x32x3 as bytes", in_bytes, [image.tobytes() for image in small], 6.0),
        compared("PNG 32x32x3", png_32, png, 2.5),
        compared("JPEG 224x224x3", jpeg_224, jpeg, 1.2),
        compared("PNG 32x32x3", png_32, png, 0.75, imagecodecs.png_decode),
        compared("JPEG 224x224x3", jpeg_224, jpeg, 0.8, imagecodecs.jpeg8_decode),
    ]
