"""The decoder under test, made as its author declares."""

from pathlib import Path

from .declarations import DecoderDeclarations


class DecoderSubject:
    """The decoder under test, made as its author declares."""

    def __init__(self, author: DecoderDeclarations, folder: Path) -> None:
        self.author = author
        self.folder = folder
        self.broken: set[str] = set()
        """The names of the tests that failed."""
