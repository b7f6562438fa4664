"""Promises about the plugin: found without being imported, and imported at no great cost."""

import functools
import json
import os
import subprocess
import sys
from typing import Any, Final

from ._subject import Subject
from ._verdict import broken, not_claimed, require

_HEAVY: Final = ("tensorflow", "torch", "tensorflow_datasets")

_REPORT: Final = """
import json, sys
from datarax_core.registry.sources import SourceRegistry
name = sys.argv[1]
registry = SourceRegistry.from_environment()
found = [info for info in registry.describe() if info.name == name]
listed = sorted(sys.modules)
registry.get(name)
facts = [[info.status, info.target, info.detail] for info in found]
print("\\n" + json.dumps({"facts": facts, "listed": listed, "imported": sorted(sys.modules)}))
"""


class ListingPromises:
    """The plugin in a process of its own, as `drx sources` sees it."""

    def test_listing_does_not_import_it(self, subject: Subject) -> None:
        """What is installed is listed from metadata alone, ready to be used."""
        report = _report(subject)
        ((status, target, detail),) = report["facts"]
        require(
            status == "ready",
            f"source {subject.config.type!r} is listed as {status}: {detail}. Mend that, and reinstall it",
        )
        package = target.partition(":")[0].partition(".")[0]
        require(
            package not in report["listed"],
            f"listing source {subject.config.type!r} is promised to import nothing of it, but it imported {package!r}; take "
            "what does so (a .pth file, sitecustomize, a pytest or hook plugin) out of your distribution",
        )

    def test_importing_it_is_light(self, subject: Subject) -> None:
        """Importing the plugin leaves heavy modules to whoever reads records."""
        heavy = (*_HEAVY, *subject.author.heavy_modules)
        found = sorted(set(heavy) & set(_report(subject)["imported"]))
        require(
            not found,
            f"importing source {subject.config.type!r} imports {', '.join(found)}, which everybody pays for who names it in "
            "a config; import it in the function that needs it",
        )


def _report(subject: Subject) -> dict[str, Any]:
    """What a process sees that lists the plugins, and then imports this one."""
    name = subject.config.type
    info = next((info for info in subject.author.registry.describe() if info.name == name), None)
    if info is None or not info.version:
        not_claimed(f"source {name!r} is registered by hand, and not installed")
    return _seen_by_a_process(name)


@functools.cache
def _seen_by_a_process(name: str) -> dict[str, Any]:
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", _REPORT, name],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    if done.returncode:
        broken(f"source {name!r} cannot be imported in a process of its own:\n{done.stderr.strip()}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report
