"""Config classes below ``@dataclass``: people who come with such a class keep it as it is."""

import copy
import pickle
from dataclasses import dataclass, field

import pytest
from pydantic import ValidationError

from datarax_core.config import StructuralConfig


@dataclass(frozen=True)
class DecoratedConfig(StructuralConfig):
    path: str
    window: int = 4
    options: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < 1:
            raise ValueError("window must be positive")
        object.__setattr__(self, "window", self.window * 2)


@dataclass
class DerivedConfig(DecoratedConfig):
    name: str = "derived"


def test_a_decorated_config_works_as_one_without_the_decorator() -> None:
    config = DecoratedConfig(path="a", stochastic=True, stream_name="shuffle")
    assert (config.path, config.window, config.options, config.stochastic) == ("a", 8, {}, True)
    assert config == DecoratedConfig(path="a", stochastic=True, stream_name="shuffle")
    assert hash(config) == hash(copy.deepcopy(config))
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301 - written here
    assert config != DecoratedConfig(path="b")


def test_a_decorated_config_is_validated() -> None:
    with pytest.raises(ValidationError, match="window must be positive"):
        DecoratedConfig(path="a", window=0)
    with pytest.raises(ValidationError, match="window\n  Input should be a valid integer"):
        DecoratedConfig(path="a", window="4")
    with pytest.raises(ValidationError, match="path\n  Field required"):
        DecoratedConfig()
    with pytest.raises(ValidationError, match="Instance is frozen"):
        DecoratedConfig(path="a").path = "b"


def test_a_class_derived_from_a_decorated_one_keeps_all_fields() -> None:
    config = DerivedConfig(path="a", name="b", window=1)
    assert (config.path, config.name, config.window, config.stochastic) == ("a", "b", 2, False)


def test_an_order_of_configs_is_refused() -> None:
    with pytest.raises(TypeError, match=r"OrderedConfig is a config, .*leave the decorator out"):

        @dataclass(order=True)
        class OrderedConfig(StructuralConfig):
            path: str


def test_slots_are_refused() -> None:
    with pytest.raises(TypeError, match=r"SlottedConfig is a config, .*leave the decorator out"):

        @dataclass(slots=True)
        class SlottedConfig(StructuralConfig):
            path: str
