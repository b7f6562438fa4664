"""Arithmetic of windows, against a loop that writes them down one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datarax_views.sequences.windows.plan import Cut, WindowsOfAlike, WindowsOfMany


def written_down(cut: Cut, length: int) -> list[int]:
    """Return the beginnings of the windows of a sequence, found one by one."""
    starts, begin = [], 0
    while begin + cut.span <= length:
        starts.append(begin)
        begin += cut.stride
    has_more = begin < length - cut.shift and (not starts or starts[-1] + cut.span < length)
    if has_more and cut.remainder == "pad":
        starts.append(begin)
    if has_more and cut.remainder == "overlap" and length >= cut.span:
        starts.append(length - cut.span)
    return starts


CUTS = st.builds(
    Cut,
    length=st.integers(1, 9),
    stride=st.integers(1, 12),
    shift=st.integers(0, 4),
    remainder=st.sampled_from(["drop", "pad", "overlap"]),
)


@given(CUTS, st.integers(0, 60))
def test_windows_of_one_sequence_are_those_that_a_loop_finds(cut: Cut, length: int) -> None:
    expected = written_down(cut, length)
    windows = WindowsOfAlike(cut, length)
    assert windows.num_windows == len(expected)
    if expected:
        sequences, starts = windows.places(np.arange(len(expected)))
        assert starts.tolist() == expected
        assert not sequences.any()
    ends = [start + cut.span for start in expected]
    assert cut.left_over(length) == length - min(length, max(ends, default=0))
    assert (length >= cut.shortest) == bool(expected)


@given(CUTS, st.lists(st.integers(0, 40), max_size=12))
def test_windows_of_many_sequences_come_one_sequence_after_another(cut: Cut, lengths: list[int]) -> None:
    expected = [(number, start) for number, length in enumerate(lengths) for start in written_down(cut, length)]
    windows = WindowsOfMany(cut, np.asarray(lengths, np.int64))
    assert windows.num_windows == len(expected)
    places = windows.places(np.arange(len(expected)))
    assert list(zip(*map(np.ndarray.tolist, places), strict=True)) == expected
    alike = WindowsOfAlike(cut, 20, 3)
    found = alike.places(np.arange(alike.num_windows))
    assert list(zip(*map(np.ndarray.tolist, found), strict=True)) == [
        (number, start) for number in range(3) for start in written_down(cut, 20)
    ]


@pytest.mark.parametrize("remainder", ["drop", "pad", "overlap"])
def test_sequences_longer_than_32_bits_are_cut_exactly(remainder: str) -> None:
    length = 3 * 10**12 + 7
    cut = Cut(1024, 512, 1, remainder)  # type: ignore[arg-type]
    windows = WindowsOfAlike(cut, length)
    whole = (length - 1025) // 512 + 1
    assert windows.num_windows == whole + (remainder != "drop")
    last = int(windows.places(np.asarray([windows.num_windows - 1])).starts[0])
    assert last == {"drop": (whole - 1) * 512, "pad": whole * 512, "overlap": length - 1025}[remainder]
    many = WindowsOfMany(cut, np.asarray([length, 0, length]))
    found = many.places(np.asarray([windows.num_windows - 1, windows.num_windows, 2 * windows.num_windows - 1]))
    assert found.sequences.tolist() == [0, 2, 2]
    assert found.starts.tolist() == [last, 0, last]
