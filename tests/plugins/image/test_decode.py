"""Decoded images hold the pixels that were encoded, in every format, depth, palette and orientation."""

import io
import struct
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from pictures import colors, column, encode, noise, png, png_16
from PIL import Image

from datarax_core import ConfigError, StageError
from datarax_core.records import Ragged, describe
from datarax_core.registry import default_stages
from datarax_image import DecodeImage

LOSSLESS = {
    "PNG": {},
    "WEBP": {"lossless": True, "exact": True},
    "BMP": {},
}
TURNS = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).transpose(1, 0, 2),
    8: np.rot90,
}
"""What makes the stored pixels upright, by the orientation in EXIF."""


def decode(*files: Any, **options: Any) -> list[np.ndarray]:
    made = DecodeImage(field="image", **options)({"image": column(list(files))})["image"]
    assert isinstance(made, Ragged)
    return made.to_list()


def decode_one(file: Any, **options: Any) -> np.ndarray:
    return decode(file, **options)[0]


# -- formats --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("channels", [3, 4])
def test_formats_that_lose_nothing_give_the_pixels(kind: str, channels: int) -> None:
    pixels = noise(7, 11, channels)
    if kind == "BMP":  # which has no alpha
        pixels[..., 3:] = 255
    assert np.array_equal(decode_one(encode(pixels, kind, **LOSSLESS[kind]), channels=channels), pixels)


def test_jpeg_gives_what_pillow_gives() -> None:
    file = encode(colors(33, 50), "JPEG", quality=90)
    found = decode_one(file)
    assert np.array_equal(found, np.asarray(Image.open(io.BytesIO(file))))
    assert np.abs(found.astype(int) - colors(33, 50)).mean() < 8


def test_images_of_all_sizes_are_one_ragged_column() -> None:
    pixels = [noise(3, 9), noise(9, 3), noise(1, 1), noise(20, 30)]
    batch = {"image": column([encode(each) for each in pixels]), "label": np.arange(4)}
    stage = DecodeImage(field="image").build(
        {"image": jax.ShapeDtypeStruct((), np.dtype(object)), "label": jax.ShapeDtypeStruct((), np.dtype(np.int64))},
        nnx.Rngs(),
    )
    made = stage(batch)
    assert made["image"].shape == (4, None, None, 3)
    assert made["image"].dtype == np.uint8
    assert made["label"] is batch["label"]
    for found, wanted in zip(made["image"], pixels, strict=True):
        assert np.array_equal(found, wanted)


def test_an_empty_batch_is_decoded() -> None:
    assert DecodeImage(field="image")({"image": column([])})["image"].shape == (0, None, None, 3)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, np.bytes_])
def test_bytes_of_every_kind(kind: Any) -> None:
    pixels = noise(4, 5)
    assert np.array_equal(decode_one(kind(encode(pixels))), pixels)


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.fromarray(noise(8, 9, seed=seed)).quantize(200) for seed in (1, 2)]
    gif = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode_one(gif), np.asarray(frames[0].convert("RGB")))
    webp = encode(
        Image.fromarray(noise(8, 9, seed=1)),
        "WEBP",
        lossless=True,
        save_all=True,
        append_images=[Image.fromarray(noise(8, 9, seed=2))],
    )
    assert np.array_equal(decode_one(webp), noise(8, 9, seed=1))


# -- channels -------------------------------------------------------------------------------------------------------------


def test_grey_is_repeated_and_colors_become_grey_by_itu_601() -> None:
    grey = noise(5, 6, 1)
    file = encode(grey)
    assert np.array_equal(decode_one(file, channels=1), grey)
    assert np.array_equal(decode_one(file, channels=3), np.repeat(grey, 3, axis=-1))
    assert np.array_equal(decode_one(file, channels=4)[..., 3:], np.full((5, 6, 1), 255))
    pixels = noise(5, 6)
    luma = pixels.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(decode_one(encode(pixels), channels=1)[..., 0] - luma).max() <= 1


def test_alpha_is_left_out_not_blended() -> None:
    pixels = noise(5, 6, 4)
    assert np.array_equal(decode_one(encode(pixels)), pixels[..., :3])
    opaque = decode_one(encode(noise(5, 6)), channels=4)
    assert np.array_equal(opaque, np.concatenate([noise(5, 6), np.full((5, 6, 1), 255, np.uint8)], axis=-1))


def test_grey_with_alpha() -> None:
    pixels = noise(4, 4, 2)
    file = encode(Image.merge("LA", [Image.fromarray(plane) for plane in np.moveaxis(pixels, -1, 0)]))
    assert np.array_equal(decode_one(file, channels=1), pixels[..., :1])
    assert np.array_equal(decode_one(file, channels=4), pixels[..., [0, 0, 0, 1]])


PALETTE = (b"PLTE", bytes([10, 20, 30, 200, 100, 0, 7, 8, 9]))
INDICES = b"\0\x00\x01\x02" + b"\0\x02\x01\x00"


def test_a_palette_gives_colors_or_its_indices() -> None:
    file = png(2, 3, 8, 3, INDICES, PALETTE)
    wanted = np.array([[[10, 20, 30], [200, 100, 0], [7, 8, 9]], [[7, 8, 9], [200, 100, 0], [10, 20, 30]]])
    assert np.array_equal(decode_one(file), wanted)
    assert np.array_equal(decode_one(file, channels=1, palette="indices")[..., 0], [[0, 1, 2], [2, 1, 0]])


def test_transparency_of_a_palette_is_alpha() -> None:
    file = png(2, 3, 8, 3, INDICES, PALETTE, (b"tRNS", bytes([0, 128])))
    assert np.array_equal(decode_one(file, channels=4)[0, :, 3], [0, 128, 255])
    assert np.array_equal(decode_one(file)[0, 0], [10, 20, 30])
    assert decode_one(file, channels=1).shape == (2, 3, 1)


def test_one_bit_is_black_and_white() -> None:
    file = png(1, 8, 1, 0, b"\0\xa5")
    assert decode_one(file, channels=1)[0, :, 0].tolist() == [255, 0, 255, 0, 0, 255, 0, 255]


def test_a_transparent_color_is_alpha() -> None:
    file = png(1, 2, 8, 2, b"\0\x01\x02\x03\x04\x05\x06", (b"tRNS", struct.pack(">HHH", 1, 2, 3)))
    assert decode_one(file, channels=4)[0].tolist() == [[1, 2, 3, 0], [4, 5, 6, 255]]
    assert decode_one(file)[0].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_cmyk_becomes_the_colors_of_its_inks() -> None:
    inks = Image.fromarray(colors(16, 16)).convert("CMYK")
    found = decode_one(encode(inks, "JPEG", quality=95))
    assert np.abs(found.astype(int) - colors(16, 16)).mean() < 8
    assert decode_one(encode(inks, "JPEG", quality=95), channels=1).shape == (16, 16, 1)


# -- 16 bits --------------------------------------------------------------------------------------------------------------

DEPTHS = np.array([[0, 255, 256, 65535], [1000, 2000, 40000, 12345]], np.uint16)


def test_16_bits_are_refused_kept_or_cut_as_options_say() -> None:
    file = png_16(DEPTHS)
    with pytest.raises(
        StageError, match="16 bits a value, which uint8 does not hold; set lossy to take the high 8 bits"
    ):
        decode(file)
    kept = decode_one(file, channels=1, dtype="uint16")
    assert kept.dtype == np.uint16
    assert np.array_equal(kept[..., 0], DEPTHS)
    assert np.array_equal(decode_one(file, channels=1, lossy=True)[..., 0], DEPTHS >> 8)
    assert np.array_equal(decode_one(file, lossy=True), np.repeat((DEPTHS >> 8)[..., None], 3, axis=-1))


def test_colors_of_16_bits_become_their_high_8_bits() -> None:
    values = np.stack([DEPTHS, DEPTHS[::-1], DEPTHS // 3], axis=-1)
    file = png_16(values)
    with pytest.raises(StageError, match="16 bits"):
        decode(file)
    assert np.array_equal(decode_one(file, lossy=True), values >> 8)
    with pytest.raises(StageError, match="16 bits with colors or alpha; dtype uint16 is for grey ones"):
        decode(file, channels=1, dtype="uint16")


def test_uint16_refuses_8_bits() -> None:
    with pytest.raises(StageError, match="a PNG of 8 bits a value, and dtype is uint16"):
        decode(encode(noise(2, 2, 1)), channels=1, dtype="uint16")


# -- orientation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_images_are_turned_upright(kind: str, orientation: int) -> None:
    pixels = colors(10, 18)
    options = {"lossless": True} if kind == "WEBP" else {}
    file = encode(pixels, kind, orientation=orientation, **options)
    stored = decode_one(file, exif_orientation="ignore")
    assert stored.shape == (10, 18, 3)
    assert np.array_equal(decode_one(file), TURNS[orientation](stored))
    if kind != "JPEG":
        assert np.array_equal(stored, pixels)


def test_a_depth_of_16_bits_is_turned() -> None:
    exif = b"II*\0" + struct.pack("<IHHHIHH", 8, 1, 0x112, 3, 1, 6, 0) + bytes(4)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEPTHS)
    file = png(2, 4, 16, 0, rows, (b"eXIf", exif))
    assert np.array_equal(decode_one(file, channels=1, dtype="uint16")[..., 0], np.rot90(DEPTHS, -1))


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x05",
        b"garbage" * 9,
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
    ],
)
def test_damaged_exif_turns_nothing(exif: bytes) -> None:
    pixels = noise(4, 5)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    assert np.array_equal(decode_one(png(4, 5, 8, 2, rows, (b"eXIf", exif))), pixels)


def test_exif_behind_the_pixels_counts() -> None:
    exif = b"MM\0*" + struct.pack(">IHHHIHH", 8, 1, 0x112, 3, 1, 3, 0) + bytes(4)
    rows = b"".join(b"\0" + row.tobytes() for row in noise(4, 5))
    file = png(4, 5, 8, 2, rows)
    end = file.index(b"IEND") - 4
    chunk = png(4, 5, 8, 2, rows, (b"eXIf", exif))
    start = chunk.index(b"eXIf") - 4
    file = file[:end] + chunk[start : start + 12 + len(exif)] + file[end:]
    assert np.array_equal(decode_one(file), noise(4, 5)[::-1, ::-1])


# -- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_a_file_that_is_cut_off_is_refused_with_its_row(kind: str, part: float) -> None:
    whole = encode(noise(60, 60), kind)
    cut = whole[: int(len(whole) * part)]
    with pytest.raises(
        StageError, match=rf"a {kind if kind != 'WEBP' else 'WebP'} of {len(cut)} bytes is damaged or cut off"
    ) as raised:
        decode(encode(noise(2, 2)), cut)
    assert raised.value.__notes__ == ["in row 1 of the batch"]
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_headers_that_are_cut_off(kind: str) -> None:
    whole = encode(noise(60, 60), kind)
    for length in (8, 13, 20, 25):
        with pytest.raises(StageError, match=r"damaged or cut off|that is no"):
            decode(whole[:length])


@pytest.mark.parametrize(
    "file", [b"", b"GIF", b"not an image", b"RIFF____WAVE" + bytes(40), bytes(100), b"II*\0" + bytes(60)]
)
def test_other_bytes_are_no_image(file: bytes) -> None:
    with pytest.raises(StageError, match=r"the bytes of an image .*: that is no PNG, JPEG, WebP, GIF or BMP"):
        decode(file)


def test_other_values_are_no_image() -> None:
    with pytest.raises(StageError, match="an image is str, not bytes of a PNG, JPEG, WebP, GIF or BMP file"):
        decode("cat.png")
    with pytest.raises(StageError, match="an image is NoneType, not bytes"):
        decode(None)


def test_a_declared_size_is_refused_before_anything_is_decoded() -> None:
    huge = png(100_000, 100_000, 8, 2, b"\0" * 900)
    assert len(huge) < 1000
    message = (
        "bytes say that they are an image of 100000 x 100000 pixels, more than max_pixels, which is 100000000; set"
    )
    with pytest.raises(StageError, match=message):
        decode(huge)
    gif = encode(noise(3, 3), "GIF")
    with pytest.raises(StageError, match="max_pixels"):
        decode(gif[:6] + struct.pack("<HH", 60000, 60000) + gif[10:])
    bmp = encode(noise(3, 3), "BMP")
    with pytest.raises(StageError, match="max_pixels"):
        decode(bmp[:18] + struct.pack("<ii", 60000, 60000) + bmp[26:])
    webp = bytearray(encode(noise(3, 3), "WEBP", lossless=True))
    webp[21:25] = struct.pack("<I", 16383 | 16383 << 14)
    with pytest.raises(StageError, match="16384 x 16384 pixels, more than max_pixels"):
        decode(bytes(webp))
    assert decode_one(encode(noise(3, 4)), max_pixels=12).shape == (3, 4, 3)
    with pytest.raises(StageError, match="an image of 3 x 4 pixels, more than max_pixels, which is 11"):
        decode(encode(noise(3, 4)), max_pixels=11)


def test_a_lack_of_memory_says_nothing_about_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(MemoryError) as raised:
        decode(encode(noise(4, 4)))
    assert raised.value.__cause__ is None


def _spec(dtype: Any, shape: tuple[int | None, ...] = ()) -> dict[str, jax.ShapeDtypeStruct]:
    return {"image": jax.ShapeDtypeStruct(shape, np.dtype(dtype))}  # type: ignore[arg-type]


def test_the_spec_says_what_comes_out() -> None:
    stage = DecodeImage(field="image", channels=1, dtype="uint16")
    assert describe(stage.element_spec(_spec(object))) == {"image": "uint16[None, None, 1]"}
    with pytest.raises(
        StageError, match=r"field 'image' is uint8\[8, 8, 3\], not one image file as bytes; it may be decoded already"
    ):
        stage.build(_spec(np.uint8, (8, 8, 3)), nnx.Rngs())
    with pytest.raises(StageError, match="the records have no field 'imag'; did you mean 'image'"):
        DecodeImage(field="imag").build(_spec(object), nnx.Rngs())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "uint16"}, "dtype uint16 is for grey images; set channels to 1"),
        ({"palette": "indices"}, "the indices of a palette are one channel; set channels to 1"),
        ({"dtype": "uint16", "channels": 1, "lossy": True}, "lossy has no effect with dtype uint16"),
        ({"channels": 2}, "1, 3 or 4"),
        ({"max_pixels": 0}, "greater than or equal to 1"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        DecodeImage(field="image", **options)


def test_reduced_without_a_resize_is_refused() -> None:
    with pytest.raises(StageError, match="no resize or random_resized_crop of this field follows at once"):
        decode(encode(noise(8, 8), "JPEG"), reduced=True)


def test_it_is_found_by_name() -> None:
    assert default_stages().get("decode_image") is DecodeImage


@pytest.mark.parametrize("kind", ["BMP", "WEBP"])
def test_zeros_that_numpy_dropped_are_told(kind: str) -> None:
    files = (
        encode(np.zeros((5, width, 3), np.uint8) if kind == "BMP" else noise(20, width), kind) for width in range(4, 40)
    )
    whole = next(file for file in files if file.endswith(b"\0"))
    stored = np.array([whole])[0]
    with pytest.raises(
        StageError, match=rf"its header says {len(whole)} bytes: zeros at the end are lost where bytes are"
    ):
        decode(stored)
