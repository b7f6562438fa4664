"""Checks that the processes of one pipeline agree: on source, stages, rule and devices, and on a restored state."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from jax.sharding import NamedSharding

from datarax_core.devices.layout import Layout
from datarax_core.registry.stages import Stage
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.apply import stage_name
from datarax_core.stages.fields import StageWithHostFields

from .agreement import verdict

T = TypeVar("T")


def facts_to_agree_on(source: DataSourceModule, stages: Any, sharding: Any) -> dict[str, Any]:
    """Return facts for `require_agreement` that are in no state: processes must run equal programs on the same devices."""
    titles = [repr(stage) if isinstance(stage, Stage | StageWithHostFields) else stage_name(stage) for stage in stages]
    facts = {"stages": titles, "access": source.access}
    if not isinstance(sharding, NamedSharding):
        return facts
    devices = [device.id for device in sharding.mesh.devices.flat]
    return {**facts, "sharding": f"{sharding.spec} over {dict(sharding.mesh.shape)} of devices {devices}"}


def require_agreement(facts: dict[str, Any], layout: Layout) -> None:
    """Raise if facts differ between the processes of a pipeline. A collective operation of these processes.

    Raises:
        ValueError: Names each fact that differs, and its value on every process.
    """
    if layout.num_processes == 1:
        return
    texts = {name: json.dumps(fact, sort_keys=True, default=str) for name, fact in facts.items()}
    if differing := verdict(json.dumps(texts), layout.processes, _differing):
        raise ValueError(
            f"the processes of this pipeline do not agree: {differing}. Build it from the same config, data and "
            "seed, and restore it from the same state, on all of them"
        )


def require_on_all(check: Callable[[], dict[str, Any]], layout: Layout) -> None:
    """Run a check that returns facts for `require_agreement`; if it raises on one process, it raises on all.

    Raises:
        ValueError: The facts differ, or the check raised on another process.
        Exception: The exception that the check raised on this process.
    """
    try:
        facts, refusal = {"refused": None, **check()}, None
    except Exception as error:  # noqa: BLE001 - the other processes wait for the outcome
        facts, refusal = {"refused": str(error)}, error
    try:
        require_agreement(facts, layout)
    except ValueError as disagreement:
        raise refusal or disagreement from None
    if refusal is not None:
        raise refusal


def agreed_on_all(found: Callable[[], T], facts_of: Callable[[T], dict[str, Any]], layout: Layout) -> T:
    """Return the value of a function whose ``facts_of`` are the same on all processes; or it raises on all of them.

    Raises:
        ValueError: The facts differ, or the function raised on another process.
        Exception: The exception that the function raised on this process.
    """
    values: list[T] = []

    def checked() -> dict[str, Any]:
        values.append(found())
        return facts_of(values[0])

    require_on_all(checked, layout)
    return values[0]


def _differing(texts: Mapping[int, str]) -> str:
    """Return sentences on the facts in which processes differ; empty if they agree."""
    everywhere: dict[int, dict[str, str]] = {process: json.loads(text) for process, text in texts.items()}
    shared = set.intersection(*map(set, everywhere.values()))
    differing = [name for name in sorted(shared) if len({facts[name] for facts in everywhere.values()}) > 1]
    names = differing or sorted(set.union(*map(set, everywhere.values())) - shared)
    sentences = []
    for name in names:
        holders: dict[str, list[str]] = {}
        for process, facts in everywhere.items():
            holders.setdefault(facts.get(name, "missing"), []).append(str(process))
        listed = (f"{value:.200} on process {', '.join(processes)}" for value, processes in holders.items())
        sentences.append(f"{name} is {' and '.join(listed)}")
    return "; ".join(sentences)
