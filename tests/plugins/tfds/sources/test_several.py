"""Work ahead on several threads: results in the order of requests, errors where they belong, and what is cancelled."""

import threading
from typing import Any

import pytest

from datarax_tfds.features import threads
from datarax_tfds.sources.several import SeveralAhead


@pytest.fixture(autouse=True)
def three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datarax_tfds.sources.several.usable_cores", lambda: 3)
    monkeypatch.setattr(threads, "usable_cores", lambda: 6)


def test_results_come_in_the_order_of_requests_from_several_threads() -> None:
    together = threading.Barrier(3, timeout=60)

    def work(item: int) -> tuple[int, int, int]:
        if item < 3:
            together.wait()
        return item, threading.get_ident(), threads._own_cores()

    ahead = SeveralAhead(work, most=10)
    assert ahead.threads == 3
    for item in range(8):
        ahead.request(item)
    assert (len(ahead), ahead.first) == (8, 0)
    found = [ahead.take() for _ in range(8)]
    ahead.close()
    assert [item for item, _, _ in found] == list(range(8))
    assert len({thread for _, thread, _ in found}) == 3
    assert {own for _, _, own in found} == {2}
    assert threads._own_cores() == 6
    assert (len(ahead), ahead.first) == (0, None)


def test_an_error_is_raised_in_its_turn_and_later_results_follow() -> None:
    def work(item: int) -> int:
        if item == 1:
            raise ValueError("the second")
        return item

    ahead = SeveralAhead(work, most=2)
    for item in range(4):
        ahead.request(item)
    assert ahead.take() == 0
    with pytest.raises(ValueError, match="the second"):
        ahead.take()
    assert [ahead.take(), ahead.take()] == [2, 3]
    ahead.close()


def test_cancelled_requests_have_no_results() -> None:
    go_on = threading.Event()

    def work(item: Any) -> Any:
        go_on.wait(60)
        return item

    ahead = SeveralAhead(work, most=2)
    for item in "abc":
        ahead.request(item)
    ahead.cancel()
    assert (len(ahead), ahead.first) == (0, None)
    ahead.request("d")
    go_on.set()
    assert ahead.take() == "d"
    ahead.close()


def test_one_item_at_a_time_has_one_thread() -> None:
    ahead = SeveralAhead(str, most=1)
    assert ahead.threads == 1
    ahead.request(7)
    assert ahead.take() == "7"
    ahead.close()
