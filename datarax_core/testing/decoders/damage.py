"""Promises about damaged records: each is refused with a sentence, or is a record of the spec, soon and in little memory."""

from datarax_core.testing.checks import broken, require

from .examiner import Damages, EndedError, Examiner, Failed, Verdict
from .mutations import Mutation, mutations
from .subject import DecoderSubject


class DamagePromises:
    """Some hundred damaged records, the simplest damage first, decoded in a process of their own."""

    def test_a_damaged_record_is_refused_or_fits(self, subject: DecoderSubject, examiner: Examiner) -> None:
        """A damaged record is refused with a ValueError, or decoded to what the spec says: no crash, no hang, little memory."""
        for (title, content), verdict in _verdicts(subject, examiner):
            require(
                not verdict.wrong,
                f"{subject.title} promises to refuse a damaged record with a ValueError, or to decode what the spec says, but "
                f"of {title}: {verdict.wrong}. Check lengths, counts and values before they are used. The bytes: "
                f"{content[:200]!r}",
            )

    def test_a_damaged_record_spoils_no_other(self, subject: DecoderSubject, examiner: Examiner) -> None:
        """A damaged record in a batch is refused as by itself, by its place, and leaves the values of others as they are."""
        for (title, content), verdict in _verdicts(subject, examiner):
            require(
                not verdict.spoils,
                f"{subject.title} promises that a damaged record spoils no other, but of {title}: {verdict.spoils}. Decode "
                f"each record by its bytes alone. The bytes: {content[:200]!r}",
            )

    def test_errors_say_what_was_expected(self, subject: DecoderSubject, examiner: Examiner) -> None:
        """The error of a damaged record is a sentence: it is not that of code that trusted the bytes, such as a KeyError."""
        for (title, content), verdict in _verdicts(subject, examiner):
            require(
                not verdict.vague,
                f"{subject.title} promises errors that say what is expected and what was found, but of {title} "
                f"{verdict.vague}. "
                "Check first, and raise ValueError(\"field 'x' has 3 bytes where 4 are expected\"). The bytes: "
                f"{content[:200]!r}",
            )


def _verdicts(subject: DecoderSubject, examiner: Examiner) -> list[tuple[Mutation, Verdict]]:
    """Return what became of each damaged record; fail the test if one ended the process."""
    if subject.verdicts is not None:
        return subject.verdicts
    tried = mutations(subject.records, subject.author.mutations)
    job = Damages(subject.decoder, subject.records[0], subject.spec, tried, subject.author.most_seconds)
    verdicts = []
    try:
        for report in examiner.reports(job):
            if isinstance(report, Failed):
                broken(f"{subject.title} promises to decode in another process, but there {report.reason}")
            if isinstance(report, Verdict):
                verdicts.append((tried[report.number], report))
    except EndedError as ended:
        title, content = tried[ended.under_way] if isinstance(ended.under_way, int) else Mutation("none", b"")
        broken(
            f"{subject.title} promises to refuse a damaged record, or to decode what the spec says, but decoding {title} "
            f"{ended}. Check lengths, counts and offsets before they are used. The bytes: {content[:200]!r}"
        )
    subject.verdicts = verdicts
    return verdicts
