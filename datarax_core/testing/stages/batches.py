"""Promises about batches: of any size, a record comes out alike in any of them, and rows of padding change no others."""

from typing import Any

import numpy as np

from datarax_core.records.spec import differences, named_fields, spec_of
from datarax_core.testing.checks import broken, not_claimed, require

from .comparing import first_difference, rows_of_batch
from .programs import DeviceSubject
from .subject import on_host

_EPOCHS = 8
_MASK = "is_valid_row"


class BatchPromises:
    """The stage in batches of other sizes, in which records stand at other places."""

    def test_batches_of_any_size_work(self, subject: DeviceSubject) -> None:
        """Batches of one record, of two, and of an odd number have as many rows, of the same fields."""
        spec = spec_of(subject.made_of_all)
        for rows in ([0], [0, 1], list(range(min(3, subject.size)))):
            title = "one record" if len(rows) == 1 else f"{len(rows)} records"
            try:
                found = subject.made(rows)
            except Exception as cause:  # noqa: BLE001 - an author's code may raise anything
                broken(
                    f"{subject.title} promises batches of any size, but raises {type(cause).__name__} for {title}: {cause}. "
                    "Take the number of rows from the arrays, and leave it as it is"
                )
            lengths = {name: len(column) for name, column in named_fields(found).items() if len(column) != len(rows)}
            require(
                not lengths and not (wrong := differences(spec, spec_of(found))),
                f"{subject.title} promises batches of any size, but makes of {title}: "
                + "; ".join(
                    [*(f"{n} rows in field {name!r}" for name, n in lengths.items()), *([] if lengths else wrong)]
                )
                + ". Take the number of rows from the arrays, and leave it as it is",
            )

    def test_a_record_does_not_depend_on_its_batch(self, subject: DeviceSubject) -> None:
        """A record comes out alike by itself, in parts of a batch, in another order, and twice in one batch."""
        if subject.author.mixes_records:
            _require_mixing(subject)
        for how, parts in _cuts(subject.size).items():
            for rows in parts:
                text = subject.difference(rows_of_batch(subject.made_of_all, rows), subject.made(rows))
                require(
                    not text,
                    f"{subject.title} promises that a record comes out alike in any batch, but {how} its result differs: "
                    f"{text}. "
                    f"Compute each row from its own values{' and its own key' * _is_random(subject)}; if a record is meant to "
                    "depend on others of its batch, as in mixup, declare mixes_records = True",
                )

    def test_another_epoch_draws_anew(self, subject: DeviceSubject) -> None:
        """A stage with ``stochastic = True`` makes something else of a record in other epochs, and with another seed."""
        if not _is_random(subject):
            not_claimed(f"{subject.title} is not stochastic")
        others: dict[str, list[dict[str, Any]]] = {
            "in other epochs": [{"epoch": n} for n in range(1, _EPOCHS)],
            "with other seeds": [{"seed": n} for n in (1, 2, 3)],
        }
        for how, options in others.items():
            require(
                any(first_difference(subject.made_of_all, subject.made(**each)) for each in options),
                f"{subject.title} promises to draw random numbers, but made the same batch {how}. Draw from the keys that it "
                "is called with, one for each record, or leave stochastic out",
            )

    def test_padded_rows_change_no_others(self, subject: DeviceSubject) -> None:
        """With ``pad_last``, the rows of real records are what they are without: the mask is one field more."""
        plain = subject.pipeline(num_epochs=1)
        try:
            padded = [on_host(batch) for batch in subject.pipeline(num_epochs=1, pad_last=_MASK)]
        except Exception as cause:  # noqa: BLE001 - an author's code may raise anything
            broken(
                f"{subject.title} promises to work with pad_last, which adds a field of bools, but raises "
                f"{type(cause).__name__}: {cause}. Change the fields that are its own, and hand on the others as they are"
            )
        for number, (wanted, found) in enumerate(zip(map(on_host, plain), padded, strict=True)):
            mask = named_fields(found)[_MASK]
            real = rows_of_batch(
                {name: column for name, column in found.items() if name != _MASK}, np.flatnonzero(mask)
            )
            if subject.author.mixes_records:
                continue
            text = subject.difference(wanted, real)
            require(
                not text,
                f"{subject.title} promises that pad_last changes no real record, but in batch {number}: {text}. Change the "
                "fields that are its own, and compute each row by itself",
            )


def _cuts(size: int) -> dict[str, list[list[int]]]:
    """Return, in words, batches of other sizes, and other places of records."""
    odd = max(1, min(5, size - 1) // 2 * 2 - 1)
    return {
        "by itself": [[row] for row in range(min(size, 4))],
        "in a batch of two": [[0, 1], [size - 2, size - 1]],
        f"in a batch of {odd}": [list(range(odd)), list(range(size - odd, size))],
        "in another order": [list(range(size))[::-1]],
        "twice in one batch": [[0, size - 1, 0]],
    }


def _is_random(subject: DeviceSubject) -> bool:
    return getattr(subject.built, "stochastic", False) is True


def _require_mixing(subject: DeviceSubject) -> None:
    """Skip the test if records depend on others, as the author declares; fail it if they do not."""
    for parts in _cuts(subject.size).values():
        if any(subject.difference(rows_of_batch(subject.made_of_all, rows), subject.made(rows)) for rows in parts):
            not_claimed(f"{subject.title} is declared to mix the records of a batch: mixes_records = True")
    broken(
        f"{type(subject.author).__name__} claims less than {subject.title} does: a record comes out alike in any batch, but "
        "mixes_records is True; leave it out"
    )
