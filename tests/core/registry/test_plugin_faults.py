"""Faults of plugins that show in use: each error names plugin, class and what to write, and the place in the config."""

from pathlib import Path
from textwrap import dedent, indent
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
import pytest

from datarax_core import Pipeline, from_sequence
from datarax_core.errors import ConfigError, PluginContractError, SpecError, StageError
from datarax_core.registry import SourceRegistry, StageRegistry, load_config

if TYPE_CHECKING:
    from conftest import Site

SOURCE = """
from typing import Literal
import jax, numpy as np
from datarax_core import DataSourceModule, SourceConfig

class SConfig(SourceConfig):
    type: Literal["acme"] = "acme"
    fails: bool = False
    {field}

class S(DataSourceModule):
    config_class = SConfig
    def __len__(self): return 4
    def element_spec(self): return {{"x": jax.ShapeDtypeStruct((), np.int32)}}
    def get_records(self, indices): return {{"x": np.asarray(indices, np.int32)}}
"""
STAGE = """
from typing import ClassVar, Literal
import jax
from datarax_core import Stage

class St(Stage):
    type: Literal["acme_st"] = "acme_st"
    field: str = "x"
"""
CONFIG = """
batch_size: 2
source: {type: acme}
"""
STAGED = """
batch_size: 2
source: {type: acme}
stages:
  - {type: rescale, field: x, scale: 2.0, lossy: true}
  - {type: acme_st, field: xx}
"""
NESTED = """
batch_size: 2
source:
  type: mix
  weights: [1, 1]
  sources:
    - {type: acme}
    - type: mix
      weights: [1, 1]
      sources:
        - {type: acme, fails: true}
        - {type: acme}
"""


def pipeline_of(
    site: "Site", tmp_path: Path, config: str, *, source: str = "", stage: str = "", field: str = ""
) -> Pipeline:
    """Return the pipeline of a config, in which the methods ``source`` and ``stage`` are added to the plugins' classes."""
    code = SOURCE.format(field=field) + indent(dedent(source), "    ")
    site.install("acme-records", {"acme": "acme_records:S"}, version="2.1", code=code)
    code = STAGE + indent(dedent(stage or "def __call__(self, batch): return batch\n"), "    ")
    site.install("acme-stages", {"acme_st": "acme_stages:St"}, version="3.0", code=code, group="datarax.stages")
    path = tmp_path / "train.yaml"
    path.write_text(config.lstrip("\n"))
    loaded = load_config(path, SourceRegistry.from_environment(), stage_registry=StageRegistry.from_environment())
    return Pipeline.from_config(loaded, SourceRegistry.from_environment())


# -- sources ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ("def element_spec(self): return {'x': ((), np.int32)}",
         r"element_spec\(\) has <class 'numpy.int32'> at 'x.1', which .*; write a jax.ShapeDtypeStruct\(shape, dtype\)"),
        ("def element_spec(self): return {'x': (np.int32, (2,))}", r"element_spec\(\) has <class 'numpy.int32'> at 'x.0'"),
        ("def element_spec(self): pass", r"element_spec\(\) returned None; return a jax.ShapeDtypeStruct for each field"),
        ("def __len__(self): return '4'", r"__len__\(\) returned '4'; return the number of records, an integer from 0"),
        ("def __len__(self): return -1", r"__len__\(\) returned -1; return the number"),
        ("def __init__(self, config, *, rngs=None, name=None): self.config = config",
         r"__init__\(\) does not call super\(\).__init__\(config, rngs=rngs, name=name\); make that its first statement"),
        ("@classmethod\ndef from_config(cls, config, build): cls(config)",
         r"from_config\(\) returned None, not a source; return cls\(config, rngs=build.rngs\)"),
    ],
)  # fmt: skip
def test_a_fault_of_a_source_names_plugin_and_class_and_what_to_write(
    site: "Site", tmp_path: Path, method: str, problem: str
) -> None:
    with pytest.raises(PluginContractError, match=rf"^source 'acme' \(acme-records 2\.1\): S\.{problem}"):
        pipeline_of(site, tmp_path, CONFIG, source=method)


@pytest.mark.parametrize(
    ("source", "field", "problem"),
    [
        ("def __init__(self, config): super().__init__(config)", "",
         r"its __init__ cannot be called with \(config, rngs=\.\.\.\): got an unexpected .*; write `def __init__\("),
        ("", "other: 'Nope' = 3",
         "an annotation of SConfig does not resolve: name 'Nope' is not defined; import that name in acme_records"),
    ],
)  # fmt: skip
def test_what_shows_without_a_call_is_refused_when_the_plugin_is_loaded(
    site: "Site", tmp_path: Path, source: str, field: str, problem: str
) -> None:
    with pytest.raises(
        ConfigError, match=rf"train.yaml:2: source.type: source 'acme' \(acme-records 2\.1\) is no source: {problem}"
    ):
        pipeline_of(site, tmp_path, CONFIG, source=source, field=field)


def test_a_constructor_of_any_signature_serves_a_from_config_of_its_own(site: "Site", tmp_path: Path) -> None:
    own = "def __init__(self, config): super().__init__(config)\n"
    own += "@classmethod\ndef from_config(cls, config, build): return cls(config)"
    assert len(list(pipeline_of(site, tmp_path, CONFIG, source=own))) == 2


REFUSES = """
def __init__(self, config, *, rngs=None, name=None):
    super().__init__(config, rngs=rngs, name=name)
    if config.fails:
        raise {error}
"""


def test_what_a_nested_source_refuses_is_at_its_place_in_the_config(site: "Site", tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train.yaml:10: source.sources\[1\].sources\[0\]: no such split$"):
        pipeline_of(site, tmp_path, NESTED, source=REFUSES.format(error="ValueError('no such split')"))


def test_any_other_error_of_a_source_s_constructor_has_a_note_with_the_place(site: "Site", tmp_path: Path) -> None:
    with pytest.raises(KeyError) as caught:
        pipeline_of(site, tmp_path, NESTED, source=REFUSES.format(error="KeyError('a')"))
    assert caught.value.__notes__ == [f"while source.sources[1].sources[0] ({tmp_path}/train.yaml:10) was built"]


# -- stages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ("def build(self, spec, rngs): pass", r"\.build\(\) returned None; return self, or the callable"),
        ("stochastic: ClassVar = True\ndef __call__(self, batch): return batch",
         r" has stochastic = True, so it is called with \(batch, keys\), .*; write def __call__\(self, batch, keys\)$"),
        ("takes_record_indices: ClassVar = True\ndef __call__(self, batch): return batch",
         r" has takes_record_indices = True, so it is called with \(batch, indices\)"),
        ("def __call__(self, batch, keys): return batch",
         r" has neither stochastic = True nor takes_record_indices = True, so it is called with \(batch\)"),
    ],
)  # fmt: skip
def test_a_fault_of_a_stage_is_told_when_the_pipeline_is_built(
    site: "Site", tmp_path: Path, method: str, problem: str
) -> None:
    with pytest.raises(PluginContractError, match=rf"^stage 'acme_st' \(acme-stages 3\.0\): St{problem}"):
        pipeline_of(site, tmp_path, STAGED, stage=method)


def test_a_stage_that_returns_nothing_names_its_plugin(site: "Site", tmp_path: Path) -> None:
    pipeline = pipeline_of(site, tmp_path, STAGED, stage="def __call__(self, batch): pass")
    with pytest.raises(
        PluginContractError, match=r"^stage 'acme_st' \(acme-stages 3\.0\): St returned None; a stage returns"
    ):
        pipeline.element_spec()


def test_a_field_that_an_option_misspells_is_no_bug_of_the_stage(site: "Site", tmp_path: Path) -> None:
    call = "def __call__(self, batch): return {**batch, self.field: batch[self.field] * 2}"
    pipeline = pipeline_of(site, tmp_path, STAGED, stage=call)
    with pytest.raises(
        StageError, match=r"^the records have no field 'xx'; did you mean 'x'\? \(fields: x\)"
    ) as caught:
        pipeline.element_spec()
    assert caught.value.option == ("field",)
    assert "in stage 1 (acme_st) of the pipeline" in caught.value.__notes__


def test_a_key_that_no_option_names_stays_the_stage_s_own_error(site: "Site", tmp_path: Path) -> None:
    pipeline = pipeline_of(site, tmp_path, STAGED, stage="def __call__(self, batch): return batch['y']")
    with pytest.raises(KeyError, match="'y'"):
        pipeline.element_spec()


# -- what is given in Python --------------------------------------------------------------------------------------------

RECORDS = from_sequence([{"x": np.int32(i)} for i in range(5)])


class Doubled:
    def __call__(self, batch: dict[str, jnp.ndarray]) -> dict[str, jnp.ndarray]:
        return {**batch, "x": batch["x"] * 2}


def test_a_class_in_place_of_a_stage_is_refused_when_the_pipeline_is_built() -> None:
    with pytest.raises(
        TypeError, match=r"^stage 0 is the class Doubled; give an instance of it, such as Doubled\(\.\.\.\)$"
    ):
        Pipeline(source=RECORDS, stages=[Doubled], batch_size=2)


def test_a_function_that_takes_no_keys_is_refused_as_stochastic() -> None:
    def noise(batch: object) -> object:
        return batch

    noise.stochastic = True  # type: ignore[attr-defined]
    with pytest.raises(
        TypeError, match=r"^stage 0 \(noise\) has stochastic = True, .*; write def noise\(batch, keys\)$"
    ):
        Pipeline(source=RECORDS, stages=[noise], batch_size=2)


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (
            lambda batch: {"valid": batch["x"]},
            "is also the name of a field that the stages make, which the mask would replace",
        ),
        (lambda batch: [batch["x"]], "adds a field to each batch, but the stages make a list"),
    ],
)
def test_a_mask_that_the_batches_cannot_hold_is_refused_when_the_pipeline_is_built(made: object, problem: str) -> None:
    with pytest.raises(SpecError, match=f"^pad_last='valid' {problem}"):
        Pipeline(source=RECORDS, stages=[made], batch_size=2, pad_last="valid")


def test_a_stage_may_use_and_change_the_mask() -> None:
    masked = Pipeline(source=RECORDS, stages=[lambda b: {"n": b["x"] * b["valid"]}], batch_size=2, pad_last="valid")
    changed = Pipeline(
        source=RECORDS, stages=[lambda b: {k: v * 1 for k, v in b.items()}], batch_size=2, pad_last="valid"
    )
    assert [len(list(pipeline)) for pipeline in (masked, changed)] == [3, 3]
