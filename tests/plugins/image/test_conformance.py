"""The stages keep the promises of every stage: on the host over encoded, dense and ragged pictures, and compiled."""

from typing import Any

import jax
import numpy as np
import pytest
from pictures import boxes_column, column, encode, noise

from datarax_core import StageError
from datarax_core.records import Ragged
from datarax_core.testing import HostStageConformance, Shows, StageConformance, check_host_stage
from datarax_image import (
    CenterCrop,
    ColorJitter,
    CutMix,
    DecodeImage,
    Flip,
    MixUp,
    Normalize,
    RandomCrop,
    RandomResizedCrop,
    Resize,
)

PICTURES = [noise(*size, seed=number) for number, size in enumerate([(12, 16), (31, 9), (10, 10), (20, 40), (9, 9)])]
BOXES = boxes_column([[[0, 0, 4, 4], [2, 1, 9, 8]], [], [[1, 1, 10, 10]], [[0, 0, 40, 20]] * 3, [[8, 8, 9, 9]]])
NAMED: dict[str, Any] = {"field": "image", "boxes": "boxes"}
MASKS = [picture[..., 0] > 99 for picture in PICTURES]
RAGGED: dict[str, Any] = {
    "image": Ragged.from_list(PICTURES, shape=(None, None, 3)),
    "mask": Ragged.from_list(MASKS, shape=(None, None)),
    "boxes": BOXES,
    "labels": Ragged(np.arange(len(BOXES.values)), BOXES.offsets),
}
DENSE = np.stack([noise(16, 14, seed=seed) for seed in range(5)])
FILES: dict[str, Any] = {
    **RAGGED,
    "image": [encode(picture, "PNG") for picture in PICTURES],
}
TURNED: dict[str, Any] = {
    "image": [
        encode(picture, kind, orientation=6) for picture, kind in zip(PICTURES, ["JPEG", "PNG"] * 3, strict=False)
    ],
    "label": np.arange(5),
}


def conformance(config: Any, records: Any = RAGGED, kit: Any = HostStageConformance, **declared: Any) -> Any:
    return type("Conformance", (kit,), {"config": config, "records": records, **declared})


def refuses_pictures(stage: Any) -> bool:
    try:
        stage({"image": column(TURNED["image"])})
    except StageError:
        return True
    return False


# -- on the host ------------------------------------------------------------------------------------------------------------

RESIZED = Resize(size=(7, 9), masks=("mask",), **NAMED)
CROPPED = RandomCrop(size=11, padding=3, pad_mode="reflect", box_labels=("labels",), **NAMED)
TestResize = conformance(RESIZED)
TestResizeDense = conformance(Resize(size=(7, 9), field="image"), {"image": DENSE})
TestResizeShorterSide = conformance(Resize(shorter_side=8, method="lanczos", **NAMED))
TestResizeToFit = conformance(Resize(size=15, fit="pad", fill=3, **NAMED))
TestCenterCrop = conformance(
    CenterCrop(size=8, masks=("mask",), box_labels=("labels",), **NAMED),
    effective={"pad_if_needed": Shows(value=True, needs={"size": 18})},
)
TestRandomCrop = conformance(CROPPED, effective={"pad_if_needed": Shows(value=True, needs={"size": 28})})
TestRandomResizedCrop = conformance(
    RandomResizedCrop(size=8, masks=("mask",), box_labels=("labels",), min_visible=0.3, **NAMED)
)
TestFlip = conformance(Flip(vertical=0.3, masks=("mask",), **NAMED))
TestFlipDense = conformance(Flip(vertical=0.3, field="image"), {"image": DENSE})
TestDecode = conformance(
    DecodeImage(field="image"),
    TURNED,
    effective={"max_pixels": Shows(value=50, at=refuses_pictures)},
    damaged={"image": b"no picture", "label": 7},
    shown_elsewhere=dict.fromkeys(("palette", "lossy"), "tests/plugins/image/test_decode.py"),
)
TestDecodeInGrey = conformance(
    DecodeImage(field="image", channels=1, lossy=True),
    TURNED,
    effective={"max_pixels": Shows(value=50, at=refuses_pictures)},
    shown_elsewhere=dict.fromkeys(("palette", "lossy"), "tests/plugins/image/test_decode.py"),
)


@pytest.mark.parametrize(
    "then",
    [RESIZED, CROPPED, CenterCrop(size=8, **NAMED), RandomResizedCrop(size=8, **NAMED), Flip(vertical=0.3, **NAMED)],
    ids=lambda stage: stage.type,
)
def test_decode_image_joined_with_what_follows(then: Any) -> None:
    check_host_stage(DecodeImage(field="image"), {**RAGGED, "image": column(FILES["image"])}, then=then)


# -- compiled ---------------------------------------------------------------------------------------------------------------

SMALL = {"image": np.stack([noise(6, 5, seed=seed) for seed in range(7)]), "label": np.arange(7) % 3}


@pytest.fixture(scope="module", autouse=True)
def _compiled_quickly() -> Any:
    """Programs are compiled for a single batch: optimizing them costs more than it saves."""
    jax.config.update("jax_disable_most_optimizations", True)  # noqa: FBT003 - of JAX
    yield
    jax.config.update("jax_disable_most_optimizations", False)  # noqa: FBT003


QUICK: dict[str, None] = dict.fromkeys(
    (
        "test_batches_of_any_size_work",
        "test_padded_rows_change_no_others",
        "test_steps_serve_what_it_makes",
        "test_a_scan_serves_what_it_makes",
    )
)
"""Promises left out for stages whose programs take seconds to compile; `test_mixing` and `test_color` show them, too."""

TestNormalize = conformance(Normalize(field="image", mean=(0.5,), std=(0.25,)), SMALL, StageConformance)
TestColorJitter = conformance(ColorJitter(field="image", brightness=0.4, hue=0.1), SMALL, StageConformance, **QUICK)
TestMixUp = conformance(
    MixUp(field="image", label="label", classes=3), SMALL, StageConformance, mixes_records=True, **QUICK
)
TestCutMix = conformance(
    CutMix(field="image", label="label", classes=3),
    SMALL,
    StageConformance,
    mixes_records=True,
    **QUICK,
    test_a_loop_serves_what_it_makes=None,
)
