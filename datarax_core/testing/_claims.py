"""Whether a source claims all that it can do: who claims less is served by slower routes, and tested less."""

import jax
import numpy as np

from datarax_core.errors import DataraxError
from datarax_core.order.permutation import DEVICE_LIMIT
from datarax_core.records.spec import device_spec, spec_of

from ._subject import BATCH, Subject
from ._verdict import require

_RESTORED = 6


class ClaimPromises:
    """`capabilities`, `traceable`, and what the author declares, held against what the source does."""

    def test_it_claims_a_length_that_it_has(self, subject: Subject) -> None:
        """``sized`` is not False where ``len(source)`` works."""
        try:
            length = len(subject.source)  # type: ignore[arg-type]  # whether it has one is the question
        except TypeError:
            return
        require(
            subject.source.capabilities.sized,
            f"{subject.title} claims less than it does: its length is {length}, but its capabilities say sized=False",
        )

    def test_it_claims_the_states_that_it_has(self, subject: Subject) -> None:
        """``resumable`` is not False where a restored source goes on with the next record."""
        if subject.source.capabilities.resumable:
            return
        source, twin = subject.build(), subject.build()
        source.get_batch(_RESTORED)
        try:
            twin.set_state(source.get_state())
            found = twin.get_batch(_RESTORED)
        except (DataraxError, NotImplementedError, TypeError, ValueError):
            return
        require(
            subject.deviation(_RESTORED, found),
            f"{subject.title} claims less than it does: set_state() resumes it exactly, but its capabilities say "
            "resumable=False, so that nothing is read ahead, and a pipeline over it has no state",
        )

    def test_it_claims_that_it_can_be_traced(self, subject: Subject) -> None:
        """``traceable`` is not False where `get_records` takes traced indices: compiled code then reads it without the host."""
        if (
            subject.source.access != "host"
            or subject.source.traceable
            or subject.beside
            or subject.records > DEVICE_LIMIT
        ):
            return
        indices = jax.ShapeDtypeStruct((BATCH,), np.dtype(np.int32))
        try:
            program, traced = jax.make_jaxpr(subject.source.get_records, return_shape=True)(indices)
        except Exception:  # noqa: BLE001 - NumPy, files and authors refuse a tracer in their own ways
            return
        asks_the_host = "callback" in str(program)
        require(
            asks_the_host or spec_of(traced) != device_spec(subject.source.element_spec()),
            f"{subject.title} claims less than it does: get_records() takes traced indices, but traceable is False, so that "
            "compiled code asks the host for its records; say `traceable = True`",
        )

    def test_it_claims_epochs_of_every_record_once(self, subject: Subject) -> None:
        """``every_record_once`` is not False where each epoch is a permutation."""
        if subject.author.every_record_once or subject.is_stream:
            return
        length = min(subject.length or 1, 1 << 17)
        epochs = [np.sort(subject.indices(epoch * length, length)) for epoch in range(3)]
        require(
            any(not np.array_equal(epoch, np.arange(subject.records)) for epoch in epochs),
            f"{type(subject.author).__name__} claims less than {subject.title} does: its epochs serve every record once, "
            "but every_record_once is False; leave that out",
        )
