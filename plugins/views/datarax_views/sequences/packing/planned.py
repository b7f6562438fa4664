"""The plan of a view of packed rows: made of lengths when it is first asked for, checked, and described."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from datarax_core.errors import SpecError
from datarax_views.sequences.lengths import others_too_long
from datarax_views.sequences.plan_once import checksum_of

from .equals import Equals
from .pieces import Pieces, TooLong, compact
from .plan import PLAN_RULE, ConcatPlan, FitPlan, Plan


@dataclass(frozen=True, slots=True)
class Settings:
    """What a plan depends on besides lengths; see `PackViewConfig`."""

    row_length: int
    strategy: Literal["fit", "concat"]
    too_long: TooLong
    max_segments: int | None
    block: int
    keeps_last: bool
    shuffle_seed: int | None
    repack_seed: int | None


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and the lengths that it was made of.

    Attributes:
        plan: The rows.
        lengths: Integers (n,): the tokens of each document.
        settings: What else the plan was made of.
        checksum: Tells the lengths apart, for saved states.
    """

    plan: Plan
    lengths: np.ndarray
    settings: Settings
    checksum: str

    @classmethod
    def of(cls, lengths: np.ndarray, settings: Settings, title: str, field: str) -> "Planned":
        """Return the plan of documents of these lengths.

        Args:
            lengths: int64 (n,): the tokens of each document.
            settings: What else the plan depends on.
            title: The source of the documents, in errors.
            field: The field that has these lengths, in errors.

        Raises:
            SpecError: A document is longer than a row, or there is no row.
        """
        checksum = checksum_of(lengths)
        lengths = compact(lengths)
        is_fit = settings.strategy == "fit"
        if is_fit and settings.too_long == "refuse":
            _require_fit(lengths, settings.row_length, title, field)
        pieces = Pieces.of(lengths, settings.row_length if is_fit else None, settings.too_long)
        if settings.shuffle_seed is not None and not is_fit:
            pieces = pieces.shuffled(settings.shuffle_seed)
        equals = None if settings.repack_seed is None else Equals(pieces.lengths, settings.repack_seed)
        if is_fit:
            plan: Plan = FitPlan(
                pieces,
                settings.row_length,
                block=settings.block,
                max_segments=settings.max_segments,
                shuffle_seed=settings.shuffle_seed,
                equals=equals,
            )
        else:
            plan = ConcatPlan(pieces, settings.row_length, keeps_last=settings.keeps_last, equals=equals)
        if not plan.num_rows:
            _refuse_no_rows(lengths, settings.row_length, title, field)
        return cls(plan, lengths, settings, checksum)

    def fingerprint(self) -> dict[str, str]:
        """Return the entries of a saved state: the checksum of the lengths, and the rule of the arithmetic."""
        return {"lengths": self.checksum, "plan": f"rule {PLAN_RULE}"}

    def describe(self) -> str:
        """Return a line about the rows, how many and how full, and one about documents that do not fit."""
        plan, row_length = self.plan, self.settings.row_length
        full = plan.num_tokens / (plan.num_rows * row_length)
        num_empty = int(np.count_nonzero(self.lengths == 0))
        text = (
            f"packs {len(self.lengths):,} documents ({self.lengths.sum(dtype=np.int64):,} tokens) into {plan.num_rows:,} rows "
            f"of {row_length:,}, {_percent(full)} full, at most {plan.most_segments:,} segments a row"
        )
        over = int(np.count_nonzero(self.lengths > row_length)) if self.settings.strategy == "fit" else 0
        done = {"split": "split", "truncate": "cut to a row", "drop": "left out"}
        notes = [
            f"{over:,} too long {'is' if over == 1 else 'are'} {done[self.settings.too_long]}" if over else "",
            f"{num_empty:,} empty {'is' if num_empty == 1 else 'are'} left out" if num_empty else "",
            "packed anew each epoch" if self.settings.repack_seed is not None else "",
        ]
        return "\n".join(filter(None, [text, "; ".join(filter(None, notes))]))


def _require_fit(lengths: np.ndarray, row_length: int, title: str, field: str) -> None:
    """Raise if a document is longer than a row."""
    over = np.flatnonzero(lengths > row_length)
    if not over.size:
        return
    others = others_too_long(lengths, row_length)
    raise SpecError(
        f"record {over[0]} of {title} has {int(lengths[over[0]]):,} tokens in field {field!r} and is longer than a row of "
        f"{row_length:,}{others}. Say what to do: too_long: split cuts such documents into pieces, truncate keeps the first "
        f"{row_length:,} tokens, drop leaves them out; strategy: concat cuts anywhere"
    )


def _refuse_no_rows(lengths: np.ndarray, row_length: int, title: str, field: str) -> None:
    total = int(lengths.sum(dtype=np.int64))
    if not total:
        raise SpecError(
            f"field {field!r} of {title} is empty in all of {len(lengths):,} records; there is nothing to pack"
        )
    if (lengths <= row_length).any():
        raise SpecError(
            f"the {len(lengths):,} records of {title} have {total:,} tokens together, fewer than one row of {row_length:,}, "
            "and last_row: drop leaves out a row that is not full; keep it, last_row: pad, or make rows shorter"
        )
    raise SpecError(
        f"all {len(lengths):,} records of {title} are longer than a row of {row_length:,}, and too_long: drop leaves them out; "
        "split them, too_long: split, or make rows longer"
    )


def _percent(share: float) -> str:
    return f"{np.floor(share * 1000) / 10:.1f}%"
