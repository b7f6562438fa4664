"""The ``drx`` command, also as ``python -m datarax_core``."""

from ._cli.app import app


def main() -> None:
    """Run the command line."""
    app(prog_name="drx")


if __name__ == "__main__":
    main()
