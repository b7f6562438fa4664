"""Libraries that decode images, compared: what they make of odd files, and how fast they are. Prints the tables of the README.

Run with the libraries in an environment of their own:
``pip install rich pillow imagecodecs opencv-python-headless kornia-rs``.
"""

import io
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from _measure import medians, paired, timed
from PIL import Image

Decode = Callable[[bytes], Any]

IMAGES = 24
KINDS = {"JPEG": {"quality": 85}, "PNG": {}, "WEBP": {"quality": 85}, "BMP": {}, "GIF": {}}


def main() -> None:
    """Print both tables."""
    libraries = _libraries()
    print(f"| file | {' | '.join(libraries)} |\n|---|{'---|' * len(libraries)}")
    for name, encoded in _odd_files().items():
        cells = [_outcome(decode, encoded) for decode in libraries.values()]
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"\n| ms an image, and gain of two threads | {' | '.join(libraries)} |\n|---|{'---|' * len(libraries)}")
    photos = [_photo(seed) for seed in range(IMAGES)]
    for kind, options in KINDS.items():
        files = [_encoded(photo, kind, **options) for photo in photos]
        print(f"| {kind} | {' | '.join(_speed(decode, files) for decode in libraries.values())} |")
    print(f"\nload {os.getloadavg()}")


def _libraries() -> dict[str, Decode]:
    import cv2
    import imagecodecs
    import kornia_rs

    cv2.setNumThreads(1)

    def opencv(encoded: bytes) -> Any:
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
        if pixels is None:
            raise ValueError("None")
        return pixels

    def kornia(encoded: bytes) -> Any:
        return kornia_rs.io.decode_image_jpegturbo(encoded, "rgb")

    def pillow(encoded: bytes) -> Any:
        image = Image.open(io.BytesIO(encoded))
        image.load()
        return image

    return {"Pillow": pillow, "OpenCV": opencv, "imagecodecs": imagecodecs.imread, "kornia-rs": kornia}


def _odd_files() -> dict[str, bytes]:
    rows, columns = np.mgrid[0:48, 0:64]
    colors = Image.fromarray(np.stack([columns * 4, rows * 5, (columns + rows) * 2], -1).astype(np.uint8))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8))
    exif = Image.Exif()
    exif[0x112] = 6
    deep = Image.fromarray((columns * 1000).astype(np.uint16))
    files = {
        "JPEG, EXIF says turned": _encoded(colors, "JPEG", exif=exif),
        "PNG, EXIF says turned": _encoded(colors, "PNG", exif=exif),
        "PNG of 16 bits, grey": _encoded(deep, "PNG"),
        "JPEG of CMYK inks": _encoded(colors.convert("CMYK"), "JPEG", quality=95),
        "PNG with a palette": _encoded(colors.quantize(8), "PNG"),
        "GIF of two frames": _encoded(colors, "GIF", save_all=True, append_images=[colors.rotate(180)]),
    }
    for kind in KINDS:
        whole = _encoded(noise, kind)
        files[f"{kind}, half of it"] = whole[: len(whole) // 2]
    files["JPEG without its last two bytes"] = _encoded(noise, "JPEG")[:-2]
    return files


def _outcome(decode: Decode, encoded: bytes) -> str:
    try:
        made = decode(encoded)
    except Exception as error:  # noqa: BLE001 - whatever the libraries raise is what is compared
        return f"{type(error).__name__}: {str(error).splitlines()[0][:40]}" if str(error) else type(error).__name__
    pixels = np.asarray(made)
    mode = f" {made.mode}" if isinstance(made, Image.Image) else ""
    return f"{pixels.dtype}{list(pixels.shape)}{mode}"


def _photo(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(240, 600, 2).tolist()
    few = rng.integers(0, 255, (height // 16 + 2, width // 16 + 2, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC), np.float32)
    return Image.fromarray((smooth + rng.normal(0, 6, (height, width, 1))).clip(0, 255).astype(np.uint8))


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _speed(decode: Decode, files: list[bytes]) -> str:
    """Return milliseconds of one thread for an image, and how many times as fast two threads are."""

    def run() -> None:
        for encoded in files:
            decode(encoded)

    def twice() -> None:
        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    try:
        one, two = medians(paired(timed(run), timed(twice)))
    except Exception:  # noqa: BLE001 - the library has no such format
        return "-"
    return f"{one / len(files) * 1e3:.2f}, x{2 * one / two:.1f}"


if __name__ == "__main__":
    main()
