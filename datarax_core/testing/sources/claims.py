"""Promises about claims: a source that claims less than it can do is read more slowly and tested less."""

import jax
import numpy as np

from datarax_core.errors import DataraxError
from datarax_core.order.permutation import DEVICE_LIMIT
from datarax_core.records.spec import device_spec, spec_of
from datarax_core.testing.checks import BATCH, require

from .subject import Subject

_RESTORED = 6


class ClaimPromises:
    """`capabilities`, `traceable` and the declarations of the author, compared with the behaviour of the source."""

    def test_it_claims_a_length_that_it_has(self, subject: Subject) -> None:
        """``capabilities.sized`` is not False if ``len(source)`` works."""
        try:
            length = len(subject.source)  # type: ignore[arg-type]  # the test is whether there is a length
        except TypeError:
            return
        require(
            subject.source.capabilities.sized,
            f"{subject.title} claims less than it does: its length is {length}, but its capabilities say sized=False; "
            "leave sized out",
        )

    def test_it_claims_the_states_that_it_has(self, subject: Subject) -> None:
        """``capabilities.resumable`` is not False if a restored source continues with the next record."""
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
            "resumable=False, so pipelines read nothing ahead and have no state; leave resumable out",
        )

    def test_it_claims_that_it_can_be_traced(self, subject: Subject) -> None:
        """``traceable`` is not False if `get_records` takes traced indices: compiled code then reads without the host."""
        if (
            subject.source.access != "host"
            or subject.source.traceable
            or subject.host_fields
            or subject.records > DEVICE_LIMIT
        ):
            return
        indices = jax.ShapeDtypeStruct((BATCH,), np.dtype(np.int32))
        try:
            program, traced = jax.make_jaxpr(subject.source.get_records, return_shape=True)(indices)
        except Exception:  # noqa: BLE001 - NumPy, files and authors refuse tracers with errors of any class
            return
        asks_the_host = "callback" in str(program)
        require(
            asks_the_host or spec_of(traced) != device_spec(subject.source.element_spec()),
            f"{subject.title} claims less than it does: get_records() takes traced indices, but traceable is False, so "
            "compiled code reads records by way of the host; set `traceable = True`",
        )

    def test_it_claims_epochs_of_every_record_once(self, subject: Subject) -> None:
        """``every_record_once`` is not declared False if each epoch serves every record once."""
        if subject.author.every_record_once or subject.is_stream:
            return
        length = min(subject.length or 1, 1 << 17)
        epochs = [np.sort(subject.indices(epoch * length, length)) for epoch in range(3)]
        require(
            any(not np.array_equal(epoch, np.arange(subject.records)) for epoch in epochs),
            f"{type(subject.author).__name__} claims less than {subject.title} does: its epochs serve every record once, "
            "but every_record_once is False; leave it out",
        )
