"""Child processes with limits on memory and time, in which mutants are tried one after another.

A child tries the unchanged files once, so that everything is imported, and then limits its address space to what it has by then
and an allowance. It reports each outcome as a line of JSON. Where it ends or hangs, the parent notes that, and a new child goes
on with the next mutant.
"""

import faulthandler
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

ALLOWANCE: Final = 1 << 30
"""Bytes of address space that a child may take beyond what it has when everything is imported."""

PASSED: Final = ("served", "refused")


class Outcome(NamedTuple):
    """Outcome of one mutant."""

    format: str
    number: int
    kind: str
    """``served``, ``refused`` (by an error that says what is wrong), ``raw`` (anything else), ``hung`` or ``died``."""

    detail: str = ""

    def __str__(self) -> str:
        said = f"{self.format} {self.number} {self.kind}: {self.detail}"
        if self.kind in PASSED:
            return said
        return f"{said}\n    again: make fuzz FORMAT={self.format} SEED={self.number} MINUTES=0"


Case = tuple[str, int]
"""A format and the number of a mutant of its files."""


def outcomes(
    module: str, folder: str, cases: Sequence[Case], *, allowance: int = ALLOWANCE, seconds: float = 20
) -> Iterator[Outcome]:
    """Yield the outcome of each case, tried in child processes.

    Args:
        module: Name of the module of the formats.
        folder: The folder of the unchanged files.
        cases: The mutants.
        allowance: See `ALLOWANCE`.
        seconds: Time for one case.
    """
    done = 0
    while done < len(cases):
        for outcome in _in_one_child(module, folder, cases[done:], allowance, seconds):
            done += 1
            yield outcome


def _in_one_child(module: str, folder: str, cases: Sequence[Case], allowance: int, seconds: float) -> Iterator[Outcome]:
    """Yield the outcomes up to the case that ends the child or hangs it, or all."""
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    with (
        tempfile.TemporaryDirectory() as scratch,  # of what a killed child leaves
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(  # noqa: S603
            [sys.executable, __file__, module, folder, str(allowance)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={
                **os.environ,
                "PYTHONPATH": paths,
                "MALLOC_ARENA_MAX": "2",
                "JAX_PLATFORMS": "cpu",
                "TMPDIR": scratch,
            },
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps(cases).encode() + b"\n")
            child.stdin.flush()
            lines = _lines(child.stdout, seconds, first=120)
            if next(lines) != "ready":
                child.kill()
                raise RuntimeError(f"{module} fails for the unchanged files of {folder}: {_end_of(stderr)}")
            for format_name, number in cases:
                line = next(lines)
                if not line:
                    child.send_signal(signal.SIGABRT)  # on which the child prints where its threads are
                    how = f"no end after {seconds} s" if line is None else "the process ended"
                    detail = f"{how}, exit code {child.wait()}: {_end_of(stderr)}"
                    yield Outcome(format_name, number, "hung" if line is None else "died", detail)
                    return
                yield Outcome(*json.loads(line))
        finally:
            child.kill()  # where the caller has seen enough


def _end_of(stderr: IO[bytes]) -> str:
    stderr.seek(0)
    return stderr.read().decode(errors="replace")[-4000:]


def _lines(stream: Any, seconds: float, *, first: float) -> Iterator[str | None]:
    """Yield lines; None where none came in time, "" behind the last one."""
    buffer, allowed = b"", first
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            until = time.monotonic() + allowed
            while b"\n" not in buffer:
                if not selector.select(max(0.0, until - time.monotonic())):
                    yield None
                    return
                more = os.read(stream.fileno(), 1 << 16)
                if not more:
                    yield ""
                    return
                buffer += more
            line, _, buffer = buffer.partition(b"\n")
            allowed = seconds
            yield line.decode()


def _child(module: str, folder: str, allowance: int) -> None:
    import resource  # noqa: PLC0415 - of the child only

    from fuzz_format import Trial  # noqa: PLC0415

    faulthandler.enable()
    report = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no report
    cases: list[Case] = json.loads(sys.stdin.readline())
    formats = import_module(module).FORMATS
    names = dict.fromkeys(name for name, _ in cases)
    trials = {name: Trial(formats[name], Path(folder) / (formats[name].folder or name)) for name in names}
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + allowance, taken + allowance))
    print("ready", file=report)
    for name, number in cases:
        kind, detail = trials[name].outcome(number)
        print(json.dumps(Outcome(name, number, kind, detail)), file=report)


if __name__ == "__main__":
    _child(sys.argv[1], sys.argv[2], int(sys.argv[3]))
