"""Arrays of sources on the host, which stand in the graph of a source by number, so that no program copies or keeps them."""

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

import jax
import numpy as np
from flax import nnx

from .aside import Numbered
from .callbacks import number_of
from .traces import TraceArgument

_PLAIN = (np.generic, str, bytes, int, float, complex, bool, type(None))


class HostArrays(TraceArgument):
    """Base of sources whose plain arrays flax would make leaves of a graph, which ``nnx.jit`` copies and traces.

    Where `is_read_by_host` says so, such an array stands in the graph by number, and modules that flax merges hold the very
    same array. The graph also names its original, from which callbacks of compiled code read.
    """

    @property
    def is_read_by_host(self) -> bool:
        """Whether compiled code reaches the records through the host, so that arrays need not be traced."""
        raise NotImplementedError

    @property
    def is_bare(self) -> bool:
        """Whether this is a copy for programs that all equal sources share."""
        raise NotImplementedError

    @property
    def is_copy_in_trace(self) -> bool:
        """Whether this is a copy that flax made of an argument of the trace under way."""
        raise NotImplementedError

    @property
    def original_number(self) -> int:
        """The number of the source from which callbacks read: that of which this is a copy in a trace, or of this one.

        Called: by core, in compiled code.
        """
        original = _aside(self).get(_ORIGINAL)
        return original.number if original is not None and self.is_copy_in_trace else number_of(self)

    # -- methods by which flax takes modules apart ---------------------------------------------------------------------------

    def _graph_node_flatten(self) -> tuple[list[tuple[Any, Any]], type]:
        items, kind = super()._graph_node_flatten()  # type: ignore[no-untyped-call]
        if not (hidden := self._hidden()):
            return items, kind
        nodes = next(element for name, element in items if name == "_pytree__nodes")
        is_wrapped = nodes is not vars(self)["_pytree__nodes"]  # older versions of flax list the values themselves
        static = type(nodes) if is_wrapped else lambda number: number
        shown = [item for item in items if item[0] not in hidden]
        return sorted([*shown, *((name, static(number)) for name, number in hidden.items())], key=itemgetter(0)), kind

    def _graph_node_init(self, attributes: Iterable[tuple[Any, Any]]) -> None:
        super()._graph_node_init(self._seen(attributes))

    def _pytree__flatten(self) -> tuple[list[Any], Any]:
        values, parts = super()._pytree__flatten()  # type: ignore[no-untyped-call]
        return self._without_hidden(values, parts)

    def _pytree__flatten_with_paths(self) -> tuple[list[Any], Any]:
        values, parts = super()._pytree__flatten_with_paths()  # type: ignore[no-untyped-call]
        return self._without_hidden(values, parts)

    def _without_hidden(self, values: list[Any], parts: Any) -> tuple[list[Any], Any]:
        if not (hidden := self._hidden()):
            return values, parts
        names, static_names, static_values = parts
        shown = [(name, value) for name, value in zip(names, values, strict=True) if name not in hidden]
        return [value for _, value in shown], (
            tuple(name for name, _ in shown),
            (*static_names, *hidden),
            (*static_values, *hidden.values()),
        )

    @classmethod
    def _pytree__unflatten(cls, static: Any, values: Any) -> Any:
        module = super()._pytree__unflatten(static, values)
        given = [(name, vars(module).pop(name)) for name in static[1]]
        for name, value in module._seen(given):  # noqa: SLF001 - of this class
            object.__setattr__(module, name, value)
        return module

    def _hidden(self) -> dict[str, Any]:
        """Return, by name, the number of each attribute that is left out, and of the original; nothing of a bare source."""
        held = _aside(self)
        found: dict[str, Any] = {}
        if self.is_bare:
            return found
        for name, value in vars(self).items() if self.is_read_by_host else ():
            if self._pytree__nodes.get(name) and _is_of_arrays(value):
                kept = held.get((_ORIGINAL, name))
                if kept is None or kept.value is not value:
                    kept = held[_ORIGINAL, name] = Kept(value)
                found[name] = Numbered.of(kept)
        found[_ORIGINAL] = Original(self.original_number)
        return found

    def _seen(self, attributes: Iterable[tuple[Any, Any]]) -> Iterable[tuple[Any, Any]]:
        """Yield the attributes of a copy, with the arrays themselves."""
        for name, given in attributes:
            value = given
            if name == _ORIGINAL:
                _aside(self)[_ORIGINAL] = value
                continue
            if isinstance(value, Numbered) and isinstance(value.content, Kept):
                value = value.content
            if isinstance(value, Kept):  # as a deep copy of a graph has it
                _aside(self)[_ORIGINAL, name] = value
                value = value.value
            yield name, value


class Kept:
    """A value of an attribute, held by the modules that have it; graphs name it by number."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Original:
    """The number of a source, in a graph; graphs of other sources are other graphs."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Original) and self.number == other.number

    def __hash__(self) -> int:
        return hash((Original, self.number))


_ORIGINAL = "_original"


def _aside(module: Any) -> dict[Any, Any]:
    try:
        held: dict[Any, Any] = module._aside  # noqa: SLF001 - of `HoldsAside`
    except AttributeError:
        held = {}
        object.__setattr__(module, "_aside", held)
    return held


def _is_of_arrays(value: Any) -> bool:
    """Return whether a value is an array, or a container of arrays and plain values and of nothing else."""
    if isinstance(value, Mapping | list | tuple | nnx.List):
        parts = value.values() if isinstance(value, Mapping) else value
        return any(map(_is_of_arrays, parts)) and all(isinstance(part, _PLAIN) or _is_of_arrays(part) for part in parts)
    is_array = isinstance(value, np.ndarray | jax.Array) and not isinstance(value, nnx.Variable)
    return is_array and not isinstance(value, jax.core.Tracer)
