"""Drawings for a page, without any library: SVG of histograms, bars and curves, PNG of pixels; colours of the page."""

import html
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np

_BINS: Final = 40
_LARGEST: Final = 1e300  # the range of a histogram is finite
_WIDTH, _HEIGHT = 480, 120
_POINTS: Final = 960  # of a curve; of a longer one, the least and the greatest of each part

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) as parts of the width and the height of an image."""


def png(image: np.ndarray) -> bytes:
    """Return an image as PNG (ISO/IEC 15948), 8 bits a channel.

    Args:
        image: (height, width) of grey, or (height, width, 3 or 4) of colours; values in [0, 1].
    """
    pixels = np.rint(image * 255).astype(np.uint8)
    height, width = pixels.shape[:2]
    color = 0 if pixels.ndim == 2 else {3: 2, 4: 6}[pixels.shape[2]]
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (1, 0)))  # each row begins with its filter, 0
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes(), 6)),
        (b"IEND", b""),
    )
    written = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def histogram(values: np.ndarray, unit: str) -> str:
    """Return a histogram of numbers: one bar for each of few distinct integers, else 40 equal ranges; NaN is left out."""
    values = values.reshape(-1)
    distinct, counts = np.unique(values, return_counts=True) if values.dtype.kind in "biu" else (values, values)
    if values.dtype.kind in "biu" and len(distinct) > 0 and int(distinct[-1]) - int(distinct[0]) < _BINS:
        least, most = int(distinct[0]), int(distinct[-1])
        bars = np.zeros(most - least + 1, int)
        bars[(distinct.astype(object) - least).astype(int)] = counts
        labels = [f"{least + at:,}" for at in range(len(bars))]
    else:
        numbers = values.astype(np.float64)
        numbers = np.clip(numbers[np.isfinite(numbers)], -_LARGEST, _LARGEST)
        if not numbers.size:
            return ""
        try:
            bars, edges = np.histogram(numbers, bins=_BINS)
        except ValueError:  # numbers that differ by less than 40 steps of their precision
            bars, edges = np.array([numbers.size]), np.array([numbers.min(), numbers.max()])
        labels = [f"{low:.6g} to {high:.6g}" for low, high in pairwise(edges)]
        least, most = edges[0], edges[-1]
    return _bars(bars.tolist(), labels, unit, (f"{least:,.6g}", f"{most:,.6g}"))


def _bars(counts: Sequence[int], labels: Sequence[str], unit: str, ends: tuple[str, str]) -> str:
    step, greatest = _WIDTH / len(counts), max(counts)
    drawn = "".join(
        f'<rect class="bar" x="{at * step + 0.5:.2f}" y="{_HEIGHT * (1 - count / greatest):.2f}" '
        f'width="{max(step - 1, 0.5):.2f}" height="{_HEIGHT * count / greatest:.2f}">'
        f"<title>{html.escape(label)}: {count:,} {unit}</title></rect>"
        for at, (count, label) in enumerate(zip(counts, labels, strict=True))
        if count
    )
    told = f"histogram of {sum(counts):,} {unit} from {ends[0]} to {ends[1]}"
    return (
        f'<svg role="img" aria-label="{told}" viewBox="0 0 {_WIDTH} {_HEIGHT + 18}">{drawn}'
        f'<line class="axis" x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/>'
        f'<text x="0" y="{_HEIGHT + 14}">{ends[0]}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 14}" text-anchor="end">{ends[1]}</text></svg>'
    )


def balance(counts: Mapping[str, int], most: int) -> str:
    """Return bars of how often each value occurs, the ``most`` frequent ones, with their numbers and shares."""
    total, greatest = sum(counts.values()), max(counts.values())
    rows = "".join(
        f'<tr><td class="value">{html.escape(value)}</td>'
        f'<td class="share"><div style="width:{count / greatest:.1%}"></div></td>'
        f"<td>{count:,}</td><td>{count / total:.1%}</td></tr>"
        for value, count in list(counts.items())[:most]
    )
    left = len(counts) - most
    more = f"<p>and {left:,} more value{'' if left == 1 else 's'}</p>" if left > 0 else ""
    return f'<table class="balance">{rows}</table>{more}'


def curve(values: np.ndarray) -> str:
    """Return one series of numbers as a curve, such as the wave form of a sound."""
    numbers = values.astype(np.float64)
    numbers = np.clip(np.nan_to_num(numbers), -_LARGEST, _LARGEST)
    if len(numbers) > _POINTS:
        parts = np.array_split(numbers, _POINTS // 2)
        numbers = np.array([end for part in parts for end in (part.min(), part.max())])
    least, most = numbers.min(), numbers.max()
    heights = _HEIGHT - (numbers - least) / ((most - least) or 1.0) * _HEIGHT
    places = np.linspace(0, _WIDTH, len(heights))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(places, heights, strict=True))
    told = f"{len(values):,} values from {least:.6g} to {most:.6g}"
    return (
        f'<svg role="img" aria-label="{told}" viewBox="0 -2 {_WIDTH} {_HEIGHT + 20}">'
        f'<polyline class="curve" points="{points}"/>'
        f'<text x="0" y="{_HEIGHT + 14}">{told}</text></svg>'
    )


def boxed(image: str, boxes: Iterable[Box]) -> str:
    """Return an image element with boxes drawn on it."""
    drawn = "".join(
        f'<rect class="box" x="{left * 100:.2f}" y="{top * 100:.2f}" width="{max(right - left, 0) * 100:.2f}" '
        f'height="{max(bottom - top, 0) * 100:.2f}"/>'
        for left, top, right, bottom in boxes
    )
    over = f'<svg class="over" viewBox="0 0 100 100" preserveAspectRatio="none">{drawn}</svg>' if drawn else ""
    return f'<div class="image">{image}{over}</div>'


def is_series(values: Any) -> bool:
    """Return whether one record's values are worth a curve: numbers in a row, many of them."""
    return bool(values.ndim == 1 and len(values) >= 256 and values.dtype.kind in "iuf")
