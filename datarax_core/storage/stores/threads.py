"""Pools of threads that wait for disks, mounts and stores without an event loop, for the whole process."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal

from datarax_core.background import leave_to_parent, renew_in_forks

_MOST: Final = 32
"""Threads of a pool: they wait, and compute nothing."""

Kind = Literal["files", "objects", "requests"]
"""What a pool waits for: reads of local files; objects, each with its cache; requests of stores without an event loop.

Threads of "objects" wait for the two others, which wait for none.
"""


class _Pools:
    """The pools of this process; a fork makes its own, since it has none of the parent's threads."""

    def __init__(self) -> None:
        self.executors: dict[Kind, ThreadPoolExecutor] = {}
        self.lock = threading.Lock()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Leave the threads to the parent."""
        leave_to_parent(self.executors)
        self.executors, self.lock = {}, threading.Lock()


_pools: Final = _Pools()


def pool(kind: Kind) -> ThreadPoolExecutor:
    """Return a pool; its threads are started as they are needed, and end with the process."""
    if (found := _pools.executors.get(kind)) is not None:
        return found
    with _pools.lock:
        if kind not in _pools.executors:
            _pools.executors[kind] = ThreadPoolExecutor(_MOST, f"datarax-{kind}")
        return _pools.executors[kind]
