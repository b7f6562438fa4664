"""A function run in a fork of this process."""

import json
import os
import signal
import warnings
from collections.abc import Callable
from typing import Any


def in_fork(call: Callable[[], Any], seconds: int = 20) -> Any:
    """Return what ``call`` returns in a fork, as JSON, or the text of the error that it raises; a fork that hangs is killed.

    Raises:
        TimeoutError: The fork was killed after ``seconds``.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python and JAX, about forks
        child = os.fork()
    if not child:
        signal.alarm(seconds)
        try:
            said = json.dumps(call())
        except BaseException as error:  # noqa: BLE001 - the parent's test compares it
            said = json.dumps(f"{type(error).__name__}: {error}")
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    if not text:
        raise TimeoutError(f"the fork did not answer within {seconds} s")
    return json.loads(text)
