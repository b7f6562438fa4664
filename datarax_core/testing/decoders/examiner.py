"""A process in which decoders are tried: a crash, an endless loop or too much memory ends it, and not the tests."""

import contextlib
import multiprocessing
import pickle
import signal
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from datarax_core.errors import RecordError
from datarax_core.records.spec import Batch, ElementSpec, check_batch, nbytes_of
from datarax_core.registry.decoders import Decoder
from datarax_core.testing.checks import attempt
from datarax_core.testing.exact import exact_difference, taken

from .mutations import Mutation

_WAITING_SECONDS: Final = 60.0
"""How long a report may take: the process starts, or the decoder blocks without using the CPU, on a busy machine."""

_MORE_ADDRESSES: Final = 4 << 30
"""Bytes of address space that the process may take in addition to what it has when it begins."""

_ALLOWED_BYTES: Final = 16 << 20
_ALLOWED_TIMES: Final = 64

_OF_ALL_CALLS: Final = 10
"""All calls for a damaged record together may take so many times as long as one, before the process is ended."""

_MISTAKES: Final = (
    *(KeyError, IndexError, TypeError, AttributeError, NameError, AssertionError),
    *(ZeroDivisionError, RecursionError, StopIteration),
)
"""Errors of code that trusted the bytes: their messages say neither what was expected nor what was found."""


class EndedError(Exception):
    """The process of a job ended, or had to be ended; the message says how, ``under_way`` is what it last announced."""

    def __init__(self, message: str, under_way: Any) -> None:
        super().__init__(message)
        self.under_way = under_way


class Examiner:
    """A process that runs jobs, started when the first one comes, and again after one that ended it."""

    def __init__(self) -> None:
        self._process: Any = None
        self._connection: Connection | None = None

    def reports(self, job: Callable[[], Iterator[Any]], seconds: float = _WAITING_SECONDS) -> Iterator[Any]:
        """Yield what a job yields in the process.

        Args:
            job: A callable that pickles.
            seconds: How long to wait for the next report.

        Raises:
            EndedError: The process ended, by itself or because no report came.
        """
        connection = self._started()
        connection.send_bytes(pickle.dumps(job))
        last, is_done = None, False
        try:
            while True:
                if not connection.poll(seconds):
                    raise EndedError(f"did not end in {seconds:g} s", last)
                try:
                    report = connection.recv()
                except EOFError:
                    self._process.join()
                    raise EndedError(_how_it_ended(self._process.exitcode), last) from None
                if is_done := isinstance(report, _Done):
                    return
                last = report
                yield report
        finally:
            if not is_done:  # reports of this job would be taken for those of the next
                self.close()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None

    def _started(self) -> Connection:
        if self._connection is None:
            context = multiprocessing.get_context("spawn")
            self._connection, other = context.Pipe()
            self._process = context.Process(target=_serve, args=(other,), daemon=True)
            self._process.start()
            other.close()
        return self._connection


def _how_it_ended(code: int | None) -> str:
    if code is not None and code == -getattr(signal, "SIGPROF", 0):
        return "did not end within the CPU time that is allowed"
    if code is not None and code < 0:
        return f"crashed the process, {signal.Signals(-code).name}"
    return f"ended the process, with exit status {code}"


class _Done:
    """The last report of each job."""


def _serve(connection: Connection) -> None:
    """Run the jobs that come; runs in the process."""
    _limit_memory()
    while True:
        try:
            content = connection.recv_bytes()
        except EOFError:
            return
        job, error = attempt(lambda: pickle.loads(content))  # noqa: B023, S301 - of the tests
        if error is not None:
            connection.send(Failed(f"it cannot be loaded: {type(error).__name__}: {error}"))
        else:
            for report in job():
                connection.send(report)
        connection.send(_Done())


@dataclass(frozen=True, slots=True)
class Failed:
    """Report of a job that could not be unpickled in the process, or of a decoder that failed there."""

    reason: str


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no limits, macOS not this one
        import resource  # noqa: PLC0415 - not on Windows

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + _MORE_ADDRESSES
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


@contextlib.contextmanager
def _cpu_limit(seconds: float) -> Iterator[None]:
    """End this process if the block takes more CPU time: the signal ends also code of C that never returns to Python."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


# -- jobs -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decodes:
    """Job that decodes records, and yields the batch, or the error as text."""

    decoder: Decoder
    records: Sequence[bytes]
    spec: ElementSpec

    def __call__(self) -> Iterator[Any]:
        """Yield the batch, or the error."""
        batch, error = attempt(lambda: self.decoder.decode(self.records, self.spec))
        yield batch if error is None else Failed(f"it raises {type(error).__name__}: {error}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a damaged record: the number of its mutation, and a sentence for each promise that it breaks."""

    number: int
    wrong: str = ""
    """Another error than a ValueError, a batch that the spec does not describe, too much time or memory."""
    spoils: str = ""
    """What it does to the record beside it."""
    vague: str = ""
    """An error that says nothing about the record."""


@dataclass(frozen=True, slots=True)
class Damages:
    """Job that decodes damaged records, and yields the number of each before, and its `Verdict` after."""

    decoder: Decoder
    record: bytes
    """A record that is right."""
    spec: ElementSpec
    mutations: Sequence[Mutation]
    most_seconds: float

    def __call__(self) -> Iterator[Any]:
        """Yield the numbers and verdicts."""
        right = self.decoder.decode([self.record, self.record], self.spec)
        tracemalloc.start()
        try:
            for number, (_, content) in enumerate(self.mutations):
                yield number
                with _cpu_limit(_OF_ALL_CALLS * self.most_seconds):
                    verdict = self._verdict(number, content, right)
                yield verdict
                if verdict.wrong:  # the simplest damage that is; what follows may take as long, or as much memory
                    return
        finally:
            tracemalloc.stop()

    def _verdict(self, number: int, content: bytes, right: Batch) -> Verdict:
        tracemalloc.reset_peak()
        before, began = tracemalloc.get_traced_memory()[0], time.process_time()
        alone, refused = _outcome(lambda: self.decoder.decode([content], self.spec))
        calls: dict[str, BaseException | None] = {"decode()": refused}
        if self.decoder.element_spec() is None:
            for name, call in (
                ("spec_from()", lambda: self.decoder.spec_from(content)),
                ("covering()", lambda: self.decoder.covering(self.spec, content)),
                ("difference()", lambda: self.decoder.difference(content, self.spec)),
            ):
                calls[name] = _outcome(call)[1]
        calls["decode_record()"] = _outcome(lambda: self.decoder.decode_record(content))[1]
        if isinstance(calls["decode_record()"], NotImplementedError):
            del calls["decode_record()"]
        seconds, peak = (time.process_time() - began) / len(calls), tracemalloc.get_traced_memory()[1] - before
        both, both_refused = _outcome(lambda: self.decoder.decode([self.record, content], self.spec))
        calls["decode() of it behind a record that is right"] = both_refused
        wrong = next((text for name, error in calls.items() if (text := _wrong(name, error))), "")
        if refused is None:
            _, odd = attempt(lambda: check_batch(alone, self.spec, 1, origin="decode()"))
            wrong = wrong or (str(odd) if odd is not None else "")
        allowed = _ALLOWED_BYTES + _ALLOWED_TIMES * (len(content) + len(self.record) + nbytes_of(right))
        if not wrong and peak > allowed:
            wrong = f"it took {peak >> 20} MiB of memory for {len(content)} bytes, where {allowed >> 20} are allowed"
        if not wrong and seconds > self.most_seconds:
            wrong = f"it took {seconds:.1f} s of CPU time, where {self.most_seconds:g} s are allowed"
        vague = next((text for name, error in calls.items() if (text := _vague(name, error))), "")
        return Verdict(number, wrong, "" if wrong else self._spoiled(right, alone, refused, both, both_refused), vague)

    def _spoiled(
        self,
        right: Batch,
        alone: Batch,
        refused: BaseException | None,
        both: Batch,
        both_refused: BaseException | None,
    ) -> str:
        """Return how the damaged record, decoded behind one that is right, differs from both by themselves."""
        if (refused is None) != (both_refused is None):
            first, second = ("", "not ") if refused is None else ("not ", "")
            return f"it is {first}decoded by itself, and {second}behind a record that is right"
        if refused is not None:
            place = both_refused.record if isinstance(both_refused, RecordError) else 1
            return "" if place == 1 else f"the error names record {place} of the two, where record 1 is damaged"
        text = exact_difference(taken(right, [0]), taken(both, [0])) or exact_difference(alone, taken(both, [1]))
        return text and f"decoded behind a record that is right, {text}"


def _outcome(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return call(), None
    except BaseException as error:  # noqa: BLE001 - also panics of Rust, and SystemExit
        return None, error


def _wrong(name: str, error: BaseException | None) -> str:
    """Return a sentence about an error that is no ValueError; "" if it is one, or there is none."""
    if error is None or isinstance(error, ValueError):
        return ""
    return f"{name} raised {type(error).__name__}: {error}"


def _vague(name: str, error: BaseException | None) -> str:
    """Return a sentence about an error that says nothing about the record; "" if it says something, or there is none."""
    if not isinstance(error, ValueError):
        return ""
    cause = error.__cause__ if isinstance(error, RecordError) else error
    text = getattr(error, "reason", "") or str(error)
    if isinstance(cause, _MISTAKES) or len(text.split()) < 3:
        return f"{name} said {text!r}"
    return ""
