"""Configs of modules: refused fields and their messages, ``__post_init__``, equality and hash."""

import math
from typing import Any

import numpy as np
import pytest
from pydantic import Field, ValidationError

from datarax_core.config.base import Count, FrozenConfig
from datarax_core.config.models import DataraxModuleConfig, SourceConfig, SourceConfigBase, StructuralConfig


def test_default_values() -> None:
    assert DataraxModuleConfig().model_dump() == {
        "cacheable": False,
        "batch_stats_fn": None,
        "precomputed_stats": None,
    }
    assert StructuralConfig().model_dump(include={"stochastic", "stream_name"}) == {
        "stochastic": False,
        "stream_name": None,
    }


@pytest.mark.parametrize(
    ("config", "fields", "place", "message"),
    [
        (DataraxModuleConfig, {"batch_stats_fn": len, "precomputed_stats": {}}, "precomputed_stats",
         r"batch_stats_fn and precomputed_stats exclude each other; give one of them"),
        (DataraxModuleConfig, {"batch_stats_fn": 3}, "batch_stats_fn", r"should be callable"),
        (DataraxModuleConfig, {"cacheable": "yes"}, "cacheable", r"should be a valid boolean"),
        (DataraxModuleConfig, {"cacheable": 1}, "cacheable", r"should be a valid boolean"),
        (DataraxModuleConfig, {"cachable": True}, "cachable", r"unknown field 'cachable'; did you mean 'cacheable'\?"),
        (DataraxModuleConfig, {"qqq": True}, "qqq",
         r"unknown field 'qqq' \(fields: cacheable, batch_stats_fn, precomputed_stats\)"),
        (StructuralConfig, {"stochastic": True}, "stream_name",
         r'stochastic=True needs a stream_name, such as stream_name="shuffle"'),
        (StructuralConfig, {"stochastic": True, "stream_name": ""}, "stream_name", r"at least 1 character"),
        (StructuralConfig, {"stream_name": "x"}, "stream_name",
         r"stream_name='x' has no use without stochastic=True; set that, or leave it out"),
        (SourceConfig, {}, "type", r"Field required"),
    ],
)  # fmt: skip
def test_a_bad_field_is_refused_by_name(
    config: type[DataraxModuleConfig], fields: dict[str, Any], place: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        config(**fields)
    assert isinstance(caught.value, ValidationError)
    assert [error["loc"] for error in caught.value.errors()] == [(place,)]


def test_configs_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        StructuralConfig().stochastic = True  # type: ignore[misc]  # the point of the test


class CheckedConfig(StructuralConfig):
    low: int = 0
    high: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low >= self.high:
            raise ValueError(f"low={self.low} is not below high={self.high}")


def test_the_post_init_of_a_subclass_runs_after_field_validation() -> None:
    assert CheckedConfig(low=0, high=2).high == 2
    with pytest.raises(ValidationError, match="low=3 is not below high=2"):
        CheckedConfig(low=3, high=2)
    with pytest.raises(ValidationError, match="should be a valid integer") as caught:
        CheckedConfig.model_validate({"low": "x", "high": -1})
    assert "is not below" not in str(caught.value)


# -- equality and hash --------------------------------------------------------------------------------------------------


def _stats(value: Any) -> DataraxModuleConfig:
    return DataraxModuleConfig(precomputed_stats={"value": value})


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.arange(3),
        lambda: np.arange(6.0).reshape(2, 3),
        lambda: np.array([1.0, math.nan]),
        lambda: np.array(["a", "bc"]),
        lambda: np.array(2.5),
        lambda: np.float32(2.5),
        lambda: float("nan"),
        lambda: [np.arange(3), {"deep": (np.arange(2), "x")}],
        lambda: {1, 2},
        lambda: bytearray(b"x"),
        lambda: {"b": 1, "a": [2]},
    ],
)
def test_equal_configs_have_equal_hashes_whatever_they_hold(make: Any) -> None:
    left, right = _stats(make()), _stats(make())
    assert left == right
    assert hash(left) == hash(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (np.arange(3), np.arange(4)),
        (np.arange(3), np.array([0, 1, 3])),
        (np.arange(3), np.arange(3.0)),
        (np.arange(3), [0, 1, 2]),
        (np.arange(1), 0),
        ([1, 2], (1, 2)),
        ([1, 2], [1, 2, 3]),
        ({"a": 1}, {"b": 1}),
        ({"a": np.arange(3)}, {"a": np.ones(3)}),
        (float("nan"), 1.0),
        (None, 0),
    ],
)
def test_configs_that_differ_are_unequal(left: Any, right: Any) -> None:
    assert _stats(left) != _stats(right)


def test_the_order_of_a_dict_does_not_matter() -> None:
    left = DataraxModuleConfig(precomputed_stats={"a": 1, "b": 2})
    right = DataraxModuleConfig(precomputed_stats={"b": 2, "a": 1})
    assert left == right
    assert hash(left) == hash(right)


def test_configs_of_two_classes_are_unequal() -> None:
    assert DataraxModuleConfig() != StructuralConfig()
    assert DataraxModuleConfig() != "config"


def test_values_whose_comparison_fails_are_unequal() -> None:
    class Table:
        __hash__ = None  # type: ignore[assignment]  # as data frames have it

        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth value of a table is ambiguous")

    table = Table()
    assert _stats(table) == _stats(table)
    assert _stats(table) != _stats(Table())
    assert isinstance(hash(_stats(table)), int)


# -- named data sets ------------------------------------------------------------------------------------------------------


class NamedConfig(SourceConfigBase):
    """A config of a source over named data sets."""

    type: str = "named"


def test_a_named_data_set_needs_its_name_and_split() -> None:
    config = NamedConfig(name="mnist", split="train")
    assert (config.data_dir, config.include_keys, config.exclude_keys) == (None, None, None)
    assert hash(config) == hash(NamedConfig(name="mnist", split="train"))
    for given, field in (
        ({"name": "mnist"}, "split"),
        ({"split": "train"}, "name"),
        ({"name": "", "split": "x"}, "name"),
    ):
        with pytest.raises(ValidationError, match=field):
            NamedConfig(**given)


def test_keys_are_kept_or_left_out_and_not_both() -> None:
    keys = ["image", "label", "id"]
    given = {"name": "mnist", "split": "train"}
    assert NamedConfig(**given).kept_keys(keys) == keys
    assert NamedConfig(**given, include_keys={"id", "image"}).kept_keys(keys) == ["image", "id"]
    assert NamedConfig(**given, exclude_keys=["id"]).kept_keys(keys) == ["image", "label"]
    with pytest.raises(ValidationError, match="include_keys and exclude_keys exclude each other; give one of them"):
        NamedConfig(**given, include_keys={"id"}, exclude_keys={"image"})
    for wrong in ({"include_keys": set()}, {"include_keys": "image"}, {"exclude_keys": [3]}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            NamedConfig(**given, **wrong)


def test_keys_that_do_not_exist_are_refused() -> None:
    given = {"name": "mnist", "split": "train"}
    message = (
        r"^include_keys names 'imgae', which 'mnist' does not have; did you mean 'image'\? \(its fields are 'image', 'l"
    )
    with pytest.raises(ValueError, match=message):
        NamedConfig(**given, include_keys={"imgae", "label"}).kept_keys(["label", "image"])
    with pytest.raises(ValueError, match=r"^exclude_keys names 'x', which 'mnist' does not have"):
        NamedConfig(**given, exclude_keys={"x"}).kept_keys(["label", "image"])
    with pytest.raises(ValueError, match=r"^exclude_keys leaves no field of 'mnist'; its fields are 'image', 'label'$"):
        NamedConfig(**given, exclude_keys={"label", "image"}).kept_keys(["label", "image"])


def test_fields_that_share_an_annotated_type_share_no_default() -> None:
    """Older pydantic than the floor gives the second field the default of the first."""

    class WithDefault(FrozenConfig):
        size: Count = Field(default=40, description="A size.")

    class Required(FrozenConfig):
        size: Count = Field(description="A size.")

    assert WithDefault().size == 40
    with pytest.raises(ValidationError, match="size"):
        Required()


def test_a_pickle_from_before_a_field_was_added_has_its_default() -> None:
    state = DataraxModuleConfig(cacheable=True).__getstate__()
    del state["__dict__"]["batch_stats_fn"]
    restored = DataraxModuleConfig.__new__(DataraxModuleConfig)
    restored.__setstate__(state)
    assert restored == DataraxModuleConfig(cacheable=True)
