"""Run all tests with the oldest versions that the pyproject files allow. Run: ``make test-lowest``.

Makes a fresh environment in the folder named by the first argument; further arguments go to pytest.
"""

import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from typing import Any

from pip._vendor.packaging.requirements import Requirement  # every environment that runs this has pip
from pip._vendor.packaging.version import Version

ROOT = Path(__file__).parents[1]


def floors() -> list[str]:
    """Return every requirement of the tree at its oldest version, such as ``jax==0.8.0``; the newest where several differ.

    Extras are kept: ``moto[server]==5.1``.
    """
    oldest: dict[str, Version] = {}
    extras: dict[str, set[str]] = {}
    for file in [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]:
        metadata = tomllib.loads(file.read_text(encoding="utf-8"))
        groups: dict[str, list[Any]] = metadata.get("dependency-groups", {})
        wanted = [*metadata["project"]["dependencies"], *groups.get("demo", []), *groups.get("test", [])]
        for requirement in map(Requirement, filter(lambda entry: isinstance(entry, str), wanted)):
            if not requirement.name.startswith("datarax-"):
                lowest = min(Version(s.version) for s in requirement.specifier if s.operator == ">=")
                oldest[requirement.name] = max(lowest, oldest.get(requirement.name, lowest))
                extras.setdefault(requirement.name, set()).update(requirement.extras)
    with_extras = {name: f"{name}[{','.join(sorted(chosen))}]" if chosen else name for name, chosen in extras.items()}
    return [f"{with_extras[name]}=={version}" for name, version in sorted(oldest.items())]


def main(folder: str, *pytest_arguments: str) -> int:
    """Install the oldest versions, print them, and run the tests."""
    venv.create(folder, with_pip=True, clear=True)
    python = Path(folder, "bin", "python")
    pins = floors()
    plugins = [part for plugin in sorted(ROOT.glob("plugins/*")) for part in ("-e", str(plugin))]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *pins, "-e", str(ROOT), *plugins], check=True)  # noqa: S603
    print("tested with", ", ".join(pins), flush=True)  # noqa: T201 - a command's output
    return subprocess.run([python, "-m", "pytest", str(ROOT / "tests"), *pytest_arguments], check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
