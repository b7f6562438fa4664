"""``drx check``: trial imports of the installed plugins, and advice."""

import os
import platform
import warnings
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from datarax_core._cli.completion import config_and_data_files, plugin_names
from datarax_core._cli.doctor import examined, without_stopping_places
from datarax_core._cli.findings import PLACE, Finding, installed_plugins, without_unknown_words
from datarax_core._cli.guessing.choice import opened
from datarax_core._cli.listing import print_table
from datarax_core._cli.options import Debug, Json, finite
from datarax_core._cli.output import say, say_json
from datarax_core._cli.progress import progress
from datarax_core._cli.traps import Advice, advice
from datarax_core._cli.trials.kits import Tried, require_kits, tried
from datarax_core.background import usable_cores
from datarax_core.config.files import SUFFIXES
from datarax_core.errors import ConfigError, PluginNotFoundError
from datarax_core.extensions.catalog import Catalog, EntryPointGroup
from datarax_core.extensions.damage import damages
from datarax_core.extensions.discovery import GROUPS
from datarax_core.extensions.known import homes
from datarax_core.extensions.loading import STRICT_VARIABLE


def check(
    name: Annotated[
        str | None,
        typer.Argument(help="A plugin or a distribution; everything if left out.", autocompletion=plugin_names),
    ] = None,
    *,
    timeout: Annotated[
        float, typer.Option(min=0.1, callback=finite, metavar="SECONDS", help="How long an import may take.")
    ] = 60,
    run: Annotated[
        bool, typer.Option("--run", help="Run the quick tests of the conformance kit on the plugin, too.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="For --run: a config that uses the plugin, or a file that the source opens.",
            autocompletion=config_and_data_files,
        ),
    ] = None,
    as_json: Json = False,
    _debug: Debug = False,
) -> None:
    """Import all installed plugins, report problems with their remedies, and fail if there are any.

    Each distribution is imported in a process of its own: a plugin that hangs, exits or crashes ends that process alone. The
    report also has the time of each import beyond core's own imports, the packages that took most of it, and known
    problems of environments like this one. With --run, the quick tests of the kit for its kind are run on the plugin NAME, in
    a process of its own: on the source, stage or decoder of --config, or on one of the defaults. --timeout is for each test.
    """
    _require_for_run(name, config, run=run)
    os.environ.pop(STRICT_VARIABLE, None)  # it would end the command at the first problem; all are reported
    stopped = without_stopping_places(timeout)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        misspelt = without_unknown_words()
        plugins = [stopped.get(plugin.place, plugin) for plugin in installed_plugins()]
    told = {plugin.problem for plugin in plugins if plugin.kind == PLACE}
    texts = {str(warning.message) for warning in caught}
    damaged = sorted(text for text in texts if not any(text.startswith(problem) for problem in told))
    damaged += damages(metadata.distributions())
    chosen = plugins if name is None else _named(name, plugins)
    processes = max(1, usable_cores() // 2)  # on fewer cores the processes would slow, and time, one another
    with progress(len(chosen), "plugins") as show:
        found = examined(chosen, timeout=timeout, processes=processes, note=lambda done: show(done, ""))
    tests = [tried(one, _given(config, one), timeout=timeout) for one in found if one.status == "ok"] if run else []
    traps = [Advice(trap="disabled", text=text, is_problem=True) for text in misspelt]
    traps += [Advice(trap="metadata", text=text, is_problem=True) for text in damaged] + advice(found)
    problems = list(dict.fromkeys(one.problem for one in found if one.is_problem))
    problems += [one.text for one in traps if one.is_problem]
    problems += [problem for one in tests for problem in one.problems()]
    if as_json:
        as_dicts = [{**asdict(finding), "is_problem": finding.is_problem} for finding in found]
        kits = {"run": [one.as_dict() for one in tests]} if run else {}
        listed = {"plugins": as_dicts, "advice": list(map(asdict, traps)), "problems": problems}
        say_json({"versions": _versions(), **listed, **kits})
    else:
        _print(found, traps, problems, tests)
    if problems:
        raise typer.Exit(1)


def _require_for_run(name: str | None, config: Path | None, *, run: bool) -> None:
    """Raise if the options of a quick run do not fit one another, or if the kits cannot run.

    Raises:
        ConfigError: ``--run`` without a plugin, ``--config`` without ``--run``, or a config that is not there.
        DataraxError: The extra for testing is not installed.
    """
    if config is not None and not run:
        raise ConfigError("--config is for --run, which tests a plugin by its kit; write both")
    if not run:
        return
    if name is None:
        raise ConfigError("--run tests one plugin; name it: drx check NAME --run")
    if config is not None and not config.exists():
        raise ConfigError(f"{config}: no such file; a config that uses {name!r}, or a file that it opens, is wanted")
    require_kits()


def _given(config: Path | None, plugin: Finding) -> str | dict[str, Any] | None:
    """Return what a kit takes of ``--config``: the path of a config, or the config that opens a data file."""
    if config is None or config.suffix.lower() in SUFFIXES:
        return None if config is None else str(config)
    return opened(config, plugin.name).mapping


def _named(name: str, plugins: list[Finding]) -> list[Finding]:
    chosen = [plugin for plugin in plugins if name in (plugin.name, plugin.distribution)]
    chosen = chosen or [
        plugin for plugin in plugins if plugin.place and Path(plugin.distribution).absolute() == Path(name).absolute()
    ]
    if not chosen:
        _require_plugin_of(name)
        names = sorted({plugin.name for plugin in plugins})
        raise Catalog(EntryPointGroup(name="", noun="plugin", example="", first_party=homes())).unknown(name, names)
    return chosen


def _require_plugin_of(name: str) -> None:
    """Raise if ``name`` is an installed distribution, in which no plugin was found.

    Raises:
        PluginNotFoundError: Says why, as far as its metadata tell it.
    """
    try:
        found = metadata.distribution(name)
        damaged = damages([found])
    except (metadata.PackageNotFoundError, ValueError):  # no name of a distribution, or nothing of it can be read
        return
    why = "; ".join(damaged) or f"it has no entry point in {', '.join(GROUPS)}"
    raise PluginNotFoundError(
        "plugin",
        name,
        f"{name} {found.version} is installed, and has no plugin: {why}; correct its pyproject.toml, and install it again",
    )


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in "datarax-core", "jax", "flax", "numpy":
        with suppress(metadata.PackageNotFoundError):  # a missing requirement is reported as a problem
            versions[name] = metadata.version(name)
    return versions


def _print(found: list[Finding], traps: list[Advice], problems: list[str], tests: list[Tried]) -> None:
    say(", ".join(f"{name} {version}" for name, version in _versions().items()) + "\n")
    if found:
        print_table(["distribution", "version", "kind", "name", "status", "import", "of which"], list(map(_row, found)))
    for one in tests:
        if one.kept or one.broken:
            say(f"\n{one}")
    disabled = [f"off: {finding.problem}" for finding in found if finding.status == "disabled"]
    others = [f"advice: {one.text}" for one in traps if not one.is_problem]
    for line in [*(f"problem: {problem}" for problem in problems), *disabled, *others]:
        say(f"\n{line}")
    counted = f"{len(found)} plugin{'' if len(found) == 1 else 's'}"
    say(f"\n{counted}, {len(problems) or 'no'} problem{'' if len(problems) == 1 else 's'}")


def _row(finding: Finding) -> tuple[str, ...]:
    seconds = "" if finding.seconds is None else f"{finding.seconds:.2f} s"
    imports = ", ".join(f"{name} {spent:.2f} s" for name, spent in finding.imports.items())
    place = finding.distribution, finding.version, finding.kind, finding.name
    return (*place, finding.status, seconds, imports)
