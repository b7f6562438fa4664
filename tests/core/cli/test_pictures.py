"""`drx peek --png`: which fields are drawn as images, and how."""

from pathlib import Path

import numpy as np
import pytest

from datarax_core import Ragged
from datarax_core._cli.looking.pictures import IMAGES, as_images, draw

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((5, 28, 28), (5, 28, 28)),
        ((5, 28, 28, 1), (5, 28, 28)),
        ((5, 28, 28, 3), (5, 28, 28, 3)),
        ((5, 28, 28, 4), (5, 28, 28, 4)),
        ((5, 28, 28, 2), (5, 28, 28)),
        ((5, 3, 32, 30), (5, 32, 30, 3)),
        ((5, 1, 32, 30), (5, 32, 30)),
        ((100, 8, 8), (IMAGES, 8, 8)),
    ],
)
def test_images_are_known_by_their_shape(shape: tuple[int, ...], shown: tuple[int, ...]) -> None:
    images = as_images(RANDOM.integers(0, 256, shape, np.uint8))
    assert images is not None
    assert images.shape == shown


@pytest.mark.parametrize("shape", [(5,), (5, 28), (5, 4, 4), (0, 28, 28), (5, 28, 28, 17), (5, 2, 28, 28, 3)])
def test_a_field_that_is_no_image_has_no_picture(shape: tuple[int, ...]) -> None:
    assert as_images(np.zeros(shape, np.uint8)) is None
    assert as_images(np.zeros(shape, "U3")) is None


def test_bytes_keep_their_brightness_and_what_leaves_0_to_1_is_scaled() -> None:
    pixels = np.zeros((2, 8, 8), np.uint8)
    pixels[1] = 51
    assert np.allclose(np.unique(as_images(pixels)), [0, 0.2])
    assert np.allclose(np.unique(as_images(pixels.astype(np.float32) / 255)), [0, 0.2])
    assert np.allclose(np.unique(as_images(pixels.astype(np.float64) - 17)), [0, 1])
    assert np.allclose(np.unique(as_images(pixels.astype(np.int32) * 100)), [0, 1])
    assert np.allclose(np.unique(as_images(pixels == 51)), [0, 1])


def test_images_that_are_not_finite_are_drawn_all_the_same() -> None:
    for value in np.nan, np.inf, -np.inf:
        pixels = np.full((2, 8, 8), value, np.float32)
        pixels[1, :4] = 3e38, -3e38, 0, 1, 2, 3, 4, 5
        images = as_images(pixels)
        assert images is not None
        assert ((images >= 0) & (images <= 1)).all()


@pytest.mark.parametrize(
    "columns",
    [
        {"image": RANDOM.integers(0, 256, (9, 8, 8, 3), np.uint8), "label": np.arange(9)},
        {
            "x": RANDOM.normal(size=(9, 3)),
            "y": np.array([np.nan, 1e308, -1e308] * 3),
            "z": np.arange(9),
            "w": np.arange(1000),
        },
        {"text": np.array(["$x^2$ and\n" * 50, "", "Grüße"], object), "day": np.array(["2024-01-01"] * 3, "M8[D]")},
        {"raw": np.array([b"\xff\x00", b""], object), "meta": np.array([None, {"a": 1}], object)},
    ],
    ids=["images and labels", "numbers", "text", "objects"],
)
def test_whatever_fields_there_are_a_picture_is_drawn(columns: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "picture"
    draw(path, columns, "a title with $ and _")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_images_of_all_sizes_are_drawn_each_in_its_own(tmp_path: Path) -> None:
    images = [RANDOM.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((8, 12), (20, 8), (9, 9))]
    column = Ragged.from_list(images)
    assert [image.shape for image in as_images(column) or []] == [image.shape for image in images]
    assert as_images(Ragged.from_list([np.ones((8, 8, 3)), np.ones((2, 2, 3))])) is None
    assert as_images(Ragged.from_list([[1], [2, 3]])) is None
    words = Ragged.from_list([["a"], [], ["b", "c"]])
    draw(tmp_path / "all.png", {"image": column, "tokens": Ragged.from_list([[1], [], [2]]), "words": words}, "all")
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
