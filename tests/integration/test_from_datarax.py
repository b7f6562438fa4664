"""Configs, loops and attributes that people know from datarax: the table of docs/from-datarax.md, row by row."""

from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import pytest
from flax import nnx
from pydantic import AfterValidator, ValidationError

from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule, write
from datarax_core import Pipeline, from_sequence
from datarax_core.config import DataraxModuleConfig, StructuralConfig, require_stochastic
from datarax_core.sources import CountValue, SequenceSourceConfig
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode
from datarax_tfds import TFDSEagerConfig, TFDSStreamingConfig


def memory(**options: Any) -> MemorySource:
    return MemorySource(MemorySourceConfig(**options), {"x": np.arange(10)}, rngs=nnx.Rngs(0))


# -- counts ------------------------------------------------------------------------------------------------------------------


def test_counts_answer_as_variables_and_as_integers(tmp_path: Path) -> None:
    source = memory()
    source.get_batch(13)
    write(tmp_path / "x.array_record", memory())
    files = ArrayRecordSourceModule(ArrayRecordSourceConfig(), str(tmp_path / "x.array_record"))
    mixture = MixDataSourcesNode(MixDataSourcesConfig(num_sources=2), [memory(), memory()], rngs=nnx.Rngs(0))
    mixture.get_batch(4)
    counts = [source.index, source.epoch, files.total_records, files.current_index, files.current_epoch, mixture.index]
    assert counts == [3, 1, 10, 0, 0, 4]
    for count in counts:
        assert isinstance(count, CountValue)
        assert count.get_value() == count.value == count[...] == int(count)
        assert type(count.get_value()) is type(count + 1) is int
        with pytest.raises(TypeError, match=r"read only; reset\(\) and set_state\(\) move it"):
            count[...] = 5
        with pytest.raises(TypeError, match=r"read only; reset\(\) and set_state\(\) move it"):
            count.set_value(5)
    with pytest.raises(TypeError, match=r"is one number, which \[\.\.\.\] returns, not \[0\]"):
        source.index[0]
    assert jax.random.fold_in(jax.random.key(0), source.index) == jax.random.fold_in(jax.random.key(0), 3)


# -- descriptions ------------------------------------------------------------------------------------------------------------


def test_a_description_has_attributes_and_compares_as_a_dict() -> None:
    info = memory(shuffle=True).get_dataset_info()
    assert info == {
        "name": "MemorySource", "num_records": 10, "nbytes": 80, "element_spec": {"x": jax.ShapeDtypeStruct((), np.int64)}
    }  # fmt: skip
    assert repr(info) == repr(dict(info))
    assert (info.name, info.num_records, info.num_examples) == ("MemorySource", 10, 10)
    assert info.features == info["element_spec"]
    with pytest.raises(
        AttributeError, match="has no 'citation'; its entries are name, num_records, nbytes, element_spec"
    ):
        _ = info.citation


# -- configs -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        (MemorySourceConfig, {}),
        (SequenceSourceConfig, {}),
        (ArrayRecordSourceConfig, {}),
        (TFDSEagerConfig, {"name": "digits", "split": "train"}),
        (TFDSStreamingConfig, {"name": "digits", "split": "train"}),
    ],
)
def test_stochastic_may_be_spelled_out(config: type[Any], fields: dict[str, Any]) -> None:
    assert not config(**fields, stochastic=False).stochastic
    assert config(**fields, stochastic=False, shuffle=True) == config(**fields, shuffle=True)
    assert config(**fields, shuffle=True).stochastic


def test_a_mixture_is_stochastic_whatever_is_spelled_out() -> None:
    assert MixDataSourcesConfig(num_sources=2, stochastic=False) == MixDataSourcesConfig(num_sources=2)


def test_children_without_weights_have_equal_shares() -> None:
    assert MixDataSourcesConfig(num_sources=4).weights == (0.25,) * 4
    children = [MemorySource(MemorySourceConfig(), {"x": np.full(10, number)}) for number in range(2)]
    mixture = MixDataSourcesNode(MixDataSourcesConfig(num_sources=2), children, rngs=nnx.Rngs(0))
    assert [batch["x"].tolist() for batch in Pipeline(source=mixture, batch_size=4, drop_last=True)] == [
        [0, 1, 0, 1]
    ] * 5


def test_a_config_of_a_base_class_replaces_what_it_sets() -> None:
    source = from_sequence([{"x": 1}, {"x": 2}], shuffle=True, seed=4)
    twin = source.copy(config=DataraxModuleConfig(cacheable=True))
    assert (twin.config.cacheable, twin.config.shuffle, type(twin.config)) == (True, True, SequenceSourceConfig)
    assert twin.get_batch(2)["x"].tolist() == source.get_batch(2)["x"].tolist()
    with pytest.raises(ValueError, match="MemorySource has cacheable=True, but no column of its data is memory-mapped"):
        memory().copy(config=DataraxModuleConfig(cacheable=True))


def test_a_flag_of_a_config_of_ones_own_may_insist_on_stochastic() -> None:
    class Own(StructuralConfig):
        jitter: Annotated[bool, AfterValidator(require_stochastic)] = False

    with pytest.raises(ValidationError, match="jitter=True draws random numbers, which stochastic=False forbids"):
        Own(jitter=True)


# -- loops -------------------------------------------------------------------------------------------------------------------


def test_a_config_gives_its_fields_and_copies_without_dataclasses() -> None:
    config = MemorySourceConfig(shuffle=True, cache_size=4)
    other = type(config)(**{**dict(config), "cache_size": 8})
    assert (other.cache_size, other.shuffle, other.stream_name) == (8, True, "shuffle")
    assert config.model_dump()["cache_size"] == 4
    assert "cache_size" in type(config).model_fields
    with pytest.raises(ValidationError, match="cache_size"):
        type(config)(**{**dict(config), "cache_size": -1})


def test_a_second_loop_is_the_next_run_and_steps_go_on() -> None:
    pipeline = Pipeline(source=memory(), batch_size=5)
    assert [batch["x"].tolist() for batch in pipeline] == [batch["x"].tolist() for batch in pipeline]
    assert [pipeline.step()["x"][0].item() for _ in range(4)] == [0, 5, 0, 5]
