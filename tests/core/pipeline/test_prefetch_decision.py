"""The decision to read ahead, from the time that the loop took to read batches itself."""

import pytest

from datarax_core.pipeline.loop import WORTH_A_THREAD, PrefetchDecision

QUICK, SLOW, VERY_SLOW = WORTH_A_THREAD / 2, WORTH_A_THREAD * 2, 2e-3


def noted(*seconds: float) -> PrefetchDecision:
    decision = PrefetchDecision()
    for each in seconds:
        decision.note_own(each)
    return decision


@pytest.mark.parametrize(
    ("seconds", "is_slow"),
    [
        ((), False),
        ((SLOW, SLOW), False),
        ((SLOW, SLOW, SLOW), True),
        ((SLOW, QUICK, SLOW, SLOW), False),
        ((QUICK, SLOW, SLOW, SLOW), True),
        ((QUICK,) * 50, False),
        ((VERY_SLOW,), True),
    ],
)
def test_three_slow_batches_in_a_row_or_one_very_slow_batch_are_worth_a_thread(
    seconds: tuple[float, ...], *, is_slow: bool
) -> None:
    assert noted(*seconds).is_slow is is_slow


def test_the_loop_measures_again_after_64_batches_and_then_less_and_less_often() -> None:
    decision = noted(VERY_SLOW)
    for expected in (64, 256, 1024, 4096, 4096):
        ahead = 0
        while decision.is_slow:
            decision.note_ahead()
            ahead += 1
        assert ahead == expected
        decision.note_own(VERY_SLOW)


def test_a_source_that_has_become_quick_is_read_by_the_loop_again() -> None:
    decision = noted(VERY_SLOW)
    for _ in range(64):
        decision.note_ahead()
    decision.note_own(QUICK)
    assert not decision.is_slow
