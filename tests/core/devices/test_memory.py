"""The available memory: the machine's, or the limit of a container."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest

from datarax_core import EagerSourceBase
from datarax_core.devices import memory
from datarax_core.sources import fits_device_memory, host_memory

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
GIB = 1 << 30


@pytest.fixture
def limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for the file of the control group of a container; written by each test."""
    path = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_LIMIT_FILES", {"": (tmp_path, path.name), "memory": (tmp_path / "absent", "limit")})
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [(f"{GIB}\n", min(GIB, MACHINE)), ("max\n", MACHINE), (f"{1 << 62}\n", MACHINE), (None, MACHINE)],
    ids=["limited", "unlimited", "more than the machine has", "no container"],
)
def test_memory_is_what_machine_and_container_both_have(limit: Path, text: str | None, expected: int) -> None:
    if text is not None:
        limit.write_text(text)
    assert host_memory() == expected


@pytest.mark.parametrize("above", ["max", str(GIB), str(4 * GIB)])
def test_the_limit_of_a_job_holds_in_groups_below_it(limit: Path, above: str) -> None:
    """As Slurm and systemd set it; the process is in a group that sets none."""
    (limit.parent / "cgroup").write_text("1:cpu:/other\n0::/job_7/step_0/task\n")
    (limit.parent / "job_7" / "step_0" / "task").mkdir(parents=True)
    (limit.parent / "job_7" / "memory.max").write_text(above)
    (limit.parent / "job_7" / "step_0" / "memory.max").write_text(f"{2 * GIB}\n")
    (limit.parent / "job_7" / "step_0" / "task" / "memory.max").write_text("max\n")
    assert host_memory() == min(MACHINE, 2 * GIB, int(above) if above.isdigit() else MACHINE)


def test_a_data_set_larger_than_the_container_stays_on_the_host(limit: Path, make_source: Callable[..., Any]) -> None:
    limit.write_text(str(1000 * jax.local_device_count()))
    source: EagerSourceBase = make_source(100, placement="auto")  # 1,200 bytes
    assert source.access == "host"
    assert (fits_device_memory(250), fits_device_memory(251)) == (True, False)
