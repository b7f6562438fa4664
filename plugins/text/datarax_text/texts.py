"""Columns of text, as text: Python's and NumPy's, and bytes that are UTF-8."""

from typing import Any

import numpy as np

from datarax_core import StageError


def texts_of(column: np.ndarray, field: str) -> list[str]:
    """Return the texts of a column of text, of bytes in UTF-8, or of objects that are either.

    Raises:
        StageError: A value is neither, or its bytes are not UTF-8; names its row.
    """
    values: list[Any] = column.tolist()
    if column.dtype.kind == "U" or all(type(value) is str for value in values):
        return values
    return [_text(value, field, row) for row, value in enumerate(values)]


def _text(value: Any, field: str, row: int) -> str:
    if isinstance(value, str):
        return str(value)
    if not isinstance(value, bytes | bytearray | memoryview):
        raise StageError(
            f"row {row} of field {field!r} is {value!r:.40}, a {type(value).__name__}, not text; fill it, or leave the record "
            "out",
            ("field",),
        )
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as cause:
        around = bytes(value)[max(0, cause.start - 8) : cause.start + 8]
        raise StageError(
            f"row {row} of field {field!r} is not UTF-8: {cause.reason} at byte {cause.start}, in {around!r}; store it as "
            "UTF-8, or as text that was decoded",
            ("field",),
        ) from cause


def require_whole(texts: list[str], field: str) -> None:
    """Raise if a text holds half of a surrogate pair, which has no UTF-8; names its row.

    Raises:
        StageError: Such a text.
    """
    for row, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as cause:
            raise StageError(
                f"row {row} of field {field!r} is no text that can be stored: character {cause.start} is half of a surrogate "
                f"pair, {text[cause.start]!a}; it was decoded with errors='surrogateescape' or cut in two",
                ("field",),
            ) from cause
