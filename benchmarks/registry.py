"""Cost of installed plugins that a process does not use, and of a nested config."""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from _measure import Row, cost, limited

DISTRIBUTIONS, RUNS = 150, 9
NEEDED = {"datarax-core": "0.1.0", "numpy": "2.4.0", "packaging": "26.0", "rich": "14.0"}
LISTING = """
import json, os, sys, time
from datarax_core.registry import SourceRegistry
from datarax_core.extensions import requirements  # imported when the first line is checked
sys.path[:] = [os.environ["PYTHONPATH"], *[path for path in sys.path if not path.endswith("site-packages")]]
began = time.process_time()
infos = SourceRegistry.from_environment().describe()
print(json.dumps([time.process_time() - began, len(infos)]))
"""


def rows() -> list[Row]:
    """Measure CPU seconds, which other processes disturb less, against limits: of listing, ``drx sources``, a nested config."""
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder), DISTRIBUTIONS)
        return [_listing(folder), _command(folder), *_process(), _config()]


def install(folder: Path, distributions: int) -> None:
    """Write so many distributions as pip installs them; their targets do not exist, so that importing one fails."""
    for name, version in NEEDED.items():
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n")
    for number in range(distributions - len(NEEDED)):
        info = folder / f"acme_{number}-1.0.dist-info"
        info.mkdir()
        lines = ["datarax-core", f"numpy>=1.{number}", "packaging", "rich", "pytest>=8; extra == 'test'"]
        requires = "\n".join(f"Requires-Dist: {line}" for line in lines)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-{number}\nVersion: 1.0\n{requires}\n\n")
        (info / "entry_points.txt").write_text(f"[datarax.sources]\nacme_{number} = acme_{number}:Source\n")


def listed_in(folder: str) -> int:
    """Return the number of sources that the distributions in a folder have, each with its status."""
    import packaging.requirements  # noqa: F401 - before it cannot be found

    from datarax_core.registry import SourceRegistry

    before = sys.path[:]
    sys.path[:] = [folder]
    try:
        return len(SourceRegistry.from_environment().describe())
    finally:
        sys.path[:] = before


def _environment(folder: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": folder}


def _listing(folder: str) -> Row:
    times = []
    for _ in range(RUNS):
        command = [sys.executable, "-c", LISTING]
        done = subprocess.run(command, env=_environment(folder), capture_output=True, check=True, text=True)  # noqa: S603
        took, found = json.loads(done.stdout)
        if found != DISTRIBUTIONS - len(NEEDED):
            raise AssertionError(f"{found} sources were found")
        times.append(took)
    return limited(times, 0.007, what=f"{DISTRIBUTIONS} distributions: describe(), imports not counted, of its limit")


def _command(folder: str) -> Row:
    command = [str(Path(sys.executable).with_name("drx")), "sources"]
    times = []
    for _ in range(RUNS):
        began = _seconds_of_children()
        subprocess.run(command, env=_environment(folder), capture_output=True, check=True)  # noqa: S603 - our own
        times.append(_seconds_of_children() - began)
    return limited(
        times, 0.5, what=f"{DISTRIBUTIONS} more than there are: drx sources, the whole process, of its limit"
    )


def _process() -> list[Row]:
    """Measure ``drx sources`` from its start to its end, against the imports that its command line cannot do without."""
    drx = [str(Path(sys.executable).with_name("drx")), "sources"]
    bare = [sys.executable, "-c", "import typer, pydantic.main"]  # typer needs pydantic for what an argument is

    def run(command: list[str]) -> Callable[[], object]:
        return lambda: subprocess.run(command, capture_output=True, check=True)  # noqa: S603 - our own

    return [
        cost(run(bare), run(drx), what="drx sources, whole process: python with typer and pydantic", target=2.5),
        limited(run(drx), 0.25, what="drx sources, whole process, of its limit"),
    ]


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _config() -> Row:
    from datarax_core.registry import parse_config

    leaf = {"type": "memory", "path": "digits.npz", "shuffle": True}
    mix = {"type": "mix", "weights": [0.7, 0.3], "sources": [leaf, leaf]}
    config = {"source": {"type": "mix", "weights": [1, 1], "sources": [mix, mix]}, "batch_size": 128}
    parse_config(config)  # imports the plugins
    return limited(lambda: parse_config(config), 0.001, what="a mix of two mixes, validated, of its limit", runs=101)
