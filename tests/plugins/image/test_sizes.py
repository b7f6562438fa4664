"""Pictures are resized, cut, padded and flipped as the library's own calls and independent references say."""

import math
from fractions import Fraction
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from pictures import colors, column, encode, generators, noise
from PIL import Image

from datarax_core import StageError
from datarax_core.records import Ragged, describe, spec_of
from datarax_image import CenterCrop, DecodeImage, Flip, RandomCrop, RandomResizedCrop, Resize

PICTURES = [noise(*size, seed=number) for number, size in enumerate([(12, 16), (31, 9), (8, 8), (20, 40)])]
RAGGED = {"image": Ragged.from_list(PICTURES, shape=(None, None, 3))}
METHODS = ["box", "bilinear", "hamming", "bicubic", "lanczos"]


def run(stage: Any, batch: Any, seed: int = 0) -> Any:
    """Return what a stage makes, after a check of its spec, with a generator for each record if it draws."""
    rngs = (generators(len(batch["image"]), seed),) if getattr(stage, "stochastic", False) else ()
    made = stage.build(spec_of(batch), nnx.Rngs())(batch, *rngs)
    assert jax.tree.leaves(spec_of(made)) == jax.tree.leaves(stage.element_spec(spec_of(batch)))
    return made


# -- resize ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_resize_is_pillows(method: Any) -> None:
    made = run(Resize(field="image", size=(10, 14), method=method), RAGGED)["image"]
    assert made.shape == (4, 10, 14, 3)
    for found, pixels in zip(made, PICTURES, strict=True):
        wanted = Image.fromarray(pixels).resize((14, 10), Image.Resampling[method.upper()])
        assert np.array_equal(found, np.asarray(wanted))


def _triangle(length: int, wanted: int, *, antialias: bool) -> np.ndarray:
    """Return the weights (wanted, length) of a bilinear filter, computed for each pixel by itself."""
    scale = length / wanted
    support = max(scale, 1.0) if antialias else 1.0
    weights = np.zeros((wanted, length))
    for row in range(wanted):
        center = (row + 0.5) * scale
        for place in range(length):
            weights[row, place] = max(0.0, 1 - abs(place + 0.5 - center) / support)
        if not antialias and center < 0.5:
            weights[row, 0] = 1
        if not antialias and center > length - 0.5:
            weights[row, -1] = 1
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(5, 7), (30, 33)])
def test_bilinear_by_its_definition(*, antialias: bool, size: tuple[int, int]) -> None:
    made = run(Resize(field="image", size=size, antialias=antialias), RAGGED)["image"]
    for found, pixels in zip(made, PICTURES, strict=True):
        rows = _triangle(pixels.shape[0], size[0], antialias=antialias)
        columns = _triangle(pixels.shape[1], size[1], antialias=antialias)
        wanted = np.einsum("ih,jw,hwc->ijc", rows, columns, pixels.astype(float))
        assert np.abs(found - wanted).max() <= 1.0


def test_float32_is_resized_by_channel() -> None:
    pixels = np.random.default_rng(0).random((2, 12, 10, 5), np.float32)
    made = run(Resize(field="image", size=(6, 5), method="box"), {"image": pixels})["image"]
    assert made.dtype == np.float32
    assert np.allclose(made, pixels.reshape(2, 6, 2, 5, 2, 5).mean((2, 4)), atol=1e-6)


@pytest.mark.parametrize("shape", [(9, 9), (9, 9, 1), (9, 9, 2), (9, 9, 4), (9, 9, 7)])
def test_any_number_of_channels(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    if shape[2:] == (4,):
        pixels[..., 3] = 255
    made = run(Resize(field="image", size=3, method="box"), {"image": pixels})["image"]
    wanted = pixels.reshape(2, 3, 3, 3, 3, *shape[2:]).mean((2, 4))
    assert np.abs(made - wanted).max() <= 1


@pytest.mark.parametrize(("length", "wanted"), [(16, 14), (5, 9), (9, 5), (1000, 7), (7, 7), (1, 4)])
def test_nearest_takes_the_pixel_under_each_center(length: int, wanted: int) -> None:
    pixels = np.arange(length)[None, None]
    made = run(Resize(field="image", size=(1, wanted), method="nearest"), {"image": pixels})["image"]
    assert made[0, 0].tolist() == [math.floor(Fraction(2 * place + 1, 2) * length / wanted) for place in range(wanted)]


def test_nearest_takes_every_dtype() -> None:
    pixels = np.arange(2 * 8 * 6, dtype=np.int64).reshape(2, 8, 6) << 40
    made = run(Resize(field="image", size=(4, 3), method="nearest"), {"image": pixels})["image"]
    assert np.array_equal(made, pixels[:, 1::2, 1::2])
    with pytest.raises(
        StageError, match="field 'image' is int64, and the method bilinear takes uint8 or float32; take nearest"
    ):
        run(Resize(field="image", size=4), {"image": pixels})


def test_the_shorter_side_by_torchvisions_rule() -> None:
    made = run(Resize(field="image", shorter_side=7), RAGGED)["image"]
    assert [picture.shape[:2] for picture in made] == [(7, 9), (24, 7), (7, 7), (7, 14)]
    dense = run(Resize(field="image", shorter_side=7), {"image": noise(12, 16)[None]})["image"]
    assert dense.shape == (1, 7, 9, 3)
    assert np.array_equal(dense[0], np.asarray(Image.fromarray(noise(12, 16)).resize((9, 7), 2)))


def test_padding_keeps_proportions() -> None:
    made = run(Resize(field="image", size=20, fit="pad", fill=9), RAGGED)["image"]
    for found, pixels in zip(made, PICTURES, strict=True):
        scale = 20 / max(pixels.shape[:2])
        height, width = (round(side * scale) for side in pixels.shape[:2])
        top, left = (20 - height) // 2, (20 - width) // 2
        wanted = np.full((20, 20, 3), 9, np.uint8)
        wanted[top : top + height, left : left + width] = np.asarray(Image.fromarray(pixels).resize((width, height), 2))
        assert np.array_equal(found, wanted)


# -- crops ----------------------------------------------------------------------------------------------------------------


def test_the_center_by_torchvisions_rule() -> None:
    made = run(CenterCrop(field="image", size=(7, 8)), RAGGED)["image"]
    for found, pixels in zip(made, PICTURES, strict=True):
        top, left = (round((have - want) / 2.0) for have, want in zip(pixels.shape, (7, 8), strict=False))
        assert np.array_equal(found, pixels[top : top + 7, left : left + 8])


def test_a_small_picture_is_refused_or_padded() -> None:
    with pytest.raises(
        StageError, match="a picture of 12 x 16 is smaller than the window of 13 x 13; resize"
    ) as raised:
        run(CenterCrop(field="image", size=13), RAGGED)
    assert raised.value.__notes__ == ["in row 0 of the batch"]
    made = run(CenterCrop(field="image", size=(13, 13), pad_if_needed=True, fill=200), RAGGED)["image"]
    wanted = np.full((13, 13, 3), 200, np.uint8)
    wanted[2:10, 2:10] = PICTURES[2]
    assert np.array_equal(made[2], wanted)
    assert (made[0][12:] == 200).all()
    assert np.array_equal(made[0][:12], PICTURES[0][:, 2:15])


@pytest.mark.parametrize(("mode", "numpy_mode"), [("constant", "constant"), ("edge", "edge"), ("reflect", "reflect")])
def test_random_crops_are_windows_of_padded_pictures(mode: Any, numpy_mode: Any) -> None:
    stage = RandomCrop(field="image", size=(8, 6), padding=3, pad_mode=mode)
    places = set()
    for seed in range(40):
        made = run(stage, RAGGED, seed)["image"]
        for number, (found, pixels) in enumerate(zip(made, PICTURES, strict=True)):
            padded = np.pad(pixels, ((3, 3), (3, 3), (0, 0)), mode=numpy_mode)
            windows = np.lib.stride_tricks.sliding_window_view(padded, (8, 6, 3))[:, :, 0]
            top, left = np.argwhere((windows == found).all((2, 3, 4)))[0]
            places.add((number, int(top), int(left)))
    seen = [{place[1:] for place in places if place[0] == number} for number in range(4)]
    tops = {top for top, _ in seen[2]}
    assert min(tops) == 0
    assert max(tops) == 6  # of 8 + 2 * 3 - 8


def test_a_crop_of_the_whole_picture_draws_nothing() -> None:
    pixels = noise(8, 8)[None]
    made = RandomCrop(field="image", size=8)({"image": pixels})["image"]
    assert np.array_equal(made, pixels)


def _torchvision_window(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return a window by the rule that torchvision publishes, with draws in the order of ours."""
    area = height * width
    log_ratio = np.log([3.0 / 4.0, 4.0 / 3.0])
    for _ in range(10):
        target_area = area * rng.uniform(0.08, 1.0)
        aspect_ratio = np.exp(rng.uniform(log_ratio[0], log_ratio[1]))
        w = round(math.sqrt(target_area * aspect_ratio))
        h = round(math.sqrt(target_area / aspect_ratio))
        if 0 < w <= width and 0 < h <= height:
            i = rng.integers(0, height - h + 1)
            j = rng.integers(0, width - w + 1)
            return int(i), int(j), h, w
    in_ratio = width / height
    if in_ratio < 3 / 4:
        w, h = width, round(width / (3 / 4))
    elif in_ratio > 4 / 3:
        h, w = height, round(height * (4 / 3))
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


def test_random_resized_crops_by_torchvisions_rule() -> None:
    pictures = [*PICTURES, noise(4, 200), noise(200, 4)]  # of the last two, few windows fit
    batch = {"image": Ragged.from_list(pictures, shape=(None, None, 3))}
    for seed in range(10):
        made = run(RandomResizedCrop(field="image", size=(6, 5)), batch, seed)["image"]
        for found, pixels, rng in zip(made, pictures, generators(6, seed), strict=True):
            top, left, high, wide = _torchvision_window(*pixels.shape[:2], rng)
            window = Image.fromarray(pixels[top : top + high, left : left + wide])
            assert np.array_equal(found, np.asarray(window.resize((5, 6), Image.Resampling.BILINEAR)))


# -- flips ----------------------------------------------------------------------------------------------------------------


def test_flips_have_their_probabilities() -> None:
    pixels = np.stack([colors(4, 5)] * 4000)
    made = run(Flip(field="image", horizontal=0.25, vertical=0.7), {"image": pixels})["image"]
    across, both = pixels[0, :, ::-1], pixels[0, ::-1, ::-1]
    kinds = {"none": pixels[0], "across": across, "down": pixels[0, ::-1], "both": both}
    shares = {name: (made == kind).all((1, 2, 3)).mean() for name, kind in kinds.items()}
    assert sum(shares.values()) == 1
    for name, wanted in {"none": 0.225, "across": 0.075, "down": 0.525, "both": 0.175}.items():
        assert abs(shares[name] - wanted) < 0.03


def test_flips_of_ragged_pictures() -> None:
    made = run(Flip(field="image", horizontal=1.0), RAGGED)["image"]
    assert isinstance(made, Ragged)
    assert all(np.array_equal(found, pixels[:, ::-1]) for found, pixels in zip(made, PICTURES, strict=True))


# -- masks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stage",
    [
        Resize(field="image", size=(10, 14), masks=("mask",)),
        CenterCrop(field="image", size=8, masks=("mask",)),
        RandomCrop(field="image", size=8, padding=2, masks=("mask",)),
        RandomResizedCrop(field="image", size=9, masks=("mask",)),
        Flip(field="image", masks=("mask",)),
    ],
    ids=lambda stage: stage.type,
)
def test_masks_follow_their_pictures(stage: Any) -> None:
    ids = [np.arange(np.prod(each.shape[:2])).reshape(each.shape[:2]) + 5 for each in PICTURES]
    batch = {**RAGGED, "mask": Ragged.from_list(ids, shape=(None, None))}
    made = run(stage, batch)
    nearest = stage.model_copy(update={"masks": (), "method": "nearest"} if hasattr(stage, "method") else {"masks": ()})
    low = [np.stack([each & 255, each >> 8, each * 0], -1).astype(np.uint8) for each in ids]
    wanted = run(nearest, {"image": Ragged.from_list(low, shape=(None, None, 3))})["image"]
    for found, planes in zip(made["mask"], wanted, strict=True):
        assert found.dtype == np.int64
        assert np.array_equal(found, planes[..., 0] + (planes[..., 1].astype(np.int64) << 8))


def test_masks_are_padded_as_their_pictures() -> None:
    batch = {"image": noise(6, 6)[None], "mask": (np.arange(36).reshape(1, 6, 6) % 7).astype(np.int16)}
    made = run(CenterCrop(field="image", size=10, pad_if_needed=True, fill=9, masks=("mask",), mask_fill=-1), batch)
    assert np.array_equal(made["mask"][0], np.pad(batch["mask"][0], 2, constant_values=-1))
    made = run(Resize(field="image", size=(6, 12), fit="pad", masks=("mask",), mask_fill=255), batch)
    assert np.array_equal(made["mask"][0], np.pad(batch["mask"][0], ((0, 0), (3, 3)), constant_values=255))
    stage = RandomCrop(field="image", size=10, padding=2, pad_mode="reflect", masks=("mask",))
    assert np.array_equal(run(stage, batch)["mask"][0], np.pad(batch["mask"][0], 2, mode="reflect"))
    stage = CenterCrop(field="image", size=10, pad_if_needed=True, masks=("mask",), mask_fill=-1)
    with pytest.raises(StageError, match="field 'mask' is uint8, which does not hold -1; choose another mask_fill"):
        run(stage, {**batch, "mask": batch["mask"].astype(np.uint8)})


def test_a_mask_of_another_size_is_refused() -> None:
    batch = {**RAGGED, "mask": Ragged.from_list([np.zeros((12, 16))] * 4, shape=(None, None))}
    with pytest.raises(
        StageError, match="the mask 'mask' is 12 x 16 and its picture 31 x 9; a mask has the height"
    ) as raised:
        run(Flip(field="image", masks=("mask",)), batch)
    assert raised.value.__notes__ == ["in row 1 of the batch"]


# -- what is refused ------------------------------------------------------------------------------------------------------


def test_encoded_images_are_refused_with_what_decodes_them() -> None:
    batch = {"image": column([encode(noise(4, 4))])}
    with pytest.raises(
        StageError, match="field 'image' is objects or bytes, not a picture; put a stage decode_image before"
    ):
        run(Resize(field="image", size=4), batch)
    with pytest.raises(StageError, match=r"field 'image' is int64\[\], not a picture: \(height, width\)"):
        run(Resize(field="image", size=4), {"image": np.arange(3)})


def test_a_picture_without_pixels_is_refused() -> None:
    batch = {"image": Ragged.from_list([np.zeros((0, 4, 3), np.uint8)], shape=(None, None, 3))}
    for stage in (Resize(field="image", size=4), RandomResizedCrop(field="image", size=4)):
        with pytest.raises(StageError, match="a picture of 0 x 4 has no pixels"):
            run(stage, batch)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (Resize, {}, "give size or shorter_side, one of them"),
        (Resize, {"size": 4, "shorter_side": 4}, "give size or shorter_side, one of them"),
        (Resize, {"shorter_side": 4, "fit": "pad"}, "fit is about size"),
        (Resize, {"size": 4, "fill": 3}, "fill has no effect without fit: pad"),
        (Resize, {"size": 4, "method": "lanczos", "antialias": False}, "the method lanczos is always antialiased"),
        (Resize, {"size": 0}, "greater than or equal to 1"),
        (Resize, {"size": 4, "min_visible": 0.5, "boxes": "b"}, "min_visible has no effect: resize cuts nothing off"),
        (Resize, {"size": 4, "relative": True}, "relative is about boxes; name their field"),
        (CenterCrop, {"size": 4, "fill": 3}, "fill has no effect without pad_if_needed"),
        (CenterCrop, {"size": 4, "mask_fill": 3, "masks": ("m",)}, "mask_fill has no effect without pad_if_needed"),
        (CenterCrop, {"size": 4, "mask_fill": 3, "pad_if_needed": True}, "mask_fill is about masks; name their fields"),
        (RandomCrop, {"size": 4, "pad_mode": "edge"}, "pad_mode has no effect without padding"),
        (RandomCrop, {"size": 4, "padding": 1, "pad_mode": "edge", "fill": 3}, "fill has no effect with pad_mode edge"),
        (
            RandomResizedCrop,
            {"size": 4, "scale": (0.5, 0.1)},
            r"scale is from a least to a greatest number, not \[0\.5, 0\.1\]",
        ),
        (RandomResizedCrop, {"size": 4, "ratio": (0.0, 1.0)}, "greater than 0"),
        (Flip, {"horizontal": 0.0}, "both probabilities are 0"),
        (Flip, {"horizontal": 1.5}, "less than or equal to 1"),
        (Flip, {"box_labels": ("a",)}, "box_labels is about boxes"),
    ],
)
def test_options_that_do_not_fit(cls: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(field="image", **options)


def test_a_stage_that_draws_says_what_it_needs() -> None:
    with pytest.raises(
        ValueError, match=r"a pipeline passes rngs, a generator for each record; call stage\(batch, rngs\)"
    ):
        RandomResizedCrop(field="image", size=4)(RAGGED)
    with pytest.raises(ValueError, match="flip draws random numbers"):
        Flip(field="image")(RAGGED)


# -- decoding joined ------------------------------------------------------------------------------------------------------

STAGES = [
    Resize(field="image", size=(10, 14), method="bicubic"),
    Resize(field="image", shorter_side=9),
    Resize(field="image", size=12, fit="pad"),
    CenterCrop(field="image", size=8),
    RandomCrop(field="image", size=8, padding=2, pad_mode="reflect"),
    RandomResizedCrop(field="image", size=9),
    Flip(field="image", vertical=0.5),
]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: f"{stage.type}-{stage.model_dump(exclude_defaults=True)}")
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_decoding_joined_gives_the_same_pixels(stage: Any, channels: Any, kind: str) -> None:
    batch = {"image": column([encode(each, kind, orientation=6) for each in PICTURES])}
    decode = DecodeImage(field="image", channels=channels)
    apart, joined = run(stage, decode(batch))["image"], run_joined(decode.join(stage), batch)["image"]
    assert apart == joined if isinstance(apart, Ragged) else np.array_equal(apart, joined)


def run_joined(stage: Any, batch: Any) -> Any:
    assert describe(stage.element_spec(spec_of(batch)))
    return stage(batch, *((generators(len(batch["image"])),) if stage.stochastic else ()))


def test_pictures_and_masks_are_decoded_in_one() -> None:
    masks = [(each[..., :1] // 64).astype(np.uint8) for each in PICTURES]
    batch = {"image": column([encode(each) for each in PICTURES]), "mask": column([encode(each) for each in masks])}
    decodings = DecodeImage(field="image"), DecodeImage(field="mask", channels=1)
    crop = RandomResizedCrop(field="image", size=9, masks=("mask",))
    both = decodings[0].join(decodings[1])
    assert both is not None
    joined = run_joined(both.join(crop), batch)
    apart = run(crop, decodings[1](decodings[0](batch)))
    assert np.array_equal(joined["image"], apart["image"])
    assert np.array_equal(joined["mask"], apart["mask"])
    assert describe(both.element_spec(spec_of(batch))) == {
        "image": "uint8[None, None, 3]",
        "mask": "uint8[None, None, 1]",
    }
    assert both(batch)["mask"] == decodings[1](batch)["mask"]


def test_stages_of_other_fields_are_not_joined() -> None:
    decode = DecodeImage(field="image")
    assert decode.join(Resize(field="other", size=4)) is None
    assert decode.join(decode) is None
    assert decode.join(lambda batch: batch) is None
    two = decode.join(DecodeImage(field="mask"))
    assert two is not None
    assert two.join(Resize(field="image", size=4)) is None  # which leaves the mask as it is
    whole = decode.join(Resize(field="image", size=4))
    assert whole is not None
    assert whole.join(Flip(field="image")) is None
    assert whole == decode.join(Resize(field="image", size=4))
    assert hash(whole) == hash(decode.join(Resize(field="image", size=4)))


def test_reduced_decoding_is_near_the_whole_and_no_smaller_than_needed() -> None:
    smooth = np.asarray(Image.fromarray(noise(6, 6)).resize((400, 320), Image.Resampling.BICUBIC))
    batch = {"image": column([encode(smooth, "JPEG", quality=95, orientation=8), encode(smooth, "JPEG", quality=95)])}
    for stage in (Resize(field="image", size=(20, 20)), RandomResizedCrop(field="image", size=(20, 20))):
        whole = run_joined(DecodeImage(field="image").join(stage), batch)["image"]
        reduced = run_joined(DecodeImage(field="image", reduced=True).join(stage), batch)["image"]
        assert not np.array_equal(whole, reduced)
        assert np.abs(whole.astype(int) - reduced).mean() < 4
    large = Resize(field="image", size=(250, 250))
    assert np.array_equal(
        run_joined(DecodeImage(field="image").join(large), batch)["image"],
        run_joined(DecodeImage(field="image", reduced=True).join(large), batch)["image"],
    )


def test_reduced_before_a_stage_that_does_not_resize_is_refused() -> None:
    decode = DecodeImage(field="image", reduced=True)
    assert decode.join(CenterCrop(field="image", size=4)) is None
    assert decode.join(Flip(field="image")) is None
    both = decode.join(DecodeImage(field="mask"))
    assert both is not None
    with pytest.raises(StageError, match="reduced has no effect"):
        both({"image": column([encode(noise(8, 8), "JPEG")]), "mask": column([encode(noise(8, 8))])})


def test_an_error_of_a_joined_stage_has_its_row() -> None:
    whole = encode(noise(60, 60), "JPEG")
    joined = DecodeImage(field="image").join(Resize(field="image", size=4))
    assert joined is not None
    with pytest.raises(StageError, match="damaged or cut off") as raised:
        joined({"image": column([whole, whole[:-200]])})
    assert raised.value.__notes__ == ["in row 1 of the batch"]
