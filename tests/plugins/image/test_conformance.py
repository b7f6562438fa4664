"""The stages on the host keep the promises of every host stage, over encoded, dense and ragged pictures."""

from typing import Any

import numpy as np
import pytest
from pictures import boxes_column, column, encode, noise

from datarax_core.records import Ragged
from datarax_core.testing import check_host_stage
from datarax_image import CenterCrop, DecodeImage, Flip, RandomCrop, RandomResizedCrop, Resize

PICTURES = [noise(*size, seed=number) for number, size in enumerate([(12, 16), (31, 9), (10, 10), (20, 40), (9, 9)])]
BOXES = boxes_column([[[0, 0, 4, 4], [2, 1, 9, 8]], [], [[1, 1, 10, 10]], [[0, 0, 40, 20]] * 3, [[8, 8, 9, 9]]])
NAMED: dict[str, Any] = {"field": "image", "boxes": "boxes"}
STAGES = [
    Resize(size=(7, 9), masks=("mask",), **NAMED),
    Resize(shorter_side=8, method="lanczos", **NAMED),
    Resize(size=15, fit="pad", fill=3, **NAMED),
    CenterCrop(size=8, masks=("mask",), box_labels=("labels",), **NAMED),
    RandomCrop(size=11, padding=3, pad_mode="reflect", box_labels=("labels",), **NAMED),
    RandomResizedCrop(size=8, masks=("mask",), box_labels=("labels",), min_visible=0.3, **NAMED),
    Flip(vertical=0.3, masks=("mask",), **NAMED),
]


def batch_of(pictures: Any) -> dict[str, Any]:
    """Return pictures with masks, boxes and labels of boxes."""
    masks = [picture[..., 0] > 99 for picture in PICTURES] if isinstance(pictures, Ragged) else pictures[..., 0]
    return {
        "image": pictures,
        "mask": Ragged.from_list(masks, shape=(None, None)) if isinstance(masks, list) else masks,
        "boxes": BOXES,
        "labels": Ragged(np.arange(len(BOXES.values)), BOXES.offsets),
    }


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.type)
@pytest.mark.parametrize("kind", ["ragged", "dense"])
def test_stages_that_place_pictures(stage: Any, kind: str) -> None:
    dense = np.stack([noise(16, 14, seed=seed) for seed in range(5)])
    pictures = Ragged.from_list(PICTURES, shape=(None, None, 3)) if kind == "ragged" else dense
    check_host_stage(stage, batch_of(pictures))


@pytest.mark.parametrize("options", [{}, {"channels": 1}, {"exif_orientation": "ignore", "channels": 4}], ids=str)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_decode_image(options: dict[str, Any], kind: str) -> None:
    files = column([encode(picture, kind, orientation=6) for picture in PICTURES])
    check_host_stage(DecodeImage(field="image", **options), {"image": files, "label": np.arange(5)})


@pytest.mark.parametrize("then", STAGES, ids=lambda stage: stage.type)
def test_decode_image_joined_with_what_follows(then: Any) -> None:
    files = column([encode(picture, "PNG") for picture in PICTURES])
    batch = {**batch_of(Ragged.from_list(PICTURES, shape=(None, None, 3))), "image": files}
    check_host_stage(DecodeImage(field="image"), batch, then=then)
