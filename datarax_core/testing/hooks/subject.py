"""The hook plugin under test, made as its author declares."""

from pathlib import Path

from .declarations import HookDeclarations


class HookSubject:
    """The hook plugin under test, made as its author declares."""

    def __init__(self, author: HookDeclarations, folder: Path) -> None:
        self.author = author
        self.folder = folder
        self.broken: set[str] = set()
        """The names of the tests that failed."""
