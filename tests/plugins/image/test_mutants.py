"""Damaged images of every format are decoded or refused, with no other error, no warning, and within the limit of pixels."""

import random
from collections import Counter
from typing import Any

import numpy as np
from pictures import colors, column, encode, noise, png_16
from PIL import Image

from datarax_core import StageError
from datarax_image import DecodeImage

MUTANTS, MOST_PIXELS = 3000, 1_000_000


def _files() -> list[bytes]:
    palettes = [Image.fromarray(noise(8, 9, seed=seed)).quantize(16) for seed in range(2)]
    return [
        *(encode(colors(20, 24), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP")),
        encode(colors(20, 24), "WEBP", lossless=True),
        encode(colors(20, 24), "JPEG", progressive=True, orientation=5),
        encode(colors(20, 24), "PNG", orientation=6),
        encode(palettes[0], "GIF", save_all=True, append_images=palettes[1:]),
        encode(palettes[0], "BMP"),
        encode(palettes[0], "PNG", transparency=3),
        encode(Image.fromarray(colors(16, 16)).convert("CMYK"), "JPEG"),
        encode(Image.fromarray(colors(16, 16)).convert("1"), "BMP"),
        png_16(np.arange(12, dtype=np.uint16).reshape(3, 4)),
    ]


def _mutant(file: bytes, drawn: random.Random) -> bytes:
    """Return a file with a few bytes changed, left out or put in, near its beginning more often, or without its end."""
    mutant = bytearray(file)
    for _ in range(drawn.choice([0, 1, 1, 2, 5, 20])):
        place = drawn.randrange(min(len(mutant), drawn.choice([40, 100, 10**9])) + 1)
        match drawn.randrange(5):
            case 0 | 1 | 2:
                mutant[place : place + 1] = bytes([drawn.choice([0, 1, 128, 255, drawn.randrange(256)])])
            case 3:
                mutant[place : place + drawn.randrange(8)] = drawn.randbytes(drawn.randrange(8))
            case _:
                del mutant[place : place + 2 if drawn.random() < 0.7 else None]
    return bytes(mutant)


def test_mutants_are_decoded_or_refused() -> None:
    drawn = random.Random(0)  # noqa: S311 - of a test
    grey = {"channels": 1, "palette": "indices"}
    options: list[dict[str, Any]] = [{}, {"channels": 1}, {"channels": 4}, grey, {"lossy": True}]
    stages = [DecodeImage(field="image", max_pixels=MOST_PIXELS, **each) for each in options]
    files, outcomes = _files(), Counter[str]()
    for _ in range(MUTANTS):
        stage = drawn.choice(stages)
        try:
            pixels = stage({"image": column([_mutant(drawn.choice(files), drawn)])})["image"][0]
        except StageError:
            outcomes["refused"] += 1
        else:
            assert pixels.shape[0] * pixels.shape[1] <= MOST_PIXELS
            assert pixels.shape[2] == stage.channels
            outcomes["decoded"] += 1
    assert min(outcomes.values()) > MUTANTS // 5
