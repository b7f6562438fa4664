"""Output of plugins while they are imported: it goes to stderr, and stdout is restored, also if threads overlap."""

import io
import sys

import pytest

from datarax_core.extensions.loading import StdoutToStderr


def test_output_inside_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with StdoutToStderr():
        sys.stdout.write("inside\n")
    sys.stdout.write("outside\n")
    assert capsys.readouterr() == ("outside\n", "inside\n")


def test_stdout_is_restored_when_the_last_thread_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    diversion = StdoutToStderr()
    diversion.__enter__()
    diversion.__enter__()  # as of another thread
    diversion.__exit__()
    sys.stdout.write("inside\n")
    diversion.__exit__()
    sys.stdout.write("outside\n")
    assert capsys.readouterr() == ("outside\n", "inside\n")


def test_stdout_is_restored_after_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), StdoutToStderr():
        sys.exit()
    sys.stdout.write("outside\n")
    assert capsys.readouterr() == ("outside\n", "")


def test_a_stdout_that_was_replaced_inside_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    other = io.StringIO()
    with StdoutToStderr():
        monkeypatch.setattr(sys, "stdout", other)
    assert sys.stdout is other
    monkeypatch.undo()
