"""Sources and pipelines as ``print`` and notebooks show them: in a line, or as a table of fields with reports to unfold."""

import html
from collections.abc import Iterable, Iterator
from typing import Any, Final

from datarax_core.records.dtypes import dtype_title
from datarax_core.records.spec import named_fields

_MOST_FIELDS: Final = 50
"""Fields of a record that the table lists."""

_LEFT: Final = "text-align:left;padding:0.1em 1em 0.1em 0"
_MONO: Final = f"{_LEFT};font-family:monospace"


class Shown:
    """The part of a source or a pipeline that shows it to people."""

    def __str__(self) -> str:
        return repr(self)  # flax lists all variables in it

    def _repr_html_(self) -> str:
        """Return what ``repr`` says, a table of the fields of one record, and the reports `explain` and `plan` to unfold.

        Called: by IPython and Jupyter, for the last value of a cell.
        """
        return html_of(self)


def html_of(shown: Any) -> str:
    """Return a source or a pipeline as HTML of the colours that surround it; no record is read for it.

    What cannot be had, of a source whose files are gone, for instance, stands there as its error.
    """
    return "\n".join([f"<div><code>{html.escape(repr(shown))}</code>", *_fields(shown), *_reports(shown), "</div>"])


def _fields(shown: Any) -> Iterator[str]:
    try:
        fields = named_fields(shown.element_spec())
    except Exception as error:  # noqa: BLE001 - a notebook shows the rest
        yield _error(error)
        return
    yield f"<table>{_row('th', _LEFT, ('field', 'dtype', 'shape'))}"
    for name, leaf in list(fields.items())[:_MOST_FIELDS]:
        shape = "(" + ", ".join("any" if size is None else f"{size:,}" for size in leaf.shape) + ")"
        yield _row("td", _MONO, (name, dtype_title(leaf.dtype), shape))
    yield "</table>"
    if len(fields) > _MOST_FIELDS:
        yield f"<div>and {len(fields) - _MOST_FIELDS:,} more fields</div>"


def _row(cell: str, style: str, texts: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{cell} style={style!r}>{html.escape(text)}</{cell}>' for text in texts)}</tr>"


def _reports(shown: Any) -> Iterator[str]:
    for name in ("explain", "plan"):
        if not hasattr(shown, name):
            continue
        try:
            text = f"<pre>{html.escape(str(getattr(shown, name)()))}</pre>"
        except Exception as error:  # noqa: BLE001 - a notebook shows the rest
            text = _error(error)
        yield f"<details><summary>{name}</summary>{text}</details>"


def _error(error: Exception) -> str:
    return f"<div>{html.escape(f'{type(error).__name__}: {error}')}</div>"
