"""Threads at exit: the interpreter waits for what they still have to do."""

import subprocess
import sys

SCRIPT = """
import time
from datarax_core.background import Ahead

class SlowToFree:
    def __del__(self):  # as of a device array: other threads run meanwhile
        time.sleep(0.5)
        print("freed", flush=True)

ahead = Ahead(lambda item: SlowToFree(), name="test")
ahead.request(0)
while not ahead.is_ready:
    time.sleep(0.01)
del ahead
time.sleep(0.2)  # the thread has done its work, and frees the result that nobody took
"""


def test_a_thread_that_still_frees_what_it_held_is_waited_for() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True)  # noqa: S603 - our own script
    assert done.stdout == "freed\n"
