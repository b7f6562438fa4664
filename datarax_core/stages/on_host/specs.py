"""Element specs of host stages: what a stage says comes out of it, or what it makes of one record."""

import copy
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from datarax_core.errors import SpecError, StageError
from datarax_core.records.spec import Batch, ElementSpec, device_spec, spec_of
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.apply import note_failed, stage_name

from .calls import HostCalls, read_only

_NO_KEY = np.zeros(2, np.uint32)


def spec_of_source(source: DataSourceModule) -> ElementSpec:
    """Return the element spec of the columns of a source on the host: as stored, or of the device arrays that it gives."""
    spec = source.element_spec()
    if source.access != "device":
        return spec
    given = jax.tree.leaves(source.fetch_on_host(np.zeros(1, np.int64)))
    return device_spec(spec) if any(isinstance(leaf, jax.Array) for leaf in given) else spec


def spec_after(stages: Sequence[Any], specs: Sequence[ElementSpec], first: "FirstRecord") -> ElementSpec:
    """Return the element spec after the last of these host stages, which are built; ``specs`` are those before each.

    Raises:
        StageError: The stage says nothing that is an element spec, or the source is a stream that cannot go back to its start.
    """
    stage, number = stages[-1], len(stages) - 1
    say = getattr(stage, "element_spec", None)
    if say is not None:
        try:
            spec = say(specs[-1])
        except ValueError as refused:
            if isinstance(refused, StageError):
                raise
            raise StageError(str(refused), getattr(refused, "option", ())) from refused
        except Exception as error:
            note_failed(error, stage, number)
            raise
        if spec is not None:
            _require_spec(spec, stage)
            return spec
    return _spec_of_one(stages, specs, first)


def _require_spec(spec: Any, stage: Any) -> None:
    leaves = jax.tree.leaves(spec)
    odd = [leaf for leaf in leaves if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype")]
    if odd or not leaves:
        raise StageError(
            f"element_spec() of {stage_name(stage)} returned {odd[0] if odd else spec!r:.60}; return a "
            "jax.ShapeDtypeStruct(shape, dtype) for each field, in the structure of the batch"
        )


def _spec_of_one(stages: Sequence[Any], specs: Sequence[ElementSpec], first: "FirstRecord") -> ElementSpec:
    """Return the spec of what the last stage makes of the first record of the source."""
    title = f"stage {len(stages) - 1} ({stage_name(stages[-1])})"
    batch = first.read(title)
    called = [stage.with_one_shape() if hasattr(stage, "with_one_shape") else stage for stage in stages]
    calls = HostCalls(called, [*specs, None], _NO_KEY, first.source.title)
    index = np.zeros(1, np.int64)
    try:
        return spec_of(calls(batch, index, index))
    except Exception as error:
        error.add_note(f"when the pipeline was built: {title} has no element_spec(), so it was run on one record")
        raise


class FirstRecord:
    """The first record of a source, or a largest, read when it is first needed; a stream is taken back to where it stood."""

    def __init__(self, source: DataSourceModule) -> None:
        self.source = source
        self._batch: Batch = None

    def read(self, title: str) -> Batch:
        """Return the record as a batch of one row; ``title`` is the name of the stage that needs it, for errors.

        Raises:
            StageError: The source is a stream that cannot go back.
            ValueError: The source is empty.
        """
        if self._batch is None:
            self._batch = read_only(self._read(title))
        return self._batch

    def _read(self, title: str) -> Batch:
        source = self.source
        if source.access != "stream":
            if not source.num_records:
                raise ValueError(f"{source.title} is empty: it has no records to serve; give it one at least")
            return source.fetch_on_host(np.asarray([source.largest_record]))
        if not source.capabilities.resumable:
            raise StageError(
                f"{title} does not say what comes out of it, and {source.title} is a stream that cannot go back to the record "
                "that would show it; give the stage a method element_spec(spec) -> spec"
            )
        state = copy.deepcopy(source.get_state())  # an author may return an object that the next record changes
        try:
            return source.read_batch(1)
        except StopIteration:
            raise SpecError(f"{source.title} has no records that would show what comes out of {title}") from None
        finally:
            source.set_state(state)
