"""What a reader of files says of a record that it cannot read."""


class UnreadableError(Exception):
    """One of the records that were asked for cannot be read: ``row`` is its place in the call, ``reason`` says why."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row, self.reason = row, reason
