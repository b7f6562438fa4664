"""Progress bars of commands, and interrupts that are not lost."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

INTERRUPTED: Final = 130
"""Exit code of a command that was interrupted."""

Show = Callable[[int, str], None]
"""Function that takes the number of units done and the speed as text."""


@contextmanager
def progress(total: int | None, unit: str) -> Iterator[Show]:
    """Show a progress bar on stderr during the block, if stderr is a terminal; yield the function that updates it.

    Args:
        total: Number of units to do; None if it is unknown.
        unit: Name of a unit.
    """
    from rich.console import Console  # noqa: PLC0415 - listing does not need it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    console = Console(stderr=True)
    if not console.is_terminal:  # before rich 14, a disabled bar prints a blank line at its end
        yield lambda _completed, _speed: None
        return
    columns = BarColumn(), MofNCompleteColumn(), TextColumn(unit + ", {task.fields[speed]}", markup=False)
    display = Progress(*columns, console=console, transient=True)
    task = display.add_task("", total=total, speed="")
    with display:
        yield lambda completed, speed: display.update(task, completed=completed, speed=speed)


@contextmanager
def interrupts() -> Iterator[Callable[[], None]]:
    """Yield a function that raises KeyboardInterrupt if an interrupt came and was lost.

    The interpreter drops an interrupt that arrives in a destructor or callback, and prints a traceback; that traceback is
    suppressed during the block, since the interrupt is reported by the command.
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

    if before is not signal.default_int_handler:  # SIGINT is ignored, as under nohup, or handled by the caller
        yield raise_lost
        return
    signal.signal(signal.SIGINT, note)
    sys.unraisablehook = complain_of_others
    try:
        yield raise_lost
    finally:
        sys.unraisablehook = complain
        signal.signal(signal.SIGINT, before)
