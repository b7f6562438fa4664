"""One HTML page of what a config serves, to keep or to send: no file beside it, no script, nothing fetched."""

import base64
import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import numpy as np

from .drawings import Box, balance, boxed, curve, histogram, is_series, png
from .pictures import as_images, is_label, is_numeric
from .summaries import first_values, is_ragged, shortened

_TEXTS: Final = 12
_LETTERS: Final = 600
"""Characters shown of a text."""

_BALANCED: Final = 30
"""Values of a field whose counts are shown as bars."""

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #626a73; --line: #d9dde2; --paper: #fff;
  --mark: #2a6fb0; --box: #d9480f }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #9aa3ad; --line: #343a41; --paper: #16191c; --mark: #6cb0f0; --box: #ff922b } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; overflow-wrap: anywhere }
h2 { font-size: 1.05rem; margin: 0; font-family: ui-monospace, monospace; overflow-wrap: anywhere }
section { border-top: 1px solid var(--line); padding: 1rem 0 }
p, summary { margin: .25rem 0; color: var(--soft); overflow-wrap: anywhere }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem }
code, li { font-family: ui-monospace, monospace; font-size: .9rem; overflow-wrap: anywhere }
svg { display: block; width: 100%; max-width: 34rem; height: auto; margin: .5rem 0 }
svg text { fill: var(--soft); font-size: 12px } .bar { fill: var(--mark) } .axis { stroke: var(--soft) }
.curve { fill: none; stroke: var(--mark); stroke-width: 1 }
.images { display: flex; flex-wrap: wrap; gap: .5rem; margin: .5rem 0 } figure { margin: 0; width: 7rem }
figcaption { font-size: .8rem; color: var(--soft); overflow-wrap: anywhere }
.image { position: relative; line-height: 0 } .image img { width: 100%; image-rendering: pixelated; border-radius: 2px }
.over { position: absolute; inset: 0; height: 100%; margin: 0; max-width: none }
.box { fill: none; stroke: var(--box); stroke-width: 2; vector-effect: non-scaling-stroke }
table { border-collapse: collapse; width: 100%; max-width: 34rem } td { padding: .1rem .6rem .1rem 0; font-size: .9rem;
  font-variant-numeric: tabular-nums; text-align: right } .value { text-align: left; overflow-wrap: anywhere; max-width: 14rem }
.share { width: 45% } .share div { background: var(--mark); height: .7rem; border-radius: 2px }
"""


@dataclass(frozen=True, slots=True)
class Looked:
    """What was seen of a config.

    Attributes:
        title: Title of the page.
        pipeline: The pipeline in one line.
        reports: Longer texts by heading, to unfold.
        counted: Batches and records that were read, as text.
        specs: Dtype and shape of each field, as text.
        summaries: What each field holds, as text.
        counts: How often each value of a field occurs, the most frequent first, of fields whose values were counted.
        columns: The first records of each field.
        notes: What may surprise.
    """

    title: str
    pipeline: str
    reports: Mapping[str, str]
    counted: str
    specs: Mapping[str, str]
    summaries: Mapping[str, str]
    counts: Mapping[str, Mapping[str, int]]
    columns: Mapping[str, Any]
    notes: Sequence[str] = field(default=())


def page(looked: Looked) -> str:
    """Return the page. Images and curves are those of the first records, sums and counts those of all that were read."""
    sections = "".join(_section(looked, name) for name in looked.specs)
    reports = "".join(
        f"<details><summary>{html.escape(heading)}</summary><pre>{html.escape(text)}</pre></details>"
        for heading, text in looked.reports.items()
    )
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in looked.notes)
    title = html.escape(looked.title)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1><p><code>{html.escape(looked.pipeline)}</code></p>"
        f"<p>{html.escape(looked.counted)}</p>{reports}{notes}\n{sections}</body></html>\n"
    )


def _section(looked: Looked, name: str) -> str:
    column = looked.columns.get(name)
    drawn = "" if column is None or not len(column) else "".join(_drawn(looked, name, column))
    summary = html.escape(looked.summaries.get(name, ""))
    return (
        f"<section><h2>{html.escape(name)} <small>{html.escape(looked.specs[name])}</small></h2><p>{summary}</p>{drawn}"
        "</section>\n"
    )


def _drawn(looked: Looked, name: str, column: Any) -> Iterator[str]:
    """Yield what is drawn of a field: images, or bars of counts, a histogram, a curve, and texts or values."""
    if (images := as_images(column)) is not None:
        yield _grid(looked, name, images)
        return
    counts = looked.counts.get(name, {})
    is_repeated = bool(counts) and max(counts.values()) > 1
    if is_repeated and len(counts) <= _BALANCED:
        yield balance(counts, _BALANCED)
    if is_numeric(column):
        if is_ragged(column) and column.ndim == 2:
            yield histogram(column.lengths, "records by length")
        elif not (is_repeated and len(counts) <= _BALANCED):
            yield histogram(column.compact().values if is_ragged(column) else column, "values")
        if is_series(first := column[0]):
            yield f"<p>the first record:</p>{curve(first)}"
        else:
            yield f"<p><code>{html.escape(first_values(column))}</code></p>"
        return
    if is_repeated and len(counts) > _BALANCED:
        yield balance(counts, _BALANCED)
    values = [column[row] for row in range(min(len(column), _TEXTS))]
    yield f"<ol>{''.join(f'<li>{html.escape(_text(value))}</li>' for value in values)}</ol>"


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return first_values(value) if value.ndim else _text(value[()])
    if not isinstance(value, str):
        return shortened(value)
    return value[:_LETTERS] + ("..." if len(value) > _LETTERS else "")


# -- images -----------------------------------------------------------------------------------------------------------------


def _grid(looked: Looked, name: str, images: Any) -> str:
    """Return images with the label of each below it; on those of the first field of images, the boxes of their records."""
    labels = _labels(looked)
    boxes = _boxes_field(looked) if name == _first_images(looked) else None
    figures = []
    for row, image in enumerate(images):
        data = base64.b64encode(png(np.asarray(image))).decode()
        element = boxed(
            f'<img alt="record {row} of {html.escape(name)}" src="data:image/png;base64,{data}">',
            () if boxes is None else _boxes_of(boxes[1][row], *image.shape[:2]),
        )
        label = "" if labels is None else f"<figcaption>{html.escape(_text(labels[1][row]))}</figcaption>"
        figures.append(f"<figure>{element}{label}</figure>")
    told = [] if labels is None else [f"below: {labels[0]}"]
    told += [] if boxes is None else [f"boxes: {boxes[0]}, read as {_order_of(boxes[1])}"]
    return f'<div class="images">{"".join(figures)}</div><p>{html.escape("; ".join(told))}</p>'


def _labels(looked: Looked) -> tuple[str, Any] | None:
    """Return name and column of the field that names what images show: one whose values repeat, if any."""
    found = [(name, column) for name, column in looked.columns.items() if is_label(column)]
    repeated = (pair for pair in found if max(looked.counts.get(pair[0], {}).values(), default=1) > 1)
    return next(repeated, found[0] if found else None)


def _first_images(looked: Looked) -> str | None:
    return next((name for name, column in looked.columns.items() if as_images(column) is not None), None)


def _boxes_field(looked: Looked) -> tuple[str, Any] | None:
    """Return name and column of the field that holds boxes: four numbers each, and "box" in its name."""
    for name, column in looked.columns.items():
        if "box" in name.lower() and is_numeric(column) and column.ndim in (2, 3):
            sizes = column.record_shape if is_ragged(column) else column.shape[1:]
            if sizes[-1] == 4:
                return name, column
    return None


def _order_of(column: Any) -> str:
    return (
        "[top, left, bottom, right] in parts of the image"
        if _is_relative(column)
        else "[left, top, right, bottom] in pixels"
    )


def _is_relative(column: Any) -> bool:
    """Return whether boxes are parts of an image, from 0 to 1, whose order is that of TFDS (``BBoxFeature``)."""
    values = column.compact().values if is_ragged(column) else column
    return values.dtype.kind == "f" and (not values.size or float(np.nanmax(values)) <= 1.5)


def _boxes_of(record: Any, height: int, width: int) -> Iterator[Box]:
    boxes = np.asarray(record, np.float64).reshape(-1, 4)
    for first, second, third, fourth in islice(boxes[np.isfinite(boxes).all(axis=1)].tolist(), 50):
        if _is_relative(np.asarray(record)):
            yield second, first, fourth, third
        else:
            yield first / width, second / height, third / width, fourth / height
