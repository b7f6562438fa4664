"""Promise of every source: its config is valid, and the source is built from it."""

from collections.abc import Iterator, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import jax

from datarax_core.errors import SpecError
from datarax_core.records.spec import split_host_fields
from datarax_core.sources.source import DataSourceModule
from datarax_core.testing.checks import broken, not_claimed, require

from .subject import Subject


class BuildPromises:
    """The config under test and the source that it describes."""

    def test_it_is_built_from_its_config(self, subject: Subject) -> None:
        """The config is valid, and the source that is built from it has an element spec."""
        made: dict[str, Any] = {}
        for step, make in (
            ("validating its config", lambda: subject.config),
            ("building it from its config", lambda: subject.source),
            ("element_spec()", lambda: subject.source.element_spec()),  # noqa: PLW0108 - the source is built first
        ):
            try:
                made[step] = make()
            except Exception as cause:  # noqa: BLE001 - an author's code may raise anything
                broken(
                    f"the source under test promises to be built, but {step} fails: {type(cause).__name__}: {cause}. Correct "
                    "the config, from_config() or the constructor; a source with data that no config names is made by "
                    "make_source()"
                )
            if step == "building it from its config":
                require(
                    isinstance(made[step], DataSourceModule),
                    f"make_source() or from_config() promises a DataSourceModule, but returned {type(made[step]).__name__}",
                )
        leaves = jax.tree.leaves(made["element_spec()"])
        require(
            leaves and all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves),
            f"{subject.title} promises a jax.ShapeDtypeStruct for each field, but element_spec() is {made['element_spec()']!r}",
        )
        try:
            split_host_fields(made["element_spec()"])
        except SpecError as refused:
            broken(
                f"{subject.title} promises records that a pipeline can serve, but its element_spec() is refused: {refused}"
            )

    def test_what_it_guesses_is_a_config(self, subject: Subject) -> None:
        """``guess`` returns None, or fields of a config that opens the path; it raises nothing, whatever the path is."""
        kind = type(subject.source)
        if getattr(kind.guess, "__func__", None) is getattr(DataSourceModule.guess, "__func__", None):
            not_claimed(f"{subject.title} opens no file by its path alone: it has no guess()")
        given = [path for path in _paths(subject.fields) if Path(path).exists()]
        foreign = subject.folder / "no such kind.of-file"
        foreign.write_bytes(bytes(range(256)))
        for path in (*given, str(foreign), str(subject.folder / "missing"), str(subject.folder), ""):
            try:
                guessed = kind.guess(path)
                if guessed is not None:
                    subject.validated({"type": subject.config.type, **guessed})
            except Exception as cause:  # noqa: BLE001 - an author's code may raise anything
                broken(
                    f"{subject.title} promises that guess() returns fields of a config, without its type, or None, but of the "
                    f"path {path!r} {type(cause).__name__}: {cause}. Return None for all paths that it does not open"
                )


def _paths(value: Any) -> Iterator[str]:
    """Yield the texts in the fields of a config that may be paths."""
    if isinstance(value, str | PathLike):
        yield fspath(value)
    elif isinstance(value, Mapping):
        yield from (path for name, each in value.items() if name != "type" for path in _paths(each))
    elif isinstance(value, list | tuple):
        yield from (path for each in value for path in _paths(each))
