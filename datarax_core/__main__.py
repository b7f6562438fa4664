"""The ``drx`` command, also as ``python -m datarax_core``."""

import os
import sys


def main() -> None:
    """Run the command line."""
    # A damaged distribution would stop pydantic's search for plugins of its own; commands need none, nor do their children.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    try:
        from ._cli.app import app  # noqa: PLC0415 - an interrupt during this import ends the command, too

        app(prog_name="drx")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
