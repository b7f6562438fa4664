"""Mutants of files, and a child process with limits on memory and time in which each of them is tried.

Independent of the formats: a format brings a function that puts a mutant in its place and reads it, which lies in a module that
can be imported. The child calls it once for the unchanged files, so that everything is imported, and then limits its memory to
what it has by then and an allowance. It reports each outcome as a line of JSON. Where it ends or hangs, the parent notes that,
and a new child goes on with the next mutant.
"""

import copy
import faulthandler
import json
import os
import random
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

EXTREMES: Final[tuple[Any, ...]] = (
    *(0, -1, 1, 2**31 - 1, 2**31, 2**40, 2**63 - 1, 2**63, 10**30, -(2**63), 1e308, -0.5, float("nan")),
    *("", "0", "-1", "2147483648", "1000000000000", "9223372036854775807", "x" * 5000, "../../x", "\x1b[2J", "\ud800"),
    *(None, True, False, [], {}, [[]], [1000000, 1000000], {"a": {}}),
)
"""Values that take the place of a value in a JSON file."""

_TRIES: Final = 8


class Outcome(NamedTuple):
    """Outcome of one mutant."""

    case: int
    kind: str
    """``served``, ``refused`` (an error that says what is wrong), ``raw`` (any other error), ``hung`` or ``died``."""

    detail: str = ""


def mutated_bytes(content: bytes, number: int) -> bytes:
    """Return mutant ``number`` of any file: bits flipped, bytes set, cut out, doubled, or the end cut off."""
    draw = random.Random(f"bytes {number}")  # noqa: S311 - repeatable, not secret
    mutant = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        at = draw.randrange(len(mutant)) if mutant else 0
        size = draw.choice((1, 2, 4, 8, 64))
        match draw.randrange(6):
            case 0 | 1:
                if mutant:
                    mutant[at] ^= 1 << draw.randrange(8)
            case 2:
                mutant[at : at + size] = draw.choice((b"\x00", b"\xff", b"\x7f", b"\x80")) * len(mutant[at : at + size])
            case 3:
                del mutant[at : at + size]
            case 4:
                mutant[at:at] = mutant[at : at + size]
            case 5:
                del mutant[at:]
    return bytes(mutant)


def mutated_json(content: bytes, number: int) -> bytes:
    """Return mutant ``number`` of a JSON file: values replaced, keys removed, renamed or nested, or bytes changed."""
    draw = random.Random(f"json {number}")  # noqa: S311 - repeatable, not secret
    if draw.random() < 0.15:
        return mutated_bytes(content, number)
    tree = json.loads(content)
    for _ in range(draw.choice((1, 1, 1, 2))):
        for _ in range(_TRIES):  # an empty tree may have no place left
            places = list(_places(tree))
            if places:
                _change(*draw.choice(places), draw)
                break
    return json.dumps(tree).encode()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of each value."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from _places(value)


def _change(container: Any, key: Any, draw: random.Random) -> None:
    value = container[key]
    match draw.randrange(8):
        case 0:
            del container[key]
        case 1 if isinstance(container, dict):
            container[str(key) + draw.choice(("", "x", ".", "/a"))] = container.pop(key)
        case 2:
            container[key] = [value]
        case 3 if isinstance(value, list):
            container[key] = value * draw.choice((2, 50))
        case 4 if isinstance(value, str) and value.lstrip("-").isdigit():
            container[key] = str(int(value) + draw.choice((-1, 1, 2**32, 10**15)))
        case 5:
            for _ in range(draw.choice((3, 100))):
                container[key] = {str(key): container[key]}
        case _:
            alike = [extreme for extreme in EXTREMES if type(extreme) is type(value)]
            container[key] = copy.deepcopy(draw.choice(alike if alike and draw.random() < 0.8 else EXTREMES))


def outcomes(
    target: str, argument: str, cases: Sequence[int], *, allowance: int = 1 << 30, seconds: float = 10
) -> list[Outcome]:
    """Return the outcome of each case, tried in child processes.

    Args:
        target: ``module:function``, called with ``argument`` and the number of the case; -1 stands for the unchanged files. An
            error of a class that the module lists in ``EXPECTED`` is a refusal, any other is raw.
        argument: For the function, such as a folder.
        cases: Numbers of the mutants.
        allowance: Bytes of address space that a child may take beyond what it has when everything is imported.
        seconds: Time for one case.
    """
    found: list[Outcome] = []
    while len(found) < len(cases):
        found += _in_one_child(target, argument, cases[len(found) :], allowance, seconds)
    return found


def _in_one_child(target: str, argument: str, cases: Sequence[int], allowance: int, seconds: float) -> list[Outcome]:
    """Return the outcomes up to the case that ends the child or hangs it, or all."""
    command = [sys.executable, __file__, target, argument, str(allowance), *map(str, cases)]
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    found: list[Outcome] = []
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(  # noqa: S603
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "PYTHONPATH": paths, "MALLOC_ARENA_MAX": "2"},
        ) as child,
    ):
        assert child.stdout is not None
        lines = _lines(child.stdout, seconds, first=120)
        if next(lines) != "ready":
            child.kill()
            raise RuntimeError(f"{target} fails for the unchanged files of {argument}: {_end_of(stderr)}")
        for case in cases:
            line = next(lines)
            if line is None or not line:
                child.send_signal(signal.SIGABRT)  # on which the child prints where its threads are
                how = f"no end after {seconds} s" if line is None else "the process ended"
                detail = f"{how}, exit code {child.wait()}: {_end_of(stderr)}"
                return [*found, Outcome(case, "hung" if line is None else "died", detail)]
            found.append(Outcome(*json.loads(line)))
    return found


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


def _child(target: str, argument: str, allowance: int, cases: list[int]) -> None:
    import resource  # noqa: PLC0415 - of the child only
    from importlib import import_module  # noqa: PLC0415

    faulthandler.enable()
    report = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no report
    module, _, name = target.partition(":")
    try_case, expected = getattr(import_module(module), name), import_module(module).EXPECTED
    try_case(argument, -1)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + allowance, taken + allowance))
    print("ready", file=report)
    for case in cases:
        outcome = Outcome(case, "served")
        try:
            try_case(argument, case)
        except expected as error:
            outcome = Outcome(case, "refused", f"{type(error).__name__}: {error}"[:300])
        except BaseException as error:  # noqa: BLE001 - anything else is what is looked for
            outcome = Outcome(case, "raw", f"{type(error).__name__}: {error}"[:300])
        print(json.dumps(outcome), file=report)


if __name__ == "__main__":
    _child(sys.argv[1], sys.argv[2], int(sys.argv[3]), [int(case) for case in sys.argv[4:]])
