"""What cannot be read without TensorFlow."""


class NeedsTensorFlow(ValueError):  # noqa: N818 - it is a need, which another backend meets, rather than an error
    """Only TensorFlow decodes a feature. ``field`` is its dotted name, ``reason`` says what it is."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(
            f"field {field!r} is decoded by TensorFlow only: {reason}; leave it out (exclude_keys={{{field!r}}}), or "
            "`pip install datarax-tfds[tensorflow]`"
        )
        self.field, self.reason = field, reason

    def __reduce__(self) -> tuple[type["NeedsTensorFlow"], tuple[str, str]]:
        return type(self), (self.field, self.reason)
