"""The field type `Shuffling`: what one field of a config does to the config, its schema, and the order of its source."""

from typing import Any, ClassVar, Literal

import jax
import jsonschema
import numpy as np
import pytest
from flax import nnx
from pydantic import Field, ValidationError, model_validator

from datarax_core.config import Flag, Shuffling, SourceConfig, shuffling_is_stochastic, stream_rules
from datarax_core.registry.schema import model_schema
from datarax_core.sources.source import DataSourceModule


class OneConfig(SourceConfig):
    type: Literal["one"] = "one"
    shuffle: Shuffling = False


class DefaultConfig(SourceConfig):
    type: Literal["default"] = "default"
    shuffle: Shuffling = True


class TwoConfig(OneConfig):
    type: Literal["two"] = "two"  # type: ignore[assignment]  # a type of its own
    shuffle_files: Shuffling | None = Field(default=None, description="Shuffle the files.")


class OldConfig(SourceConfig):
    """As plugins were written before there was a type for it."""

    type: Literal["old"] = "old"
    shuffle: Flag = False
    schema_rules: ClassVar = (*stream_rules("shuffle"),)

    @model_validator(mode="before")
    @classmethod
    def _shuffling_is_stochastic(cls, values: Any) -> Any:
        return shuffling_is_stochastic(values, "shuffle")


class Numbers(DataSourceModule):
    config_class = SourceConfig

    def __len__(self) -> int:
        return 64

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {"x": jax.ShapeDtypeStruct((), np.dtype(np.int32))}

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        return {"x": np.asarray(indices, np.int32)}


class OldNumbers(Numbers):
    def __init__(self, config: Any, *, rngs: nnx.Rngs | None = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.set_random_order(config.shuffle)


@pytest.mark.parametrize(
    ("config", "fields", "stream"),
    [
        (OneConfig, {}, None),
        (OneConfig, {"shuffle": True}, "shuffle"),
        (OneConfig, {"shuffle": True, "stream_name": "mine"}, "mine"),
        (OneConfig, {"shuffle": True, "stochastic": False}, "shuffle"),
        (OneConfig, {"stochastic": True, "stream_name": "later"}, "later"),
        (DefaultConfig, {}, "shuffle"),
        (DefaultConfig, {"shuffle": False}, None),
        (TwoConfig, {"shuffle_files": True}, "shuffle"),
        (TwoConfig, {"shuffle_files": None}, None),
        (TwoConfig, {"shuffle": True, "shuffle_files": False}, "shuffle"),
        (OldConfig, {"shuffle": True}, "shuffle"),
        (OldConfig, {"stochastic": True, "stream_name": "later"}, "later"),
    ],
)
def test_a_config_that_shuffles_is_stochastic(
    config: type[SourceConfig], fields: dict[str, Any], stream: str | None
) -> None:
    made = config(**fields)
    assert (made.stochastic, made.stream_name) == (stream is not None, stream)
    jsonschema.validate(fields, model_schema(config, "x"))
    assert config.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize(
    ("config", "fields", "message"),
    [
        (OneConfig, {"shuffle": 1}, r"shuffle\n.*should be a valid boolean"),
        (OneConfig, {"shuffle": None}, r"shuffle\n.*should be a valid boolean"),
        (OneConfig, {"stream_name": "x"}, r"stream_name='x' has no use without stochastic=True"),
        (OneConfig, {"stochastic": True}, r"stochastic=True needs a stream_name"),
        (DefaultConfig, {"shuffle": False, "stream_name": "x"}, r"stream_name='x' has no use without stochastic=True"),
        (TwoConfig, {"shuffle_files": "yes"}, r"shuffle_files\n.*should be a valid boolean"),
    ],
)
def test_what_cannot_work_is_refused_and_the_schema_says_so(
    config: type[SourceConfig], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**fields)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(fields, model_schema(config, "x"))


def test_the_schema_describes_the_field_and_has_the_rules_of_the_old_helpers() -> None:
    one, two = model_schema(OneConfig, "x"), model_schema(TwoConfig, "x")
    assert one["properties"]["shuffle"]["description"] == "Serve the records of each epoch in a shuffled order."
    assert two["properties"]["shuffle_files"]["description"] == "Shuffle the files."
    assert one["allOf"] == model_schema(OldConfig, "x")["allOf"]

    class OldTwo(SourceConfig):
        schema_rules: ClassVar = (*stream_rules("shuffle", "shuffle_files"),)

    assert two["allOf"] == model_schema(OldTwo, "x")["allOf"]


@pytest.mark.parametrize(
    ("config", "shuffled"),
    [
        (OneConfig(), False),
        (OneConfig(shuffle=True), True),
        (OneConfig(stochastic=True, stream_name="shuffle"), False),
        (DefaultConfig(), True),
        (TwoConfig(shuffle_files=True), True),
        (SourceConfig(type="other", stochastic=True, stream_name="shuffle"), True),
    ],
)
def test_a_source_is_shuffled_from_the_start_if_its_config_says_so(config: SourceConfig, *, shuffled: bool) -> None:
    source = Numbers(config, rngs=nnx.Rngs(0))
    assert source.is_random_order is shuffled
    if config.stochastic:
        source.set_random_order(not shuffled)
        assert source.is_random_order is not shuffled


def test_it_serves_the_order_of_a_source_with_the_old_helpers() -> None:
    sources = Numbers(OneConfig(shuffle=True), rngs=nnx.Rngs(3)), OldNumbers(OldConfig(shuffle=True), rngs=nnx.Rngs(3))
    new, old = (source.get_batch(64)["x"].tolist() for source in sources)
    assert new == old != sorted(new)


def test_a_config_changed_without_validation_cannot_shuffle() -> None:
    config = OneConfig().model_copy(update={"shuffle": True})
    with pytest.raises(
        ValueError, match=r"Numbers 'n' cannot shuffle: it was built without a random stream; build it as"
    ):
        Numbers(config, name="n", rngs=nnx.Rngs(0))
