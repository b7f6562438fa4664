"""What is printed while others are imported goes to stderr, and stdout comes back, whoever overlaps with whom."""

import io
import sys

import pytest

from datarax_core.extensions.loading import StdoutToStderr


def test_what_is_printed_inside_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with StdoutToStderr():
        sys.stdout.write("inside\n")
    sys.stdout.write("outside\n")
    assert capsys.readouterr() == ("outside\n", "inside\n")


def test_stdout_comes_back_when_the_last_one_is_out(capsys: pytest.CaptureFixture[str]) -> None:
    diversion = StdoutToStderr()
    diversion.__enter__()
    diversion.__enter__()  # as of another thread
    diversion.__exit__()
    sys.stdout.write("inside\n")
    diversion.__exit__()
    sys.stdout.write("outside\n")
    assert capsys.readouterr() == ("outside\n", "inside\n")


def test_it_comes_back_after_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), StdoutToStderr():
        sys.exit()
    sys.stdout.write("outside\n")
    assert capsys.readouterr() == ("outside\n", "")


def test_one_that_was_put_in_for_good_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    other = io.StringIO()
    with StdoutToStderr():
        monkeypatch.setattr(sys, "stdout", other)
    assert sys.stdout is other
    monkeypatch.undo()
