"""The JSON Schema of each stage accepts what validation accepts: what editors show is true."""

from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from datarax_image import (
    CenterCrop,
    ColorJitter,
    CutMix,
    DecodeImage,
    Flip,
    MixUp,
    Normalize,
    RandomCrop,
    RandomResizedCrop,
    Resize,
)

STAGES = [CenterCrop, ColorJitter, CutMix, DecodeImage, Flip, MixUp, Normalize, RandomCrop, RandomResizedCrop, Resize]
VALUES = [None, True, False, 0, 1, 3, 4, 0.5, -1, "x", "", "uint16", "uint8", "indices", "lanczos", "pad", "edge", "xywh",
          [], ["a"], [1], [4, 5], [0.5, 1], [0, 1], [1, 1, 1], "constant", "xyxy", "stretch", "nix"]  # fmt: skip


def accepts(cls: Any, config: dict[str, Any]) -> bool:
    try:
        cls.model_validate(config)
    except ValidationError as refused:
        return "from a least to a greatest" in str(refused)  # which no schema can say
    return True


@pytest.mark.parametrize("cls", STAGES, ids=lambda cls: cls.__name__)
def test_examples_are_good(cls: Any) -> None:
    validator = jsonschema.Draft202012Validator(cls.model_json_schema())
    for example in cls.model_config["json_schema_extra"]["examples"]:
        assert accepts(cls, example)
        assert validator.is_valid(example)


@pytest.mark.parametrize("cls", STAGES, ids=lambda cls: cls.__name__)
def test_schema_and_validation_agree(cls: Any) -> None:
    validator = jsonschema.Draft202012Validator(cls.model_json_schema())
    example = cls.model_config["json_schema_extra"]["examples"][0]

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(st.dictionaries(st.sampled_from([*cls.model_fields, "nix"]), st.sampled_from(VALUES), max_size=4))
    def agree(changes: dict[str, Any]) -> None:
        config = {**example, **changes}
        assert validator.is_valid(config) == accepts(cls, config), config

    agree()
