"""Strict scalars: annotations ``int``, ``float`` and ``bool`` of a config take no text and no other kind of number."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import Field, ValidationError

from datarax_core.config import SourceConfig
from datarax_core.registry import SourceRegistry, load_config
from datarax_core.sources import DataSourceModule


class ForeignConfig(SourceConfig):
    """The config of a third party, whose annotations are plain types."""

    type: Literal["foreign"] = "foreign"
    count: int = 1
    maybe: int | None = None
    many: list[int] = []
    pair: tuple[int, ...] = ()
    positive: Annotated[int, Field(gt=0)] = 1
    rate: float = 0.5
    rates: dict[str, float] = {}
    by_number: dict[int, str] = {}
    flag: bool = False
    either: int | str = 0
    lenient: Annotated[int, Field(strict=False)] = 1


class Foreign(DataSourceModule):
    config_class = ForeignConfig


INTEGERS = ("count", "maybe", "positive")


@pytest.mark.parametrize("value", ["5", True, 5.0, "yes", None])
@pytest.mark.parametrize("field", INTEGERS)
def test_an_int_takes_integers_only(field: str, value: Any) -> None:
    if field == "maybe" and value is None:
        return
    with pytest.raises(ValidationError, match=f"{field}\n  Input should be a valid integer"):
        ForeignConfig(**{field: value})


@pytest.mark.parametrize(
    ("field", "value", "place"),
    [
        ("many", [1, "5"], "many.1"),
        ("pair", [True], "pair.0"),
        ("rates", {"a": "0.5"}, "rates.a"),
        ("rates", {"a": True}, "rates.a"),
    ],
)
def test_inner_values_are_strict(field: str, value: Any, place: str) -> None:
    with pytest.raises(ValidationError, match=f"{place}\n  Input should be a valid"):
        ForeignConfig(**{field: value})


@pytest.mark.parametrize("value", [1, 0, "true", "yes", 1.0])
def test_a_flag_takes_true_and_false_only(value: Any) -> None:
    with pytest.raises(ValidationError, match="flag\n  Input should be a valid boolean"):
        ForeignConfig(flag=value)


@pytest.mark.parametrize("value", ["0.5", True])
def test_a_float_takes_neither_text_nor_flags(value: Any) -> None:
    with pytest.raises(ValidationError, match="rate\n  Input should be a valid number"):
        ForeignConfig(rate=value)


def test_right_values_are_taken() -> None:
    config = ForeignConfig(
        count=np.int64(5), many=[np.int32(1)], pair=[1, 2], rate=3, rates={"a": 1}, flag=True, either="5", lenient="7"
    )
    assert (config.count, config.many, config.pair) == (5, [1], (1, 2))
    assert (config.rate, config.rates, config.flag, config.either, config.lenient) == (3.0, {"a": 1.0}, True, "5", 7)
    assert [type(value) for value in (config.count, config.many[0], config.rate)] == [int, int, float]


def test_keys_of_tables_are_text_in_files_and_become_numbers() -> None:
    assert ForeignConfig(by_number={"5": "five"}).by_number == {5: "five"}


@pytest.mark.parametrize("text", ['"5"', "true", "5.0", "[5]"])
@pytest.mark.parametrize("suffix", ["yaml", "toml", "json"])
def test_a_file_is_held_to_it(tmp_path: Path, suffix: str, text: str) -> None:
    registry = SourceRegistry()
    registry.register(Foreign)
    path = tmp_path / f"config.{suffix}"
    path.write_text({
        "yaml": f"batch_size: 2\nsource:\n  type: foreign\n  count: {text}\n",
        "toml": f"batch_size = 2\n[source]\ntype = 'foreign'\ncount = {text}\n",
        "json": json.dumps({"batch_size": 2, "source": {"type": "foreign", "count": "?"}}).replace('"?"', text),
    }[suffix])  # fmt: skip
    with pytest.raises(ValueError, match=r"source\.count: should be a valid integer, not"):
        load_config(path, registry)
    assert ForeignConfig.model_fields["count"].annotation is int  # the annotation stays
