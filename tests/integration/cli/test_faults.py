"""Ends of ``drx``: a mistake is one message, a plugin's bug names the plugin, and plugins' output does not mix with ours."""

import json
import os
import re
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from commands import DRX, fails, invoke, run

from datarax_core._cli import opening
from datarax_core._cli.app import COMMANDS
from datarax_core._cli.blame import blamed
from datarax_core._cli.progress import interrupts

if TYPE_CHECKING:
    from conftest import Site

ON_CONFIGS = ("plan", "peek", "run", "bench", "verify")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a config of 100 records, in the folder of its data."""
    np.savez(tmp_path / "data.npz", x=np.arange(100, dtype=np.int32))
    path = tmp_path / "train.yaml"
    path.write_text("batch_size: 10\nsource: {type: memory, path: data.npz}\n")
    return path


def test_every_module_of_a_command_is_a_command() -> None:
    folder = Path(opening.__file__).parent / "commands"
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(COMMANDS)


# -- mistakes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ON_CONFIGS)
def test_a_missing_config_is_one_message_in_every_command(command: str) -> None:
    done = invoke(command, "nix.yaml")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith("nix.yaml: no such file; check the path and the working folder ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [*ON_CONFIGS, "convert"])
def test_a_missing_argument_is_reported(command: str) -> None:
    done = invoke(command)
    assert done.exit_code == 2
    assert "Missing argument 'CONFIG'" in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["bench", "CONFIG", "--repeats", "0"], "Invalid value for '--repeats'"),
        (["bench", "CONFIG", "--seconds", "soon"], "Invalid value for '--seconds'"),
        (["peek", "CONFIG", "--batches", "0"], "Invalid value for '--batches'"),
        (["bench", "CONFIG", "--seconds", "inf"], "Invalid value for '--seconds'"),
        (["run", "CONFIG", "--limit", str(10**20)], "Invalid value for '--limit'"),
        (["run", "CONFIG", "--epochs", str(10**20)], "Invalid value for '--epochs'"),
        (["peek", "CONFIG", "--batches", str(10**20)], "Invalid value for '--batches'"),
        (["check", "--timeout", "0"], "Invalid value for '--timeout'"),
        (["check", "--timeout", "nan"], "Invalid value for '--timeout'"),
        (["run", "CONFIG", "--limits", "3"], "No such option: --limits"),
        (["plugins", "memory"], "Got unexpected extra argument"),
        (["pek", "CONFIG"], "No such command 'pek'. Did you mean 'peek'?"),
    ],
)
def test_an_argument_that_cannot_work_is_refused_by_name(args: list[str], message: str, config: Path) -> None:
    done = invoke(*(str(config) if arg == "CONFIG" else arg for arg in args))
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_drx_alone_shows_its_help_and_fails() -> None:
    done = invoke()
    assert done.exit_code == 2
    assert "Commands:" in done.stdout + done.stderr


def test_a_file_that_cannot_be_written_is_reported(config: Path, tmp_path: Path) -> None:
    done = invoke("peek", str(config), "--png", str(tmp_path / "nix" / "x.png"))
    assert done.exit_code == 1
    assert done.stderr.strip() == f"{tmp_path / 'nix' / 'x.png'}: No such file or directory"


@pytest.mark.usefixtures("ordinary_user")
def test_a_config_that_may_not_be_read_is_reported(shared_folder: Path) -> None:
    path = shared_folder / "train.yaml"
    path.write_text("batch_size: 1\n")
    path.chmod(0)
    done = invoke("plan", str(path))
    assert done.exit_code == 1
    assert done.stderr.strip() == f"{path}: permission denied; make the file readable for this user"


# -- plugins that fail, and print ---------------------------------------------------------------------------------------


def install_loud(site: "Site", *, failure: str = "pass") -> None:
    """Install the source ``acme_bug``, which prints in every possible way, and runs a line of code when records are read."""
    site.install_working("acme-bug", "acme_bug", version="3.1")
    code = site.folder / "acme_bug" / "__init__.py"
    line = "    def get_records(self, indices):\n"
    body = code.read_text().replace(line, f"{line}        {failure}\n")
    loud = (
        "import os\nprint('hello from Python')\nos.write(1, b'hello from C\\n')\nos.system('echo hello from a child')\n"
    )
    code.write_text(loud + body)


def written(folder: Path, text: str) -> str:
    (folder / "bug.yaml").write_text(text)
    return str(folder / "bug.yaml")


def test_what_plugins_print_is_on_stderr_and_stdout_is_json(site: "Site", tmp_path: Path) -> None:
    install_loud(site)
    done = run(DRX, "run", written(tmp_path, "batch_size: 2\nsource: {type: acme_bug}\n"), "--json")
    shown = json.loads(done.stdout)
    assert (shown["batches"], shown["records"], shown["fields"], shown["finished"]) == (2, 4, {"x": "int32[]"}, True)
    for origin in "Python", "C", "a child":
        assert f"hello from {origin}\n" in done.stderr


def test_what_a_plugin_raises_is_its_bug_and_the_message_says_whose_and_where(site: "Site", tmp_path: Path) -> None:
    install_loud(site, failure="self.oops")
    done = run(DRX, "run", written(tmp_path, "batch_size: 2\nsource: {type: acme_bug}\n"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search(
        r"^acme-bug 3\.1 failed in acme_bug, line \d+: AttributeError: .*'oops'$", done.stderr, re.MULTILINE
    )
    assert "this is a bug of acme-bug or of what it uses; --debug shows the traceback, for its authors" in done.stderr


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("raise KeyError('a')", "KeyError: 'a'"),
        ("raise SystemExit(0)", "exit with 0"),
        ("raise RuntimeError from ValueError('b')", "RuntimeError: "),
        ("import json; json.loads('{')", "JSONDecodeError: .*"),
    ],
)
def test_whose_bug_a_failure_is_tells_the_innermost_frame_of_a_plugin(code: str, shown: str, site: "Site") -> None:
    site.install("acme-bug", {"bug": "acme_bug:main"}, code=f"def main():\n    {code}\n", group="datarax.hooks")
    with pytest.raises((Exception, SystemExit)) as caught:
        import_module("acme_bug").main()
    assert re.match(rf"acme-bug 1\.0 failed in acme_bug, line 2: {shown}\n", blamed(caught.value) or "")


def test_the_bug_of_a_cause_is_a_plugin_s_too_and_notes_are_reported(site: "Site") -> None:
    site.install("acme-bug", {"bug": "acme_bug:main"}, code="def main():\n    1 / 0\n", group="datarax.stages")

    def fails() -> None:
        try:
            import_module("acme_bug").main()
        except ZeroDivisionError as cause:
            raise RuntimeError("the stage failed") from cause

    with pytest.raises(RuntimeError) as caught:
        fails()
    caught.value.add_note("in record 7")
    shown = blamed(caught.value) or ""
    assert shown.startswith(
        "acme-bug 1.0 failed in acme_bug, line 2: RuntimeError: the stage failed\nin record 7\nthis is"
    )


def test_a_failure_without_a_plugin_is_our_bug() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        divmod(1, 0)
    assert blamed(caught.value) is None


def test_where_a_plugin_failed_is_said_with_its_place_in_the_config(site: "Site", tmp_path: Path) -> None:
    code = """
        from typing import Literal
        from datarax_core import Stage
        class St(Stage):
            type: Literal["acme_st"] = "acme_st"
            field: str
            def __call__(self, batch):
                if self.field == "no":
                    raise ValueError("not this one")
                return {**batch, "y": batch["x" if self.field == "x" else "z"]}
    """
    site.install_working("acme-records", "acme_records")
    site.install("acme-st", {"acme_st": "acme_st:St"}, code=code, group="datarax.stages")
    config = "batch_size: 2\nsource: {type: acme_records}\nstages:\n"
    config += "  - {type: rescale, field: x, scale: 2, lossy: true}\n  - {type: acme_st, field: FIELD}\n"
    path = written(tmp_path, config.replace("FIELD", "'no'"))
    note = "in stage 1 (acme_st) of the pipeline"
    assert fails(DRX, "plan", path) == f"{path}:5: stages[1]: not this one\n{note}"
    message = fails(DRX, "plan", written(tmp_path, config.replace("FIELD", "a")))
    assert message.splitlines()[0].startswith("acme-st 1.0 failed in acme_st, line ")
    assert message.splitlines()[1:3] == [note, f"that is stages[1] ({path}:5)"]
    assert "JAX has removed" not in message


def test_control_characters_of_others_never_reach_the_terminal(site: "Site") -> None:
    site.install("acme-red", {"\x1b[31mred": "acme_red:S\x1b[2J"}, version="1.0\x1b]0;title\x07")
    site.install("acme-loud", {"loud": "acme_loud:D"}, code="raise ValueError('\x1b[2Jgone')", group="datarax.decoders")
    listed, failed = invoke("plugins"), invoke("describe", "loud")
    assert r"\x1b[31mred" in listed.stdout
    assert r"1.0\x1b]0;title\x07" in listed.stdout
    assert r"\x1b[2Jgone" in failed.stderr
    assert "\x1b" not in listed.stdout + failed.stderr


def test_more_epochs_than_python_counts_are_served_as_far_as_wanted(config: Path) -> None:
    config.write_text(f"{config.read_text()}num_epochs: {10**32}\n")
    assert json.loads(invoke("run", str(config), "--limit", "3", "--json").stdout)["records"] == 30


# -- pipes and interrupts -----------------------------------------------------------------------------------------------


def test_a_reader_that_goes_away_ends_a_command_quietly() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as nobody:
        done = subprocess.run([*DRX, "plugins"], stdout=nobody, stderr=subprocess.PIPE, check=False, timeout=120)  # noqa: S603 - our own command
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_closed_stdout_is_reported() -> None:
    done = run(["/bin/sh", "-c"], f"{DRX[0]} plugins >&-")
    assert done.returncode == 1
    assert done.stderr == "stdout is closed, and there is nowhere to print to; redirect it to a file, or to /dev/null\n"


def test_an_interrupt_ends_a_command_with_130(site: "Site") -> None:
    install_loud(site, failure="__import__('signal').raise_signal(2)")
    path = written(site.folder, "batch_size: 2\nsource: {type: acme_bug}\n")
    done = run(DRX, "peek", path)
    assert done.returncode == 130
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_an_interrupt_that_the_interpreter_drops_is_raised_later_and_without_a_complaint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Dropping:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    with interrupts() as raise_lost:
        Dropping()  # deleted at once
        with pytest.raises(KeyboardInterrupt):
            raise_lost()
    assert capsys.readouterr().err == ""


def test_what_else_a_destructor_raises_is_complained_of(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __del__(self) -> None:
            raise OSError("closed twice")

    complaints: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: complaints.append(str(dropped.exc_value)))
    with interrupts():
        Broken()
    assert complaints == ["closed twice"]
