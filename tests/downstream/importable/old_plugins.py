"""Plugins that were written against an earlier release, and are never touched again: built, installed, and tested.

Run: ``python tests/downstream/importable/old_plugins.py [COMMIT]``. With a commit of this repository, core is built from that,
and otherwise from the tree.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tests/integration/importable"))  # this is run as a script, too

from distributions import Built, Project, build  # noqa: E402
from environments import environment  # noqa: E402
from packaging.requirements import Requirement  # noqa: E402

PLUGINS = {path.name: path for path in sorted((ROOT / "tests/downstream/plugins").iterdir()) if path.is_dir()}

RUN = {"acme_grid": [], "acme_parquet": ["--deselect", "tests/test_conformance.py"], "acme_sensors": []}
"""Arguments of pytest for each plugin. The kit is run with one of them: it takes a quarter of a minute."""


def install(folder: Path, core: Built) -> None:
    """Install the plugins beside a core in ``folder/env``. Copies of them, in ``folder``, are where their tests run."""
    for name, path in PLUGINS.items():
        shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    plugins = build([Project(path) for path in PLUGINS.values()], folder).values()
    tests = [Requirement("pytest"), Requirement("datarax-core[testing]")]
    environment(folder / "env", [core.wheel, *(plugin.wheel for plugin in plugins)], also=tests)


def run_tests_of(plugin: str, folder: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run the tests of a plugin as its author would, in the environment in ``folder``; deprecated names are no errors."""
    command = [
        folder / "env/bin/python",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore::DeprecationWarning",
    ]
    hidden = {"PYTHONPATH", "DATARAX_DISABLE_PLUGINS", "DATARAX_PLUGINS", "PYTEST_ADDOPTS"}
    env = {**{name: os.environ[name] for name in os.environ.keys() - hidden}, "JAX_PLATFORMS": "cpu"}
    env |= {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(  # noqa: S603 - our own command
        [*command, *arguments], cwd=folder / plugin, env=env, capture_output=True, text=True, check=False, timeout=300
    )


def main(commit: str | None = None) -> int:
    """Run the tests of all plugins, with core from a commit or from the tree."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tree = ROOT
        if commit is not None:
            tree = folder / "core"
            tree.mkdir()
            packed = folder / "core.tar"
            subprocess.run(["git", "archive", "-o", packed, commit], cwd=ROOT, check=True)  # noqa: S603, S607 - git
            subprocess.run(["tar", "-xf", packed, "-C", tree], check=True)  # noqa: S603, S607 - what git wrote
        install(folder, build([Project(tree)], folder)["datarax-core"])
        failed = 0
        for plugin in PLUGINS:
            ran = run_tests_of(plugin, folder, [])
            failed |= ran.returncode
            sys.stdout.write(f"{plugin}: {(ran.stdout.splitlines() or [ran.stderr])[-1]}\n")
            if ran.returncode:
                sys.stdout.write(ran.stdout)
        return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
