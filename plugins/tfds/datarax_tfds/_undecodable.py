"""The error of a record that is not as its data set declares."""


class UndecodableRecord(ValueError):  # noqa: N818 - whoever reads knows the file, and makes a RecordError of it
    """A record of a batch does not parse, or a field of it does not fit.

    ``row`` is its place in the batch, ``field`` the dotted name of the field (None: the record is no Example), ``reason`` says
    what was found, and what is expected.
    """

    def __init__(self, row: int, field: str | None, reason: str) -> None:
        super().__init__(f"record {row} of the batch: {reason}")
        self.row, self.field, self.reason = row, field, reason

    def __reduce__(self) -> tuple[type["UndecodableRecord"], tuple[int, str | None, str]]:
        return type(self), (self.row, self.field, self.reason)


class Unfit(ValueError):  # noqa: N818 - likewise: of one value, whose row and field the caller knows
    """A stored value is not as declared; the text is what was found, such as "3 values"."""


def counted(count: int, word: str) -> str:
    """The count with its word: "1 value", "3 values"."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
