"""JPEG of different sizes: decoded, random-resized-cropped to 64 x 64, batched, against bare loops and Grain's map."""

import io
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import numpy as np
from _measure import Row, against
from flax import nnx
from PIL import Image

from datarax_core import Pipeline
from datarax_image import DecodeImage, RandomResizedCrop
from datarax_memory import MemorySource, MemorySourceConfig

IMAGES, BATCH, SIZE, CORES, RUNS = 500, 50, 64, 2, 9
SIDES = 240, 600


def rows() -> list[Row]:
    """Measure the stages against the calls of Pillow that they make, against Grain's map, and in worker processes."""
    images = jpegs()
    found = [
        _against(lambda: _bare(images, 1), images, "a bare loop, 1 thread each", 0.9, threads=1),
        _against(lambda: _bare(images, CORES), images, f"a bare loop, {CORES} threads each", 0.9, threads=CORES),
        _against(
            lambda: _drain(_pipeline(images)), images, "the same without workers", 1.6, workers=CORES, title="2 workers"
        ),
    ]
    if find_spec("grain") is not None:
        grain = _grain(images)
        found += [  # the same calls of Pillow cost Grain a third more; twice as fast is what decodes less
            _against(grain, images, "Grain's map with its 16 threads", 2.0, threads=CORES),
            _against(grain, images, "the same", 2.0, title="ours with reduced: true", reduced=True, threads=CORES),
        ]
    return found


def jpegs() -> list[bytes]:
    """Return JPEG with smooth colors and some noise, of about 50 KB."""
    rng = np.random.default_rng(0)
    return [_jpeg(rng, *rng.integers(*SIDES, 2).tolist()) for _ in range(IMAGES)]


def _jpeg(rng: np.random.Generator, height: int, width: int) -> bytes:
    few = rng.integers(0, 255, (height // 16 + 2, width // 16 + 2, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC), np.float32)
    pixels = smooth + rng.standard_normal((height, width, 1), np.float32) * 6
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def cropped(encoded: bytes, rng: np.random.Generator) -> np.ndarray:
    """Return one image, as a loop of one's own would do it with Pillow."""
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    left, top, right, bottom = _window(image.width, image.height, rng)
    return np.asarray(image.crop((left, top, right, bottom)).resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def _window(wide: int, high: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    for _ in range(10):
        area = wide * high * rng.uniform(0.08, 1.0)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= wide and 0 < height <= high:
            left, top = int(rng.integers(wide - width + 1)), int(rng.integers(high - height + 1))
            return left, top, left + width, top + height
    return 0, 0, wide, high


def _bare(images: list[bytes], threads: int) -> None:
    rng = np.random.default_rng(0)
    order = rng.permutation(len(images))
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(images), BATCH):
            rows = order[start : start + BATCH]
            rngs = rng.spawn(len(rows))
            run = map if threads == 1 else pool.map
            np.stack(list(run(lambda row, own: cropped(images[row], own), rows, rngs)))


def _pipeline(images: list[bytes], *, reduced: bool = False, **options: Any) -> Pipeline:
    source = MemorySource(MemorySourceConfig(shuffle=True), {"image": images}, rngs=nnx.Rngs(0))
    stages = [DecodeImage(field="image", reduced=reduced), RandomResizedCrop(field="image", size=SIZE)]
    return Pipeline(source=source, stages=stages, batch_size=BATCH, rngs=nnx.Rngs(0), **options)


def _drain(batches: Any) -> None:
    for batch in batches:
        batch["image"].block_until_ready()


def _against(
    reference: Callable[[], object], images: list[bytes], what: str, target: float, *, title: str = "", **options: Any
) -> Row:
    pipeline = _pipeline(images, **options)
    row = against(
        reference,
        lambda: _drain(pipeline),
        records=IMAGES,
        what=f"{title or 'ours'}, against {what}",
        target=target,
        runs=RUNS,
    )
    pipeline.close()
    return row


def _grain(images: list[bytes]) -> Callable[[], None]:
    import grain

    served = grain.MapDataset.source(images).seed(0).shuffle().random_map(cropped).to_iter_dataset().batch(BATCH)

    def serve() -> None:
        def batches() -> Iterator[np.ndarray]:
            yield from served

        for _ in batches():
            pass

    return serve
