"""Plans that are made when they are first asked for, shared by the twins of a view, and their checksums."""

import hashlib
import threading
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import numpy as np

from datarax_core.background import renew_in_forks

PlanT = TypeVar("PlanT")

_HASHED: Final = 1 << 16
"""Numbers that are converted to bytes at once."""


class PlanOnce(Generic[PlanT]):
    """The plan of a view, made when it is first asked for. Twins of the view share it, and its pickles hold it."""

    def __init__(self, planned: PlanT | None = None) -> None:
        self._planned = planned
        self.renew_in_fork()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Make the lock anew: in a fork, another thread of the parent may have held it."""
        self._making = threading.Lock()

    def get(self, make: Callable[[], PlanT]) -> PlanT:
        """Return the plan; the first call makes it, while other threads wait."""
        if self._planned is None:
            with self._making:
                if self._planned is None:
                    self._planned = make()
        return self._planned

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._planned,)


def checksum_of(numbers: np.ndarray, dtype: str = "<i8") -> str:
    """Return the checksum of what a plan is made of, int (n,), as 16 hexadecimal digits; ``dtype`` is that of the bytes."""
    digest = hashlib.blake2b(digest_size=8)
    for start in range(0, len(numbers), _HASHED):
        digest.update(numbers[start : start + _HASHED].astype(dtype).tobytes())
    return digest.hexdigest()
