"""Promise of every stage: its config is valid, and a pipeline over the records is built with it."""

from typing import Any

from datarax_core.testing.checks import broken, require

from .declarations import HostDeclarations
from .subject import StageSubject


class BuildPromises:
    """The config under test, and the callable that a pipeline builds of it."""

    def test_it_is_built_from_its_config(self, subject: StageSubject) -> None:
        """The config is valid, and a pipeline over the records is built with the stage."""
        _ = subject.records  # a wrong declaration is told as such
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
                    "the config, the records of the test, or build()"
                )
            require(
                callable(made),
                f"the stage under test promises to be callable, but make_stage() returned a {type(made).__name__}; return a "
                "config, a mapping with its type, or a callable",
            )
        wanted, side = (True, "host") if isinstance(subject.author, HostDeclarations) else (False, "device")
        given = getattr(subject.config, "on_host", False)
        require(
            given in (wanted, "either"),
            f"{subject.title} says on_host = {given}, and is tested as a stage on the {side}; derive the test from "
            f"{'StageConformance' if wanted else 'HostStageConformance'}, or correct on_host",
        )
