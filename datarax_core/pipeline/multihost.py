"""Checks that the processes of one pipeline agree: on source, stages, rule and devices, and on a restored state."""

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

from datarax_core.devices.layout import Layout
from datarax_core.registry.stages import Stage
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.apply import stage_name
from datarax_core.stages.fields import StageWithHostFields


def facts_to_agree_on(source: DataSourceModule, stages: Any, sharding: Any) -> dict[str, Any]:
    """Return facts for `require_agreement` that are in no state: processes must run equal programs on the same devices."""
    titles = [repr(stage) if isinstance(stage, Stage | StageWithHostFields) else stage_name(stage) for stage in stages]
    facts = {"stages": titles, "access": source.access}
    if not isinstance(sharding, NamedSharding):
        return facts
    devices = [device.id for device in sharding.mesh.devices.flat]
    return {**facts, "sharding": f"{sharding.spec} over {dict(sharding.mesh.shape)} of devices {devices}"}


def require_agreement(find_facts: Callable[[], dict[str, Any]], layout: Layout) -> None:
    """Raise if facts differ between the processes of a pipeline. A collective operation, if there are several processes.

    The facts are looked for only if there are: they cost a few reads of the data.

    Raises:
        ValueError: Names each fact that differs, and its value on every process.
    """
    if layout.num_processes == 1 or layout.num_processes != jax.process_count():
        return
    texts = {name: json.dumps(fact, sort_keys=True, default=str) for name, fact in find_facts().items()}
    everywhere = [json.loads(text) for text in _gathered(json.dumps(texts))]
    if differing := _differing(everywhere):
        raise ValueError(
            f"the processes of this pipeline do not agree: {'; '.join(differing)}. Build it from the same config, data and "
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
        require_agreement(lambda: facts, layout)
    except ValueError as disagreement:
        raise refusal or disagreement from None
    if refusal is not None:
        raise refusal


def _differing(everywhere: list[dict[str, str]]) -> list[str]:
    shared = set.intersection(*map(set, everywhere))
    differing = [name for name in sorted(shared) if len({facts[name] for facts in everywhere}) > 1]
    names = differing or sorted(set.union(*map(set, everywhere)) - shared)
    sentences = []
    for name in names:
        holders: dict[str, list[str]] = {}
        for process, facts in enumerate(everywhere):
            holders.setdefault(facts.get(name, "missing"), []).append(str(process))
        listed = (f"{value:.200} on process {', '.join(processes)}" for value, processes in holders.items())
        sentences.append(f"{name} is {' and '.join(listed)}")
    return sentences


def _gathered(text: str) -> list[str]:
    """Return the texts of all processes, by the index of the process."""
    content = np.frombuffer(text.encode(), np.uint8)
    lengths = np.asarray(multihost_utils.process_allgather(np.array([content.size], np.int32))).ravel()
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: content.size] = content
    rows = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(lengths), -1)
    return [row[:length].tobytes().decode() for row, length in zip(rows, lengths, strict=True)]
