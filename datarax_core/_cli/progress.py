"""What a command that takes long shows meanwhile, and how it is interrupted."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

INTERRUPTED: Final = 130
"""The exit code of a command that was interrupted."""

Show = Callable[[int, str], None]
"""Takes how much is done, and how fast that goes in words."""


@contextmanager
def progress(total: int | None, unit: str) -> Iterator[Show]:
    """A bar on stderr while the block runs, where that is a terminal; yields what brings it up to date.

    Args:
        total: How much there is to do; None if nobody can say.
        unit: What of.
    """
    from rich.console import Console  # noqa: PLC0415 - listing needs none of it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = BarColumn(), MofNCompleteColumn(), TextColumn(unit + ", {task.fields[speed]}", markup=False)
    display = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = display.add_task("", total=total, speed="")
    with display:
        yield lambda completed, speed: display.update(task, completed=completed, speed=speed)


@contextmanager
def interrupts() -> Iterator[Callable[[], None]]:
    """Yields what raises an interrupt that was lost: the interpreter drops those that arrive in a destructor or callback.

    It complains of them, with a traceback, which nobody needs who is told of the interrupt.
    """
    before, interrupted, complain = signal.getsignal(signal.SIGINT), threading.Event(), sys.unraisablehook

    def complain_of_others(dropped: "sys.UnraisableHookArgs") -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            complain(dropped)

    def note(number: int, frame: Any) -> None:
        interrupted.set()
        signal.default_int_handler(number, frame)

    def raise_lost() -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt

    if before is not signal.default_int_handler:  # ignored, as under nohup, or somebody else's
        yield raise_lost
        return
    signal.signal(signal.SIGINT, note)
    sys.unraisablehook = complain_of_others
    try:
        yield raise_lost
    finally:
        sys.unraisablehook = complain
        signal.signal(signal.SIGINT, before)
