"""``drx schema``: the JSON Schema of configs, made in a child process, which a plugin may crash or stop."""

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from datarax_core._cli.doctor import ended, examined, without_stopping_places
from datarax_core._cli.findings import CONFIGURABLE, Finding, installed_plugins
from datarax_core._cli.options import Debug, finite
from datarax_core._cli.output import complain, say
from datarax_core.errors import DataraxError
from datarax_core.extensions.catalog import DISABLE_VARIABLE, disabled_words

Schema = tuple[dict[str, Any], list[str]]
"""The schema, and reasons why plugins are left out of it."""

_INTERVAL: Final = 0.01  # seconds between two looks at the child
_RAISED: Final = 3  # exit code of a child in which an error was raised


def schema(
    *,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write; printed if left out.")] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, callback=finite, metavar="SECONDS", help="How long the imports may take.")
    ] = 60,
    _debug: Debug = False,
) -> None:
    """Write the JSON Schema of configs, with all installed plugins, for completion in editors.

    A plugin that cannot be used, crashes or hangs is left out, with a message.
    """
    made, notes = _guarded_schema(timeout)
    text = json.dumps(made, indent=2)
    if out is None:
        say(text)
    else:
        out.write_text(f"{text}\n", encoding="utf-8")
        say(f"{out}: editors use it in YAML files that begin with\n\n# yaml-language-server: $schema={out}")
    for note in notes:
        complain(note)


def _guarded_schema(timeout: float) -> Schema:
    """Return the schema of everything that is installed; plugins that crash or hang are among the reasons.

    The child is a fork, which takes a millisecond, since nothing that starts threads is imported before. Only if it does not
    end well are the distributions imported one by one, to find out which plugin it was.

    Args:
        timeout: Seconds that all imports may take together, and then the imports of each distribution.

    Raises:
        DataraxError: The child ended though each distribution can be imported by itself.
    """
    if "jax" in sys.modules or not hasattr(
        os, "fork"
    ):  # threads that a fork would stop; the caller is a program of its own
        return _schema_here()
    made, ending = _in_child(timeout)
    if made is not None:
        return made
    nouns = {registry.group.noun for registry in CONFIGURABLE}
    stopped = list(without_stopping_places(timeout).values())
    plugins = [plugin for plugin in installed_plugins() if plugin.kind in nouns]
    found = examined(plugins, timeout=timeout, processes=1, note=lambda _done: None)
    culprits = [*stopped, *(finding for finding in found if finding.status in ("hung", "died"))]
    if not culprits:
        raise DataraxError(f"the process that imports all plugins {ending}; drx check imports them one by one")
    os.environ[DISABLE_VARIABLE] = ",".join([*disabled_words(), *(culprit.name for culprit in culprits)])
    made, ending = _in_child(timeout)
    if made is None:
        raise DataraxError(f"the process that imports all plugins {ending}, {_named(culprits)} left out")
    return made[0], [*(f"left out: {culprit.problem}" for culprit in culprits), *made[1]]


def _named(culprits: list[Finding]) -> str:
    return " and ".join(culprit.title for culprit in culprits)


def _schema_here() -> Schema:
    from datarax_core.registry.pipeline_config import pipeline_schema  # noqa: PLC0415 - imports pydantic, for the child only
    from datarax_core.registry.sources import default_registry  # noqa: PLC0415

    return pipeline_schema(default_registry())


def _in_child(timeout: float) -> tuple[Schema | None, str]:
    """Return (schema that a forked child made, or None, and then how the child ended).

    An error that is raised there is raised here, by making the schema in this process.
    """
    with tempfile.TemporaryDirectory(prefix="drx-schema-") as folder:
        file = Path(folder, "schema")
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if not child:
            _write_schema(file)
        code = _wait(child, timeout)
        if code == 0 and file.exists():
            schema, notes = json.loads(file.read_text(encoding="utf-8"))
            return (schema, notes), ""
    if code == _RAISED:
        return _schema_here(), ""
    return None, f"did not end within {timeout:g} s and was stopped" if code is None else ended(code)


def _write_schema(file: Path) -> None:
    """Write the schema to a file, and end this process, whatever a plugin does."""
    os.setsid()
    code = _RAISED
    try:
        file.write_text(json.dumps(_schema_here()), encoding="utf-8")
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int, timeout: float) -> int | None:
    """Return the exit code of the child, negative for a signal; None if it was stopped because it took too long."""
    until, has_ended = time.monotonic() + timeout, False
    try:
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if has_ended := bool(done):
                return os.waitstatus_to_exitcode(status)
            time.sleep(_INTERVAL)
    finally:  # also after an interruption, no child is left
        if not has_ended:
            _stop(child)
    return None


def _stop(child: int) -> None:
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:  # it has not made its group yet
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
