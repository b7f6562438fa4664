"""The catalogue of arguments of the wrong type: each is refused at its call, with an error that names the expected type."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flax import nnx

from datarax_core import (
    Columns,
    DataraxModule,
    EagerSourceBase,
    Graph,
    LocalFilesOnlyMixin,
    MetadataManager,
    Order,
    SourceRegistry,
    StructuralConfig,
    build_source,
    columns_of,
    load_config,
)

COLUMNS = columns_of({"x": np.arange(10)}, "the test's data")
OTHERS: dict[str, Any] = {"None": None, "text": "x", "float": 3.5, "list": [1], "object": object()}


def eager(columns: Any = COLUMNS, **options: Any) -> EagerSourceBase:
    return EagerSourceBase(StructuralConfig(), columns, **options)


def graph(**options: Any) -> Graph:
    return Graph(**({"nodes": {"a": len}, "edges": [("source", "a")], "sink": "a"} | options))


CALLS: dict[str, tuple[Callable[[Any], object], str, set[str]]] = {
    "rngs of a module": (
        lambda given: DataraxModule(StructuralConfig(), rngs=given),
        r"rngs of DataraxModule are random streams, such as nnx\.Rngs\(0\), or None, not",
        {"None"},
    ),
    "rngs of a stochastic source": (
        lambda given: EagerSourceBase(StructuralConfig(stochastic=True, stream_name="s"), COLUMNS, rngs=given),
        r"rngs of EagerSourceBase are random streams, such as nnx\.Rngs\(0\), or None, not",
        {"None"},
    ),
    "rngs of a copy": (
        lambda given: eager(name="train").copy(rngs=given),
        "rngs of EagerSourceBase 'train' are random streams",
        {"None"},
    ),
    "rngs of the metadata": (
        lambda given: MetadataManager(rngs=given),
        r"rngs of the metadata are random streams, such as nnx\.Rngs\(0\), or None, not",
        {"None"},
    ),
    "name": (lambda given: eager(name=given), "the name of EagerSourceBase is text, not", {"None", "text"}),
    "names of streams": (
        lambda given: DataraxModule(StructuralConfig(), rngs=nnx.Rngs(0)).ensure_rng_streams(given),
        r"names is a list of names of random streams, such as \['shuffle'\], not",
        {"list"},
    ),
    "random order": (
        lambda given: eager().set_random_order(given),
        "the order of EagerSourceBase is random or not: True or False, not",
        set(),
    ),
    "columns": (eager, r"EagerSourceBase takes Columns, as columns_of\(data, title\) makes them, not", set()),
    "order": (
        lambda given: eager(order=given),
        "EagerSourceBase takes an Order, or None to serve all records, not",
        {"None"},
    ),
    "records": (
        lambda given: eager().get_records(given),
        r"records of EagerSourceBase are named by integers, such as np\.array\(\[0, 5\]\), not",
        {"list"},
    ),
    "sharding": (
        lambda given: eager().collect_to_array(given),
        r"sharding is a jax\.sharding\.Sharding, or None for one device, not",
        {"None"},
    ),
    "columns by name": (
        lambda given: Columns("dict", given),
        "columns are a dict of arrays by name, not .*; see columns_of for other data",
        set(),
    ),
    "position": (lambda given: Order(10).record_indices(given, 2), "a position is an integer, not", set()),
    "size": (lambda given: Order(10).record_indices(0, given), "size is an integer, not", set()),
    "length": (Order, "length is an integer, not", set()),
    "shard": (lambda given: Order(10, given, 2), "shard is an integer, not", set()),
    "number of shards": (lambda given: Order(10, 0, given), "num_shards is an integer, not", set()),
    "track_batches": (
        lambda given: MetadataManager(track_batches=given),
        "track_batches is True or False, not",
        set(),
    ),
    "shard of the metadata": (
        lambda given: MetadataManager(shard_id=given),
        "shard_id is an integer, not",
        {"None"},
    ),
    "index of a record": (MetadataManager().record, "a record index is an integer, not", set()),
    "epoch": (lambda given: MetadataManager().record(1, epoch=given), "an epoch is an integer, not", {"None"}),
    "source_info": (
        lambda given: MetadataManager().record(1, source_info=given),
        "source_info is a dict of what is known of the source, not",
        {"None"},
    ),
    "registry": (
        lambda given: build_source({"type": "memory"}, given),
        "registry is a SourceRegistry, or None for what is installed, not",
        {"None"},
    ),
    "name of a source": (
        SourceRegistry().get,
        "the name of a source is text, such as 'memory', not",
        {"text"},
    ),
    "config": (load_config, r"a config is the path of a file, such as 'train\.yaml', not", {"text"}),
    "nodes": (lambda given: graph(nodes=given), "nodes is a dict of callables by name, not", set()),
    "edges": (
        lambda given: graph(edges=given),
        r"(edges is a list of \(from, to\) pairs of names|an edge is a \(from, to\) pair of names, such as .*), not",
        set(),
    ),
    "sink": (lambda given: graph(sink=given), "the sink is the name of a node, not", {"None", "text"}),
    "expected paths": (
        lambda given: LocalFilesOnlyMixin()._check_local_cache(given, dataset_name="mnist"),
        "expected_paths are the paths of 'mnist', a list of them, not",
        {"list"},
    ),
}


@pytest.mark.parametrize(
    ("call", "message", "given"),
    [
        pytest.param(call, message, value, id=f"{argument}: {kind}")
        for argument, (call, message, fine) in CALLS.items()
        for kind, value in OTHERS.items()
        if kind not in fine
    ],
)
def test_an_argument_of_the_wrong_type_is_refused_with_what_is_expected(
    call: Callable[[Any], object], message: str, given: Any
) -> None:
    with pytest.raises(TypeError, match=f"^{message}"):
        call(given)


@pytest.mark.parametrize("placement", [None, "x", 3.5, [1]])
def test_a_placement_that_does_not_exist_is_refused(placement: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^EagerSourceBase has placement .*, which is none of 'auto', 'device', 'host'$"
    ):
        eager(placement=placement)


def test_a_form_of_columns_that_does_not_exist_is_refused() -> None:
    form: Any = "list"
    with pytest.raises(
        ValueError,
        match=r"^columns make up a batch as a 'dict', 'nested' dicts, a 'tuple' or an 'array', not as 'list'$",
    ):
        Columns(form, {})


@pytest.mark.parametrize("given", [[1.5], [True], [[1]], 1, ["1"]])
def test_record_indices_are_integers_in_one_dimension(given: Any) -> None:
    with pytest.raises(TypeError, match=r"^records of EagerSourceBase are named by integers"):
        eager().get_records(given)


@pytest.mark.parametrize("placement", ["device", "host"])
def test_no_record_indices_give_an_empty_batch(placement: Any) -> None:
    batch = eager(placement=placement).get_records([])
    assert batch["x"].shape == (0,)


def test_numbers_below_zero_are_refused() -> None:
    for call, message in (
        (lambda: Order(10).record_indices(0, -1), "size is at least 0, not -1"),
        (lambda: MetadataManager(shard_id=-1), "shard_id is at least 0, not -1"),
        (lambda: MetadataManager().record(-1), "a record index is at least 0, not -1"),
        (lambda: MetadataManager().batch([1], [-1]), "an epoch is at least 0, not -1"),
    ):
        with pytest.raises(ValueError, match=f"^{message}$"):
            call()


def test_numpy_integers_are_accepted_as_integers() -> None:
    record = MetadataManager(shard_id=np.int64(2)).record(np.int32(5), epoch=np.uint8(1))  # type: ignore[arg-type]
    assert (type(record.index), type(record.epoch), type(record.shard_id)) == (int, int, int)
    assert Order(np.int64(10)).record_indices(np.int8(3), np.int16(2)).tolist() == [3, 4]  # type: ignore[arg-type]
