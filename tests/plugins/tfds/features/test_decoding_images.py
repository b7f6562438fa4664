"""Decoding of images: TensorFlow's own pixels for every file and declaration, and many images at once."""

import subprocess
import sys
import threading
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tensorflow_datasets as tfds
import tfds_zoo
from tfds_records import example

from datarax_tfds.features import FeatureDecoder, UndecodableRecord, threads
from datarax_tfds.features.threads import run_on_rows

f = tfds.features

LEVELS_OF_JPEG = 3
"""Levels by which pixels of JPEG may differ: TensorFlow uses a faster, less exact transform than Pillow, OpenCV and datarax."""


def decoded(encoded: bytes, shape: tuple[int | None, ...], dtype: str) -> Any:
    features = f.FeaturesDict({"it": f.Image(shape=shape, dtype=np.dtype(dtype).type)})
    return FeatureDecoder(features, ["it"]).decode([example(it=[encoded])])["it"][0]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [0, 1, 3, 4])
@pytest.mark.parametrize("name", tfds_zoo.pictures())
def test_pixels_are_those_of_tensorflow(zoo: dict[str, Any], name: str, channels: int, dtype: str) -> None:
    encoded, expected = tfds_zoo.pictures()[name], zoo["pictures"].get((name, channels, dtype))
    fixed = ((32, 48) if "jpeg" in name else (5, 7)) + (channels,)
    for shape in ((None, None, channels), fixed) if channels else ((None, None, None),):
        if _is_refused(name, channels, dtype):
            with pytest.raises(UndecodableRecord, match=r"has an image (of|that cannot be decoded)"):
                decoded(encoded, shape, dtype)
        elif expected is not None:
            found = decoded(encoded, shape, dtype)
            assert found.dtype == dtype
            if (name, channels) == ("grey png of 2 bits", 4):  # TensorFlow sets its alpha to 3 of 255
                found, expected = found[..., :3], expected[..., :3]
            differences = found.astype(int) - expected
            assert np.abs(differences).max() <= (LEVELS_OF_JPEG if "jpeg" in name else 0)


def _is_refused(name: str, channels: int, dtype: str) -> bool:
    """Return whether a conversion of channels has no single right result; TensorFlow's depends on the format."""
    has_colors = "grey" not in name and "jpeg" not in name
    return (channels == 1 and (has_colors or "cmyk" in name)) or (dtype == "uint16" and "png" not in name)


@pytest.mark.parametrize("shape", [(40, 50, 3), (None, None, 3)])
def test_webp_is_read(shape: tuple[int | None, ...]) -> None:
    image = tfds_zoo.pixels(40, 50, 3)
    assert np.array_equal(decoded(imagecodecs.webp_encode(image, lossless=True), shape, "uint8"), image)


def test_jpegs_with_bytes_behind_their_end_are_whole() -> None:
    jpeg = imagecodecs.jpeg8_encode(tfds_zoo.pixels(16, 16, 3))
    assert np.array_equal(decoded(jpeg + bytes(10), (16, 16, 3), "uint8"), imagecodecs.jpeg8_decode(jpeg))


@pytest.mark.parametrize("name", [*tfds_zoo.pictures(), "webp"])
def test_a_damaged_head_is_an_error_or_an_image(name: str) -> None:
    whole = imagecodecs.webp_encode(tfds_zoo.pixels(9, 9, 3)) if name == "webp" else tfds_zoo.pictures()[name]
    rng, refused = np.random.default_rng(0), 0
    for place in range(min(len(whole), 64)):
        for value in rng.integers(0, 256, 4).tolist():
            damaged = whole[:place] + bytes([value]) + whole[place + 1 :]
            try:
                assert decoded(damaged, (None, None, 3), "uint8").shape[-1] == 3
            except UndecodableRecord:
                refused += 1
    assert refused


# -- many at once -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 4)
    monkeypatch.setattr(threads, "_THREAD_BYTES", 1000)


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize("shape", [(40, 50, 3), (None, None, 3)])
def test_images_that_several_threads_decode_are_in_their_rows(shape: tuple[int | None, ...]) -> None:
    images = [np.roll(tfds_zoo.pixels(40, 50, 3), row) for row in range(37)]
    records = [example(it=[imagecodecs.png_encode(image)]) for image in images]
    before = threading.active_count()
    column = FeatureDecoder(f.FeaturesDict({"it": f.Image(shape=shape)}), ["it"]).decode(records)["it"]
    assert all(np.array_equal(found, image) for found, image in zip(column, images, strict=True))
    assert threading.active_count() == before


@pytest.mark.usefixtures("many_cores")
def test_the_bad_image_of_many_is_named() -> None:
    records = [example(it=[imagecodecs.png_encode(tfds_zoo.pixels(40, 50, 3))])] * 37
    records[23] = example(it=[imagecodecs.png_encode(tfds_zoo.pixels(41, 50, 3))])
    with pytest.raises(UndecodableRecord, match="record 23 of the batch: field 'it' has an image of 41 x 50 pixels"):
        FeatureDecoder(f.FeaturesDict({"it": f.Image(shape=(40, 50, 3))}), ["it"]).decode(records)


@pytest.mark.usefixtures("many_cores")
def test_several_threads_process_each_row_once() -> None:
    done, threads, all_started = [], set(), threading.Barrier(4, timeout=60)

    def work(start: int, stop: int) -> None:
        if threading.get_ident() not in threads:
            threads.add(threading.get_ident())
            all_started.wait()
        done.extend(range(start, stop))

    run_on_rows(work, 101, size=10_000)
    assert sorted(done) == list(range(101))
    assert len(threads) == 4


@pytest.mark.usefixtures("many_cores")
def test_an_error_of_a_thread_is_raised_and_the_threads_end() -> None:
    before = threading.active_count()

    def work(start: int, stop: int) -> None:
        del stop
        raise MemoryError(start)

    with pytest.raises(MemoryError):
        run_on_rows(work, 100, size=10_000)
    assert threading.active_count() == before


FORKS = """
import os
from datarax_tfds.features.threads import run_on_rows

def spread_once():
    done = []
    run_on_rows(lambda start, stop: done.extend(range(start, stop)), 100, size=1 << 20)
    return len(done)

spread_once()
child = os.fork()
if not child:
    os._exit(0 if spread_once() == 100 else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_decodes() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKS], check=True, timeout=60)  # noqa: S603
