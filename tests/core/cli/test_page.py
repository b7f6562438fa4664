"""The page of ``drx peek --html``: every kind of field, texts that are no markup, pictures whose pixels are the records'."""

import base64
import io
import re
from html.parser import HTMLParser
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from datarax_core import Ragged
from datarax_core._cli.looking.drawings import curve, histogram, png
from datarax_core._cli.looking.page import Looked, page
from datarax_core._cli.looking.summaries import summary_for

RANDOM = np.random.default_rng(0)
VOID = {"meta", "img", "rect", "line", "polyline"}


class Nesting(HTMLParser):
    """Parser that fails on tags that are not closed in order, and keeps texts and attributes by tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def page_of(**columns: Any) -> str:
    columns = {name: np.asarray(column) if isinstance(column, list) else column for name, column in columns.items()}
    summaries = {name: summary_for(column) for name, column in columns.items()}
    for name, column in columns.items():
        summaries[name].add(column)
    return page(
        Looked(
            title="a <b> & c.yaml",
            pipeline="Pipeline(<x>)",
            reports={"plan": "1 < 2"},
            counted="1 batch",
            specs={name: f"{column.dtype}" for name, column in columns.items()},
            summaries={name: str(summary) for name, summary in summaries.items()},
            counts={name: held for name, one in summaries.items() if (held := one.as_dict().get("counts"))},
            columns=columns,
        )
    )


def texts(*values: Any) -> np.ndarray:
    column = np.empty(len(values), object)
    column[:] = values
    return column


KINDS: dict[str, Any] = {
    "grey": RANDOM.integers(0, 256, (5, 8, 9), np.uint8),
    "channels first": RANDOM.random((5, 3, 8, 9)),
    "images of all sizes": Ragged.from_list([np.ones((k, 10, 3), np.uint8) for k in (7, 9, 12)]),
    "labels": np.arange(90) % 3,
    "more labels": np.arange(90) % 45,
    "booleans": np.arange(9) % 2 == 0,
    "extremes": np.array([0, 2**64 - 1], np.uint64),
    "negative extremes": np.array([-(2**63), 2**63 - 1]),
    "one value": np.full(4, 7.5),
    "neighbours": np.array([1e16, 1e16 + 2]),
    "not finite": np.array([np.nan, np.inf, -np.inf]),
    "large": np.array([1.7e308, -1.7e308, 0.0]),
    "bfloat16": np.arange(4).astype(ml_dtypes.bfloat16),
    "complex": np.array([1 + 2j, 3j]),
    "times": np.array(["2026-01-01", "NaT"], "datetime64[D]"),
    "texts": texts("<script>alert(1)</script>", "a\x00b\n c", "x" * 5000, ""),
    "bytes": texts(b"\xff\x00", b"<b>"),
    "lists of texts": np.array([["a", "<i>"], ["c", "d"]], object),
    "tokens": Ragged.from_list([np.arange(k) for k in (3, 0, 5)]),
    "no tokens": Ragged.from_list([np.arange(0), np.arange(0)]),
    "ragged texts": Ragged.from_list([texts("<a>", "b"), texts()]),
    "a long series": np.sin(np.arange(3000.0))[None] * np.ones((2, 1)),
    "series of any length": Ragged.from_list([np.sin(np.arange(k * 1.0)) for k in (5000, 3)]),
    "no records": np.empty((0, 3), np.float32),
    "no values": np.empty((3, 0), np.float32),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_field_is_a_whole_page(kind: str) -> None:
    text = page_of(**{kind: KINDS[kind]})
    found = Nesting(text)
    assert not [tag for tag, _ in found.found if tag in {"script", "link", "b", "i", "iframe"}]
    assert not re.search(r"https?://|\bnan\b[^\s<]*\"", text)
    assert ("h2", f"{kind} ") in found.texts
    assert ("title", "a <b> & c.yaml") in found.texts


def test_images_are_the_pixels_of_the_records() -> None:
    images = RANDOM.integers(0, 256, (3, 8, 9, 3), np.uint8)
    found = Nesting(page_of(image=images, label=["cat", "dog", "cat"], id=[0, 1, 2]))
    read = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode((one["src"] or "").partition(",")[2]))))
        for one in found.of("img")
    ]
    np.testing.assert_array_equal(np.stack(read), images)
    assert [data for tag, data in found.texts if tag == "figcaption"] == ["cat", "dog", "cat"]


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4), (1, 1), (300, 2, 3)])
def test_a_png_is_read_by_others(shape: tuple[int, ...]) -> None:
    image = RANDOM.integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(image / np.float32(255))))), image)


BOXES = {
    "parts": ([[[0.1, 0.2, 0.5, 0.6]], [[0.0, 0.0, 1.0, 1.0]]], [(20, 10, 40, 40), (0, 0, 100, 100)]),
    "pixels": ([[[2, 1, 6, 4]], [[0, 0, 20, 10]]], [(10, 10, 20, 30), (0, 0, 100, 100)]),
    "of any number": (Ragged.from_list([np.array([[0.1, 0.2, 0.5, 0.6]]), np.empty((0, 4))]), [(20, 10, 40, 40)]),
}


@pytest.mark.parametrize("kind", BOXES)
def test_boxes_lie_on_the_images(kind: str) -> None:
    boxes, expected = BOXES[kind]
    found = Nesting(page_of(image=np.zeros((2, 10, 20, 3), np.uint8), bboxes=boxes))
    drawn = [one for one in found.of("rect") if one.get("class") == "box"]
    places = [tuple(float(one[key] or 0) for key in ("x", "y", "width", "height")) for one in drawn]
    np.testing.assert_allclose(places, expected, atol=0.02)


def test_bars_have_the_counts_of_all_records() -> None:
    found = Nesting(page_of(label=["a"] * 6 + ["<b>"] * 3 + ["c"]))
    cells = [data for tag, data in found.texts if tag == "td"]
    assert cells == ["'a'", "6", "60.0%", "'<b>'", "3", "30.0%", "'c'", "1", "10.0%"]


def test_a_histogram_counts_lengths_and_values() -> None:
    titles = [
        data for tag, data in Nesting(histogram(np.array([1, 2, 2, 5]), "records by length")).texts if tag == "title"
    ]
    assert titles == ["1: 1 records by length", "2: 2 records by length", "5: 1 records by length"]
    values = RANDOM.normal(size=1000)
    counted = [
        int(data.split(": ")[1].split()[0]) for tag, data in Nesting(histogram(values, "x")).texts if tag == "title"
    ]
    assert sum(counted) == 1000
    assert counted == [count for count in np.histogram(values, bins=40)[0].tolist() if count]


def test_a_long_curve_keeps_its_peaks() -> None:
    values = np.zeros(100_000)
    values[[31_234, 77_777]] = 1.0, -1.0
    heights = [
        float(point.split(",")[1]) for point in (Nesting(curve(values)).of("polyline")[0]["points"] or "").split()
    ]
    assert len(heights) == 960
    assert (min(heights), max(heights)) == (0.0, 120.0)
