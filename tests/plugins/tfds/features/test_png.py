"""PNG decoded many in one call: the pixels that were encoded, and for odd and damaged files what each gives by itself."""

import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tensorflow_datasets as tfds
import tfds_zoo
from tfds_records import example

from datarax_tfds.features import FeatureDecoder, UndecodableRecord, layouts, png
from datarax_tfds.features.png import PngForm
from datarax_tfds.features.png_streams import SIGNATURE

COLOR_TYPES = {1: 0, 3: 2, 4: 6}


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "_LEAST_BYTES", 0)


def chunk(name: bytes, data: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(name + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def header(height: int, width: int, channels: int, depth: int, interlaced: int = 0) -> bytes:
    fields = struct.pack(">IIBBBBB", width, height, depth, COLOR_TYPES[channels], 0, 0, interlaced)
    return SIGNATURE + chunk(b"IHDR", fields)


def filtered(pixels: np.ndarray, filters: Iterator[int]) -> bytes:
    """Return the rows of an image by the filters of PNG, one after another, in plain Python."""
    _, width, channels = pixels.shape
    step = channels * pixels.dtype.itemsize
    rows = [row.astype(pixels.dtype.newbyteorder(">")).tobytes() for row in pixels]
    made, above = b"", bytes(width * step)
    for row in rows:
        kind, line = next(filters), []
        for at, value in enumerate(row):
            left, up, corner = (row[at - step], above[at], above[at - step]) if at >= step else (0, above[at], 0)
            nearest = min((left, up, corner), key=lambda byte, sum_=left + up - corner: abs(sum_ - byte))
            line.append((value - [0, left, up, (left + up) // 2, nearest][kind]) % 256)
        made += bytes([kind, *line])
        above = row
    return made


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 3), (8, 6, 4), (40, 3, 1)])
def test_pixels_of_every_filter_are_those_that_were_encoded(shape: tuple[int, ...], dtype: Any) -> None:
    rng, kinds = np.random.default_rng(0), cycle([3, 4, 1, 2, 0, 4, 3])
    images = rng.integers(0, np.iinfo(dtype).max, (30, *shape), dtype, endpoint=True)
    head = header(*shape, depth=8 * images.itemsize)
    files = [head + chunk(b"IDAT", zlib.compress(filtered(it, kinds))) + chunk(b"IEND", b"") for it in images]
    out = np.zeros_like(images)
    form = PngForm.of(shape, images.dtype)
    assert form is not None
    assert form.decode(files, out) == []
    assert np.array_equal(out, images)


@pytest.mark.parametrize("count", [1, 2, 90, 91])
def test_groups_and_large_images_are_whole(count: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, 90, 120, 3), np.uint8)
    form, out = PngForm.of(images.shape[1:], images.dtype), np.zeros_like(images)
    assert form is not None
    assert 1 < form.group < 90
    assert form.decode([imagecodecs.png_encode(image) for image in images], out) == []
    assert np.array_equal(out, images)


def test_rows_that_fill_blocks_exactly_end_the_stream() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 254, 256, 1), np.uint8)  # 255 * 257 is the most of a block
    form, out = PngForm.of(images.shape[1:], images.dtype), np.zeros_like(images)
    assert form is not None
    assert form.decode([imagecodecs.png_encode(images[0, ..., 0].copy())], out) == []
    assert np.array_equal(out, images)


# -- odd and damaged files ---------------------------------------------------------------------------------------------------


PIXELS = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
ROWS = filtered(PIXELS, cycle(range(5)))
STREAM = zlib.compress(ROWS)
HEAD, END = header(9, 11, 3, 8), chunk(b"IEND", b"")


def with_window(bits: int) -> bytes:
    """Return the stream with the logarithm of another window in its header."""
    first = (bits - 8) << 4 | 8
    return bytes([first, 31 - first * 256 % 31]) + STREAM[2:]


def odd_files() -> dict[str, bytes]:
    around = [HEAD + chunk(b"IDAT", STREAM[:20]), chunk(b"IDAT", STREAM[20:]) + END]
    files = {
        "several chunks": b"".join(around),
        "an empty chunk": HEAD + chunk(b"IDAT", b"") + chunk(b"IDAT", STREAM) + END,
        "nothing but an empty chunk": HEAD + chunk(b"IDAT", b"") + END,
        "another chunk between": chunk(b"tEXt", b"a\0b").join(around),
        "a bad second chunk": HEAD + chunk(b"IDAT", STREAM[:20]) + chunk(b"IDAT", STREAM[20:], 1) + END,
        "a bad chunk behind all": HEAD + chunk(b"IDAT", STREAM) + chunk(b"IDAT", b"abc", 1) + END,
        "a bad checksum": HEAD + chunk(b"IDAT", STREAM, 1) + END,
        "no end": HEAD + chunk(b"IDAT", STREAM),
        "bytes behind the end": HEAD + chunk(b"IDAT", STREAM) + END + b"more",
        "interlaced": header(9, 11, 3, 8, 1) + chunk(b"IDAT", STREAM) + END,
        "a damaged header": HEAD[:-1] + b"\0" + chunk(b"IDAT", STREAM) + END,
        "the header alone": HEAD,
        "colors with a palette": tfds_zoo.pictures()["png of a palette"],
        "no image": b"no image",
        "no bytes": b"",
    }
    streams = {
        "a wrong sum": STREAM[:-1] + bytes([STREAM[-1] ^ 1]),
        "no sum": STREAM[:-4],
        "half a sum": STREAM[:-2],
        "bytes behind the stream": STREAM + b"more",
        "a row too many": zlib.compress(ROWS + bytes(34)),
        "a row too many and a wrong sum": zlib.compress(ROWS + bytes(34))[:-1] + b"\0",
        "a row too few": zlib.compress(ROWS[:-34]),
        "an unknown filter": zlib.compress(ROWS[:-34] + b"\5" + ROWS[-33:]),
        "a repetition beyond the end": zlib.compress(ROWS[:-34] + bytes(200)),
        "not compressed": zlib.compress(ROWS, 0),
    }
    streams |= {f"a window of {bits} bits": with_window(bits) for bits in (8, 9, 14, 15, 16, 23)}
    files |= {name: HEAD + chunk(b"IDAT", stream) + END for name, stream in streams.items()}
    for name in (
        "bKGD",
        "cHRM",
        "eXIf",
        "gAMA",
        "iCCP",
        "pHYs",
        "sBIT",
        "tEXt",
        "tRNS",
        "PLTE",
        "acTL",
        "abCd",
        "ABCD",
    ):
        for length in (1, 4, 6):
            other = chunk(name.encode(), bytes(length))
            files[f"{name} of {length} before"] = HEAD + other + chunk(b"IDAT", STREAM) + END
            files[f"{name} of {length} behind"] = HEAD + chunk(b"IDAT", STREAM) + other + END
    return files


def mutants() -> dict[str, bytes]:
    whole, rng = HEAD + chunk(b"gAMA", bytes(4)) + chunk(b"IDAT", STREAM) + END, np.random.default_rng(0)
    files = {}
    for number in range(300):
        place, value = int(rng.integers(8, len(whole))), int(rng.integers(256))
        length = len(whole) if number % 3 else int(rng.integers(len(whole)))
        files[f"mutant {number}"] = (whole[:place] + bytes([value]) + whole[place + 1 :])[:length]
    return files


def outcome(decode: Callable[[list[bytes]], Any], files: list[bytes]) -> Any:
    try:
        return decode([example(it=[file]) for file in files])["it"].tolist()
    except UndecodableRecord as error:
        return str(error)


@pytest.mark.parametrize("least_in_one_buffer", [1, 100], ids=["in one buffer", "apart"])
@pytest.mark.parametrize("files", [odd_files(), mutants()], ids=["odd", "mutants"])
def test_odd_files_give_among_others_what_they_give_alone(
    files: dict[str, bytes], least_in_one_buffer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "_LEAST_RECORDS", least_in_one_buffer)
    decode = FeatureDecoder(tfds.features.FeaturesDict({"it": tfds.features.Image(shape=(9, 11, 3))}), ["it"]).decode
    good = HEAD + chunk(b"IDAT", STREAM) + END
    batches = {name: [good, good, file, good] for name, file in files.items()}
    together = {name: outcome(decode, batch) for name, batch in batches.items()}
    monkeypatch.setattr(png, "_is_built", lambda: False)
    alone = {name: outcome(decode, batch) for name, batch in batches.items()}
    assert [name for name in files if together[name] != alone[name]] == []
    refused = [name for name, found in alone.items() if isinstance(found, str)]
    assert 3 < len(refused) < len(files)
    assert all(alone[name].startswith("record 2 of the batch: field 'it' has ") for name in refused)


def test_damaged_files_among_good_ones_leave_those_alone() -> None:
    images = [np.roll(PIXELS, number) for number in range(40)]
    files = [imagecodecs.png_encode(image) for image in images]
    for row in (3, 17):
        files[row] = files[row][:-20]
    form, out = PngForm.of(PIXELS.shape, PIXELS.dtype), np.zeros((40, *PIXELS.shape), np.uint8)
    assert form is not None
    assert form.decode(files, out) == [3, 17]
    assert all(np.array_equal(out[row], images[row]) for row in range(40) if row not in (3, 17))


def test_images_of_many_sizes_and_of_four_byte_floats() -> None:
    rng, f = np.random.default_rng(0), tfds.features
    images = [rng.integers(0, 256, (size, 8, 3), np.uint8) for size in (3, 9, 200)]
    records = [example(it=[imagecodecs.png_encode(image)]) for image in images]
    column = FeatureDecoder(f.FeaturesDict({"it": f.Image(shape=(None, 8, 3))}), ["it"]).decode(records)["it"]
    assert all(np.array_equal(found, image) for found, image in zip(column, images, strict=True))
    depths = rng.standard_normal((20, 6, 5, 1), np.float32)
    records = [example(it=[imagecodecs.png_encode(depth.view(np.uint8))]) for depth in depths]
    features = f.FeaturesDict({"it": f.Image(shape=(6, 5, 1), dtype=np.float32)})
    assert np.array_equal(FeatureDecoder(features, ["it"]).decode(records)["it"], depths)


# -- forms, and builds of the codecs ------------------------------------------------------------------------------------------


def test_there_is_no_form_of_other_arrays() -> None:
    assert PngForm.of((4, 4, 2), np.dtype(np.uint8)) is None
    assert PngForm.of((0, 4, 3), np.dtype(np.uint8)) is None
    assert PngForm.of((4, 4, 3), np.dtype(np.float32)) is None


def test_codecs_that_are_built_without_libtiff_decode_files_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def tiff_decode(*_: Any, **__: Any) -> Any:
        raise ImportError("no libtiff")

    assert png._is_built.__wrapped__()
    monkeypatch.setattr(png, "codecs", lambda: SimpleNamespace(tiff_decode=tiff_decode, deflate_adler32=zlib.adler32))
    assert not png._is_built.__wrapped__()
