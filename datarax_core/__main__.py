"""The ``drx`` command, also as ``python -m datarax_core``."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from ._cli.app import app  # noqa: PLC0415 - an interrupt during this import ends the command, too

        app(prog_name="drx")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
