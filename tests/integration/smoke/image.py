"""Smoke test: a PNG that is written here, decoded and cropped."""

import io

import numpy as np
from flax import nnx
from PIL import Image

from datarax_core import Pipeline, from_sequence
from datarax_core.registry import default_stages

pixels = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
file = io.BytesIO()
Image.fromarray(pixels).save(file, "PNG")
source = from_sequence([{"image": file.getvalue()}] * 2)
stages = default_stages()
decode, crop = stages.get("decode_image")(field="image"), stages.get("center_crop")(field="image", size=4)
batch = next(iter(Pipeline(source=source, stages=[decode, crop], batch_size=2, rngs=nnx.Rngs(0))))
assert (np.asarray(batch["image"]) == pixels[None, 0:4, 1:5]).all()
