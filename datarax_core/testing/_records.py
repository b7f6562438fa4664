"""Promises about the records: how many, and what they are."""

import pytest

from ._subject import Subject


class RecordPromises:
    """Length, element spec, and the records themselves."""

    def test_length_is_the_expected_one(self, subject: Subject) -> None:
        """``len(source)``, and ``epoch_length``, are `expected_length`."""
        expected = subject.author.expected_length
        if expected is not None and subject.source.epoch_length != expected:
            pytest.fail(
                f"{subject.source.title} has {subject.source.epoch_length} records where expected_length is {expected}",
                pytrace=False,
            )
