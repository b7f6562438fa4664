"""Fresh environments with wheels of this tree and their declared requirements, linked from the running environment.

A requirement that the metadata of a wheel forgets is missing there. Nothing is downloaded.
"""

import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterable, Sequence
from importlib import metadata
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def environment(folder: Path, wheels: Sequence[Path], also: Iterable[Requirement] = ()) -> Path:
    """Create an environment with these wheels and their requirements, and return the folder of its commands.

    Args:
        folder: Folder of the environment.
        wheels: Wheels to install.
        also: Requirements besides those of the wheels; extras of the wheels may be among them.
    """
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/*/site-packages")
    requires = {name_of(wheel): requirements_of(said_by(wheel)) for wheel in wheels}
    wanted = _needs(chain(also, *requires.values()), "")
    for name, extra in [(name, extra) for name, extra in wanted if name in requires and extra]:
        wanted |= _needs(requires[name], extra)
    _link({pair for pair in wanted if pair[0] not in requires}, site, seen={(name, "") for name in requires})
    pip("--python", folder / "bin/python", "install", "--no-deps", "--no-index", *wheels)
    return folder / "bin"


def name_of(wheel: Path) -> str:
    """Return the name of a wheel's distribution."""
    return canonicalize_name(wheel.name.partition("-")[0])


def said_by(wheel: Path) -> metadata.Distribution:
    """Return the metadata of a wheel."""
    stem = "-".join(wheel.name.split("-")[:2])
    return metadata.PathDistribution(zipfile.Path(wheel, f"{stem}.dist-info/"))


def requirements_of(distribution: metadata.Distribution) -> list[Requirement]:
    """Return the requirements of a distribution, extras included."""
    return list(map(Requirement, distribution.requires or ()))


def pip(*arguments: str | Path) -> str:
    """Run pip of the running environment, and return its output."""
    return run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments).stdout


def run(*command: str | Path, cwd: Path | None = None, exits: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command without this process' path and settings.

    Raises:
        AssertionError: It ends with another exit code than ``exits``; the message holds its output.
    """
    hidden = {"PYTHONPATH", "DATARAX_DISABLE_PLUGINS", "DATARAX_PLUGINS", "PYTEST_ADDOPTS"}
    env = {**{name: os.environ[name] for name in os.environ.keys() - hidden}, "JAX_PLATFORMS": "cpu"}
    ran = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=300)  # noqa: S603 - our own
    if ran.returncode != exits:
        printed = "\n".join(filter(None, (ran.stdout.strip(), ran.stderr.strip())))
        raise AssertionError(f"{' '.join(map(str, command))} exits with {ran.returncode}:\n{printed}")
    return ran


def _link(wanted: set[tuple[str, str]], folder: Path, *, seen: set[tuple[str, str]]) -> None:
    """Link the named distributions, each with an extra, and their requirements into ``folder``."""
    waiting = set(wanted)
    while waiting := waiting - seen:
        seen.add(pair := waiting.pop())
        found = metadata.distribution(pair[0])
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(str(found.locate_file(top)))
        waiting |= _needs(requirements_of(found), pair[1])


def _needs(requirements: Iterable[Requirement], extra: str) -> set[tuple[str, str]]:
    """Return the names that a distribution with an extra requires here, with their extras."""
    here = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": extra})]
    return {(canonicalize_name(r.name), wanted) for r in here for wanted in ("", *r.extras)}
