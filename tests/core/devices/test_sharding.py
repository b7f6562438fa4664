"""Batches over the devices of one process: their layout by every route, data placed once, and refused shardings."""

import copy
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from datarax_core import Pipeline
from datarax_core.devices.layout import layout_of

OVER_DEVICES = Path(__file__).with_name("over_devices.py")


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """The JSON that over_devices.py prints, in a process with four devices: JAX fixes their number when it starts."""
    child = subprocess.run(  # noqa: S603 - over_devices.py
        [sys.executable, "-W", "error", OVER_DEVICES],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ,
    )
    assert child.returncode == 0, child.stderr
    found: dict[str, Any] = json.loads(child.stdout)
    return found


def routes_of(seen: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in seen["routes"].items() if key.split(", ")[1] == name}


@pytest.mark.parametrize("name", ["auto", "explicit", "other device"])
def test_every_route_serves_the_batches_of_one_device(seen: dict[str, Any], name: str) -> None:
    routes = routes_of(seen, name)
    assert len(routes) >= 10
    for key, value in routes.items():
        kind, _, route = key.split(", ")
        expected = seen["routes"][f"{'stream' if kind == 'stream' else 'eager device'}, one, {route}"]
        if route == "mean":
            assert value == pytest.approx(expected, rel=1e-4), key
        else:
            assert value["batches"] == expected["batches"], key


def test_batches_arrive_laid_out_in_every_route(seen: dict[str, Any]) -> None:
    for name in ("auto", "explicit"):
        for key, value in routes_of(seen, name).items():
            if not key.endswith("mean"):
                assert set(value["places"]) <= {"P('data',)", "P('data', None)"}, key
    assert seen["bare"]["eager host, auto"] == seen["bare"]["stream, explicit"] == [["P('data',)"]] * 3


def test_batches_arrive_on_the_device_of_a_single_device_sharding(seen: dict[str, Any]) -> None:
    for key, value in routes_of(seen, "other device").items():
        if not key.endswith(("mean", "traced")):  # under a user's jit they are on the device of that jit
            assert value["places"] == ["{CpuDevice(id=2)}"], key
    assert seen["bare"]["stream, other device"] == [["{CpuDevice(id=2)}"]] * 3


@pytest.mark.parametrize("kind", ["eager", "device"])
def test_data_is_placed_once_on_a_mesh_for_all_pipelines_and_loops(seen: dict[str, Any], kind: str) -> None:
    assert seen["memory"][kind] == [1, 1, 1]


def test_callbacks_of_several_devices_read_one_after_another(seen: dict[str, Any]) -> None:
    assert seen["concurrency"] == {"most": 1, "rows": [2]}


def test_explain_names_the_layout_of_batches(seen: dict[str, Any]) -> None:
    explained = seen["explanations"]
    copies = "Each device holds a copy of the data, and gathers its own rows."
    for name in ("auto", "explicit"):
        assert "Batches are laid out by NamedSharding(mesh=Mesh('data': 4" in explained[f"host, {name}"]
        assert explained[f"eager device, {name}"].endswith(copies)
        assert copies not in explained[f"host, {name}"]
    assert "Batches are laid out by SingleDeviceSharding(" in explained["eager device, other device"]
    assert copies not in explained["eager device, other device"]


KIND = r"^TypeError: sharding is a jax.sharding.NamedSharding, such as .*, or a SingleDeviceSharding, not "
REFUSED = {
    "no sharding": KIND + r"P(?:artitionSpec)?\('data'",
    "text": KIND + "'data'$",
    "mesh": KIND + "Mesh",
    "abstract": KIND + "NamedSharding",
    "unconstrained": "^ValueError: sharding=.* leaves a dimension unconstrained; name its axis, or None$",
    "dimension": r"^ValueError: field 'x' of shape \[8, 2\] cannot be laid out by P.*\('d', 'model'\) over the mesh \{'d'",
    "size 2": "^ValueError: batch_size=2 does not divide over the 4 shards of its axis 'data' in sharding=.*; take 4$",
    "size 6": "^ValueError: batch_size=6 does not divide over the 4 shards of its axis 'data' in sharding=.*; take 4 or 8$",
    "last": "^ValueError: the last batch of a run has 2 records, which do not divide over the 4 shards of its axis 'data'",
    "ending": "^ValueError: the last batch of a run has 2 records, which do not divide .*; pass drop_last=True, or pad_last",
}


@pytest.mark.parametrize(("case", "message"), REFUSED.items(), ids=REFUSED)
def test_a_sharding_that_cannot_work_is_refused(seen: dict[str, Any], case: str, message: str) -> None:
    assert re.search(message, seen["refusals"][case])


def test_a_mesh_of_one_device_lays_batches_out(make_source: Any) -> None:
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    pipeline = Pipeline(source=make_source(10), batch_size=4, sharding=sharding)
    assert [batch["id"].tolist() for batch in pipeline] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert pipeline.step()["id"].sharding.is_equivalent_to(sharding, 1)


@pytest.mark.parametrize("kind", ["mesh", "device"])
def test_a_pipeline_over_devices_is_copied_and_no_pickle(make_source: Any, kind: str) -> None:
    mesh = NamedSharding(jax.make_mesh((1,), ("data",)), PartitionSpec("data"))
    sharding = mesh if kind == "mesh" else SingleDeviceSharding(jax.devices()[0])
    pipeline = Pipeline(source=make_source(20), batch_size=4, sharding=sharding)
    pipeline.step()
    copied = copy.deepcopy(pipeline)
    assert all(
        (a == b).all() for a, b in zip(jax.tree.leaves(pipeline.step()), jax.tree.leaves(copied.step()), strict=True)
    )
    with pytest.raises(
        TypeError, match=r"names devices of this process.*or save get_state\(\), and build it where it is used"
    ):
        pickle.dumps(pipeline)


def test_explicit_axes_are_accepted_or_refused_by_the_version_of_jax() -> None:
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Explicit,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    if jax.__version_info__ >= (0, 10):
        assert layout_of(sharding).data_sharding == NamedSharding(mesh, PartitionSpec())
    else:
        with pytest.raises(ValueError, match=r"^jax 0\.\d+\.\d+ loses the axes of an explicit mesh .* take jax 0\.10"):
            layout_of(sharding)
