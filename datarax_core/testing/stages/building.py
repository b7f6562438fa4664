"""Promise of every stage: its config is valid, and a pipeline is built of it."""

from datarax_core.testing.checks import broken

from .subject import StageSubject


class BuildPromises:
    """The config under test, and the callable that it builds."""

    def test_it_is_built_from_its_config(self, subject: StageSubject) -> None:
        """The config is valid, and it builds a callable for the records."""
        try:
            subject.build()
        except Exception as cause:  # noqa: BLE001 - an author's code may raise anything
            broken(f"the stage under test promises to be built, but fails: {type(cause).__name__}: {cause}")
