"""Promises about building a stage: a pipeline is built with it over the records, and refuses those that it cannot work on."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, named_fields, nested_fields
from datarax_core.registry.stages import Stage
from datarax_core.testing.checks import broken, not_claimed, require, shown

from .declarations import HostDeclarations
from .subject import StageSubject

_MOST = 6
"""Fields that are left out and changed."""


class BuildPromises:
    """The config under test, and the callable that a pipeline builds of it."""

    def test_it_is_built_from_its_config(self, subject: StageSubject) -> None:
        """The config is valid, and a pipeline over the records is built with the stage."""
        _ = subject.given, subject.records  # wrong declarations are told as such
        steps: dict[str, Any] = {
            "validating its config": lambda: subject.config,
            "building it for the records": lambda: subject.built,
        }
        for step, make in steps.items():
            try:
                made = make()
            except Exception as cause:  # noqa: BLE001 - an author's code may raise anything
                broken(
                    f"the stage under test promises to be built, but {step} fails: {type(cause).__name__}: {cause}. Correct "
                    "the config, the records of the test, or build(); an unknown stage is one that is not installed (pip "
                    "install -e .)"
                )
            require(
                callable(made),
                f"the stage under test promises to be callable, but make_stage() returned {shown(made)}; return a "
                "config, a mapping with its type, or a callable",
            )
        wanted, side = (True, "host") if isinstance(subject.author, HostDeclarations) else (False, "device")
        given = getattr(subject.config, "on_host", False)
        require(
            given in (wanted, "either"),
            f"{subject.title} says on_host = {given}, and is tested as a stage on the {side}; derive the test from "
            f"{'StageConformance' if wanted else 'HostStageConformance'}, or correct on_host",
        )


class MistakePromises:
    """Records of other fields, dtypes and shapes."""

    def test_records_it_cannot_work_on_are_refused(self, subject: StageSubject) -> None:
        """Records without a field, with text in its place, or without its axes, are refused when the pipeline is built."""
        if not isinstance(subject.config, Stage):
            not_claimed(f"{subject.title} is a callable, which is told of no spec: a Stage refuses records in build()")
        for field, how, records in _variants(subject.records):
            try:
                pipeline = subject.pipeline(records)
            except ValueError as refused:
                _require_named(subject, field, how, refused)
                continue
            except Exception as cause:  # noqa: BLE001 - an author's code may raise anything
                broken(
                    f"{subject.title} promises to refuse records that it cannot work on by a ValueError, but {how} raises "
                    f"{type(cause).__name__}: {cause}. Look for its fields in build(), by "
                    f"datarax_core.stages.{_finder(subject)}(spec, {field!r}), and raise datarax_core.StageError for what it "
                    "cannot work on"
                )
            try:
                serve(pipeline)
            except Exception as cause:  # noqa: BLE001 - an author's code may raise anything
                broken(
                    f"{subject.title} promises to refuse records that it cannot work on when the pipeline is built, but "
                    f"{how} is "
                    f"found at a batch: {type(cause).__name__}: {str(cause).partition(chr(10))[0]}. Look for its fields in "
                    "build(), "
                    f"by datarax_core.stages.{_finder(subject)}(spec, {field!r}), and raise datarax_core.StageError for "
                    "shapes and dtypes that it cannot work on"
                )


def serve(pipeline: Any) -> None:
    """Serve a batch if the stage runs on the host; trace it otherwise, which costs less."""
    if getattr(pipeline.stages[0], "on_host", False) is True:
        next(iter(pipeline))
    else:
        pipeline.element_spec()


def _finder(subject: StageSubject) -> str:
    """Return the name of the function that finds a field; on the host, text and ragged columns are found too."""
    return "struct_of" if isinstance(subject.author, HostDeclarations) else "field_of"


def _require_named(subject: StageSubject, field: str, how: str, refused: ValueError) -> None:
    message = str(refused)
    require(
        field in message or field.rpartition(".")[2] in message,
        f"{subject.title} promises errors that name the field, but {how} is refused by {message!r}. Name the field {field!r} "
        "and what it would have to be",
    )


def _variants(records: Batch) -> Iterator[tuple[str, str, Batch]]:
    """Yield (a field, what is wrong with it, the records) for records of which one field is missing or another."""
    fields = named_fields(records)
    for name in list(fields)[:_MOST]:
        column = fields[name]
        without = {other: value for other, value in fields.items() if other != name}
        if without:
            yield name, f"a record without the field {name!r}", nested_fields(without)
        if not _is_text(column):
            text = np.array([f"text {row}" for row in range(len(column))], object)
            yield name, f"text in the field {name!r}", nested_fields({**fields, name: text})
        if len(column.shape) > 1:
            scalars = np.zeros(len(column), column.dtype)
            yield name, f"a field {name!r} without axes", nested_fields({**fields, name: scalars})


def _is_text(column: Any) -> bool:
    return not isinstance(column, Ragged) and column.dtype.kind in "OSU"
