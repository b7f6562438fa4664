"""Promises about states: small JSON, exact at every position, and refused by every other source."""

import itertools
import json
from collections.abc import Iterator
from typing import Any, Final

from flax import nnx

from datarax_core.pipeline.pipeline import Pipeline
from datarax_core.records.spec import describe
from datarax_core.sources.source import DataSourceModule
from datarax_core.sources.views.view import SourceView
from datarax_core.testing.checks import BATCH, broken, difference, joined, not_claimed, require, rows_of, shown
from datarax_core.testing.options import changed_configs

from .files_elsewhere import as_if_at, copied, paths_instead
from .hosts import HOSTS, ROWS, hosts_of
from .subject import Subject

_MOST_BYTES: Final = 4096  # of JSON
_SMALL: Final = 6
_MANY: Final = 256
_MAY_LACK: Final = {"in_loop"}  # states of version 0.1.0 lack it
_REMEDY: Final = "Put the position, and everything else that the next batch depends on, in the state"


class StatePromises:
    """`get_state`, `set_state` and `reset` of the source, and the state of a pipeline over the source."""

    def test_a_state_is_a_little_json(self, subject: Subject) -> None:
        """A state is JSON of at most 4 KiB, which a new source takes: it is saved with every checkpoint."""
        subject.require_resumable()
        source = subject.build()
        source.get_batch(_SMALL)
        try:
            state = source.get_state()
            subject.build().set_state(state)
        except Exception as cause:  # noqa: BLE001 - an author's code may raise anything
            broken(
                f"{subject.title} promises states, but get_state(), or set_state() of a new source, fails: "
                f"{type(cause).__name__}: {cause}. Derive both from those of the base class, or set resumable=False in its "
                "capabilities"
            )
        try:
            text = json.dumps(state)
        except (TypeError, ValueError) as cause:
            broken(
                f"{subject.title} promises a state of plain JSON, but json.dumps refuses it: {cause}. Return numbers, texts, "
                "lists and dicts"
            )
        require(
            len(text) <= _MOST_BYTES,
            f"{subject.title} promises a small state, but it has {len(text)} bytes as JSON, where {_MOST_BYTES} are allowed; "
            "save a position, not data",
        )

    def test_a_state_resumes_exactly_at_every_step(self, subject: Subject) -> None:
        """A source restored from a state serves the records that followed the state, at every position."""
        subject.require_resumable()
        source, twin, served = subject.build(), subject.build(), 0
        while served + 2 * _SMALL <= subject.num_compared:
            twin.set_state(_through_json(source.get_state()))
            by = f"a source restored at position {served}"
            subject.require_served(served, twin.get_batch(_SMALL), by, _REMEDY)
            served += rows_of(source.get_batch(_SMALL))

    def test_a_state_can_be_restored_twice(self, subject: Subject) -> None:
        """A source that served more can be restored to the same state again; restoring does not change the state."""
        subject.require_resumable()
        source, few = subject.build(), subject.few
        source.get_batch(few)
        state = source.get_state()
        text = json.dumps(state)
        for time in ("first", "second"):
            source.set_state(json.loads(text) if time == "first" else state)
            subject.require_served(few, source.get_batch(few), f"a source restored the {time} time", _REMEDY)
        require(
            json.dumps(state) == text,
            f"{subject.title} promises not to change a state that it returned, but it was {shown(json.loads(text), 200)} and "
            f"is {shown(state, 200)}; return a copy from get_state(), and copy the argument of set_state()",
        )

    def test_a_pipeline_resumes_exactly(self, subject: Subject) -> None:
        """A pipeline restored from the state of another, in the middle of its loop, serves the batches that followed."""
        subject.require_resumable()
        pipeline, twin, served = _pipeline(subject), _pipeline(subject), 0
        for batch in pipeline:
            served += rows_of(batch)
            if served + BATCH > subject.num_compared:
                break
            twin.set_state(_through_json(pipeline.get_state()))
            by = f"a pipeline restored at position {served}"
            subject.require_served(served, next(iter(twin)), by, _REMEDY)

    def test_a_state_is_that_of_any_number_of_hosts(self, subject: Subject) -> None:
        """A state saved on 1, 2, 3 or 7 hosts can be restored on any of these numbers of hosts."""
        subject.require_resumable()
        if subject.num_compared < 2 * ROWS:
            not_claimed(f"{subject.title} has too few records for two batches of {ROWS}")
        hosts = {count: hosts_of(subject, count) for count in HOSTS}
        states, following = {}, {}
        for count, each in hosts.items():
            joined(host.read() for host in each)
            states[count] = json.dumps([host.get_state() for host in each])
            following[count] = joined(host.read() for host in each)
        for saved_on, resumed_on in itertools.product(HOSTS, HOSTS):
            in_parts = hosts[saved_on][0].reads_a_part or hosts[resumed_on][0].reads_a_part
            if in_parts and saved_on != resumed_on:
                continue  # a state of a part fits this number of parts only: a pipeline refuses it on others
            for number, host in enumerate(hosts[resumed_on]):
                host.set_state(json.loads(states[saved_on])[number if in_parts else 0])
            text = subject.difference(following[saved_on], joined(host.read() for host in hosts[resumed_on]))
            require(
                not text,
                f"{subject.title} promises that a state saved on {saved_on} hosts can be restored on {resumed_on}, but "
                f"other records followed: {text}. Put the position in the whole stream in the state, and nothing about a host",
            )

    def test_a_foreign_state_is_refused(self, subject: Subject) -> None:
        """A state of another source, or a value that is no state, is refused, and leaves the source where it was."""
        subject.require_resumable()
        source, few = subject.build(), subject.few
        source.get_batch(few)
        for name, state in _foreign_states(subject, source):
            if not _is_refused(source, state):
                broken(
                    f"{subject.title} promises to refuse every state but its own, but it accepted {name}; check the whole "
                    "state in set_state() before changing anything, and raise StateError"
                )
        subject.require_served(few, source.get_batch(few), "a source that refused a state", _REMEDY)

    def test_a_state_of_other_records_is_refused(self, subject: Subject) -> None:
        """A source of another config that would serve other records refuses the state; one that serves the same may take it."""
        subject.require_resumable()
        source, few = subject.build(), subject.few
        source.get_batch(few)
        state = _through_json(source.get_state())
        for change, config in changed_configs(subject):
            try:
                other = subject.build(config=config)
                other.set_state(state)
                found = other.get_batch(min(subject.num_compared - few, _MANY))
            except Exception:  # noqa: BLE001, S112 - it refuses the state, or cannot be read, which other tests look at
                continue
            text = subject.deviation(few, as_if_at(found, paths_instead(subject.config, config)))
            require(
                not text,
                f"{subject.title} promises to refuse the state of a source of other records, but with {change} it accepted the "
                f"state of the config under test, and served others from position {few} on: {text}. Add to "
                "super().fingerprint() what decides the records, and leave none of its entries out",
            )

    def test_a_state_fits_the_same_files_elsewhere(self, subject: Subject) -> None:
        """A state fits a source of copies of the files in another folder: paths are in no fingerprint."""
        subject.require_resumable()
        folder = subject.folder.with_name(f"{subject.folder.name}-elsewhere")
        moved = {
            name: copy for name, value in subject.fields.items() if name != "type" and (copy := copied(value, folder))
        }
        if not moved:
            not_claimed("the config under test names no existing path by itself")
        try:
            other = subject.build(config=subject.validated({**subject.fields, **moved}))
            other.get_batch(1)
            other.reset()
        except Exception as cause:  # noqa: BLE001 - an author's code may raise anything
            not_claimed(f"{subject.title} cannot be built from copies of its files: {type(cause).__name__}: {cause}")
        source, few = subject.build(), subject.few
        source.get_batch(few)
        try:
            other.set_state(_through_json(source.get_state()))
        except ValueError as cause:  # a StateError is one
            broken(
                f"{subject.title} promises that its files may be moved, but refuses the state of a source of the same files in "
                f"another folder: {cause}. Leave paths out of fingerprint(), and annotate the options that name files with "
                "LocalPath or LocalPattern"
            )
        found = as_if_at(other.get_batch(few), paths_instead(subject.config, other.config))
        subject.require_served(few, found, "a source of the same files in another folder", _REMEDY)

    def test_a_copy_starts_over(self, subject: Subject) -> None:
        """``copy()`` of a source that served records starts at the first record, in the same order."""
        source = subject.build()
        source.get_batch(_SMALL)
        remedy = (
            "Return from constructor_data() what the constructor takes between config and rngs, and keep rngs and name"
        )
        try:
            twin = source.copy()
        except Exception as cause:  # noqa: BLE001 - an author's constructor may raise anything
            broken(f"{subject.title} promises a copy(), but it fails: {type(cause).__name__}: {cause}. {remedy}")
        require(
            twin.epoch_length == source.epoch_length
            and describe(twin.element_spec()) == describe(source.element_spec()),
            f"{subject.title} promises a copy() over the same records, but it has {twin.epoch_length} of "
            f"{describe(twin.element_spec())}, where {source.epoch_length} of {describe(source.element_spec())} are expected. "
            f"{remedy}",
        )
        subject.require_served(0, twin.get_batch(_SMALL), "a copy()", remedy)

    def test_reset_starts_over(self, subject: Subject) -> None:
        """``reset()`` starts the same order again; ``reset(seed)`` starts the order of a source built with that seed."""
        if not subject.can_restart:
            not_claimed(f"{subject.title} is a stream that is live or does not define reset(), and cannot start over")
        source, remedy = subject.build(), "Undo every change of get_batch() in reset()"
        source.get_batch(_SMALL)
        source.reset()
        subject.require_served(0, source.get_batch(_SMALL), "a source after reset()", remedy)
        if not subject.is_shuffled:
            return
        source.reset(1)
        found = source.get_batch(_SMALL)
        text = difference(subject.build(1).get_batch(_SMALL), found)
        if text and isinstance(
            source, SourceView
        ):  # the seed of a nested config is folded from the one of the whole config
            other = subject.build(2)
            other.reset(1)
            text = difference(other.get_batch(_SMALL), found)
        require(
            not text,
            f"{subject.title} promises the order of the seed that reset() is given, but after reset(1) it serves other records "
            f"than a source built with seed 1: {text}. Draw the key in reset() as in the constructor",
        )


def _pipeline(subject: Subject) -> Pipeline:
    return Pipeline(source=subject.build(), batch_size=subject.batch_size, rngs=nnx.Rngs(0), num_epochs=None)


def _through_json(state: Any) -> Any:
    return json.loads(json.dumps(state))


def _foreign_states(subject: Subject, source: DataSourceModule) -> Iterator[tuple[str, Any]]:
    """Yield (name, state) of states that the source must refuse."""
    own = _through_json(source.get_state())
    yield "a list", [1, 2]
    yield "an empty dict", {}
    yield "a state with an unknown key", {**own, "no_such_key": 1}
    for key in own.keys() - _MAY_LACK:
        yield f"a state without its {key!r}", {name: value for name, value in own.items() if name != key}
        yield f"a state whose {key!r} is a text", {**own, key: "elsewhere"}
        if type(own[key]) is int:
            yield f"a state whose {key!r} is -1", {**own, key: -1}
    if subject.is_shuffled:
        other = subject.build(1)
        state = _through_json(other.get_state())
        if subject.deviation(0, other.get_batch(_SMALL)):  # else no seed changes the order, which another test finds
            yield "the state of the source with another seed", state


def _is_refused(source: DataSourceModule, state: Any) -> bool:
    try:
        source.set_state(state)
    except (ValueError, TypeError):  # a StateError is a ValueError
        return True
    return False
