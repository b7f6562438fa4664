"""Promises about states: tiny, JSON, exact wherever they were saved, and refused by any other stream."""

import itertools
import json
from collections.abc import Iterator
from typing import Any, Final

from flax import nnx

from datarax_core.pipeline.pipeline import Pipeline
from datarax_core.sources.source import DataSourceModule

from ._compare import difference, joined, rows_of
from ._hosts import HOSTS, ROWS, hosts_of
from ._subject import BATCH, Subject
from ._verdict import broken, not_claimed, require

_LARGEST: Final = 4096  # bytes of JSON
_SMALL: Final = 6
_REMEDY: Final = "A state says the position, and whatever else the next batch depends on"


class StatePromises:
    """`get_state` and `set_state`, of the source and of a pipeline over it."""

    def test_a_state_is_a_little_json(self, subject: Subject) -> None:
        """A few numbers, and no data: it is saved beside each checkpoint."""
        subject.require_resumable()
        source = subject.build()
        source.get_batch(_SMALL)
        state = source.get_state()
        try:
            text = json.dumps(state)
        except (TypeError, ValueError) as cause:
            broken(
                f"{subject.title} promises a state of plain JSON, but json.dumps refuses it: {cause}. Give numbers, texts "
                "and lists"
            )
        require(
            len(text) <= _LARGEST,
            f"{subject.title} promises a state of a few numbers, but it has {len(text)} bytes as JSON, where {_LARGEST} are "
            "plenty; save where the stream stands, not what it holds",
        )

    def test_a_state_resumes_exactly_at_every_step(self, subject: Subject) -> None:
        """Restored into another source, what comes next is what came next."""
        subject.require_resumable()
        source, twin, served = subject.build(), subject.build(), 0
        while served + 2 * _SMALL <= subject.stretch:
            twin.set_state(_through_json(source.get_state()))
            by = f"a source restored at position {served}"
            subject.require_served(served, twin.get_batch(_SMALL), by, _REMEDY)
            served += rows_of(source.get_batch(_SMALL))

    def test_a_state_can_be_restored_twice(self, subject: Subject) -> None:
        """A source that went on is taken back, and the state is not changed by that."""
        subject.require_resumable()
        source = subject.build()
        source.get_batch(_SMALL)
        state = source.get_state()
        text = json.dumps(state)
        for time in ("first", "second"):
            source.set_state(json.loads(text) if time == "first" else state)
            subject.require_served(_SMALL, source.get_batch(_SMALL), f"a source restored the {time} time", _REMEDY)
        require(
            json.dumps(state) == text,
            f"{subject.title} changed a state that it had given away: it was {text:.200} and is {json.dumps(state):.200}; "
            "copy what get_state() returns, and what set_state() takes",
        )

    def test_a_pipeline_resumes_exactly(self, subject: Subject) -> None:
        """The state of a pipeline, in the middle of a loop that may have read ahead."""
        subject.require_resumable()
        pipeline, twin, served = _pipeline(subject), _pipeline(subject), 0
        for batch in pipeline:
            served += rows_of(batch)
            if served + BATCH > subject.stretch:
                break
            twin.set_state(_through_json(pipeline.get_state()))
            by = f"a pipeline restored at position {served}"
            subject.require_served(served, next(iter(twin)), by, _REMEDY)

    def test_a_state_is_that_of_any_number_of_hosts(self, subject: Subject) -> None:
        """What was saved on 1, 2, 3 or 7 of them is resumed on as many as there are."""
        subject.require_resumable()
        if subject.stretch < 2 * ROWS:
            not_claimed(f"{subject.title} has too few records for two batches of {ROWS}")
        hosts = {count: hosts_of(subject, count) for count in HOSTS}
        states, usual = {}, {}
        for count, each in hosts.items():
            joined(host.read() for host in each)
            states[count] = json.dumps([host.get_state() for host in each])
            usual[count] = joined(host.read() for host in each)
        for saved_on, resumed_on in itertools.product(HOSTS, HOSTS):
            in_parts = hosts[saved_on][0].reads_a_part or hosts[resumed_on][0].reads_a_part
            if in_parts and saved_on != resumed_on:
                continue  # such a state is of that many parts, and a pipeline refuses it on others
            for number, host in enumerate(hosts[resumed_on]):
                host.set_state(json.loads(states[saved_on])[number if in_parts else 0])
            text = difference(usual[saved_on], joined(host.read() for host in hosts[resumed_on]))
            require(
                not text,
                f"{subject.title} promises that a state saved on {saved_on} hosts is resumed on {resumed_on}, but then "
                f"comes another record: {text}. Say the position in the whole stream, and nothing of the process",
            )

    def test_a_foreign_state_is_refused(self, subject: Subject) -> None:
        """A state of another stream, and what is no state at all; the source stays where it was."""
        subject.require_resumable()
        source = subject.build()
        source.get_batch(_SMALL)
        for what, state in _foreign(subject, source):
            if not _is_refused(source, state):
                broken(
                    f"{subject.title} promises to refuse what is no state of its own, but it took {what}; check in "
                    "set_state() all that the state says before anything is changed, and raise StateError"
                )
        subject.require_served(_SMALL, source.get_batch(_SMALL), "a source that had refused a state", _REMEDY)

    def test_reset_starts_over(self, subject: Subject) -> None:
        """``reset()`` is the start of the same stream; ``reset(seed)`` that of the source built with this seed."""
        if subject.is_stream and type(subject.source).reset is DataSourceModule.reset:
            not_claimed(f"{subject.title} is a stream that cannot start over: it does not define reset()")
        source, remedy = subject.build(), "Take back all that get_batch() moves"
        source.get_batch(_SMALL)
        source.reset()
        subject.require_served(0, source.get_batch(_SMALL), "a source after reset()", remedy)
        if not subject.is_shuffled:
            return
        source.reset(1)
        text = difference(subject.build(1).get_batch(_SMALL), source.get_batch(_SMALL))
        require(
            not text,
            f"{subject.title} promises the order of the seed that reset() is given, but after reset(1) it serves another "
            f"than a source that was built with seed 1: {text}. Draw it as the constructor does",
        )


def _pipeline(subject: Subject) -> Pipeline:
    return Pipeline(source=subject.build(), batch_size=BATCH, rngs=nnx.Rngs(0), num_epochs=None)


def _through_json(state: Any) -> Any:
    return json.loads(json.dumps(state))


def _foreign(subject: Subject, source: DataSourceModule) -> Iterator[tuple[str, Any]]:
    """What a source has to refuse, by what it is called."""
    own = _through_json(source.get_state())
    yield "a list", [1, 2]
    yield "an empty dict", {}
    yield "a state with a key that it does not know", {**own, "no_such_key": 1}
    for key in own:
        yield f"a state without its {key!r}", {name: value for name, value in own.items() if name != key}
        yield f"a state whose {key!r} is a text", {**own, key: "elsewhere"}
        if type(own[key]) is int:
            yield f"a state whose {key!r} is -1", {**own, key: -1}
    if subject.is_shuffled:
        other = subject.build(1)
        state = _through_json(other.get_state())
        if subject.deviation(0, other.get_batch(_SMALL)):  # if not, its order is of no seed, which another test finds
            yield "the state of the source with another seed", state


def _is_refused(source: DataSourceModule, state: Any) -> bool:
    try:
        source.set_state(state)
    except (ValueError, TypeError):  # a StateError is a ValueError
        return True
    return False
