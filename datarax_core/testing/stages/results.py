"""Promises about what a compiled stage makes: rows, spec and values, alike however it is compiled, and its input is kept."""

import functools
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any
from unittest.mock import patch

import jax
import numpy as np

from datarax_core.records.intake import completed
from datarax_core.records.spec import Batch, device_spec, differences, named_fields, spec_of
from datarax_core.stages.apply import apply_stages
from datarax_core.testing.checks import broken, require

from .comparing import require_expected
from .programs import DeviceSubject, Program
from .subject import on_host

_CONCRETE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)

_FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType, functools.partial)


class ResultPromises:
    """The batch that the stage makes of all records."""

    def test_it_can_be_compiled(self, subject: DeviceSubject) -> None:
        """It runs in compiled code: it computes with ``jax.numpy``, and looks at no value while it is traced."""
        try:
            _ = subject.made_of_all
        except _CONCRETE as cause:
            broken(
                f"{subject.title} promises to run in compiled code, but it looks at values while it is traced: "
                f"{_first(cause)}. "
                "Compute with jax.numpy in place of NumPy, and with jnp.where in place of if; what needs NumPy is a host stage"
            )
        except Exception as cause:  # noqa: BLE001 - an author's code may raise anything
            broken(
                f"{subject.title} promises to run in compiled code, but raises {type(cause).__name__}: {_first(cause)}"
                f"{_notes(cause)}. Correct __call__, or refuse such records in build()"
            )

    def test_it_makes_a_row_for_each_record(self, subject: DeviceSubject) -> None:
        """It returns a dict of arrays with a row for each record."""
        made = subject.made_of_all
        require(
            isinstance(made, Mapping),
            f"{subject.title} promises a batch, a dict of named arrays, but returned a {type(made).__name__}; return a dict, "
            "such as {**batch, 'x': x}",
        )
        for name, column in named_fields(made).items():
            require(
                np.ndim(column) and len(column) == subject.size,
                f"{subject.title} promises a row for each record, but field {name!r} has shape {list(np.shape(column))} for "
                f"{subject.size} records; keep the first axis of each array, which is that of the records",
            )

    def test_its_batch_is_the_expected_one(self, subject: DeviceSubject) -> None:
        """The batch that it makes of the records has the values that ``expected`` declares, in all fields or some."""
        require_expected(subject)

    def test_its_spec_is_true(self, subject: DeviceSubject) -> None:
        """What a pipeline says of its batches is what it serves: fields, shapes and dtypes, host fields included."""
        pipeline = subject.pipeline(num_epochs=1)
        said = pipeline.element_spec()
        batch = on_host(next(iter(pipeline)))
        wrong = differences(said, spec_of(batch))
        require(
            not wrong,
            f"{subject.title} promises the element spec that its pipeline tells, but a batch differs from it: "
            f"{'; '.join(wrong)}. Let host_fields() make of specs what it makes of columns, and let __call__ depend on shapes "
            "and dtypes alone",
        )
        if not hasattr(subject.built, "element_spec"):
            return
        own = subject.built.element_spec(spec_of(subject.records))
        wrong = differences(device_spec(own), spec_of(batch)) if own is not None else []
        require(
            not wrong,
            f"{subject.title} promises that element_spec() says what comes out, but a batch differs from it: "
            f"{'; '.join(wrong)}. Correct element_spec(), or leave it out: of a compiled stage, it is found by tracing",
        )

    def test_it_leaves_its_input_alone(self, subject: DeviceSubject) -> None:
        """It changes neither the dict that it is called with nor the arrays in it: others use them too."""
        given = completed(subject.batch(), subject.size)
        kept, leaves = _copied(given), jax.tree.leaves(given)
        before = on_host(given)
        apply_stages((subject.build(),), given, subject.ids())
        require(
            _form_of(given) == _form_of(kept)
            and all(a is b for a, b in zip(jax.tree.leaves(given), leaves, strict=True)),
            f"{subject.title} promises to leave its input alone, but changed the dict that it was called with: "
            f"{subject.difference(before, on_host(given)) or 'it holds other arrays'}. Return a new dict, such as "
            "{**batch, 'x': x}",
        )

    def test_it_makes_the_same_again(self, subject: DeviceSubject) -> None:
        """Built and compiled again, it makes the same batch: nothing is kept between calls but ``nnx.Variable``s."""
        with _moved_generators() as is_moved:
            text = subject.other_than_made(subject.build())
        require(
            not text,
            f"{subject.title} promises to be a function of its records, but made another batch of them when it was compiled "
            f"again: {text}. Draw random numbers from the keys that a stage with stochastic = True is called with, and keep "
            "what changes in an nnx.Variable",
        )
        require(
            not is_moved(),
            f"{subject.title} promises to draw from its keys alone, but drew from the random state of Python or NumPy, which "
            "is drawn once when it is compiled; draw from the keys that a stage with stochastic = True is called with",
        )

    def test_compiled_and_uncompiled_code_agree(self, subject: DeviceSubject) -> None:
        """Compiled, it makes what it makes uncompiled, within ``tolerance`` for floats."""
        found = Program(subject.build(), is_compiled=False)(subject.batch(), subject.ids())
        text = subject.difference(found, subject.made_of_all)
        require(
            not text,
            f"{subject.title} promises the same result compiled and uncompiled, but compiled: {text}. Let no Python code "
            "depend on whether it is traced; declare a greater tolerance if floats are rounded differently",
        )

    def test_it_is_compiled_once(self, subject: DeviceSubject) -> None:
        """A pipeline traces it once for each size of a batch, not at each batch, or at each epoch."""
        built = subject.build()
        with _calls_of(built) as (stage, calls):
            pipeline = subject.pipeline(config=stage, num_epochs=4, drop_last=True)
            counts = [calls() for _ in pipeline]
        early, late = counts[1], counts[-1]
        require(
            late == early,
            f"{subject.title} promises to be compiled once for each size of a batch, but was traced {late - early} times "
            "more in "
            f"{len(counts) - 2} further batches of one size, which costs a compilation each. Let its variables keep their "
            "shapes and dtypes, and its hash depend on options alone",
        )


def _copied(batch: Batch) -> Batch:
    return jax.tree.map(lambda leaf: leaf, batch)


def _form_of(batch: Batch) -> Any:
    return jax.tree.structure(batch)


@contextmanager
def _moved_generators() -> Iterator[Any]:
    """Seed the random states of Python and NumPy anew in the block; yield a function that says, behind it, if they moved."""
    kept: tuple[Any, Any] = random.getstate(), np.random.get_state()  # noqa: NPY002 - of stages that draw from it
    random.seed(12_345)
    np.random.seed(12_345)  # noqa: NPY002
    states = [_states()]
    try:
        yield lambda: states[0] != states[1]
    finally:
        states.append(_states())
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002


def _states() -> str:
    """Return the random states of Python and NumPy as text."""
    with np.printoptions(threshold=sys.maxsize):
        return f"{random.getstate()} {np.random.get_state()}"  # noqa: NPY002


def _first(cause: BaseException) -> str:
    """Return the first paragraph of an error."""
    return str(cause).partition("\n\n")[0].partition("\nThe error occurred")[0].strip()[:600].rstrip(".")


def _notes(cause: BaseException) -> str:
    notes = [note for note in getattr(cause, "__notes__", ()) if "in stage" not in note]
    return f" ({'; '.join(notes)})" if notes else ""


@contextmanager
def _calls_of(stage: Any) -> Iterator[tuple[Any, Callable[[], int]]]:
    """Yield (the stage, or a function in its place, a function that returns how often it was called)."""
    count = [0]
    if isinstance(stage, _FUNCTIONS):

        @functools.wraps(stage)
        def counted(*arguments: Any) -> Any:
            count[0] += 1
            return stage(*arguments)

        yield counted, lambda: count[0]
        return
    call = type(stage).__call__

    @functools.wraps(call)
    def counted_call(self: Any, *arguments: Any) -> Any:
        count[0] += 1
        return call(self, *arguments)

    with patch.object(type(stage), "__call__", counted_call):
        yield stage, lambda: count[0]
