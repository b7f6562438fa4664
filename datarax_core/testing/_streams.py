"""Promises of sources that are read forward only."""

from ._compare import joined, rows_of
from ._subject import BATCH, Subject, batches
from ._verdict import broken, require

_SIZES = (1, 3, 32, 7)


class StreamPromises:
    """What takes the place of random access."""

    def test_batches_of_any_size_are_the_same_records(self, subject: Subject) -> None:
        """However the stream is cut."""
        subject.require_stream()
        for size in _SIZES:
            found = joined(batches(subject.build(), subject.stretch, size))
            by = f"get_batch({size}), again and again,"
            subject.require_served(0, found, by, "Keep what is left of what was read for the next batch")
            require(
                rows_of(found) == subject.stretch,
                f"{subject.title} promises the same records however it is cut, but in batches of {size} it has "
                f"{rows_of(found)}, where in one piece it has {subject.stretch}",
            )

    def test_skipping_is_reading(self, subject: Subject) -> None:
        """After ``skip(count)`` comes what comes after a batch of ``count``."""
        subject.require_stream()
        source = subject.build()
        source.skip(_SIZES[1])
        source.skip(BATCH)
        at = _SIZES[1] + BATCH
        subject.require_served(
            at,
            source.get_batch(_SIZES[1]),
            f"the stream, after skip() of {at} records,",
            "Skip as many as are asked for",
        )

    def test_the_end_is_the_end(self, subject: Subject) -> None:
        """A stream with a length goes on with its next epoch; one without may end, and then stays so until ``reset()``."""
        subject.require_stream()
        has_ended = subject.stretch < subject.wanted
        if subject.length is not None:
            require(
                not has_ended,
                f"{subject.title} says by len() that an epoch has {subject.length} records, and promises to go on with the "
                f"next, but ended after {subject.stretch}; go on, or define no __len__",
            )
        if not has_ended:
            return
        source = subject.build()
        for _ in batches(source, subject.wanted):
            pass
        try:
            more = source.get_batch(1)
        except StopIteration:
            return
        broken(
            f"{subject.title} ended after {subject.stretch} records, and promises to stay so until reset(), but then gave "
            f"{rows_of(more)} more; raise StopIteration"
        )
