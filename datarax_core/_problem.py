"""One thing that is wrong with a config."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with a config, and where: ``train.yaml:7: source.sources[1].paths: this field is required``.

    ``file`` is empty for what is in no file, ``line`` None where it is not known, and ``place`` empty for the file as a whole.
    """

    message: str
    file: str = ""
    line: int | None = None
    column: int | None = None
    place: str = ""

    def __str__(self) -> str:
        spot = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        return ": ".join(filter(None, [spot, self.place, self.message]))
