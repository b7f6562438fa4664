"""Pictures of records: images as a grid, numbers as histograms, text as a table."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from datarax_core.errors import DataraxError

from .summaries import is_ragged, shortened

IMAGES: Final = 32
"""Number of images of a field that are drawn."""

_COLUMNS: Final = 8
_TEXTS: Final = 12
_BINS: Final = 40
_LARGEST: Final = 1e300  # largest value in a histogram, so that the range of the histogram is finite
_SMALLEST: Final = 6  # pixels a side of the smallest image; a smaller array is drawn as numbers
_INCHES: Final = 1.4  # side of an image


def require_matplotlib() -> None:
    """Raise an error if matplotlib is not installed.

    Raises:
        DataraxError: Matplotlib is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: F401, PLC0415 - an optional dependency, whose import takes half a second
    except ImportError as missing:
        raise DataraxError(
            "--png draws with matplotlib, which is not installed; pip install 'datarax-core[peek]'"
        ) from missing


def draw(path: Path, columns: Mapping[str, np.ndarray], title: str) -> None:
    """Write a PNG of some records.

    Args:
        path: File to write.
        columns: Fields by name; each row is a record. Of images the first `IMAGES` are drawn, of other fields all rows.
        title: Title above the picture.

    Raises:
        DataraxError: There is no record.
    """
    if not any(map(len, columns.values())):
        raise DataraxError(f"{path}: not drawn, because no record is served")
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - an optional dependency; Agg needs no window
    from matplotlib.figure import Figure  # noqa: PLC0415

    images = {name: as_images(column) for name, column in columns.items()}
    grids = {name: grid for name, grid in images.items() if grid is not None}
    columns = {
        f"{name} (lengths)" if is_ragged(column) and is_numeric(column) and name not in grids else name: column
        for name, column in columns.items()
    }
    numbers = {name: column for name, column in columns.items() if name not in grids and is_numeric(column)}
    others = {name: column for name, column in columns.items() if name not in grids and name not in numbers}
    labels = next(filter(is_label, columns.values()), None)
    parts: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = [
        (_rows(len(grid)) * _INCHES + 0.4, _draw_grid, (grid, labels, name)) for name, grid in grids.items()
    ]
    if numbers:
        parts.append((math.ceil(len(numbers) / 3) * 2.4 + 0.4, _draw_histograms, (numbers,)))
    if others:
        parts.append((_TEXTS * 0.3 + 0.4, _draw_table, (others,)))
    figure = Figure(figsize=(_COLUMNS * _INCHES, sum(height for height, _, _ in parts) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    places = figure.subfigures(len(parts), 1, squeeze=False, height_ratios=[height for height, _, _ in parts])
    for (place,), (_, draw_part, arguments) in zip(places, parts, strict=True):
        draw_part(place, *arguments)
    figure.savefig(path, format="png")


def as_images(column: Any) -> "Any":
    """Return a column of images as (k, height, width) or (k, height, width, 3 or 4) in [0, 1]; None if it holds no images.

    Of a ragged column, it is a list of images of all sizes.

    Channels may come first or last; of two channels or more than four the first is shown. Floats that leave the range from 0
    to 1, and integers of more than a byte, are scaled by the range of the whole column.
    """
    if is_ragged(column):
        return _images_of_all_sizes(column)
    if column.dtype.kind not in "buif" and not _is_float(column):
        return None
    if column.ndim == 4 and column.shape[1] in (1, 3, 4) and column.shape[3] not in (1, 3, 4):
        column = np.moveaxis(column, 1, 3)
    is_image = column.ndim in (3, 4) and min(column.shape[1:3]) >= _SMALLEST
    if not is_image or (column.ndim == 4 and column.shape[3] > 16) or not len(column):
        return None
    if column.ndim == 4 and column.shape[3] not in (3, 4):
        column = column[..., 0]
    return _from_0_to_1(column[:IMAGES])


def _images_of_all_sizes(column: Any) -> list[np.ndarray] | None:
    found = [as_images(record[None]) for record in column[:IMAGES]] if column.ndim in (3, 4) else []
    return None if not found or any(image is None for image in found) else [image[0] for image in found]


def _from_0_to_1(images: np.ndarray) -> np.ndarray:
    if images.dtype == np.uint8:
        return images / np.float32(255)
    values = images.astype(np.float32)
    finite = values[np.isfinite(values)]
    least, most = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    if least < 0 or most > 1:
        with np.errstate(over="ignore", invalid="ignore"):  # the range may overflow float32
            values = np.asarray((values - least) / max(most - least, 1e-30))
    return np.clip(np.nan_to_num(values), 0, 1)


def _is_float(column: np.ndarray) -> bool:
    return column.dtype.kind == "f" or (column.dtype.kind == "V" and np.can_cast(column.dtype, np.float64))


def is_label(column: np.ndarray) -> bool:
    """Return whether a field has one short value a record that may name what an image shows: text, an integer, a boolean."""
    if column.ndim != 1:
        return False
    is_text = column.dtype == object and all(isinstance(value, str) for value in column)
    return is_text or column.dtype.kind in "biuU"


def is_numeric(column: np.ndarray) -> bool:
    """Return whether a field holds numbers or booleans; ragged columns may."""
    return column.dtype.kind in "biu" or _is_float(column)


def _rows(images: int) -> int:
    return -(-images // _COLUMNS)


def _draw_grid(place: Any, images: Any, labels: "np.ndarray | None", name: str) -> None:
    place.suptitle(name, fontsize="medium")
    all_axes = place.subplots(_rows(len(images)), _COLUMNS, squeeze=False).reshape(-1)
    for axes in all_axes:
        axes.set_axis_off()
    for number, (axes, image) in enumerate(zip(all_axes, images, strict=False)):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        if labels is not None:
            axes.set_title(_plain(labels[number], 16), fontsize="small")


def _draw_histograms(place: Any, numbers: Mapping[str, Any]) -> None:
    columns = min(len(numbers), 3)
    all_axes = place.subplots(math.ceil(len(numbers) / columns), columns, squeeze=False).reshape(-1)
    for axes in all_axes[len(numbers) :]:
        axes.set_axis_off()
    for axes, (name, column) in zip(all_axes, numbers.items(), strict=False):
        axes.set_title(name, fontsize="medium")
        values = column.lengths if is_ragged(column) else column.reshape(-1)
        distinct, counts = np.unique(values, return_counts=True)
        if not _is_float(values) and len(distinct) <= _BINS:
            axes.bar([str(value) for value in distinct], counts)
            axes.tick_params(axis="x", labelrotation=90 if len(distinct) > 12 else 0)
        else:
            finite = values.astype(np.float64)
            axes.hist(np.clip(finite[np.isfinite(finite)], -_LARGEST, _LARGEST), bins=_BINS)


def _draw_table(place: Any, others: Mapping[str, np.ndarray]) -> None:
    axes = place.subplots()
    axes.set_axis_off()
    rows = list(zip(*(column[:_TEXTS].tolist() for column in others.values()), strict=True))
    cells = [[_plain(value, 120 // len(others)) for value in row] for row in rows]
    if cells:
        axes.table(cells, colLabels=list(others), cellLoc="left", loc="upper center")


def _plain(value: Any, width: int) -> str:
    """Return a value as one line of text, with dollar signs escaped, which matplotlib would read as mathematics."""
    text = value if isinstance(value, str) else shortened(value)
    line = " ".join(text.split())
    return (line if len(line) <= width else line[: width - 3] + "...").replace("$", r"\$")
