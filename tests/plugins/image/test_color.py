"""Colors are normalized and changed as published, compared with Pillow and with Python's own color spaces."""

import colorsys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from pictures import colors, noise
from PIL import Image, ImageEnhance

from datarax_core import StageError
from datarax_core.records import spec_of
from datarax_image import ColorJitter, Normalize
from datarax_image.color import blended, with_hue

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build(stage: Any, batch: Any) -> Any:
    return stage.build(spec_of(batch), nnx.Rngs())


def keys(count: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


# -- normalize ------------------------------------------------------------------------------------------------------------


def test_uint8_is_normalized_from_shares_of_255() -> None:
    batch = {"image": noise(6, 7)[None], "label": np.arange(1)}
    made = jax.jit(build(Normalize(field="image", mean=MEAN, std=STD), batch))(batch)
    wanted = (batch["image"] / 255 - np.array(MEAN)) / np.array(STD)
    assert made["image"].dtype == np.float32
    assert np.allclose(made["image"], wanted, atol=2e-6)
    assert made["label"][0] == 0


@pytest.mark.parametrize(
    ("dtype", "unit"), [(np.uint16, 65535), (np.int32, 2**31 - 1), (np.float32, 1), (jnp.bfloat16, 1)]
)
def test_units_of_other_dtypes(dtype: Any, unit: int) -> None:
    pixels = (np.random.default_rng(0).random((2, 3, 4, 1)) * min(unit, 30000)).astype(dtype)
    made = build(Normalize(field="image", mean=[0.5], std=[0.25]), {"image": pixels})({"image": pixels})["image"]
    assert np.allclose(made, (pixels.astype(np.float64) / unit - 0.5) / 0.25, rtol=1e-5, atol=1e-5)


def test_a_unit_and_a_dtype_of_ones_own() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)  # no channels: one number is for all
    stage = Normalize(field="image", mean=[0.0], std=[1.0], max_value=16.0, dtype="bfloat16")
    made = build(stage, {"image": pixels})({"image": pixels})["image"]
    assert made.dtype == jnp.bfloat16
    assert np.array_equal(made.astype(np.float32), pixels / 16)


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        (
            np.zeros((1, 2, 2, 3), np.uint8),
            {"mean": [0.1, 0.2]},
            r"2 numbers are given, and field 'image' of shape \[2, 2, 3\] has 3",
        ),
        (np.zeros((1, 2, 2, 3), np.uint8), {"std": [1.0, 1.0]}, "2 numbers are given"),
        (np.zeros((1,), np.float32), {"mean": [0.1, 0.2]}, "has no channels on its last axis"),
        (np.zeros((1, 2), bool), {}, "field 'image' is bool; colors are integers or floats"),
    ],
)
def test_fields_that_cannot_be_normalized(pixels: Any, options: Any, message: str) -> None:
    with pytest.raises(StageError, match=message):
        build(Normalize(**{"field": "image", "mean": [0.5], "std": [0.5], **options}), {"image": pixels})


def test_a_deviation_of_0_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        Normalize(field="image", mean=[0.5], std=[0.0])


# -- the adjustments ------------------------------------------------------------------------------------------------------


def planes_of(pixels: np.ndarray) -> tuple[jax.Array, ...]:
    return tuple(jnp.asarray(pixels[..., channel] / 255, np.float32) for channel in range(3))


@pytest.mark.parametrize(
    ("enhance", "numbers"),
    [(ImageEnhance.Brightness, (0.0, 0.0)), (ImageEnhance.Contrast, (1.0, 0.0)), (ImageEnhance.Color, (0.0, 1.0))],
)
@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
def test_blends_are_those_of_pillow(enhance: Any, numbers: tuple[float, float], factor: float) -> None:
    pixels = noise(9, 8)
    found = np.stack(blended(planes_of(pixels), factor, *numbers), axis=-1) * 255
    wanted = np.asarray(enhance(Image.fromarray(pixels)).enhance(factor), np.float32)
    assert np.abs(found - wanted).max() <= 2  # Pillow rounds grey, its mean and the result


@pytest.mark.parametrize("turns", [0.0, 0.1, -0.3, 0.5, -0.5])
def test_hue_is_turned_on_the_circle_of_colorsys(turns: float) -> None:
    pixels = np.concatenate(
        [noise(9, 8), [[[0, 0, 0], [255] * 3, [7, 7, 7], [255, 0, 0], [0, 255, 255], [9, 9, 3]] + [[1, 2, 3]] * 2]]
    )
    found = np.stack(with_hue(planes_of(pixels), turns), axis=-1).reshape(-1, 3)
    for got, pixel in zip(found, pixels.reshape(-1, 3) / 255, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        assert np.allclose(got, colorsys.hsv_to_rgb((hue + turns) % 1.0, saturation, value), atol=1e-5)


# -- color_jitter ---------------------------------------------------------------------------------------------------------

ALL = {"brightness": 0.4, "contrast": 0.3, "saturation": 0.5, "hue": 0.1}


@jax.jit
def draws(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the order of four adjustments, and a number from 0 to 1 for each, as the stage draws them."""
    order_key, *factor_keys = jax.random.split(key, 5)
    return jax.random.permutation(order_key, 4), jnp.stack([jax.random.uniform(each) for each in factor_keys])


def reference(pixels: np.ndarray, key: jax.Array) -> np.ndarray:
    """Return a picture after the adjustments one by one, in NumPy and by colorsys."""
    order, shares = map(np.asarray, draws(key))
    image = pixels / 255
    for place in order.tolist():
        name, most = list(ALL.items())[place]
        if name == "hue":
            turns = most * (2 * shares[place] - 1)
            hsv = [colorsys.rgb_to_hsv(*pixel) for pixel in image.reshape(-1, 3)]
            turned = [colorsys.hsv_to_rgb((hue + turns) % 1.0, *others) for hue, *others in hsv]
            image = np.array(turned).reshape(image.shape)
            continue
        factor = 1 - most + 2 * most * shares[place]
        grey = image @ np.array([0.299, 0.587, 0.114])
        other = {"brightness": 0.0, "contrast": grey.mean(), "saturation": grey[..., None]}[name]
        image = np.clip(factor * image + (1 - factor) * other, 0, 1)
    return np.round(image * 255)


def test_every_record_is_adjusted_by_its_key() -> None:
    pixels = np.stack([noise(6, 5, seed=seed) for seed in range(12)])
    stage = ColorJitter(field="image", **ALL)
    made = jax.jit(build(stage, {"image": pixels}))({"image": pixels}, keys(12))["image"]
    assert made.dtype == np.uint8
    wanted = np.stack([reference(row, key) for row, key in zip(pixels, keys(12), strict=True)])
    assert np.abs(np.asarray(made, int) - wanted).max() <= 1  # of a float that is rounded either way
    assert (made != pixels).any((1, 2, 3)).all()


def test_one_adjustment_alone() -> None:
    pixels = np.stack([noise(6, 5, seed=seed) for seed in range(3)])
    made = jax.jit(ColorJitter(field="image", hue=0.2))({"image": pixels}, keys(3))["image"]
    assert (made != pixels).any((1, 2, 3)).all()
    assert np.abs(made.max(-1).astype(int) - pixels.max(-1)).max() <= 1  # hue leaves the greatest channel


def test_floats_stay_floats_and_gradients_flow() -> None:
    pixels = jnp.asarray(noise(4, 4)[None] / 255, np.float32)
    stage = build(ColorJitter(field="image", contrast=0.4, hue=0.1), {"image": pixels})
    total = jax.jit(jax.value_and_grad(lambda image: stage({"image": image}, keys(1))["image"].sum()))
    value, slope = total(pixels)
    assert value.dtype == np.float32
    assert np.isfinite(slope).all()
    assert (slope != 0).any()


def test_factors_are_drawn_evenly() -> None:
    grey = np.full((4000, 1, 1, 3), 0.25, np.float32)
    made = ColorJitter(field="image", brightness=0.4)({"image": grey}, keys(4000))["image"][:, 0, 0, 0] / 0.25
    assert 0.6 <= float(made.min()) < 0.605
    assert 1.395 < float(made.max()) <= 1.4
    assert abs(float(made.mean()) - 1) < 0.02


@pytest.mark.parametrize("pixels", [colors(channels=4)[None], colors()[None].astype(np.int32), colors()])
def test_pictures_that_are_not_rgb(pixels: np.ndarray) -> None:
    with pytest.raises(
        StageError, match=r"colors are changed of RGB pictures \(height, width, 3\), of uint8 or of floats"
    ):
        build(ColorJitter(field="image", hue=0.1), {"image": pixels})


def test_a_jitter_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="brightness, contrast, saturation and hue are all 0; give one of them"):
        ColorJitter(field="image")
    with pytest.raises(ValueError, match=r"less than or equal to 0\.5"):
        ColorJitter(field="image", hue=0.6)
