"""Records of every type of feature, and the values that TFDS decodes from them by TensorFlow, in another process.

``tfds_zoo.write(folder)`` fills ``folder/zoo.pickle``. For each name in `ANIMALS` it holds the records, and the values that
TFDS decodes from each, by TensorFlow and by NumPy; if the declaration imports TensorFlow, also the values that datarax decodes.
For each of `pictures` it holds the image as TensorFlow decodes it, for each number of channels and dtype.
"""

import pickle
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ml_dtypes
import numpy as np

FIXED_DTYPES: Final = (
    *(np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    *(np.float16, np.float32, np.float64),
)
BYTES_DTYPES: Final = (*FIXED_DTYPES, ml_dtypes.bfloat16)
DECODED_THERE: Final = ("video", "audio")
"""Features whose declarations import TensorFlow; the process that imports it decodes them."""


@dataclass(frozen=True)
class Animal:
    """A function that makes a feature, and values of the feature."""

    feature: Callable[[], Any]
    values: tuple[Any, ...]


def extremes(dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return the least and the greatest value of a dtype, and some between."""
    dtype = np.dtype(dtype)
    if dtype == np.bool_:
        values = np.array([True, False])
    elif dtype.kind in "iu":
        info = np.iinfo(dtype)
        values = np.array([info.min, info.max, 0, 1, 127, min(128, info.max), min(300, info.max)], dtype)
    else:
        values = np.array([0, -0.0, 1.5, -2, np.inf, np.nan, 2**-10], dtype)
    return np.resize(values, shape)


def pixels(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    """Return an image with a gradient, of any shape."""
    count = int(np.prod(shape))
    return (np.arange(count) * 7919 % (np.iinfo(dtype).max + 1)).astype(dtype).reshape(shape)


def animals() -> dict[str, Animal]:
    """Return features by name, with values of each."""
    from tensorflow_datasets import features as f  # noqa: PLC0415 - slow to import

    found: dict[str, Animal] = {}
    for dtype in FIXED_DTYPES:
        name = np.dtype(dtype).name
        found[f"{name} numbers"] = Animal(
            lambda dtype=dtype: f.Tensor(shape=(2, 4), dtype=dtype), (extremes(dtype, (2, 4)), np.zeros((2, 4), dtype))
        )
        found[f"{name} scalar"] = Animal(
            lambda dtype=dtype: f.Scalar(dtype), tuple(extremes(dtype, (7,))) if dtype != np.uint64 else (5, 2**62)
        )
    for dtype in BYTES_DTYPES:
        for encoding in ("bytes", "zlib"):
            found[f"{np.dtype(dtype).name} {encoding}"] = Animal(
                lambda dtype=dtype, encoding=encoding: f.Tensor(shape=(3, 2), dtype=dtype, encoding=encoding),
                (extremes(dtype, (3, 2)), np.ones((3, 2), dtype)),
            )
    found |= {
        "empty": Animal(lambda: f.Tensor(shape=(2, 0), dtype=np.int8), (np.zeros((2, 0), np.int8),)),
        "any length": Animal(
            lambda: f.Tensor(shape=(None, 2), dtype=np.int16), (np.ones((3, 2), np.int16), np.zeros((0, 2), np.int16))
        ),
        "any width": Animal(lambda: f.Tensor(shape=(2, None), dtype=np.float64), (np.ones((2, 5)), np.zeros((2, 0)))),
        "any length in bytes": Animal(
            lambda: f.Tensor(shape=(None, 2), dtype=np.int32, encoding="bytes"), (extremes(np.int32, (3, 2)),)
        ),
        "any size": Animal(
            lambda: f.Tensor(shape=(None, None, 2), dtype=np.int32, encoding="zlib"),
            (extremes(np.int32, (2, 3, 2)), extremes(np.int32, (1, 4, 2))),
        ),
        "label": Animal(lambda: f.ClassLabel(names=["a", "b"]), ("b", "a", -1)),
        "box": Animal(f.BBoxFeature, (f.BBox(0.0, 0.25, 0.5, 1.0),)),
        "text": Animal(f.Text, ("öäü", "", "x" * 300)),
        "texts": Animal(lambda: f.Tensor(shape=(2,), dtype=np.object_), (np.array([b"a", b"bc"], object),)),
        "translation": Animal(lambda: f.Translation(["en", "fr"]), ({"en": "x", "fr": "y"},)),
        "translations": Animal(
            lambda: f.TranslationVariableLanguages(["en", "fr"]), ({"en": "x", "fr": ("y", "z")}, {"fr": "q"})
        ),
        "sequence": Animal(lambda: f.Sequence(np.int32), ([1, -2, 300], [])),
        "three": Animal(lambda: f.Sequence(f.Scalar(np.float32), length=3), ([1.5, 2.5, -1],)),
        "three texts": Animal(lambda: f.Sequence(f.Text(), length=3), (["a", "", "c"],)),
        "sequence of tensors": Animal(
            lambda: f.Sequence(f.Tensor(shape=(2,), dtype=np.uint8)), ([np.ones(2, np.uint8)] * 3, [])
        ),
        "sequence of tensors in bytes": Animal(
            lambda: f.Sequence(f.Tensor(shape=(2,), dtype=np.int16, encoding="bytes")),
            ([extremes(np.int16, (2,))] * 2, []),
        ),
        "two tensors in bytes": Animal(
            lambda: f.Sequence(f.Tensor(shape=(2,), dtype=np.int16, encoding="zlib"), length=2),
            ([extremes(np.int16, (2,)), np.zeros(2, np.int16)],),
        ),
        "sequence of dicts": Animal(
            lambda: f.Sequence({"x": f.Scalar(np.bool_), "y": {"z": f.Text()}}),
            ([{"x": True, "y": {"z": "p"}}, {"x": False, "y": {"z": ""}}], []),
        ),
        "sequence of images": Animal(
            lambda: f.Sequence(f.Image(shape=(3, 4, 1))), ([pixels(3, 4, 1), pixels(3, 4, 1) + 1], [])
        ),
        "two images": Animal(lambda: f.Sequence(f.Image(shape=(3, 4, 3)), length=2), ([pixels(3, 4, 3)] * 2,)),
        "sequence of images of one size": Animal(lambda: f.Sequence(f.Image()), ([pixels(3, 4, 3)] * 2, [])),
        "ragged": Animal(lambda: f.Sequence(f.Sequence(np.int32)), ([[1, 2], [], [3]], [], [[]])),
        "ragged thrice": Animal(
            lambda: f.Sequence(f.Sequence(f.Sequence(np.int64))), ([[[1], []], [], [[2, 3]]], [[], [[]]])
        ),
        "ragged texts": Animal(lambda: f.Sequence(f.Sequence(f.Text())), ([["a", "b"], []],)),
        "ragged tensors": Animal(
            lambda: f.Sequence(f.Sequence(f.Tensor(shape=(2,), dtype=np.float32))), ([[[1, 2]], [], [[3, 4], [5, 6]]],)
        ),
        "ragged images": Animal(
            lambda: f.Sequence(f.Sequence(f.Image(shape=(3, 2, 1)))), ([[pixels(3, 2, 1)], [], [pixels(3, 2, 1)] * 2],)
        ),
        "sequence of dicts of sequences": Animal(
            lambda: f.Sequence({"x": f.Sequence(f.Text()), "y": np.int32}),
            ([{"x": ["p"], "y": 1}, {"x": [], "y": 2}], []),
        ),
        "image": Animal(lambda: f.Image(shape=(5, 6, 3)), (pixels(5, 6, 3),)),
        "image of any size": Animal(f.Image, (pixels(5, 6, 3), pixels(2, 9, 3))),
        "grey image": Animal(lambda: f.Image(shape=(5, 6, 1)), (pixels(5, 6, 1),)),
        "transparent image": Animal(lambda: f.Image(shape=(5, 6, 4)), (pixels(5, 6, 4),)),
        "deep image": Animal(lambda: f.Image(shape=(5, 6, 3), dtype=np.uint16), (pixels(5, 6, 3, dtype=np.uint16),)),
        "float image": Animal(
            lambda: f.Image(shape=(5, 6, 1), dtype=np.float32),
            (np.linspace(-1, 2, 30, dtype=np.float32).reshape(5, 6, 1),),
        ),
        "float image of any size": Animal(
            lambda: f.Image(shape=(None, None, 1), dtype=np.float32),
            (np.linspace(-1, 2, 6, dtype=np.float32).reshape(3, 2, 1),),
        ),
        "labeled image": Animal(lambda: f.LabeledImage(labels=3, shape=(5, 6, 1)), (pixels(5, 6, 1) % 3,)),
        "optional number": Animal(lambda: f.Scalar(np.int32, optional=True), (7, None)),
        "optional numbers": Animal(
            lambda: f.Tensor(shape=(2,), dtype=np.float32, optional=True), (np.ones(2, np.float32), None)
        ),
        "optional text": Animal(lambda: f.Text(optional=True), ("x", None, "")),
        "nested": Animal(
            lambda: f.FeaturesDict({"a": {"b": np.int32, "c": f.Image(shape=(2, 2, 1))}, "d": f.Text()}),
            ({"a": {"b": 1, "c": pixels(2, 2, 1)}, "d": "x"},),
        ),
        "video": Animal(lambda: f.Video(shape=(None, 3, 2, 3)), (pixels(4, 3, 2, 3), pixels(1, 3, 2, 3))),
        "audio": Animal(f.Audio, (np.arange(5), np.arange(0))),
    }
    return found


def features_of(animal: Animal) -> Any:
    """Return the declaration of a data set with the feature as its field ``it``, and another field."""
    from tensorflow_datasets import features as f  # noqa: PLC0415 - slow to import

    return f.FeaturesDict({"it": animal.feature(), "also": np.int64})


def pictures() -> dict[str, bytes]:
    """Return encoded images of 5 x 7 pixels in all formats."""
    import imagecodecs  # noqa: PLC0415 - slow to import

    color, deep, codec = pixels(5, 7, 3), pixels(5, 7, 3, dtype=np.uint16), imagecodecs
    smooth = np.linspace(0, 255, 32 * 48 * 3).astype(np.uint8).reshape(32, 48, 3)
    return {
        "png of a palette": _png(3, b"PLTE" + bytes(range(120, 120 + 15))),
        "png of a palette with alpha": _png(3, b"PLTE" + bytes(range(15)), b"tRNS" + bytes([0, 128, 255])),
        "grey png with a transparent color": _png(0, b"tRNS\x00\x01"),
        "grey png of 2 bits": _png(0, depth=2),
        "png": codec.png_encode(color),
        "grey png": codec.png_encode(pixels(5, 7)),
        "grey png with alpha": codec.png_encode(pixels(5, 7, 2)),
        "png with alpha": codec.png_encode(pixels(5, 7, 4)),
        "deep png": codec.png_encode(deep),
        "deep grey png": codec.png_encode(pixels(5, 7, dtype=np.uint16)),
        "deep png with alpha": codec.png_encode(pixels(5, 7, 4, dtype=np.uint16)),
        "bmp": _bmp(24),
        "bmp with alpha": _bmp(32),
        "grey bmp": _bmp(8),
        "bmp from the top": _bmp(24, height=-5),
        "jpeg": codec.jpeg8_encode(smooth, level=90),
        "grey jpeg": codec.jpeg8_encode(smooth[..., 0].copy(), level=90),
        "cmyk jpeg": codec.jpeg8_encode(
            pixels(32, 48, 4) // 9 + 100, level=95, colorspace="CMYK", outcolorspace="CMYK"
        ),
    }


def _png(color_type: int, *chunks: bytes, depth: int = 8) -> bytes:
    """Return a PNG of 5 x 7 pixels and one channel, with values 0 to 3 and these chunks."""
    values = np.arange(35).reshape(5, 7) % 4
    shifts = np.arange(8 // depth)[::-1] * depth
    padded = np.pad(values, ((0, 0), (0, -7 % len(shifts)))).reshape(5, -1, len(shifts))
    rows = (padded << shifts).sum(axis=-1).astype(np.uint8)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = b"IHDR" + struct.pack(">IIBBBBB", 7, 5, depth, color_type, 0, 0, 0)
    parts = [header, *chunks, b"IDAT" + data, b"IEND"]
    framed = (struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def _bmp(bits: int, height: int = 5) -> bytes:
    """Return a BMP of 5 x 7 pixels."""
    rows = np.pad(pixels(5, 7 * bits // 8), ((0, 0), (0, -7 * bits // 8 % 4))).tobytes()
    header = struct.pack(
        "<2sIIIIiiHHIIiiII", b"BM", 54 + len(rows), 0, 54, 40, 7, height, 1, bits, 0, len(rows), 1, 1, 0, 0
    )
    return header + rows


def write(folder: Path) -> None:
    """Write ``folder/zoo.pickle``."""
    subprocess.run([sys.executable, __file__, str(folder)], check=True, capture_output=True)  # noqa: S603


def _write(folder: Path) -> None:
    cages: dict[str, Any] = {name: _cage(name, animal) for name, animal in animals().items()}
    cages["pictures"] = {
        (name, channels, dtype): _picture(encoded, channels, dtype)
        for name, encoded in pictures().items()
        for channels in (0, 1, 3, 4)
        for dtype in ("uint8", "uint16")
        if dtype == "uint8" or "png" in name  # imagecodecs crashes on some others
    }
    (folder / "zoo.pickle").write_bytes(pickle.dumps(cages))


def _cage(name: str, animal: Animal) -> dict[str, Any]:
    from datarax_tfds.features import FeatureDecoder  # noqa: PLC0415 - slow to import

    features = features_of(animal)
    records = [features.serialize_example({"it": value, "also": 3}) for value in animal.values]
    cage = {"records": records, "tensorflow": [], "numpy": []}
    for record in records:
        for reader, decode in (
            ("tensorflow", features.deserialize_example),
            ("numpy", features.deserialize_example_np),
        ):
            try:
                cage[reader].append(_plain(decode(record)["it"]))
            except Exception as error:  # noqa: BLE001 - any error means that it cannot
                cage[reader].append(error.__class__)
    if name in DECODED_THERE:
        cage["ours"] = FeatureDecoder(features, ["it"]).decode(records)["it"]
    return cage


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if hasattr(value, "to_list"):
        return value.to_list()
    return value.numpy() if hasattr(value, "numpy") else value


def _picture(encoded: bytes, channels: int, dtype: str) -> Any:
    import tensorflow as tf  # noqa: PLC0415 - slow to import

    try:
        return tf.image.decode_image(encoded, channels=channels, dtype=tf.dtypes.as_dtype(dtype)).numpy()
    except tf.errors.InvalidArgumentError:
        return None


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
