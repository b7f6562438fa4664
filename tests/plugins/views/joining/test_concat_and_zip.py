"""Sources one after another and side by side: names, mixtures among them, and what does not fit together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import nnx

from datarax_core import DataSourceModule, Pipeline, Ragged
from datarax_core.errors import ConfigError, SpecError
from datarax_core.pipeline import build_source
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode
from datarax_views import ConcatView, ConcatViewConfig, RepeatView, RepeatViewConfig, ZipView, ZipViewConfig

MakeSource = Callable[..., DataSourceModule]


def ids_of(source: DataSourceModule) -> list[int]:
    return [int(element["id"]) for element in source]


def memory(data: Any, **options: Any) -> MemorySource:
    return MemorySource(MemorySourceConfig(**options), data)


def mixture(make: MakeSource, length: int = 8) -> MixDataSourcesNode:
    config = MixDataSourcesConfig(num_sources=2, weights=(0.75, 0.25))
    return MixDataSourcesNode(config, [make(length), make(length, 100)], rngs=nnx.Rngs(0))


# -- concat -------------------------------------------------------------------------------------------------------------


def test_sources_in_turn_may_serve_records_several_times(make_source: MakeSource) -> None:
    sources = {
        "twice": RepeatView(RepeatViewConfig(times=2), make_source(3)),
        "mix": mixture(make_source),
        "once": make_source(2, 50),
    }
    view = ConcatView(ConcatViewConfig(), sources)
    assert (len(view), view.num_records, view.serves_each_once) == (6 + 16 + 2, 3 + 16 + 2, False)
    served = ids_of(view)
    assert served[:6] == [0, 1, 2, 0, 1, 2]
    assert sum(number >= 100 for number in served[6:22]) == 4
    assert served[22:] == [50, 51]
    assert view.names == ("twice", "mix", "once")
    assert view.describe_view() == "joins 21 records of 3 sources: twice 3, mix 16, once 2"
    servings = zip(
        view.record_indices_at(0, 96, view.order_key_data()).tolist(), view.epochs_at(0, 96).tolist(), strict=True
    )
    assert len(set(servings)) == 96


def test_shuffle_false_serves_by_index_whatever_the_sources_do(make_source: MakeSource) -> None:
    view = ConcatView(ConcatViewConfig(shuffle=False), make_source(5, shuffle=True), make_source(4, 50, shuffle=True))
    assert ids_of(view) == [*range(5), *range(50, 54)]
    view.set_random_order(enabled=True)
    assert sorted(ids_of(view)) == [*range(5), *range(50, 54)]


def test_each_source_is_read_once_a_batch(make_source: MakeSource) -> None:
    class Counting(ConcatView):
        reads: list[tuple[int, int]] = []

        def read_parent(self, indices: np.ndarray, parent: int = 0) -> Any:
            self.reads.append((parent, len(indices)))
            return super().read_parent(indices, parent)

    sources = [make_source(30, 100 * number, placement="host") for number in range(3)]
    view = Counting(ConcatViewConfig(shuffle=True), sources, rngs=nnx.Rngs(0))
    view.get_batch(60)
    assert sorted(number for number, _ in view.reads) == [0, 1, 2]
    assert sum(count for _, count in view.reads) == 60


def test_many_sources_of_few_records(make_source: MakeSource) -> None:
    view = ConcatView(ConcatViewConfig(), [make_source(1 + number % 3, 10 * number) for number in range(40)])
    expected = [10 * number + row for number in range(40) for row in range(1 + number % 3)]
    served = [int(number) for batch in Pipeline(source=view, batch_size=9, num_epochs=3) for number in batch["id"]]
    assert served == expected * 3
    assert view.record_indices_at(5, 200).tolist() == [at % len(expected) for at in range(5, 205)]


def test_texts_of_other_widths_are_one_field() -> None:
    view = ConcatView(ConcatViewConfig(), memory({"t": np.array(["a"])}), memory({"t": np.array(["longer"])}))
    assert [batch["t"].tolist() for batch in Pipeline(source=view, batch_size=2)] == [["a", "longer"]]


def test_sources_whose_specs_differ() -> None:
    first = memory({"a": np.zeros(3), "b": np.zeros(3, np.int32)})
    second = memory({"a": np.zeros((3, 2)), "c": np.zeros(3)})
    message = (
        r"the sources of ConcatView .* differ: field 'a' is float64\[2\] where float64\[\] is expected in source 'y', compared "
        r"with source 'x'; field 'b' \(int32\[\]\) is missing in .*; field 'c' .* is not expected in .*; give all the same"
    )
    with pytest.raises(SpecError, match=message):
        ConcatView(ConcatViewConfig(), {"x": first, "y": second})
    with pytest.raises(SpecError, match=r"in source 1, compared with source 0.*Ragged.from_list\(records\) in Python"):
        ConcatView(
            ConcatViewConfig(),
            memory({"a": np.zeros((3, 2))}),
            memory({"a": Ragged.from_list([np.zeros(1), np.zeros(3)])}),
        )


def test_an_order_that_would_lose_proportions(make_source: MakeSource) -> None:
    message = "source 'mix' of ConcatView .* serves some records more often than others, .*; leave `shuffle` out"
    with pytest.raises(ValueError, match=message):
        ConcatView(ConcatViewConfig(shuffle=True), {"mix": mixture(make_source), "b": make_source(3)}, rngs=nnx.Rngs(0))
    in_turn = ConcatView(ConcatViewConfig(), mixture(make_source), make_source(3))
    with pytest.raises(ValueError, match="would lose how often"):
        in_turn[2:5]
    assert sum(number >= 100 for number in ids_of(in_turn.where(id=(0, 103)))) == 3


def test_sources_in_turn_have_their_own_orders(make_source: MakeSource) -> None:
    view = ConcatView(ConcatViewConfig(), make_source(3, shuffle=True), make_source(3))
    with pytest.raises(NotImplementedError, match="has the orders of its sources; see record_indices_at"):
        view.order()
    with pytest.raises(ValueError, match="draws the orders of its sources from a key: pass one"):
        view.record_indices_at(0, 3)
    with pytest.raises(ValueError, match="each in its own order; give its config shuffle=True or False"):
        view.set_random_order(enabled=False)


# -- zip ----------------------------------------------------------------------------------------------------------------


def test_fields_get_other_names() -> None:
    first, second = memory({"a": np.arange(4), "b.c": np.arange(4) * 2}), memory({"a": np.arange(4) + 10})
    renamed = ZipView(ZipViewConfig(rename={1: {"a": "z"}}), first, second)
    assert renamed[3] == {"a": 3, "b.c": 6, "z": 13}
    assert renamed.whole_column(r"b\.c").tolist() == [0, 2, 4, 6]
    assert renamed.whole_column("missing") is None
    prefixed = ZipView(ZipViewConfig(prefix=("one ", "")), first, second)
    assert prefixed[3] == {"one a": 3, "one b.c": 6, "a": 13}
    assert ZipView(ZipViewConfig(names=("l", "r")), first, second)[2] == {"l": {"a": 2, "b.c": 4}, "r": {"a": 12}}
    assert renamed.describe_view() == "2 sources side by side, 4 records of a, b.c, z"


def test_single_arrays_have_the_names_of_their_sources() -> None:
    view = ZipView(ZipViewConfig(), {"p": memory(np.arange(6).reshape(3, 2)), "q": memory({"z": np.arange(3)})})
    batch = next(iter(Pipeline(source=view, batch_size=3)))
    assert np.asarray(batch["p"]).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert view.whole_column("p").tolist() == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(
        SpecError, match=r"source 0 of ZipView .* are not dicts of named fields, but single arrays; name the"
    ):
        ZipView(ZipViewConfig(), memory(np.arange(3)), memory({"z": np.arange(3)}))


def test_sources_that_do_not_fit_side_by_side(make_source: MakeSource) -> None:
    message = r"differ in their number of records, source 'a' has 10, source 'b' has 7; .*: source\[:7\] in Python"
    with pytest.raises(ValueError, match=message):
        ZipView(ZipViewConfig(), {"a": make_source(10), "b": make_source(7)})
    message = (
        r"source 0 and source 1 of ZipView .* both have a field 'id'; rename one, rename=\{'1': \{'id': 'other_id'\}\}"
    )
    with pytest.raises(SpecError, match=message):
        ZipView(ZipViewConfig(), make_source(4), make_source(4))
    message = "ZipView pairs records by their index, .* lose how often MixDataSourcesNode serves each; zip the sources that it"
    with pytest.raises(ValueError, match=message):
        ZipView(ZipViewConfig(prefix=("", "b")), make_source(16), mixture(make_source))


def test_names_that_name_nothing(make_source: MakeSource) -> None:
    pair = make_source(4), make_source(4)
    with pytest.raises(ValueError, match=r"rename names source '2', and the sources of .* are numbered 0 to 1"):
        ZipView(ZipViewConfig(rename={2: {"id": "z"}}), *pair)
    with pytest.raises(
        SpecError, match=r"rename names the field 'no', which source 1 of .* does not have \(fields: id, x\)"
    ):
        ZipView(ZipViewConfig(rename={1: {"no": "z"}}), *pair)
    with pytest.raises(SpecError, match=r"source 0 of .* would have two fields 'x'; rename one of them"):
        ZipView(ZipViewConfig(rename={0: {"id": "x"}}), *pair)
    with pytest.raises(ValueError, match="has 2 sources, and prefix has 1 entries"):
        ZipView(ZipViewConfig(prefix=("a",)), *pair)
    with pytest.raises(ValueError, match="below its name already, so that prefix has no use"):
        ZipViewConfig(names=("a", "b"), prefix=("c", "d"))
    with pytest.raises(ValueError, match="below its name already, so that prefix and rename have no use"):
        ZipView(ZipViewConfig(prefix=("c", "d")), {"a": pair[0], "b": pair[1]})


# -- both ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("view", "config"), [(ConcatView, ConcatViewConfig), (ZipView, ZipViewConfig)])
def test_sources_that_are_none(make_source: MakeSource, stream: DataSourceModule, view: Any, config: Any) -> None:
    source, empty = make_source(4), memory({"id": np.zeros(0, np.int32), "x": np.zeros((0, 2), np.float32)})
    with pytest.raises(ValueError, match="was given no sources; it needs one at least"):
        view(config(), [])
    with pytest.raises(TypeError, match="is a view of a source, not of"):
        view(config(), [source, {"id": np.arange(4)}])
    with pytest.raises(NotImplementedError, match=r"needs records by index, and .* is a stream"):
        view(config(), [source, stream])
    with pytest.raises(ValueError, match=r"source 'b' of .* is empty: it has no records to serve; leave it out"):
        view(config(), {"a": source, "b": empty})
    with pytest.raises(TypeError, match=f"{view.__name__} needs a {config.__name__}"):
        view(MemorySourceConfig(), [source])


@pytest.mark.parametrize(("view", "config"), [(ConcatView, ConcatViewConfig), (ZipView, ZipViewConfig)])
def test_names_of_sources(make_source: MakeSource, view: Any, config: Any) -> None:
    source = make_source(4)
    with pytest.raises(ValueError, match="are called 'a', 'b' in the config, and 'a', 'c' where they are given"):
        view(config(names=("a", "b")), {"a": source, "c": source})
    with pytest.raises(ValueError, match="was given 2 sources, and its config names 1; give each source a name"):
        view(config(names=("a",)), [source, source])
    with pytest.raises(ValueError, match="two sources are called 'a'"):
        config(names=("a", "a"))
    with pytest.raises(TypeError, match=r"the names of the sources of .* are text, not 3"):
        view(config(), {3: source})
    named = view(config(names=("a", "b")), source, source)
    assert named.names == ("a", "b")


def test_configs_in_a_file(tmp_path: Path) -> None:
    for name, first in (("left", 0), ("right", 100)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "id.npy", np.arange(first, first + 4))
    (tmp_path / "pipeline.yaml").write_text(
        "batch_size: 8\n"
        "source:\n"
        "  type: zip\n"
        "  sources:\n"
        "    all:\n"
        "      type: concat\n"
        "      sources: [{type: memory, path: left}, {type: memory, path: right}]\n"
        "    again:\n"
        "      type: concat\n"
        "      sources: {second: {type: memory, path: right}, first: {type: memory, path: left}}\n"
    )
    batch = next(iter(Pipeline.from_config(tmp_path / "pipeline.yaml")))
    assert np.asarray(batch["all"]["id"]).tolist() == [0, 1, 2, 3, 100, 101, 102, 103]
    assert np.asarray(batch["again"]["id"]).tolist() == [100, 101, 102, 103, 0, 1, 2, 3]
    with pytest.raises(ConfigError, match="concat in a config needs its 'sources'"):
        build_source({"type": "concat"})
    with pytest.raises(ConfigError, match=r"sources.b.path: should be a valid string"):
        build_source({"type": "concat", "sources": {"b": {"type": "memory", "path": 3}}})
    with pytest.raises(ConfigError, match="leave `names` out"):
        build_source(
            {"type": "zip", "names": ["a"], "sources": {"b": {"type": "memory", "path": str(tmp_path / "left")}}}
        )
