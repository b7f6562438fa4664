"""Soundness of sources: faults of a class that would end in an error of core or Flax that names nobody."""

from collections.abc import Iterator
from typing import Any

import jax

from datarax_core.extensions.contract import contract_fault
from datarax_core.sources.source import DataSourceModule

_NO_BASE = "__init__() does not call super().__init__(config, rngs=rngs, name=name); make that its first statement"


def require_sound(source: DataSourceModule, name: str | None = None) -> None:
    """Raise if the class of ``source`` breaks the protocol in a way that shows before anything is read.

    Args:
        source: A source that was built.
        name: Its registered name, if it is known.

    Raises:
        PluginContractError: Names plugin and class, and what to write.
    """
    for problem in _problems(source):
        known = name or getattr(getattr(source, "config", None), "type", None)
        raise contract_fault("source", type(source), f".{problem}", known)


def require_built(source: DataSourceModule, name: str | None = None) -> None:
    """Raise a `PluginContractError` if the constructor of ``source`` did not call that of its base class."""
    if "cursor" not in vars(source):
        raise contract_fault("source", type(source), f".{_NO_BASE}", name)


def require_cacheable(source: DataSourceModule) -> None:
    """Raise if a source is ``cacheable`` and its records cannot be kept: they have no index, or differ from epoch to epoch.

    Raises:
        ValueError: Says why, and to leave ``cacheable`` out.
    """
    if not source.config.cacheable:
        return
    reason = "is read forward only" if source.access == "stream" else ""
    if source.varies_by_epoch:
        reason = "reads its records otherwise in each epoch (varies_by_epoch)"
    if reason:
        raise ValueError(f"{source.title} {reason}, so that cacheable=True cannot keep its records; leave it out")


def _problems(source: DataSourceModule) -> Iterator[str]:
    if "cursor" not in vars(source):
        yield _NO_BASE
        return
    yield from _length_problems(source)
    try:
        spec = source.element_spec()
    except NotImplementedError:  # another check says which method is missing
        return
    if spec is None:
        yield "element_spec() returned None; return a jax.ShapeDtypeStruct for each field of a record, as a dict by name"
    for path, leaf in jax.tree_util.tree_flatten_with_path(spec)[0]:
        if not _is_struct(leaf):
            field = jax.tree_util.keystr(path, simple=True, separator=".")
            yield (
                f"element_spec() has {leaf!r:.60} at {field!r}, which is no spec of a field; write a "
                "jax.ShapeDtypeStruct(shape, dtype) for each field, such as jax.ShapeDtypeStruct((28, 28), np.uint8)"
            )


def _length_problems(source: Any) -> Iterator[str]:
    if not hasattr(type(source), "__len__"):
        return
    try:
        length = source.__len__()
    except Exception:  # noqa: BLE001 - a stream that finds that it has no length; others raise it where it is needed
        return
    if not hasattr(length, "__index__") or length < 0:
        yield f"__len__() returned {length!r:.60}; return the number of records, an integer from 0"


def _is_struct(leaf: Any) -> bool:
    return isinstance(getattr(leaf, "shape", None), tuple) and hasattr(getattr(leaf, "dtype", None), "itemsize")
