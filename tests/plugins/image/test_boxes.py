"""Boxes follow their pictures in every format; what a crop leaves nothing of is dropped, with its labels."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from pictures import boxes_column, generators, noise

from datarax_core import StageError
from datarax_core.records import Ragged, describe, spec_of
from datarax_image import CenterCrop, Flip, RandomCrop, RandomResizedCrop, Resize

BOXES = [[[2, 1, 6, 4], [0, 0, 16, 12]], [], [[1, 1, 2, 2], [3, 0, 8, 8], [0, 5, 4, 8]]]


def batch_of(boxes: Any = BOXES, sizes: Any = ((12, 16), (9, 9), (8, 8)), **fields: Any) -> dict[str, Any]:
    pictures = [noise(*size) for size in sizes]
    column = boxes_column(boxes) if isinstance(boxes, list) else boxes
    return {"image": Ragged.from_list(pictures, shape=(None, None, 3)), "boxes": column, **fields}


def run(stage: Any, batch: Any, seed: int = 0) -> Any:
    rngs = (generators(len(batch["image"]), seed),) if getattr(stage, "stochastic", False) else ()
    made = stage.build(spec_of(batch), nnx.Rngs())(batch, *rngs)
    assert jax.tree.leaves(spec_of(made)) == jax.tree.leaves(stage.element_spec(spec_of(batch)))
    return made


def lists(column: Any) -> list[Any]:
    return [row.tolist() for row in column]


def test_boxes_are_scaled_with_their_picture() -> None:
    made = run(Resize(field="image", size=(6, 4), boxes="boxes"), batch_of())
    assert lists(made["boxes"])[0] == [[0.5, 0.5, 1.5, 2], [0, 0, 4, 6]]
    assert lists(made["boxes"])[1] == []
    assert lists(made["boxes"])[2][0] == [0.5, 0.75, 1.0, 1.5]


def test_boxes_are_moved_into_padding() -> None:
    made = run(Resize(field="image", size=(8, 8), fit="pad", boxes="boxes"), batch_of())
    assert lists(made["boxes"])[0] == [[1, 1.5, 3, 3], [0, 1, 8, 7]]  # half the size, one row above


def test_boxes_are_flipped() -> None:
    made = run(Flip(field="image", horizontal=1.0, boxes="boxes"), batch_of())
    assert lists(made["boxes"])[0] == [[10, 1, 14, 4], [0, 0, 16, 12]]
    made = run(Flip(field="image", horizontal=0.0, vertical=1.0, boxes="boxes"), batch_of())
    assert lists(made["boxes"])[0] == [[2, 8, 6, 11], [0, 0, 16, 12]]


def test_a_crop_clips_boxes_and_drops_what_nothing_is_left_of_with_its_labels() -> None:
    labels = Ragged.from_list([np.array([7, 8]), np.array([], np.int64), np.array([1, 2, 3])], shape=(None,))
    names = Ragged.from_list(
        [np.ones((2, 3), np.float32), np.ones((0, 3), np.float32), np.arange(9, dtype=np.float32).reshape(3, 3)],
        shape=(None, 3),
    )
    stage = CenterCrop(field="image", size=4, boxes="boxes", box_labels=("labels", "names"))
    made = run(stage, batch_of(labels=labels, names=names))
    # windows: rows 4..8, columns 6..10 of the first; rows and columns 2..6 of the third
    assert lists(made["boxes"]) == [[[0, 0, 4, 4]], [], [[1, 0, 4, 4], [0, 3, 2, 4]]]
    assert lists(made["labels"]) == [[8], [], [2, 3]]
    assert lists(made["names"])[2] == [[3, 4, 5], [6, 7, 8]]


def test_boxes_of_which_too_little_is_left_are_dropped() -> None:
    def left(share: float) -> list[int]:
        stage = CenterCrop(field="image", size=4, boxes="boxes", min_visible=share)
        return [len(row) for row in run(stage, batch_of())["boxes"]]

    # of the last picture's boxes, 12 of 40 and 2 of 12 pixels are left; of the first one's second box, 16 of 192
    assert left(0.0) == [1, 0, 2]
    assert left(0.1) == [0, 0, 2]
    assert left(0.25) == [0, 0, 1]
    assert left(0.3) == [0, 0, 1]
    assert left(0.31) == [0, 0, 0]


def _as(boxes: np.ndarray, kind: str, size: tuple[int, int], *, relative: bool) -> np.ndarray:
    """Return corners in another format, by the format's definition."""
    left, top, right, bottom = boxes.T.astype(float)
    made = {
        "xyxy": [left, top, right, bottom],
        "yxyx": [top, left, bottom, right],
        "xywh": [left, top, right - left, bottom - top],
        "cxcywh": [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top],
    }[kind]
    made = np.stack(made, axis=-1)
    sides = [size[0], size[1]] if kind == "yxyx" else [size[1], size[0]]
    return made / (sides * 2) if relative else made


@pytest.mark.parametrize("kind", ["xyxy", "yxyx", "xywh", "cxcywh"])
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize(
    "stage",
    [
        Resize(field="image", size=(6, 4), boxes="boxes"),
        Resize(field="image", size=(20, 20), fit="pad", boxes="boxes"),
        CenterCrop(field="image", size=(4, 6), boxes="boxes"),
        CenterCrop(field="image", size=20, pad_if_needed=True, boxes="boxes"),
        RandomCrop(field="image", size=6, padding=2, boxes="boxes"),
        RandomResizedCrop(field="image", size=7, boxes="boxes"),
        Flip(field="image", vertical=0.5, boxes="boxes"),
    ],
    ids=lambda stage: stage.type,
)
def test_all_formats_say_the_same(stage: Any, kind: Any, *, relative: bool) -> None:
    sizes = ((12, 16), (9, 9), (8, 8))
    wanted = run(stage, batch_of())
    other = [
        _as(np.array(each).reshape(-1, 4), kind, size, relative=relative)
        for each, size in zip(BOXES, sizes, strict=True)
    ]
    column = Ragged.from_list(other, np.float64, (None, 4))
    found = run(stage.model_copy(update={"format": kind, "relative": relative}), batch_of(column))
    assert found["boxes"].dtype == np.float64
    for row, boxes, picture in zip(found["boxes"], wanted["boxes"], wanted["image"], strict=True):
        assert np.allclose(row, _as(boxes, kind, picture.shape[:2], relative=relative), atol=1e-6)


def test_a_box_around_marked_pixels_stays_around_them() -> None:
    """A box drawn into the picture is found again where the box says."""
    pictures, boxes = [], []
    for number in range(30):
        top, left, high, wide = np.random.default_rng(number).integers([0, 0, 4, 4], [20, 20, 20, 20])
        picture = np.zeros((40, 44, 3), np.uint8)
        picture[top : top + high, left : left + wide] = 255
        pictures.append(picture)
        boxes.append([[left, top, left + wide, top + high]])
    batch = {"image": np.stack(pictures), "boxes": boxes_column(boxes)}
    found = 0
    for stage in (
        RandomResizedCrop(field="image", size=(80, 88), boxes="boxes", scale=(0.3, 1.0), method="nearest"),
        RandomCrop(field="image", size=30, boxes="boxes", padding=4),
        Flip(field="image", boxes="boxes", vertical=0.5),
    ):
        made = run(stage, batch)
        for picture, row in zip(made["image"], made["boxes"], strict=True):
            rows, columns = np.nonzero(picture[..., 0])
            if len(rows) and len(row):  # of a sliver, rounding may leave one of them alone
                seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert np.abs(row[0] - seen).max() <= 1.0
                found += 1
    assert found > 70


def test_dense_boxes_stay_dense_where_none_is_dropped() -> None:
    dense = np.arange(24, dtype=np.int32).reshape(3, 2, 4) % 8
    made = run(
        Resize(field="image", size=8, boxes="boxes", box_labels=("labels",)), batch_of(dense, labels=np.ones((3, 2)))
    )
    assert made["boxes"].shape == (3, 2, 4)
    assert made["boxes"].dtype == np.float32
    assert made["labels"].shape == (3, 2)
    stage = CenterCrop(field="image", size=8, boxes="boxes", box_labels=("labels",))
    batch = batch_of(dense, labels=np.ones((3, 2)))
    assert describe(stage.element_spec(spec_of(batch)))["boxes"] == "float32[None, 4]"
    assert [len(row) for row in run(stage, batch)["labels"]] == [len(row) for row in run(stage, batch)["boxes"]]


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ({"boxes": np.zeros((3, 4))}, {}, r"field 'boxes' is float64\[4\]; boxes are numbers \(n, 4\) in each record"),
        ({"boxes": np.zeros((3, 2, 5))}, {}, r"boxes are numbers \(n, 4\)"),
        ({"boxes": np.zeros((3, 2, 4), bool)}, {}, r"field 'boxes' is bool"),
        ({}, {"boxes": "boxs"}, "the records have no field 'boxs'; did you mean 'boxes'"),
        (
            {"label": np.zeros(3)},
            {"box_labels": ("label",)},
            r"field 'label' is float64\[\]; labels of boxes are numbers",
        ),
        ({}, {"box_labels": ("labels",)}, "the records have no field 'labels'"),
    ],
)
def test_fields_that_are_no_boxes(fields: Any, options: Any, message: str) -> None:
    stage = CenterCrop(field="image", size=4, **{"boxes": "boxes", **options})
    with pytest.raises(StageError, match=message):
        run(stage, {**batch_of(), **fields})


def test_labels_of_another_number_than_boxes() -> None:
    labels = Ragged.from_list([np.array([7]), np.array([], np.int64), np.array([1, 2, 3])], shape=(None,))
    stage = CenterCrop(field="image", size=4, boxes="boxes", box_labels=("labels",))
    with pytest.raises(StageError, match="1 values of 'labels' for 2 boxes") as raised:
        run(stage, batch_of(labels=labels))
    assert raised.value.__notes__ == ["in row 0 of the batch"]


@pytest.mark.parametrize(
    ("box", "options", "message"),
    [
        ([5, 5, 3, 8], {}, r"box 1 is \[5\.0, 5\.0, 3\.0, 8\.0\] in the format xyxy: its second corner is before its"),
        ([5, 5, -1, 2], {"format": "xywh"}, r"in the format xywh: its size is negative"),
        ([5, 5, 2, -0.5], {"format": "cxcywh"}, r"in the format cxcywh: its size is negative"),
        ([1, np.nan, 2, 2], {}, r"box 1 is \[1\.0, nan, 2\.0, 2\.0\] in the format xyxy: its numbers are not finite"),
        ([1, 1, 2, np.inf], {"format": "xywh"}, "its numbers are not finite"),
        ([1, 1, 6, 7], {"relative": True}, r"box 1 is .*, and shares of width and height go from 0 to 1; leave relative out"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stage", [Flip, CenterCrop, Resize])
def test_numbers_that_are_no_boxes(stage: Any, box: Any, options: Any, message: str) -> None:
    size = {} if stage is Flip else {"size": 4}
    with pytest.raises(StageError, match=message) as raised:
        run(stage(field="image", boxes="boxes", **size, **options), batch_of([[], [[0, 0, 1, 1], box], []]))
    assert raised.value.__notes__ == ["in row 1 of the batch"]
