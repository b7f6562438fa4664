"""Compiled programs that equal pipelines share, and that keep no data of a stage alive once its pipelines are gone."""

import functools
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final
from weakref import WeakKeyDictionary, ref

import jax
import numpy as np

from datarax_core.modules.host_state import HostState
from datarax_core.stages.split_modules import Structure


class Programs(HostState):
    """The programs that one pipeline has looked up, which live at least as long as the pipeline.

    A program holds its stages, and the arrays that they captured. So the table of all programs holds them weakly, but for those
    whose stages hold no data: a pipeline that is built anew compiles nothing.
    """

    def __init__(self) -> None:
        self._held = functools.lru_cache(maxsize=_AT_MOST)(_shared)

    def compiled(self, program: Callable[..., Any], modules: Structure) -> Callable[..., Any]:
        """Return the program under ``jax.jit``: one for all equal programs, so that a second equal pipeline compiles nothing.

        It is looked up once a route, so that a call hashes nothing. One whose ``modules`` keep records in a table lives as long
        as the table.
        """
        return self._held(program) if modules.table is None else modules.table.compiled(program)


_AT_MOST: Final = 256

_programs: Final[WeakKeyDictionary[Callable[..., Any], ref[Any]]] = WeakKeyDictionary()
"""Every program under ``jax.jit`` that some pipeline, or `_kept`, holds; it holds its function, which is the key."""

_kept: Final[OrderedDict[int, Any]] = OrderedDict()
"""The programs without data of their own that were looked up last, by id."""


def _shared(program: Callable[..., Any]) -> Any:
    known = _programs.get(program)
    run = None if known is None else known()
    if run is None:
        run = jax.jit(program)
        _programs[program] = ref(run)
        is_kept = holds_no_data(program)
    else:
        is_kept = id(run) in _kept
    if is_kept:
        _kept[id(run)] = run
        _kept.move_to_end(id(run))
        if len(_kept) > _AT_MOST:
            _kept.popitem(last=False)
    return run


_SMALL: Final = 1 << 12
"""Bytes of an array or text that are no reason to free a program."""

_MOST_PARTS: Final = 10_000

_OWN: Final = ("jax", "jaxlib", "numpy", "flax", "builtins", "datarax_core")
"""Packages whose objects hold no data of their own, but for arrays and what is found in their attributes."""


def holds_no_data(part: Any) -> bool:
    """Return whether an object holds no large array or text in its attributes, items or closures, as far as can be seen."""
    try:
        return _holds_no_data(part)
    except Exception:  # noqa: BLE001 - of properties and slots of a user's classes
        return False


def _holds_no_data(part: Any) -> bool:
    seen: dict[int, Any] = {}
    left = [part]
    while left:
        part = left.pop()
        if id(part) in seen:
            continue
        seen[id(part)] = part
        if len(seen) > _MOST_PARTS or _is_data(part):
            return False
        left.extend(_parts_of(part))
    return True


def _is_data(part: Any) -> bool:
    if isinstance(part, str | bytes | bytearray | memoryview | range):
        return not isinstance(part, range) and len(part) > _SMALL
    if isinstance(part, type | types.ModuleType | np.dtype):
        return False
    if isinstance(part, np.ndarray | np.generic | jax.Array):
        return part.size * part.dtype.itemsize > _SMALL
    if getattr(part, "nbytes", 0) > _SMALL:
        return True
    is_known = type(part).__module__.partition(".")[0] in _OWN
    return not is_known and not hasattr(part, "__dict__") and not hasattr(type(part), "__slots__")


def _parts_of(part: Any) -> Iterator[Any]:
    if isinstance(part, type | types.ModuleType | np.generic | jax.Array | np.dtype | jax.Device):
        return
    if isinstance(part, np.ndarray):
        yield from part.flat if part.dtype == object else ()
        return
    if isinstance(part, Mapping):
        yield from part.keys()
        yield from part.values()
    elif isinstance(part, tuple | list | AbstractSet):
        yield from part
    elif isinstance(part, types.FunctionType):
        yield from (cell.cell_contents for cell in part.__closure__ or () if cell != types.CellType())
        yield from (part.__defaults__, part.__kwdefaults__)
    elif isinstance(part, types.MethodType):
        yield from (part.__self__, part.__func__)
    elif isinstance(part, functools.partial):
        yield from (part.func, part.args, part.keywords)
    yield from getattr(part, "__dict__", {}).values()
    for kind in type(part).__mro__:
        slots = getattr(kind, "__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            yield getattr(part, name, None)
