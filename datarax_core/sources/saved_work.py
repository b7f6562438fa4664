"""Results that a source keeps so that no work is done twice, and its locks."""

import os
import threading
from typing import Any, Literal, Self

from datarax_core.background import renew_in_forks
from datarax_core.devices.placement import PlacedOnce
from datarax_core.modules.host_state import HostState
from datarax_core.order.order import Order
from datarax_core.records.spec import ElementSpec

from .columns import RecordCache


class SavedWork(HostState):
    """Results that a source keeps so that no work is done twice, which no twin shares, and its locks.

    Twins share ``reading``, the lock of reads that one thread makes at a time, since they share the data that is read.
    """

    def __init__(self) -> None:
        self.cache: RecordCache | None = None
        self.spec: ElementSpec | None = None
        self.access: Literal["device", "host", "stream"] | None = None
        self.order: Order | None = None
        self.is_deciding = False
        self.placed = PlacedOnce()
        self.data_entries: dict[str, Any] | None = None
        self.process = os.getpid()
        self.renew_in_fork()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Make the locks anew: in a fork, another thread of the parent may have held them."""
        self.callback = threading.Lock()
        self.making = threading.Lock()
        self.reading = threading.RLock()

    def renewed(self) -> Self:
        """Return the state for a clone of the source."""
        twin = type(self)()
        twin.reading = self.reading
        return twin
