"""Failures of host stages, explained: stage, source and records, the record that fails by itself, and read-only columns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import jax
import numpy as np

from datarax_core.records.spec import Batch, named_fields
from datarax_core.stages.apply import note_failed, without_field

LISTED: Final = 12
"""Record indices that an error lists."""

_LINE: Final = "\n"

_SEARCH_SECONDS: Final = 2.0
"""The time for which records are tried one by one, after a batch of them failed."""

Call = Callable[[Batch, np.ndarray | None, np.ndarray], Batch]
"""A call of a stage with a batch, the epochs of its records if they are known, and their indices."""


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A call of a host stage that failed."""

    call: Call
    """Calls the stage with a batch."""
    batch: Batch
    """The batch that it was called with."""
    epochs: np.ndarray | None
    """int64 (k,): the epochs of the records; None if they are not known."""
    indices: np.ndarray
    """int64 (k,): the indices of the records."""
    title: str
    """The name of the source."""

    def explained(self, error: Exception, stage: Any, number: int) -> Exception:
        """Return the error with notes on what failed, or the one that names an option of the stage in its place.

        Args:
            error: The error of the stage, or of the check of its batch.
            stage: The stage.
            number: Its place in the pipeline.
        """
        named = without_field(error, stage, self.batch) or error
        note_failed(named, stage, number)
        named.add_note(f"which was called with records {listed(self.indices)} of {self.title}")
        if isinstance(error, ValueError) and "read-only" in str(error):
            named.add_note(
                "the columns that a host stage is called with are read-only, since others use them too: write to a copy, "
                "column.copy()"
            )
        if isinstance(error, KeyError) and named is error and isinstance(self.batch, Mapping):
            named.add_note(f"the fields that it was called with are {', '.join(named_fields(self.batch))}")
        if len(self.indices) > 1:
            named.add_note(self._first_to_fail(str(error)))
        return named

    def _first_to_fail(self, text: str) -> str:
        """Return a sentence on the first of the records that fails by itself; ``text`` is that of the error of the batch."""
        began = perf_counter()
        for row, index in enumerate(self.indices):
            if perf_counter() - began > _SEARCH_SECONDS:
                return f"of these, the first {row} do not fail by themselves; the others were not tried, as that takes long"
            try:
                self._call_with(slice(row, row + 1))
            except Exception as error:  # noqa: BLE001 - a stage may raise anything; the error of the batch is raised
                own = str(error)
                more = "" if own == text else f": {type(error).__name__}: {own.partition(_LINE)[0]:.200}"
                return f"record {index} fails by itself{more}"
        return "none of these records fails by itself"

    def _call_with(self, rows: slice) -> None:
        batch = jax.tree.map(lambda column: column[rows], self.batch)
        self.call(batch, None if self.epochs is None else self.epochs[rows], self.indices[rows])


def listed(indices: np.ndarray) -> str:
    """Return record indices as text, of many only the first ones."""
    shown = ", ".join(map(str, indices[:LISTED].tolist()))
    return f"{shown}{', ...' if len(indices) > LISTED else ''}"
