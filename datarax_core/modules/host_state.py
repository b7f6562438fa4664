"""State that a module keeps on the host, outside of its nnx graph."""

from typing import Any, Self

from flax import nnx


class HostState:
    """Base of objects that a module keeps on the host and changes as it works: counts, caches, open readers, threads.

    An nnx module compares its plain attributes when ``nnx.jit`` looks for a compiled program, and shares them with its clones.
    Neither fits state that changes with every batch. An attribute that derives from this class is

    - compared by identity, so that a change in it never compiles a program again;
    - replaced by its `renewed` state in a clone, a pickle and a deep copy of the module;
    - removed by `DataraxModule.bare`, so that modules which are alike share compiled programs.

    The module assigns such a state to an attribute of its own (not inside a list or dict); `DataraxModule` does the rest::

        class Handles(HostState):
            def __init__(self, limit: int = 8) -> None:
                self.limit, self.open = limit, {}

            def constructor_data(self) -> tuple[int]:
                return (self.limit,)
    """

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the arguments from which the constructor makes the state of a clone or pickle; none by default.

        Called: when the module is cloned, pickled or copied deeply.
        Default: an empty tuple.
        """
        return ()

    def renewed(self) -> Self:
        """Return the state for a clone of the module.

        Called: when the module is cloned, on the thread that clones.
        Default: a new object, made of `constructor_data`.
        """
        return type(self)(*self.constructor_data())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.constructor_data()


def renew_host_states(graph: Any) -> None:
    """Replace each `HostState` of the modules in a graph by its `renewed` one; for a graph that ``nnx.clone`` made."""
    for module, name, state in _host_states(graph):
        setattr(module, name, state.renewed())


def drop_host_states(graph: Any) -> None:
    """Remove each `HostState` of the modules in a graph; for a graph that ``nnx.clone`` made."""
    for module, name, _ in _host_states(graph):
        delattr(module, name)


def _host_states(graph: Any) -> list[tuple[nnx.Module, str, HostState]]:
    modules = [node for _, node in nnx.iter_graph(graph) if isinstance(node, nnx.Module)]
    return [
        (module, name, state)
        for module in modules
        for name in tuple(vars(module))
        if isinstance(state := getattr(module, name), HostState)
    ]
