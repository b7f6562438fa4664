"""Access to the children's records: on the device from one table, by the host in one call for each child."""

import pickle
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline
from datarax_core.sources import DataSourceModule, fits_device_memory, record_blocks, verified_blocks
from datarax_memory import MemorySource, MemorySourceConfig

MILLION = 1_000_000


@pytest.mark.parametrize(
    ("kinds", "access"),
    [
        (("device", "device"), "device"),
        (("device", "host"), "host"),
        (("memory on the host", "device"), "host"),
        (("device", "stream"), "stream"),
        (("host", "stream"), "stream"),
    ],
)
def test_access_follows_the_children(child: Any, mix: Any, kinds: tuple[str, ...], access: str) -> None:
    made = mix([child(n, 9, kind=kind) for n, kind in enumerate(kinds)])
    assert mix([made, child(5, 4)]).access == made.access == access
    assert made.capabilities.traceable == (access == "device")


def test_children_that_fit_the_device_one_by_one_may_not_together(
    child: Any, mix: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = mix([child(n, 100) for n in range(3)])
    nbytes = made.device_table.nbytes
    assert nbytes == 300 * 12
    monkeypatch.setattr("datarax_mix.children.fits_device_memory", lambda wanted: wanted < nbytes)
    assert made.access == "host"
    assert [one.access for one in made.children] == ["device"] * 3
    assert len(list(Pipeline(source=made, batch_size=50))) == 6


def test_a_few_bytes_fit_the_device_and_an_exbibyte_does_not() -> None:
    assert fits_device_memory(1000)
    assert not fits_device_memory(2**60)


def test_each_child_is_read_once_a_batch(child: Any, mix: Any) -> None:
    hosts = [child(0, 100, kind="host"), child(1, 200, kind="host")]
    made = mix([*hosts, child(2, 50)], (0.5, 0.3, 0.2))
    batches = [made.get_batch(20) for _ in range(3)]
    requests = [host.requests for host in hosts]
    assert [[len(rows) for rows in calls] for calls in requests] == [[10, 10, 10], [6, 6, 6]]
    for number, calls in enumerate(requests):
        served = [i - number * MILLION for batch in batches for i in batch["id"].tolist() if i // MILLION == number]
        assert [row for call in calls for row in call] == served


def test_host_batches_are_ready_for_the_device(child: Any, mix: Any) -> None:
    batch = mix([child(0, 100, kind="host"), child(1, 200)]).get_batch(32)
    assert all(column.ctypes.data % 64 == 0 for column in jax.tree.leaves(batch))


def test_a_single_child_is_read_directly(child: Any, mix: Any) -> None:
    only = child(0, 100)
    made = mix([only])
    assert made.device_table is None
    assert made.compiled_records() == only.compiled_records()
    assert jax.tree.leaves(made.compiled_records()[1])[0] is jax.tree.leaves(only.compiled_records()[1])[0]


def test_the_table_is_placed_once_and_leaves_no_copy_on_the_host(child: Any, mix: Any) -> None:
    made = mix([child(0, 100), child(1, 50)])
    _, arrays = made.compiled_records()
    assert [len(array) for array in arrays] == [150, 150]
    for other in (made.clone(), made):
        assert all(a is b for a, b in zip(other.compiled_records()[1], arrays, strict=True))
    assert not any(isinstance(column, np.ndarray) for column in made.device_table.columns.columns.values())


def test_two_mixtures_of_like_fields_share_one_program(child: Any, mix: Any) -> None:
    one, other = mix([child(0, 10), child(1, 20)]), mix([child(n, 30) for n in range(5)])
    assert one.compiled_records()[0] == other.compiled_records()[0]
    assert hash(one.compiled_records()[0]) == hash(other.compiled_records()[0])


def test_third_parties_sources_on_the_device_are_put_into_the_table(child: Any, mix: Any) -> None:
    class OnDevice(DataSourceModule):
        traceable = True

        def __len__(self) -> int:
            return 30

        def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
            return {"id": jax.ShapeDtypeStruct((), np.int32), "x": jax.ShapeDtypeStruct((2,), np.float32)}

        def get_records(self, indices: Any) -> dict[str, jax.Array]:
            return {"id": 5 * MILLION + jax.numpy.asarray(indices, np.int32), "x": jax.numpy.ones((len(indices), 2))}

    theirs = OnDevice(child(0, 5, shuffle=False).config)
    made = mix([theirs, child(1, 20)])
    assert made.access == "device"
    ids = np.concatenate([np.asarray(batch["id"]) for batch in Pipeline(source=made, batch_size=10)])
    assert set(ids[ids >= 5 * MILLION].tolist()) == {5 * MILLION + i for i in range(25)}


@pytest.mark.parametrize("kind", ["host", "memory on the host"])
def test_cacheable_reads_each_record_once(child: Any, mix: Any, kind: str) -> None:
    host = child(0, 30, kind="host")
    made = mix([host, child(1, 30, kind=kind)], cacheable=True)
    for _ in range(4):
        list(Pipeline(source=made, batch_size=7))
    rows = [row for call in host.requests for row in call]
    assert sorted(rows) == sorted(set(rows)) == list(range(30))
    made.reset_cache()
    made.get_batch(4)
    assert len(host.requests[-1]) == 2


def test_substituted_records_of_children_are_counted(child: Any, mix: Any) -> None:
    class Substituting(type(child(0, 9, kind="host"))):  # type: ignore[misc]
        def get_records(self, indices: Any) -> Any:
            self.note_substituted(1)
            return super().get_records(indices)

    made = mix([Substituting(child(0, 9, kind="host").config, 0, 9, rngs=nnx.Rngs(0)), child(1, 9)])
    pipeline = Pipeline(source=made, batch_size=6)
    list(pipeline)
    assert pipeline.stats()["records_substituted"] == 3


def test_records_are_verified_by_their_children(child: Any, mix: Any) -> None:
    class Damaged(type(child(0, 9, kind="host"))):  # type: ignore[misc]
        def get_records(self, indices: Any) -> Any:
            if 3 in indices:
                raise ValueError("a bit was flipped")
            return super().get_records(indices)

    damaged = Damaged(child(0, 9, kind="host").config, 0, 9, rngs=nnx.Rngs(0))
    for made in (
        mix([child(1, 5), damaged], stop="first_exhausted"),
        mix([mix([damaged]), child(1, 40)], stop="all_seen"),
    ):
        parts = list(verified_blocks(made))
        assert sum(part.records for part in parts) == made.num_records != len(made)
        (error,) = [error for part in parts for error in part.errors]
        assert (error.record, error.reason) == (3, "a bit was flipped")


def test_blocks_hold_each_record_once_even_if_an_epoch_does_not(child: Any, mix: Any) -> None:
    made = mix([child(0, 9), child(1, 5, kind="host")], (0.9, 0.1), stop="all_seen")
    ids = np.concatenate([block["id"] for block in record_blocks(made)]).tolist()
    assert ids == [*range(9), *range(MILLION, MILLION + 5)]


def test_a_64_bit_value_that_does_not_fit_is_refused_by_record(mix: Any) -> None:
    fits = MemorySource(MemorySourceConfig(), {"n": np.arange(3)})
    wide = MemorySource(MemorySourceConfig(), {"n": np.asarray([1, 2**40])})
    made = mix([fits, wide], name="web")
    with pytest.raises(
        ValueError, match=r"field 'n' of MixDataSourcesNode 'web' is int64 and 1099511627776 \(record 4\)"
    ):
        made.get_batch(2)


def test_a_mixture_pickles_for_workers(child: Any, mix: Any) -> None:
    made = mix([child(0, 9), mix([child(1, 9, kind="memory on the host"), child(2, 5)])])
    twin = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own
    assert twin.get_batch(20)["id"].tolist() == made.get_batch(20)["id"].tolist()


def test_random_stages_change_a_record_differently_in_each_epoch(child: Any, mix: Any) -> None:
    class Noise:
        stochastic = True

        def __call__(self, batch: Any, keys: Any) -> Any:
            return {**batch, "noise": jax.vmap(lambda key: jax.random.bits(key, (), np.uint32))(keys)}

    for sampling in ("proportional", "categorical"):
        for kind in ("device", "host"):
            made = mix([child(0, 5, kind=kind), child(1, 50)], (0.6, 0.4), sampling=sampling)
            pipeline = Pipeline(source=made, stages=[Noise()], batch_size=25, rngs=nnx.Rngs(0), num_epochs=2)
            served = [
                row
                for batch in pipeline
                for row in zip(np.asarray(batch["id"]).tolist(), np.asarray(batch["noise"]).tolist(), strict=True)
            ]
            assert len(set(served)) == len(served) == 110
            pipeline = Pipeline(source=made, stages=[Noise()], batch_size=11, rngs=nnx.Rngs(0))
            again = pipeline.scan(lambda batch: (batch["id"], batch["noise"]), length=5)
            assert list(zip(*(np.asarray(part).ravel().tolist() for part in again), strict=True)) == served[:55]


def test_importing_the_plugin_does_not_import_grain() -> None:
    script = "import sys, datarax_mix; print('grain' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603 - ours
    assert run.stdout == "False\n"
