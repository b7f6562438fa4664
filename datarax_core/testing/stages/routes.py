"""Promises about routes and copies: loops, steps and scans serve the same batches, and copies of a stage make the same."""

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from datarax_core.records.spec import Batch, named_fields, split_host_fields
from datarax_core.testing.checks import broken, not_claimed, require

from .programs import DeviceSubject
from .subject import on_host


class RoutePromises:
    """The stage in a loop over a pipeline, in steps, and in a scan."""

    def test_a_loop_serves_what_it_makes(self, subject: DeviceSubject) -> None:
        """``for batch in pipeline`` serves what the stage makes of each batch, over two epochs, whatever the order."""
        for is_reversed in (False, True):
            pipeline = subject.pipeline(num_epochs=2, is_reversed=is_reversed)
            by = f"a loop over a {'reversed ' * is_reversed}source"
            _require_same(
                subject, _expected(subject, 2 * subject.size, is_reversed=is_reversed), map(_device_part, pipeline), by
            )

    def test_steps_serve_what_it_makes(self, subject: DeviceSubject) -> None:
        """``pipeline.step()`` serves what the stage makes of each batch, from epoch to epoch."""
        pipeline, steps = subject.pipeline(num_epochs=None), _steps(subject)
        found = (_device_part(pipeline.step()) for _ in range(steps))
        _require_same(subject, _expected(subject, steps * subject.batch_size), found, "pipeline.step()")

    def test_a_scan_serves_what_it_makes(self, subject: DeviceSubject) -> None:
        """``pipeline.scan(...)`` serves what the stage makes of each batch, in one compiled program."""
        steps, records = _steps(subject), subject.records
        if named_fields(split_host_fields(subject.pipeline().element_spec())[1]):  # which compiled code cannot carry
            records = subject.device_records
        try:
            scanned = subject.pipeline(records, num_epochs=None).scan(_batch, length=steps)
        except Exception as cause:
            if records is subject.records:
                raise
            not_claimed(
                "compiled code cannot carry text, and the stage takes no records without such fields: "
                f"{type(cause).__name__}: {cause}"
            )
        found = (jax.tree.map(lambda leaf, step=step: leaf[step], scanned) for step in range(steps))
        _require_same(
            subject, _expected(subject, steps * subject.batch_size), map(_device_part, found), "pipeline.scan()"
        )


class CopyPromises:
    """Copies of the stage, by pickle and by ``copy.deepcopy``."""

    def test_copies_make_the_same(self, subject: DeviceSubject) -> None:
        """A pickle and a deep copy of the stage, as pipelines are copied and saved with, make the same batch."""
        ways: dict[str, Any] = {
            "a pickle": lambda stage: pickle.loads(pickle.dumps(stage)),  # noqa: S301 - of this process
            "a deep copy": copy.deepcopy,
        }
        for way, copied in ways.items():
            for title, stage in (("", subject.build()), (" of its config", subject.config)):
                try:
                    twin = copied(stage)
                except Exception as cause:  # noqa: BLE001 - a copy may fail in any way
                    broken(
                        f"{subject.title} promises to be copied with its pipeline, but {way}{title} fails: "
                        f"{type(cause).__name__}: {cause}. Define its functions in a module, and leave out what cannot be "
                        "copied"
                    )
                made = subject.build(twin) if title else twin
                text = subject.other_than_made(made)
                require(
                    not text,
                    f"{subject.title} promises to be copied with its pipeline, but {way}{title} makes something else: {text}. "
                    "Let the copy hold all that the stage computes with",
                )


def _batch(batch: Any) -> Any:
    return batch


def _steps(subject: DeviceSubject) -> int:
    """Return a number of full batches that reach into the second epoch."""
    return subject.size // subject.batch_size + 2


def _expected(subject: DeviceSubject, total: int, *, is_reversed: bool = False) -> Iterator[Batch]:
    """Yield what the compiled stage makes of the first records of a pipeline; its variables go on from batch to batch."""
    program, last = subject.program, subject.size - 1
    program.restart()
    for start in range(0, total, subject.batch_size):
        epochs, rows = np.divmod(np.arange(start, min(start + subject.batch_size, total)), subject.size)
        rows = last - rows if is_reversed else rows
        yield program(subject.batch(rows), subject.ids(rows, epoch=epochs))


def _device_part(batch: Batch) -> Batch:
    return split_host_fields(on_host(batch))[0]


def _require_same(subject: DeviceSubject, expected: Iterator[Batch], found: Iterator[Batch], by: str) -> None:
    for number, (wanted, given) in enumerate(zip(expected, found, strict=True)):
        text = subject.difference(wanted, given)
        require(
            not text,
            f"{subject.title} promises the same batches by every route, but {by} serves another batch {number} than the "
            "compiled "
            f"stage makes: {text}. Keep what changes from batch to batch in nnx.Variables, and draw from the keys alone",
        )
