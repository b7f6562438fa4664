"""Options behind ``--`` that a command passes on to another program."""

from typing import Any, Final

import typer
from typer.core import TyperCommand

_KEY: Final = "datarax.passed_on"


class PassesOn(TyperCommand):
    """Command that takes no arguments behind ``--``; `passed_on` returns them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what stands before ``--``, and keep the rest."""
        if "--" in args:
            place = args.index("--")
            args, ctx.meta[_KEY] = args[:place], args[place + 1 :]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line."""
        return [*super().collect_usage_pieces(ctx), "[-- OPTIONS OF THE INSTALLER]"]


def passed_on(ctx: typer.Context) -> list[str]:
    """Return the arguments behind ``--``."""
    options: list[str] = ctx.meta.get(_KEY, [])
    return options
