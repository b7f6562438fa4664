"""Promises about methods that a stage may define: fields on the host, fields before they are narrowed, and gradients."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from datarax_core.errors import NarrowingError
from datarax_core.records.intake import completed, stored_fields
from datarax_core.records.spec import Batch, named_fields, spec_of, split_host_fields
from datarax_core.stages.apply import apply_stages
from datarax_core.stages.split_modules import SplitModules
from datarax_core.testing.checks import broken, difference, not_claimed, part, require, shown

from .programs import DeviceSubject, Program


class FieldPromises:
    """The methods ``host_fields`` and ``before_narrowing``, if the stage defines them."""

    def test_host_fields_have_a_row_for_each_record(self, subject: DeviceSubject) -> None:
        """``host_fields`` makes of columns what it makes of their specs, a row for each record, and leaves its input alone."""
        if not hasattr(subject.built, "host_fields"):
            not_claimed(f"{subject.title} leaves host fields as they are: it has no host_fields()")
        columns = split_host_fields(subject.records)[1]
        if not columns:
            not_claimed("the records have no host fields, such as text, to show what host_fields() does")
        names = sorted(named_fields(columns))
        made = subject.built.host_fields(columns)
        require(
            sorted(named_fields(columns)) == names,
            f"{subject.title} promises to leave its input alone, but host_fields() changed the dict that it was called with; "
            "return a new dict",
        )
        said = subject.built.host_fields(split_host_fields(spec_of(subject.records))[1])
        require(
            list(named_fields(said)) == list(named_fields(made)),
            f"{subject.title} promises that host_fields() makes of specs what it makes of columns, but of specs it makes "
            f"{', '.join(named_fields(said)) or 'nothing'}, and of columns {', '.join(named_fields(made)) or 'nothing'}; let "
            "it depend on names alone",
        )
        for name, column in named_fields(made).items():
            require(
                len(column) == subject.size,
                f"{subject.title} promises a row for each record, but host_fields() makes {len(column)} rows in field {name!r} "
                f"for {subject.size} records; keep all rows, in their order",
            )
        for rows in (np.arange(1), np.arange(subject.size)[::-1]):
            text = difference(part(made, rows), subject.built.host_fields(part(columns, rows)))
            require(
                not text,
                f"{subject.title} promises to leave host fields at their records, but of records {shown(rows.tolist(), 60)} "
                f"alone host_fields() makes other rows: {text}; keep all rows, in their order",
            )

    def test_before_narrowing_says_what_it_uses(self, subject: DeviceSubject) -> None:
        """``before_narrowing`` returns the fields that the stage makes, and the stage uses none that it leaves out."""
        if not hasattr(subject.built, "before_narrowing"):
            not_claimed(f"{subject.title} takes fields as they are narrowed: it has no before_narrowing()")
        said = sorted(named_fields(subject.built.before_narrowing(stored_fields(spec_of(subject.device_records)))))
        made = sorted(named_fields(subject.made_of_all))
        require(
            said == made,
            f"{subject.title} promises that before_narrowing() returns the fields of its result, but it returned "
            f"{', '.join(said)}, and the stage makes {', '.join(made)}; move and leave out fields there as in __call__",
        )
        try:
            whole = subject.batch(is_taken=False)
        except NarrowingError:
            return  # values that need the method
        text = subject.difference(Program(subject.build())(whole, subject.ids()), subject.made_of_all)
        require(
            not text,
            f"{subject.title} promises to use no field that before_narrowing() leaves out, but its result differs without "
            f"them: {text}. Return each field that __call__ computes with",
        )


class GradientPromises:
    """Gradients through the stage, to its parameters and to fields that are declared ``differentiable``."""

    def test_gradients_pass(self, subject: DeviceSubject) -> None:
        """Gradients reach the parameters of an ``nnx.Module``, and the fields that are declared ``differentiable``."""
        names = list(subject.author.differentiable)
        fields = named_fields(subject.device_records)
        if unknown := [name for name in names if name not in fields]:
            broken(
                f"{type(subject.author).__name__} declares differentiable = {names}, and the records have no field "
                f"{unknown[0]!r}"
            )
        has_parameters = not subject.author.frozen and any(True for _ in _parameters(subject.built))
        if not names and not has_parameters:
            not_claimed(f"{subject.title} has no parameters, and no field is declared differentiable")
        for title, gradient in _gradients(subject, names, has_parameters=has_parameters):
            values = np.asarray(gradient)
            require(
                np.isfinite(values).all(),
                f"{subject.title} promises that gradients pass, but the gradient of {title} is not finite; see whether it "
                "divides by zero, or takes a root or logarithm of zero, also where jnp.where leaves the result out",
            )
            require(
                values.any(),
                f"{subject.title} promises that gradients pass, but the gradient of {title} is zero in all {subject.size} "
                "records; leave out stop_gradient, rounding and conversions to integers on the way, or declare "
                f"{'frozen = True' if title.startswith('its') else 'differentiable without it'}",
            )


def _parameters(stage: Any) -> Iterator[Any]:
    if isinstance(stage, nnx.Module):
        yield from (node for _, node in nnx.iter_graph(stage) if isinstance(node, nnx.Param))


def _gradients(subject: DeviceSubject, names: list[str], *, has_parameters: bool) -> Iterator[tuple[str, Any]]:
    """Yield (title, the gradient of a weighted sum of the float fields) for all parameters together, and for each field."""
    stage = subject.build()
    modules, ids, batch = SplitModules((stage,)), subject.ids(), subject.batch()
    variables = jax.tree.leaves(nnx.state((stage,)), is_leaf=lambda node: isinstance(node, nnx.Variable))
    are_parameters = [isinstance(variable, nnx.Param) for variable in variables]
    values = modules.read()

    def loss(parameters: list[Any], batch: Batch) -> Any:
        given = iter(parameters)
        merged = [
            next(given) if is_parameter else jnp.asarray(value)
            for is_parameter, value in zip(are_parameters, values, strict=True)
        ]
        made = apply_stages(modules.structure.merge(merged), completed(batch, subject.size), ids)
        floats = [leaf for leaf in jax.tree.leaves(made) if jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating)]
        weighted: list[Any] = [jnp.sum(_weights(leaf.shape) * leaf) for leaf in map(jnp.asarray, floats)]
        return sum(weighted, start=jnp.zeros(()))

    parameters = [value for is_parameter, value in zip(are_parameters, values, strict=True) if is_parameter]
    try:
        of_parameters, of_batch = jax.jit(jax.grad(loss, argnums=(0, 1), allow_int=True))(parameters, batch)
    except Exception as cause:  # noqa: BLE001 - an author's code may raise anything
        broken(
            f"{subject.title} promises that gradients pass, but taking them raises {type(cause).__name__}: "
            f"{str(cause).partition(chr(10))[0]}. Compute with jax.numpy, not in callbacks"
        )
    if has_parameters:
        flat = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(of_parameters)]
        yield "its parameters", np.concatenate(flat)
    by_name = named_fields(of_batch)
    yield from ((f"the field {name!r}", np.asarray(by_name[name], np.float64)) for name in names)


def _weights(shape: tuple[int, ...]) -> Any:
    """Return weights that differ, so that gradients of a sum do not cancel."""
    return jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, shape), jnp.float32)
