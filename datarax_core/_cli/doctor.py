"""Trial imports of plugins, each distribution in a process of its own, which ends whatever the plugin does."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from time import monotonic
from typing import Any, Final

from datarax_core.extensions.catalog import DISABLE_VARIABLE, disabled_words
from datarax_core.extensions.places import given_places

from . import probe
from .findings import PLACE, Finding

HEAVY: Final = frozenset(
    {"datasets", "flax", "grain", "jax", "keras", "pandas", "pyarrow", "tensorflow", "tensorflow_datasets", "torch"}
)
"""Packages that are reported however quickly they were imported."""

_SLOW: Final = 0.1  # seconds from which on the import of any package is reported
_IMPORTED: Final = re.compile(r"import time: +\d+ \| +(\d+) \| *(\w+)$", re.MULTILINE)
_CRASH: Final = "Fatal Python error"  # the beginning of the report that faulthandler prints
_LAST_LINES: Final = 3  # lines reported of the output that a plugin printed before it ended the process
_STATUS: Final = {"PluginContractError": "contract", "PluginIncompatibleError": "unmet", "PluginLoadError": "broken"}


def examined(
    plugins: Iterable[Finding], *, timeout: float, processes: int, note: Callable[[int], None]
) -> list[Finding]:
    """Import the plugins and return the findings, in the order of ``plugins``.

    One process imports the plugins of one distribution. If a plugin hangs or ends its process, another one imports the rest.

    Args:
        plugins: Plugins, sorted by distribution.
        timeout: Seconds that a process may take.
        processes: Number of processes that may run at once.
        note: Called every now and then with the number of plugins done.
    """
    plugins = list(plugins)
    found: dict[str, Finding] = {plugin.label + plugin.distribution: plugin for plugin in plugins}
    groups = groupby(filter(lambda plugin: plugin.may_import, plugins), key=lambda plugin: plugin.distribution)
    waiting, running = deque(sorted(group, key=_needs_jax) for _, group in groups), deque[_Process]()
    done = len(plugins) - sum(map(len, waiting))
    try:
        while waiting or running:
            note(done)
            while waiting and len(running) < processes:
                running.append(_Process(waiting.popleft(), timeout))
            results, left = running[0].wait()
            running.popleft()
            done += len(results)
            found |= {result.label + result.distribution: result for result in results}
            if left:
                waiting.appendleft(left)
    finally:
        for unfinished in running:
            unfinished.end()
    return list(found.values())


def without_stopping_places(timeout: float) -> dict[str, Finding]:
    """Switch off named files and modules that would hang or end this process too; return the findings about them, by place.

    Each is imported in a process of its own, for at most ``timeout`` seconds.
    """
    trials = [
        Finding(kind=PLACE, name=place.word, distribution=place.word, version="", target="", place=str(place))
        for place in given_places()
    ]
    found = examined(trials, timeout=timeout, processes=1, note=lambda _done: None)
    stopped = {finding.place: finding for finding in found if finding.status in ("hung", "died")}
    os.environ[DISABLE_VARIABLE] = ",".join([*disabled_words(), *(finding.name for finding in stopped.values())])
    return stopped


def _needs_jax(plugin: Finding) -> bool:
    """Return whether plugins of this kind need JAX; the others are imported first, so that an import of JAX by them shows."""
    return plugin.kind in probe.NEED_JAX


class _Process:
    """Process that imports the plugins of a distribution. Its output goes to files: its children could hold pipes open."""

    def __init__(self, plugins: list[Finding], timeout: float) -> None:
        self._plugins = plugins
        self._timeout = timeout
        self._folder = tempfile.TemporaryDirectory(prefix="drx-check-")
        self._results, self._printed = Path(self._folder.name, "results"), Path(self._folder.name, "printed")
        options = "-P", "-X", "importtime", "-X", "faulthandler", "-m", probe.__name__
        with self._printed.open("wb") as printed:
            self._child = subprocess.Popen(  # noqa: S603 - this interpreter, on a module of ours
                [sys.executable, *options, str(self._results), *(plugin.label for plugin in plugins)],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                start_new_session=True,
            )
        self._until = monotonic() + timeout

    def wait(self) -> tuple[list[Finding], list[Finding]]:
        """Wait for the process, and return its findings and the plugins that it did not reach."""
        try:
            status, ending = "died", ended(self._child.wait(max(0.0, self._until - monotonic())))
        except subprocess.TimeoutExpired:
            status, ending = "hung", f"did not end within {self._timeout:g} s and was stopped"
        try:
            return self._read(status, ending)
        finally:
            self.end()

    def end(self) -> None:
        """Stop the process and all processes that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        self._folder.cleanup()

    def _read(self, status: str, ending: str) -> tuple[list[Finding], list[Finding]]:
        lines = self._results.read_text().splitlines() if self._results.exists() else []
        results = {result["label"]: result for result in map(_parsed, lines) if result}
        printed = self._printed.read_text(errors="replace")
        parts = printed.split(f"\n{probe.MARK}\n")
        found, left = [], []
        for number, plugin in enumerate(self._plugins):
            result = results.get(plugin.label)
            if result is None and (number or results):
                left.append(plugin)
            elif result is None or "seconds" not in result:
                what = f"{ending}{_place(printed, plugin.package)}{_last_words(parts[-1])}"
                problem = f"the import of {plugin.title} {what}; {_remedy(plugin, status)}"
                found.append(replace(plugin, status=status, problem=problem))
            else:
                found.append(_with_result(plugin, result, parts[2 * number + 1] if len(parts) > 2 * number + 1 else ""))
        return found, left


def ended(code: int) -> str:
    """Return how a process ended, by its exit code, which is negative for a signal."""
    if code >= 0:
        return f"ended the interpreter with exit code {code}"
    return f"crashed the interpreter ({signal.Signals(-code).name})"


def _remedy(plugin: Finding, status: str) -> str:
    if status == "hung":
        return f"if it is only slow, give it longer by --timeout, else this is a fault of {plugin.distribution}"
    return f"this is a fault of {plugin.distribution} or of its installation"


def _parsed(line: str) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(line)
    except ValueError:  # the process was ended while it wrote the line
        return {}
    return result


def _place(printed: str, package: str) -> str:
    """Return the place in ``package`` where the interpreter crashed, by faulthandler's report; empty if it names none."""
    _, crashed, stack = printed.partition(_CRASH)
    frame = re.search(rf'File "[^"]*\b({re.escape(package)}\b[^"]*)", line (\d+)', stack)
    return f" in {frame[1]}, line {frame[2]}" if crashed and frame else ""


def _last_words(printed: str) -> str:
    printed = printed.partition(_CRASH)[0]
    lines = [line.strip() for line in printed.splitlines() if line.strip() and not line.startswith("import time:")]
    return f", after it printed {' / '.join(lines[-_LAST_LINES:])!r}" if lines else ""


def _with_result(plugin: Finding, result: dict[str, Any], printed: str) -> Finding:
    microseconds = {name: int(spent) for spent, name in _IMPORTED.findall(printed) if name != plugin.package}
    imports = {name: spent / 1e6 for name, spent in microseconds.items() if spent / 1e6 >= _SLOW or name in HEAVY}
    slowest_first = dict(sorted(imports.items(), key=lambda item: -item[1]))
    timed = replace(plugin, seconds=result["seconds"], imports=slowest_first)
    if "error" not in result:
        return replace(timed, status="ok" if plugin.status == "ready" else plugin.status)
    error, text = result["error"], result["text"]
    problem = text if error in _STATUS else f"{plugin.title} raised {error}: {text}; {_remedy(plugin, 'broken')}"
    return replace(timed, status=_STATUS.get(error, "broken"), problem=problem)
