"""The choice between rows one by one and a list, by the clock."""

import time

import pytest

from datarax_core.files import RowWays


class File:
    """A file that takes some seconds a row, and some a call of a list; it notes how its rows were read."""

    def __init__(self, seconds: float, of_list: float, of_listed: float = 0.0) -> None:
        self.seconds, self.of_list, self.of_listed = seconds, of_list, of_listed
        self.singly: list[int] = []
        self.lists: list[list[int]] = []

    def read_singly(self, rows: list[int]) -> list[bytes]:
        time.sleep(self.seconds * len(rows))
        self.singly += rows
        return [str(row).encode() for row in rows]

    def read_list(self, rows: list[int]) -> list[bytes]:
        time.sleep(self.of_list + self.of_listed * len(rows))
        self.lists.append(rows)
        return [str(row).encode() for row in rows]


def ways(file: File, **options: float) -> RowWays:
    return RowWays(file.read_singly, file.read_list, **options)


ROWS = list(range(40))
RECORDS = [str(row).encode() for row in ROWS]


def test_quick_rows_are_read_one_by_one() -> None:
    file = File(0.0, 0.0)
    reading = ways(file)
    assert [reading.read(ROWS) for _ in range(9)] == [RECORDS] * 9
    assert len(file.lists) <= 1, "none, unless another process had the processor twice"


def test_rows_that_wait_are_read_by_a_list_from_the_third_one_on() -> None:
    file = File(0.005, 0.005)
    reading = ways(file)
    assert reading.read(ROWS) == RECORDS
    assert (file.singly, file.lists) == ([0, 1], [ROWS[2:]])
    assert reading.is_slow
    assert reading.read([5, 3]) == [b"5", b"3"]
    assert file.lists[1] == [5, 3]


def test_a_file_whose_opening_waited_is_read_by_lists_from_the_first_row_on() -> None:
    file = File(0.005, 0.005)
    assert ways(file, seconds_to_open=0.1).read(ROWS) == RECORDS
    assert file.lists == [ROWS]


def test_lists_that_are_slower_than_rows_one_by_one_are_not_read_again() -> None:
    file = File(0.001, 0.0, of_listed=0.004)
    reading = ways(file)
    assert reading.read([0, 1, 2]) == RECORDS[:3]
    assert not reading.is_slow


def test_a_file_that_has_become_quick_is_read_one_by_one_again() -> None:
    file = File(0.005, 0.005)
    reading = ways(file)
    reading.read(ROWS)
    file.seconds = file.of_list = 0.0
    for _ in range(70):
        assert reading.read(ROWS) == RECORDS
    assert not reading.is_slow
    lists = len(file.lists)
    reading.read(ROWS)
    assert len(file.lists) == lists


@pytest.mark.parametrize("rows", [[0], [7, 7]])
def test_a_file_that_others_read_is_read_by_lists(rows: list[int]) -> None:
    file = File(0.0, 0.0)
    assert ways(file).read(rows, is_shared=True) == [str(row).encode() for row in rows]
    assert file.singly == []
