"""Promises about mistakes, of users and of files: each error says which record, and which path."""

from typing import Any

import numpy as np

from datarax_core.errors import DataraxError
from datarax_core.sources.source import DataSourceModule

from ._effects import missing_paths
from ._subject import Subject
from ._verdict import broken, not_claimed, require


class MistakePromises:
    """Indices that are not there, files that are not there, and records that are damaged."""

    def test_an_index_out_of_range_is_named(self, subject: Subject) -> None:
        """``source[len(source)]`` is an IndexError that names it, alone or among others."""
        subject.require_indexed()
        source, length = subject.source, subject.records
        for index in (length, -length - 1):
            for way, read in (
                (f"source[{index}]", source.__getitem__),
                ("source.__getitems__", lambda i: source.__getitems__([0, i])),
            ):
                try:
                    read(index)
                except IndexError as error:
                    require(
                        str(index) in str(error),
                        f"the error of {subject.title} for record {index} does not name it: {error}",
                    )
                else:
                    broken(
                        f"{subject.title} has {length} records, and promises an IndexError for others, but {way} gave one "
                        f"for {index}; leave __getitem__ and __getitems__ to the base class, or refuse it"
                    )

    def test_a_missing_path_is_named(self, subject: Subject) -> None:
        """A path that is not there is an error that names it, when the source is built."""
        fields = {name: value for name, value in subject.fields.items() if name != "type"}  # a folder may be called so
        named = {name: paths for name, value in fields.items() if (paths := missing_paths(value))}
        if not named:
            not_claimed("the config under test names no path that exists")
        for field, paths in named.items():
            config = subject.validated({**subject.fields, field: paths})
            path = paths if isinstance(paths, str) else paths[0]
            try:
                subject.build(config=config)
            except (OSError, DataraxError) as error:
                require(
                    path in str(error),
                    f"the error of {subject.title} for a missing {field} does not name {path!r}: {error}",
                )
            else:
                broken(
                    f"{subject.title} promises to name a path that is not there, but was built with {field}={path!r}; look "
                    "at it when the source is built, and raise FileNotFoundError"
                )

    def test_a_damaged_record_is_named(self, subject: Subject) -> None:
        """The error says which record it is, and in which file; the others are read on."""
        damaged = subject.author.make_damaged(subject.folder)
        if damaged is None:
            not_claimed("make_damaged() is not defined: no record can be damaged")
        source = subject.build(config=subject.validated(damaged.config))
        error = _error_of(source, damaged.record)
        if error is None:
            broken(
                f"{source.title} promises an error for a record that is damaged, but read record {damaged.record} as if it "
                "were whole"
            )
        said = "\n".join([str(error), *getattr(error, "__notes__", ())])
        wanted = [f"{damaged.record}", *([] if damaged.path is None else [str(damaged.path)])]
        unsaid = [each for each in wanted if each not in said]
        require(
            not unsaid,
            f"{source.title} promises errors that name record and path, but that of record {damaged.record} leaves out "
            f"{', '.join(unsaid)}: {type(error).__name__}: {said}. Raise RecordError with both, and the cause chained",
        )
        other = (damaged.record + 1) % source.num_records
        require(
            _error_of(source, other) is None,
            f"{source.title} promises to read on after a record that is damaged, but then record {other} failed too: "
            f"{_error_of(source, other)}",
        )


def _error_of(source: DataSourceModule, record: int) -> Any:
    try:
        source.fetch(np.asarray([record]))
    except Exception as error:  # noqa: BLE001 - it is what the test looks at
        return error
    return None
