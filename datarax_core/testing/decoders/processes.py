"""Promises about threads, pickles and processes: a decoder decodes alike wherever it runs."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from datarax_core.testing.checks import attempt, broken, require
from datarax_core.testing.exact import exact_difference, taken
from datarax_core.testing.running import switching_often

from .examiner import Decodes, EndedError, Examiner, Failed
from .subject import DecoderSubject

_THREADS: Final = 4
_ROUNDS: Final = 12

_EXAMINER: Final = pytest.StashKey[Examiner]()


class ProcessPromises:
    """Several threads, copies by pickle, and another process."""

    @pytest.fixture
    def examiner(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Examiner:
        """A process shared by all decoders under test, since spawning one takes seconds."""
        monkeypatch.setenv("JAX_PLATFORMS", "cpu")
        stash = request.config.stash
        if _EXAMINER not in stash:
            stash[_EXAMINER] = Examiner()
            request.config.add_cleanup(stash[_EXAMINER].close)
        return stash[_EXAMINER]

    def test_threads_decode_at_once(self, subject: DecoderSubject) -> None:
        """Several threads can decode by one decoder at once, as a source that reads ahead does."""
        count = len(subject.records)
        chosen = [[(row + thread) % count for row in range(count)] for thread in range(_THREADS)]

        def decoded(rows: list[int]) -> str:
            found = subject.decoder.decode([subject.records[row] for row in rows], subject.spec)
            return exact_difference(taken(subject.decoded, rows), found)

        with switching_often(), ThreadPoolExecutor(_THREADS) as pool:
            futures = [pool.submit(decoded, rows) for _ in range(_ROUNDS) for rows in chosen]
            for future in futures:
                text, error = attempt(future.result)
                text = text if error is None else f"{type(error).__name__}: {error}"
                require(
                    not text,
                    f"{subject.title} promises to decode on several threads at once, but then {text}. Keep the state of a call "
                    "in local variables",
                )

    def test_a_copy_by_pickle_decodes_alike(self, subject: DecoderSubject) -> None:
        """A copy by pickle is equal, has the same hash, and decodes alike."""
        content = _pickled(subject)
        twin = pickle.loads(content)  # noqa: S301 - made one line above
        require(
            twin == subject.decoder and hash(twin) == hash(subject.decoder),
            f"{subject.title} promises to be equal to its copy by pickle, but is not; hold validated fields and nothing else",
        )
        text = exact_difference(subject.decoded, twin.decode(subject.records, subject.spec))
        require(
            not text,
            f"{subject.title} promises to decode alike after a copy by pickle, but {text}; hold validated fields and nothing "
            "else",
        )

    def test_it_decodes_in_a_spawned_process(self, subject: DecoderSubject, examiner: Examiner) -> None:
        """A worker process that receives the pickled decoder decodes the same records."""
        _pickled(subject)
        try:
            (found,) = examiner.reports(Decodes(subject.decoder, subject.records, subject.spec))
        except EndedError as ended:
            broken(f"{subject.title} promises to decode in a worker process, but {ended}")
        if isinstance(found, Failed):
            broken(
                f"{subject.title} promises to decode in a worker process that received it as a pickle, but there "
                f"{found.reason}. Define its class, and its functions, in a module that other processes can import"
            )
        text = exact_difference(subject.decoded, found)
        require(
            not text,
            f"{subject.title} promises to decode alike in a worker process, but there {text}; keep nothing in globals",
        )


def _pickled(subject: DecoderSubject) -> bytes:
    content, error = attempt(lambda: pickle.dumps(subject.decoder))
    if error is not None:
        broken(
            f"{subject.title} promises to pickle, for worker processes, but pickling fails: {type(error).__name__}: {error}. "
            "Hold values that pickle; functions are those of a module, not lambdas"
        )
    pickled: bytes = content
    return pickled
