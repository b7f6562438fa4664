"""The JSON Schema of all installed plugins accepts what validation accepts: a corpus, and hypothesis' variations of it."""

import copy
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core.errors import ConfigError
from datarax_core.registry.pipeline_config import parse_config
from datarax_core.registry.sources import SourceRegistry

ARRAY = {"type": "array", "fields": {"x": {"dtype": "int32", "shape": [2]}, "y.z": {"dtype": "S4"}}}
EXAMPLE = {"type": "example", "fields": {"a": {"dtype": "str", "default": "x"}, "b": {"dtype": "uint8", "shape": [1]}}}
FILES = {"type": "arrayrecord", "paths": ["a", "b"], "on_error": "substitute", "max_errors": 0.5, "quarantine": "q"}
NAMED = {
    "type": "mix",
    "weights": {"a": 1, "b": 0},
    "sources": {"a": {"type": "memory"}, "b": {**FILES, "decoder": ARRAY}},
}
STAGES: list[dict[str, Any]] = [
    {"type": "rescale", "field": "x", "scale": [1.5, 2], "offset": 1, "dtype": "float16"},
    {"type": "cast", "field": "x", "dtype": "int8", "lossy": True},
    {"type": "select", "fields": ["a", "b"]},
    {"type": "rename", "fields": {"a": "b", "c": "d.e"}},
    {"type": "one_hot", "field": "c", "classes": 3},
    {
        "type": "pad",
        "field": ["x", "y"],
        "lengths": [2, 4],
        "value": 0.5,
        "side": "left",
        "mask_field": "m",
        "truncate": "right",
    },
    {"type": "pad", "field": "x", "length": [3, 4], "value": True, "length_field": "a.n"},
    {"type": "truncate", "field": "t", "length": 3, "side": "left"},
    {
        "type": "tokenize_bytes",
        "field": "t",
        "to": "ids",
        "offset": 3,
        "bos": 1,
        "eos": 2,
        "length": 9,
        "dtype": "uint16",
    },
    {"type": "lookup", "field": "c", "classes": ["a", "b"], "unknown": -1, "to": "id", "dtype": "int8"},
    {"type": "lookup", "field": "c", "file": "classes.txt"},
    {"type": "astype", "field": "x", "dtype": "int64", "lossy": True},
    {"type": "decode_image", "field": "i", "channels": 1, "palette": "indices", "lossy": True, "max_pixels": 9},
    {
        "type": "resize",
        "field": "i",
        "size": [4, 5],
        "fit": "pad",
        "fill": 3,
        "boxes": "b",
        "format": "xywh",
        "relative": True,
    },
    {"type": "random_crop", "field": "i", "size": 4, "padding": 2, "pad_mode": "edge", "masks": ["m"]},
    {
        "type": "center_crop",
        "field": "i",
        "size": 4,
        "pad_if_needed": True,
        "fill": 3,
        "boxes": "b",
        "min_visible": 0.5,
    },
    {"type": "random_resized_crop", "field": "i", "size": 4, "scale": [0.5, 1], "antialias": False},
    {"type": "flip", "field": "i", "horizontal": 0, "vertical": 0.5, "boxes": "b", "box_labels": ["l"]},
    {"type": "normalize", "field": "i", "mean": [0.5], "std": [1, 2.5, 3], "max_value": 2, "dtype": "float16"},
    {"type": "color_jitter", "field": "i", "hue": 0.5, "contrast": 2},
    {"type": "mixup", "field": "i", "label": "l", "classes": 3, "alpha": 0.2, "probability": 1},
    {"type": "cutmix", "field": "i", "label": "l", "valid": "v"},
    {"type": "tokenize", "field": "t", "tokenizer": "t.json", "to": "ids", "eos": "</s>", "dtype": "uint16"},
    {"type": "detokenize", "field": "ids", "tokenizer": "t.model", "mask_field": "m", "special_tokens": True},
]
COMPILED = {"rescale", "cast", "one_hot", "normalize", "color_jitter", "mixup", "cutmix"}


def host_first(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return stages in an order in which a pipeline takes them: those on the host before compiled ones."""
    return sorted(stages, key=lambda stage: stage["type"] in COMPILED)


GOOD: list[dict[str, Any]] = [
    {"batch_size": 3, "source": {"type": "memory", "path": "x", "shuffle": True, "stream_name": "s"}},
    {"batch_size": 3, "pad_last": "valid", "num_epochs": None, "source": {"type": "memory", "num_workers": 2, "shard_id": 1}},
    {"batch_size": 3, "seed": 4, "source": {"type": "mix", "weights": [1, 2.5], "at_end": ["drop", 2],
                                            "sources": [{"type": "memory", "path": "a"}, NAMED]}},
    {"batch_size": 3, "source": {"type": "arrayrecord", "paths": "x", "decoder": "npz", "num_epochs": 3,
                                 "local_files_only": True}, "stages": host_first(STAGES)},
    {"batch_size": 3, "source": {"type": "mix", "num_sources": 2, "temperature": 0.5, "sampling": "categorical",
                                 "names": ["a", "b"], "fill": {"x": 1}, "source_field": "s"}},
    {"batch_size": 3, "source": {"type": "arrayrecord", "shuffle_files": True, "decoder": EXAMPLE}},
    {"batch_size": 3, "source": {"type": "arrayrecord", "decoder": {"type": "msgpack", "fields": None}}},
    {"batch_size": 3, "source": {"type": "arrayrecord", "decoder": {"type": "npz", "fields": {"d": {"dtype": "object"}}}}},
    {"batch_size": [[0, 3], [2, 5], [9, 3]], "source": {"type": "memory", "path": "x"}},
    {"batch_size": 3, "source": {"type": "mix", "sources": {"type": "memory"}, "weights": [
        {"from": 0, "weights": {"a": 1, "b": 0}}, {"from": 2, "to": 5, "ramp": {"a": 1, "b": 1}}]}},
    {"batch_size": 3, "source": {"type": "mix", "num_sources": 2, "weights": [{"from": 0, "weights": [0, 1.5]}]}},
]  # fmt: skip

CHOOSING: dict[str, dict[str, Any]] = {
    "split": {"type": "subset", "split": {"a": 0.5, "b": 0.25}, "part": "a", "seed": 1, "stratify": "x",
              "source": {"type": "subset", "slice": [0, None, 2], "source": {"type": "memory"}}},
    "fold": {"type": "subset", "fold": {"of": 5, "held_out": 0, "keep": "test"}, "shuffle": True,
             "source": {"type": "subset", "indices": [0, 3], "source": {"type": "memory"}}},
    "filter": {"type": "filter", "where": {"a": [3, 5], "b": {"min": 0.5, "max": None},
               "t": {"length": {"not": 3}, "missing": False}, "c": "x"}, "source": {"type": "memory"}},
    "groups": {"type": "groups", "by": "x", "group": 3, "source": {
               "type": "subset", "file": "x.txt", "source": {"type": "subset", "mask": "m.npy", "source": {"type": "memory"}}}},
}  # fmt: skip
GOOD += [{"batch_size": 3, "source": source} for source in CHOOSING.values()]

WINDOWS: list[dict[str, Any]] = [
    {"type": "window", "length": 4, "stride": 2, "field": ["x", "y"], "inside": True, "shift": 1, "target_field": "t",
     "target_of": "x", "remainder": "pad", "pad_value": {"x": 1}, "mask_field": "m", "too_short": "drop", "length_field": "n",
     "source": {"type": "window", "length": 4, "inside": False, "shuffle": True, "source": {"type": "memory"}}},
    {"type": "window", "length": 4, "field": "x", "cross": True, "remainder": "overlap", "source": {"type": "memory"}},
]  # fmt: skip
ADDRESSES: list[dict[str, Any]] = [
    {
        "type": "memory",
        "path": "s3://b/x.npz",
        "cache_dir": "c",
        "cache_bytes": "2GiB",
        "storage_options": {"anon": True},
    },
    {
        "type": "tfrecord",
        "paths": ["a", "https://host/x"],
        "cache_dir": "c",
        "cache_bytes": 9,
        "local_files_only": False,
    },
]
GOOD += [{"batch_size": 3, "source": source} for source in (*WINDOWS, *ADDRESSES)]

VALUES = [None, True, False, 0, 1, 2, -1, 0.5, "", "x", "a.b", "valid", "memory", "raw", "array", "int32", "<i4", "U8", "S0",
          "datetime64[D]", "int33", [], ["a"], ["a", "a"], [1], [0, 0], [1, 2.5], {}, {"type": "memory"}, {"a": 1}, {"a": "b"},
          {"type": "nix"}, {"type": "raw"}, ["s3://b/c"], "s3://x", -5, 2**32]  # fmt: skip
FIELDS = ["batch_size", "seed", "num_epochs", "drop_last", "pad_last", "stochastic", "stream_name", "shuffle", "shuffle_files",
          "cacheable", "batch_stats_fn", "precomputed_stats", "shard_id", "num_workers", "paths", "decoder", "max_errors",
          "quarantine", "on_error", "local_files_only", "weights", "temperature", "names", "sampling", "stop", "at_end", "fill",
          "source_field", "lossy", "dtype", "scale", "nix", "sources", "num_sources", "shape", "default", "length", "lengths",
          "classes", "file", "field", "value", "unknown", "to", "truncate", "mask_field", "bos", "split", "part", "fold",
          "slice", "indices", "mask", "stratify", "where", "of", "held_out", "by", "group", "min", "in", "not", "stride",
          "shift", "inside", "cross", "remainder", "pad_value", "target_field", "target_of", "too_short",
          "length_field"]  # fmt: skip

# what only validation can say: how two values compare
UNSAYABLE = re.compile(
    r"has \d+ entries for \d+ children|shard_id=.* is out of range: num_workers=[2-9]|the children differ in"
    r"|num_sources=\d+ differs from|which fill gives a value to|a default of|the default .* (has shape|is no|is out of range)"
    r"|has \d+ bytes|is a field, and with|is renamed to what it is called already|two fields are renamed to"
    r"|is from a least to a greatest number|weights go back|ends before it begins"
    r"|batch_size: this field is required"  # unless the source decides its batches
    r"|held_out=\d+ is out of range: of=|is no part of the split, which has|all numbers of records, not both"
    r"|of the condition on .* are of two kinds|and nothing is between; swap them"
    r"|is not after the stage before it"
)


@cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(SourceRegistry.from_environment().json_schema())


@pytest.fixture
def validator() -> jsonschema.Draft202012Validator:
    return _validator()


def _refusal(config: dict[str, Any]) -> str:
    try:
        parse_config(config)
    except ConfigError as refused:
        return str(refused)
    return ""


@pytest.mark.parametrize("config", GOOD)
def test_good_configs_are_good_to_both(validator: jsonschema.Draft202012Validator, config: dict[str, Any]) -> None:
    assert not _refusal(config)
    assert [error.message for error in validator.iter_errors(config)] == []


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (0, {"stream_name": ""}),
        (0, {"shuffle": False}),
        (0, {"num_workers": 2}),
        (0, {"shard_id": 1}),
        (1, {"shard_id": None}),
        (2, {"sources": []}),
        (2, {"weights": [0, 0]}),
        (2, {"weights": [-1, 1]}),
        (2, {"temperature": 1}),
        (2, {"sampling": "categorical"}),
        (2, {"at_end": {"a": "drop", "b": 1}}),
        (2, {"at_end": ["drop", 0]}),
        (3, {"paths": []}),
        (3, {"paths": "gs://x"}),
        (3, {"paths": ["x", "gs://x"]}),
        (3, {"num_epochs": 0}),
        (3, {"max_errors": 1}),
        (3, {"quarantine": "x"}),
        (3, {"on_error": "substitute", "max_errors": 1.5}),
        (3, {"on_error": "substitute", "max_errors": True}),
        (3, {"on_error": "substitute", "max_errors": "0.5"}),
        (3, {"shuffle": True, "shuffle_files": True}),
        (3, {"decoder": "array"}),
        (3, {"decoder": {"type": "array", "fields": {}}}),
        (3, {"decoder": {"type": "array", "fields": {"": {"dtype": "int8"}}}}),
        (3, {"decoder": {"type": "array", "fields": {"a": {"dtype": "U8"}}}}),
        (3, {"decoder": {"type": "array", "fields": {"a": {"b": {"dtype": "U8"}}}}}),
        (3, {"decoder": {"type": "array", "fields": {"a": {"b": {}}}}}),
        (3, {"decoder": {"type": "array", "fields": {"a": {"dtype": "int8", "shape": [-1]}}}}),
        (3, {"decoder": {"type": "npz", "fields": {"a": {"dtype": "S0"}}}}),
        (4, {"names": ["a", "a"]}),
        (4, {"num_sources": None}),
        (4, {"temperature": 0}),
        (8, {"stop": "all_seen"}),
        (8, {"at_end": "drop"}),
        (8, {"weights": [{"from": 0, "weights": {"a": 0, "b": 0}}]}),
        (8, {"weights": [{"from": 0, "weights": {"a": 1, "b": 0}, "to": 4}]}),
        (8, {"weights": [{"from": 0, "weights": {"a": 1}}, {"from": 4, "ramp": {"a": 1}}]}),
        (9, {"weights": [{"from": 1, "weights": [0, 1]}]}),
        (9, {"weights": [{"from": 0, "to": 3, "ramp": [0, 1]}]}),
        (9, {"weights": [{"from": 0, "weights": [0, -1]}]}),
        (9, {"weights": [{"from": 0}]}),
    ],
)
def test_bad_configs_are_bad_to_both(
    validator: jsonschema.Draft202012Validator, number: int, change: dict[str, Any]
) -> None:
    config = {**GOOD[number], "source": {**GOOD[number]["source"], **change}}
    assert _refusal(config)
    assert not validator.is_valid(config)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("split", {"part": None}),
        ("split", {"split": None}),
        ("split", {"slice": [3]}),
        ("split", {"split": {}}),
        ("split", {"split": {"a": 0}}),
        ("split", {"split": {"a": 1.5}}),
        ("split", {"seed": -1}),
        ("fold", {"fold": {"of": 1, "held_out": 0}}),
        ("fold", {"fold": None}),
        ("fold", {"part": "a"}),
        ("fold", {"source": {"type": "subset", "indices": [3, 3]}}),
        ("fold", {"source": {"type": "subset", "indices": [0.5]}}),
        ("fold", {"source": {"type": "subset", "indices": []}}),
        ("fold", {"source": {"type": "subset", "slice": [0, 1, 0]}}),
        ("fold", {"source": {"type": "subset", "slice": [1], "seed": 0}}),
        ("fold", {"source": {"type": "subset", "slice": [1], "stratify": "x"}}),
        ("fold", {"source": {"type": "subset", "file": "s3://b/x.npy"}}),
        ("filter", {"where": {}}),
        ("filter", {"where": {"a": []}}),
        ("filter", {"where": {"a": {}}}),
        ("filter", {"where": {"a": None}}),
        ("filter", {"where": {"a": {"most": 3}}}),
        ("filter", {"where": {"a": {"missing": 1}}}),
        ("filter", {"where": {"a": [[3]]}}),
        ("groups", {"by": ""}),
        ("groups", {"group": 0.5}),
        ("groups", {"group": None, "shuffle": True}),
        ("groups", {"group": None, "shuffle": False}),
    ],
)
def test_bad_choices_of_records_are_bad_to_both(
    validator: jsonschema.Draft202012Validator, name: str, change: dict[str, Any]
) -> None:
    config = {"batch_size": 3, "source": {**CHOOSING[name], **change}}
    assert _refusal(config)
    assert not validator.is_valid(config)


@pytest.mark.parametrize(
    ("number", "change"), [(0, {"stochastic": False}), (2, {"weights": None}), (2, {"stochastic": False})]
)
def test_defaults_that_are_spelled_out_are_good_to_both(
    validator: jsonschema.Draft202012Validator, number: int, change: dict[str, Any]
) -> None:
    config = {**GOOD[number], "source": {**GOOD[number]["source"], **change}}
    assert not _refusal(config)
    assert validator.is_valid(config)


@pytest.mark.parametrize(
    ("place", "change"),
    [
        (0, {"scale": 0}),
        (0, {"scale": []}),
        (0, {"dtype": "int8"}),
        (1, {"lossy": 1}),
        (1, {"dtype": "bool"}),
        (2, {"fields": []}),
        (2, {"fields": ["a", "a"]}),
        (3, {"fields": {}}),
        (3, {"fields": {"a": "b..c"}}),
        (4, {"classes": 0}),
        (4, {"field": None}),
        (5, {"length": 3}),
        (5, {"lengths": None}),
        (5, {"lengths": [2, 2]}),
        (5, {"field": []}),
        (5, {"truncate": "top"}),
        (6, {"length": []}),
        (6, {"value": "0"}),
        (8, {"bos": -1}),
        (9, {"classes": ["a", "a"]}),
        (9, {"classes": ["a", 1]}),
        (9, {"file": "x"}),
        (10, {"file": "s3://x"}),
        (10, {"file": None}),
    ],
)
def test_bad_stages_are_bad_to_both(
    validator: jsonschema.Draft202012Validator, place: int, change: dict[str, Any]
) -> None:
    stages = copy.deepcopy(STAGES)
    stages[place] |= change
    config = {**GOOD[3], "stages": host_first(stages)}
    assert _refusal(config)
    assert not validator.is_valid(config)


def test_a_whole_number_with_a_point_is_what_a_schema_cannot_tell(validator: jsonschema.Draft202012Validator) -> None:
    config = {**GOOD[0], "batch_size": 4.0}
    assert validator.is_valid(config)
    assert _refusal(config) == "config: batch_size: should be a valid integer, not 4.0"


Edit = tuple[int, str, str, Any]
EDITS = st.tuples(
    st.integers(0, 200), st.sampled_from(["set", "drop", "add"]), st.sampled_from(FIELDS), st.sampled_from(VALUES)
)


@settings(max_examples=300, deadline=None)
@given(config=st.sampled_from(GOOD), edits=st.lists(EDITS, min_size=1, max_size=2))
def test_what_is_made_of_good_configs_is_the_same_to_both(config: dict[str, Any], edits: list[Edit]) -> None:
    edited = copy.deepcopy(config)
    for edit in edits:
        _apply(edited, edit)
    refusal = _refusal(edited)
    if refusal and all(map(UNSAYABLE.search, refusal.splitlines())):
        return
    errors = [error.message for error in _validator().iter_errors(edited)]
    assert bool(errors) == bool(refusal), (refusal, errors)


def _apply(config: Any, edit: Edit) -> None:
    number, action, field, value = edit
    paths = list(_paths(config))
    *outer, last = paths[number % len(paths)]
    holder = config
    for key in outer:
        holder = holder[key]
    if action == "drop":
        holder.pop(last)
    elif action == "add" and isinstance(holder[last], dict):
        holder[last][field] = copy.deepcopy(value)
    else:
        holder[last] = copy.deepcopy(value)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    keys: Any = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*path, key)
        yield from _paths(value[key], (*path, key))
    if not path and not value:
        value["batch_size"] = 1  # an edit before dropped all there was
        yield ("batch_size",)
