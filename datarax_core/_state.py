"""States as plain JSON: variables as numbers, and checks that name everything that differs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ._layout import put
from .errors import StateError


def require_dict(state: Any, title: str) -> None:
    """Raise the ``TypeError`` that every ``set_state`` gives for a state that is no dict."""
    if not isinstance(state, dict):
        raise TypeError(f"the state of {title} is a dict, as get_state() gives it, not {type(state).__name__}")


def variables_of(module: Any, kind: type[nnx.Variable[Any]] = nnx.Variable) -> dict[str, nnx.Variable[Any]]:
    """Every variable of a kind by dotted name, shared ones once."""
    return {".".join(map(str, path)): node for path, node in nnx.iter_graph(module) if isinstance(node, kind)}


def variable_state(module: Any, kind: type[nnx.Variable[Any]] = nnx.Variable) -> dict[str, Any]:
    """The values of `variables_of`: keys as lists of words, scalars as Python numbers, arrays as NumPy arrays."""
    return {name: _encoded(variable.get_raw_value()) for name, variable in variables_of(module, kind).items()}


def restore_variables(module: Any, state: dict[str, Any], kind: type[nnx.Variable[Any]] = nnx.Variable) -> None:
    """Give every variable the value that `variable_state` noted; all is checked before any is changed.

    Raises:
        StateError: Names every key that is missing or unknown, or whose value does not fit.
    """
    if not isinstance(state, dict):
        raise StateError(
            f"the variables of {type(module).__name__} in the state are a dict, not {type(state).__name__}"
        )
    variables = variables_of(module, kind)
    wrong = [f"{name!r} is missing" for name in variables.keys() - state.keys()]
    wrong += [f"{name!r} is unknown" for name in state.keys() - variables.keys()]
    values = {}
    for name in variables.keys() & state.keys():
        own = variables[name].get_raw_value()
        try:
            expected, given = np.shape(_encoded(own)), np.shape(state[name])
            if expected == given:
                values[name] = _decoded(state[name], own)
            else:
                wrong.append(f"{name!r} has shape {list(given)} where {list(expected)} is expected")
        except (OverflowError, TypeError, ValueError):
            wrong.append(f"{name!r} cannot be {state[name]!r:.40}")
    if wrong:
        raise StateError(f"the state does not fit {type(module).__name__}: {', '.join(sorted(wrong))}")
    for name, variable in variables.items():
        variable.set_raw_value(values[name])


def _encoded(value: Any) -> Any:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(value)).tolist()
    array = np.asarray(value)
    return array.item() if not array.ndim else array


def _decoded(value: Any, like: Any) -> Any:
    if isinstance(like, jax.Array) and jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        words = np.asarray(value, np.uint32)
        return jax.random.wrap_key_data(jnp.asarray(words), impl=jax.random.key_impl(like))
    array = np.asarray(value, like.dtype)
    if not isinstance(like, jax.Array):
        return array
    return put(array, like.sharding) if like.committed else jnp.asarray(array)  # what was free to move stays so


def require_keys(state: dict[str, Any], keys: set[str], title: str) -> None:
    """Raise the `StateError` that names every key a state lacks or has too many."""
    wrong = [f"{k!r} is missing" for k in sorted(keys - state.keys())]
    wrong += [f"{k!r} is unknown" for k in sorted(state.keys() - keys)]
    if wrong:
        raise StateError(f"this is no state of {title}: {', '.join(wrong)}")


def require_position(state: dict[str, Any], title: str) -> None:
    """Raise the `StateError` that names the place in the stream where no pipeline or source can stand."""
    position, run_start = state["position"], state["run_start"]
    counts = all(isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= 0 for n in (position, run_start))
    if not counts or run_start > position:
        raise StateError(
            f"the state of {title} stands at no place: position is {position!r} and run_start is {run_start!r}, where integers "
            "with 0 <= run_start <= position are expected"
        )


def require_same(saved: dict[str, Any], own: dict[str, Any], title: str) -> None:
    """Raise the `StateError` that names every entry in which two fingerprints differ."""
    keys = sorted(saved.keys() | own.keys()) if isinstance(saved, dict) else []
    wrong = [f"{k} was {saved.get(k)!r} and is {own.get(k)!r}" for k in keys if saved.get(k) != own.get(k)]
    if wrong or not keys:
        raise StateError(
            f"the state is of another stream than {title}: {'; '.join(wrong) or 'it has no fingerprint'}; "
            "restore it into what saved it, or start anew with reset()"
        )
