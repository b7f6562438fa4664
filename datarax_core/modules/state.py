"""The parts of saved states: variables as JSON, and checks of states."""

import json
import zlib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from datarax_core.devices.placement import put
from datarax_core.errors import StateError
from datarax_core.order.order import HOST_LIMIT


def require_dict(state: Any, title: str) -> None:
    """Raise the ``TypeError`` of every ``set_state`` if a state is no dict."""
    if not isinstance(state, dict):
        raise TypeError(f"the state of {title} is a dict, as get_state() gives it, not {type(state).__name__}")


def variables_of(module: Any, kind: type[nnx.Variable[Any]] = nnx.Variable) -> dict[str, nnx.Variable[Any]]:
    """Return every variable of the class ``kind`` by dotted name; a shared variable once."""
    return {".".join(map(str, path)): node for path, node in nnx.iter_graph(module) if isinstance(node, kind)}


def variable_state(module: Any, kind: type[nnx.Variable[Any]] = nnx.Variable) -> dict[str, Any]:
    """Return the values of `variables_of`: PRNG keys as lists, scalars as Python numbers, the rest as NumPy arrays."""
    return {name: _encoded(variable.get_raw_value()) for name, variable in variables_of(module, kind).items()}


def restore_variables(module: Any, state: dict[str, Any], kind: type[nnx.Variable[Any]] = nnx.Variable) -> None:
    """Give every variable the value that `variable_state` returned; all values are checked before any variable is changed.

    Raises:
        StateError: A key is missing or unknown, or a value does not fit; names each such key.
    """
    write_variables(module, checked_variables(module, state, kind), kind)


def checked_variables(
    module: Any, state: dict[str, Any], kind: type[nnx.Variable[Any]] = nnx.Variable
) -> dict[str, Any]:
    """Return the values that `restore_variables` would set, or raise its errors; nothing is changed."""
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
    return values


def write_variables(module: Any, values: dict[str, Any], kind: type[nnx.Variable[Any]] = nnx.Variable) -> None:
    """Set the variables of the class ``kind`` to ``values``, by dotted name."""
    for name, variable in variables_of(module, kind).items():
        variable.set_raw_value(values[name])


def _encoded(value: Any) -> Any:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(value)).tolist()
    array = np.asarray(value)
    return array.item() if not array.ndim else array


def _decoded(value: Any, like: Any) -> Any:
    if isinstance(like, jax.Array) and jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(exact(value, np.dtype(np.uint32))), impl=jax.random.key_impl(like))
    if not hasattr(like, "dtype"):  # a variable may hold a Python number or text
        if type(given := plain(value)) is not type(like):
            raise TypeError(f"{value!r:.40} is no {type(like).__name__}")
        return given
    array = exact(value, like.dtype)
    if not isinstance(like, jax.Array):
        return array
    return put(array, like.sharding) if like.committed else jnp.asarray(array)  # an uncommitted array stays uncommitted


def exact(value: Any, dtype: np.dtype[Any]) -> np.ndarray:
    """Return the value in this dtype; raise ``ValueError`` for a number that NumPy would wrap or truncate to fit an integer."""
    array = np.asarray(value, dtype)
    if dtype.kind in "iub" and not np.array_equal(array, np.asarray(value)):
        raise ValueError(f"{value!r:.40} is no {dtype}")
    return array


def require_keys(
    state: dict[str, Any], keys: set[str], title: str, *, optional: AbstractSet[str] = frozenset()
) -> None:
    """Raise a `StateError` that names every missing and every unknown key of a state, if there is any.

    ``optional`` keys are not in states of earlier versions.
    """
    wrong = [f"{k!r} is missing" for k in sorted(keys - state.keys())]
    wrong += [f"{k!r} is unknown" for k in sorted(state.keys() - keys - optional)]
    if wrong:
        raise StateError(f"this is no state of {title}: {', '.join(wrong)}")


def require_position(state: dict[str, Any], title: str) -> tuple[int, int]:
    """Return (position, run start) of a state.

    Raises:
        StateError: No pipeline or source can be at this position; names both numbers.
    """
    position, run_start = plain(state["position"]), plain(state["run_start"])
    if not (is_count(position) and is_count(run_start) and run_start <= position):
        raise StateError(
            f"the state of {title} stands at no place: position is {position!r} and run_start is {run_start!r}, where integers "
            "with 0 <= run_start <= position < 2**63 are expected"
        )
    return position, run_start


def saved_in_loop(state: dict[str, Any], title: str) -> bool:
    """Return whether a state was saved in a loop that had not been told that it is over; False in states of version 0.1.0.

    Raises:
        StateError: The value is neither True nor False.
    """
    in_loop = plain(state.get("in_loop", False))
    if in_loop not in (0, 1):  # serializers make integers of flags
        raise StateError(f"the state of {title} has in_loop {in_loop!r:.40}, where True or False is expected")
    return bool(in_loop)


def is_count(value: Any) -> bool:
    """Return whether ``value`` can be a count: an integer from 0 that fits 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= HOST_LIMIT


def checksum_of(facts: dict[str, Any]) -> int:
    """Return 32 bits that tell some facts from others."""
    return zlib.crc32(json.dumps(plain(facts), sort_keys=True, default=str).encode())


def plain(value: Any) -> Any:
    """Return ``value`` in JSON's own types: tuples and arrays as lists, scalars as Python's; serializers change these."""
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return np.asarray(value).tolist()
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value
