"""Digests of values of any type, equal in every process, whatever its addresses and its hash seed."""

import dataclasses
import enum
import functools
import hashlib
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Final

import jax
import numpy as np

from datarax_core.records.dtypes import is_text
from datarax_core.records.ragged import Ragged

_MOST_PARTS: Final = 20_000
_MOST_DEPTH: Final = 32

_NUMBERS: Final = (bool, int, float, complex)


def digest_of(value: Any) -> str:
    """Return 16 hex digits that depend on the value alone: neither on addresses, nor on the order of sets and dicts.

    An object counts by its class and its fields; one that cannot be taken apart, or has very many parts, by its class alone.
    """
    try:
        return _Digester().of(value).hex()
    except Exception:  # noqa: BLE001 - an object of any library may raise anything when it is taken apart
        return _hashed(class_name(type(value))).hex()


def class_name(cls: type) -> str:
    """Return module and name of a class; of a class in the main script, the name of the script's file in place of the module.

    First-party classes are named by their distribution, in which modules may move.
    """
    module = cls.__module__
    if module == "__main__" and (path := getattr(sys.modules["__main__"], "__file__", None)):
        module = Path(path).stem
    if module.startswith("datarax_"):
        module = module.partition(".")[0]
    return f"{module}.{cls.__qualname__}"


def is_plain(value: Any) -> bool:
    """Return whether a value consists of text, bytes, numbers, None and lists, tuples and dicts of them."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return is_plain([*value, *value.values()])
    return value is None or type(value) in (*_NUMBERS, str, bytes) or isinstance(value, np.generic)


def may_hold_set(value: Any) -> bool:
    """Return whether there is a set in a value, whose text depends on the hash seed; true if it has too many parts to say."""
    left, seen = [value], {id(value)}
    while left:
        part = left.pop()
        if isinstance(part, AbstractSet) or len(seen) > _MOST_PARTS:
            return True
        for inner in _inner_parts(part):
            if id(inner) not in seen:
                seen.add(id(inner))
                left.append(inner)
    return False


def _inner_parts(value: Any) -> list[Any]:
    if is_plain(value) or isinstance(value, type | FunctionType | BuiltinFunctionType | ModuleType):
        return []
    if isinstance(value, Mapping):
        parts: list[Any] = [*value, *value.values()]
    else:
        is_array = isinstance(value, np.ndarray) and value.dtype.hasobject
        parts = value.ravel().tolist() if is_array else list(value) if isinstance(value, list | tuple | deque) else []
    slots = [name for cls in type(value).__mro__ for name in np.atleast_1d(getattr(cls, "__slots__", ())).tolist()]
    return [*parts, *getattr(value, "__dict__", {}).values(), *(getattr(value, str(name), None) for name in slots)]


class _Digester:
    """The digest of one value, taken apart to a bounded depth and number of parts."""

    def __init__(self) -> None:
        self._num_parts = 0
        self._inside: list[int] = []

    def of(self, value: Any) -> bytes:
        """Return the digest of a part of the value.

        Raises:
            ValueError: The value has too many parts.
            Exception: Whatever an object raises when it is taken apart.
        """
        self._num_parts += 1
        if self._num_parts > _MOST_PARTS or len(self._inside) > _MOST_DEPTH:
            raise ValueError("the value has too many parts")
        if id(value) in self._inside:
            return _hashed(f"cycle {len(self._inside) - self._inside.index(id(value))}")
        self._inside.append(id(value))
        try:
            return _of_scalar(value) or self._of_container(value) or self._of_object(value)
        finally:
            self._inside.pop()

    def _of_container(self, value: Any) -> bytes | None:
        if isinstance(value, np.ndarray | np.generic | jax.Array):
            return self._of_array(np.asarray(value))
        if isinstance(value, Ragged):
            own = value.compact()
            return _hashed(f"ragged {value.record_shape}", *map(self.of, (own.values, own.lengths, own.shapes)))
        if isinstance(value, Mapping):
            return _hashed("dict", *sorted(self.of(key) + self.of(item) for key, item in value.items()))
        if isinstance(value, list | tuple):
            return _hashed("list", *map(self.of, value))
        return _hashed("set", *sorted(map(self.of, value))) if isinstance(value, AbstractSet) else None

    def _of_array(self, array: np.ndarray) -> bytes:
        if array.dtype.hasobject or is_text(array.dtype):  # text counts alike in any dtype and width
            return _hashed(f"objects {array.shape}", *map(self.of, array.ravel().tolist()))
        return _hashed(f"{array.dtype.str} {array.dtype} {array.shape}", np.ascontiguousarray(array).tobytes())

    def _of_object(self, value: Any) -> bytes:
        name, cls = class_name(type(value)), type(value)
        if hasattr(cls, "model_fields"):  # of pydantic
            return _hashed(name, self.of({field: getattr(value, field) for field in cls.model_fields}))
        if dataclasses.is_dataclass(cls):
            return _hashed(name, self.of({f.name: getattr(value, f.name) for f in dataclasses.fields(cls)}))
        if hasattr(value, "__array__"):  # a tensor or image of another library
            return _hashed(name, self._of_array(np.asarray(value)))
        state = value.__reduce_ex__(4)[1:5]
        return _hashed(name, *(self.of(_lasting(cls, part)) for part in state))


def _of_scalar(value: Any) -> bytes | None:
    if value is None or isinstance(value, enum.Enum):
        return _hashed("None" if value is None else f"{class_name(type(value))} {value.name}")
    for kind in _NUMBERS:
        if isinstance(value, kind):
            return _hashed(f"{kind.__name__} {kind(value)!r}")  # type: ignore[arg-type]  # a value of that type
    if isinstance(value, str):
        return _hashed("str", str(value).encode(errors="surrogatepass"))
    if isinstance(value, bytes | bytearray):
        return _hashed("bytes", bytes(value))
    if isinstance(value, type | FunctionType | BuiltinFunctionType | ModuleType):
        return _hashed(f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}")
    return None


def _lasting(cls: type, part: Any) -> Any:
    """Return a part of a reduced object: iterators over items as lists, fields without what cached properties have kept."""
    if isinstance(part, dict):
        return {n: v for n, v in part.items() if not isinstance(getattr(cls, str(n), None), functools.cached_property)}
    return list(part) if isinstance(part, Iterator) else part


def _hashed(name: str, *parts: bytes) -> bytes:
    digest = hashlib.blake2b(f"{name}\0{len(parts)}\0".encode(errors="surrogatepass"), digest_size=8)
    for part in parts:
        digest.update(part)
    return digest.digest()
