"""When a loop has batches read ahead: decided from what it read itself."""

import pytest

from datarax_core.pipeline.loop import WORTH_A_THREAD, PrefetchDecision

QUICK, SLOW, VERY_SLOW = WORTH_A_THREAD / 2, WORTH_A_THREAD * 2, 2e-3


def noted(*seconds: float) -> PrefetchDecision:
    pace = PrefetchDecision()
    for each in seconds:
        pace.note_own(each)
    return pace


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
def test_three_slow_batches_in_turn_or_a_very_slow_one_are_worth_a_thread(
    seconds: tuple[float, ...], *, is_slow: bool
) -> None:
    assert noted(*seconds).is_slow is is_slow


def test_the_loop_looks_again_after_64_batches_and_then_ever_less_often() -> None:
    pace = noted(VERY_SLOW)
    for expected in (64, 256, 1024, 4096, 4096):
        ahead = 0
        while pace.is_slow:
            pace.note_ahead()
            ahead += 1
        assert ahead == expected
        pace.note_own(VERY_SLOW)


def test_a_source_that_has_become_quick_is_read_by_the_loop_again() -> None:
    pace = noted(VERY_SLOW)
    for _ in range(64):
        pace.note_ahead()
    pace.note_own(QUICK)
    assert not pace.is_slow
