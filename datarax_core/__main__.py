"""The ``drx`` command, also as ``python -m datarax_core``."""

import atexit
import os
import sys
from contextlib import suppress


def main() -> None:
    """Run the command line."""
    # A damaged distribution would stop pydantic's search for plugins of its own; commands need none, nor do their children.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    try:
        from ._cli.app import app  # noqa: PLC0415 - an interrupt during this import ends the command, too

        app(prog_name="drx")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        atexit.register(_end_output)  # the last to be registered, and so the first to be called


def _end_output() -> None:
    """Send what plugins print at the end of the process to stderr: stdout has what the command printed, and may be JSON."""
    with suppress(OSError, ValueError):  # closed, or its reader has ended
        if sys.stdout is not None and sys.stderr is not None:
            sys.stdout.flush()
            sys.stdout = sys.stderr
            os.dup2(2, 1)


if __name__ == "__main__":
    main()
