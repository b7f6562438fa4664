"""The installer of this environment, pip or uv: its commands, and how a refusal is mended."""

import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from datarax_core.errors import DataraxError

_BREAKS: Final = "--break-system-packages"


@dataclass(frozen=True, slots=True)
class Installer:
    """An installer of packages into the environment of this interpreter: the words before its options.

    ``target`` are the options that name the environment, and ``unasked`` those with which it asks no question.
    """

    program: tuple[str, ...]
    target: tuple[str, ...] = ()
    unasked: tuple[str, ...] = ()

    def install(self, arguments: Sequence[str], options: Sequence[str] = ()) -> list[str]:
        """Return the command that installs ``arguments``; ``options`` are passed on as they are."""
        return [*self.program, "install", *self.target, *arguments, *options]

    def uninstall(self, distributions: Sequence[str], options: Sequence[str] = ()) -> list[str]:
        """Return the command that uninstalls distributions, without a question of its own."""
        return [*self.program, "uninstall", *self.target, *self.unasked, *distributions, *options]


def installer() -> Installer:
    """Return pip if this environment has it, else uv if there is one.

    Raises:
        DataraxError: There is neither.
    """
    if find_spec("pip") is not None:
        return Installer((sys.executable, "-m", "pip"), unasked=("--yes",))
    uv = shutil.which("uv")
    if uv is not None:
        return Installer((uv, "pip"), ("--python", sys.executable))
    raise DataraxError(
        f"there is no installer: the environment of {sys.executable} has no pip, and no uv is on the PATH; install pip by "
        f"{shlex.join([sys.executable, '-m', 'ensurepip'])}, or install uv, or install with the tool that made the environment"
    )


def shown(command: Sequence[str]) -> str:
    """Return a command as a shell takes it."""
    return shlex.join(command)


def ran(command: Sequence[str], complain: Callable[[str], None]) -> int:
    """Run a command of an installer, and return its exit code. If it fails in a managed environment, say what to do."""
    try:
        code = subprocess.run(command, check=False).returncode  # noqa: S603 - printed before, and chosen by the user
    except OSError as cause:
        raise DataraxError(f"{shown(command)} cannot be run: {cause.strerror}") from cause
    if code and is_managed() and _BREAKS not in command:
        complain(
            f"this Python ({sys.prefix}) is managed by the system, which refuses other installers; make an environment of "
            "your own: python3 -m venv .venv && .venv/bin/pip install datarax-core, and use .venv/bin/drx"
        )
    return code if code >= 0 else 128 - code


def is_managed() -> bool:
    """Return whether the system manages this environment (PEP 668), so that installers refuse to change it."""
    is_virtual = sys.prefix != sys.base_prefix
    return not is_virtual and Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").is_file()
