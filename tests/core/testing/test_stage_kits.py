"""The kits of stages: each stage that breaks a promise fails the test of that promise first, and few others."""

import inspect
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from kit_stages import broken_compiled as compiled
from kit_stages import broken_on_host as on_host

from datarax_core import StageRegistry
from datarax_core.testing import HostStageConformance, StageConformance
from datarax_core.testing.stages.host_calls import HostSubject
from datarax_core.testing.stages.programs import DeviceSubject

PAGE = Path(__file__).parents[3] / "docs" / "conformance.md"

BUILT, REFUSED = "test_it_is_built_from_its_config", "test_records_it_cannot_work_on_are_refused"
OPTIONS = "test_every_option_is_refused_or_has_an_effect"

CAUGHT_BY = {
    compiled.Unbuildable: (BUILT, "building it for the records fails: TypeError: three are too many"),
    compiled.Late: (REFUSED, "a record without the field 'x' is found at a batch: .*Look for its fields in build"),
    compiled.Unnamed: (REFUSED, "errors that name the field, but a record without the field 'x' is refused by 'stages"),
    compiled.Branching: ("test_it_can_be_compiled", "looks at values while it is traced.*jnp.where in place of if"),
    compiled.Numpy: ("test_it_can_be_compiled", "looks at values while it is traced.*jax.numpy in place of NumPy"),
    compiled.Halving: ("test_it_makes_a_row_for_each_record", r"field 'label' has shape \[6\] for 11 records"),
    compiled.Doubling: (
        "test_its_batch_is_the_expected_one",
        r"field 'x' of row 0 at \[2\] is 2.56\d+ where 1.28\d+ is ",
    ),
    compiled.LyingSpec: ("test_its_spec_is_true", r"element_spec\(\) says .*'x' is float32\[3\] where int32\[3\]"),
    compiled.LyingHostFields: ("test_its_spec_is_true", "field 'name' .* is not expected; field 'text' .* is missing"),
    compiled.InPlace: (
        "test_it_leaves_its_input_alone",
        "it holds other arrays|field 'x' of row 0 .*Return a new dict",
    ),
    compiled.DrawsFromPython: ("test_it_makes_the_same_again", "another batch of them when it was compiled again"),
    compiled.DrawsWithoutUse: ("test_it_makes_the_same_again", "drew from the random state of Python or NumPy"),
    compiled.Counting: ("test_it_makes_the_same_again", "keep what changes in an nnx.Variable"),
    compiled.WrongIfTraced: ("test_compiled_and_uncompiled_code_agree", "Let no Python code depend on whether"),
    compiled.Growing: ("test_it_is_compiled_once", r"was traced \d+ times more in \d+ further batches"),
    compiled.Centered: ("test_a_record_does_not_depend_on_its_batch", "declare mixes_records = True"),
    compiled.FirstKey: ("test_a_record_does_not_depend_on_its_batch", "its own values and its own key"),
    compiled.InPairs: ("test_batches_of_any_size_work", "raises TypeError for one record"),
    compiled.Undrawn: ("test_another_epoch_draws_anew", "made the same batch in other epochs"),
    compiled.SumsAll: ("test_padded_rows_change_no_others", "in batch 0: field 'sum' of row 0 is 1.0 where 0.0"),
    compiled.ModestAboutMixing: ("test_a_record_does_not_depend_on_its_batch", "claims less .*leave it out"),
    compiled.WrongInScans: ("test_a_scan_serves_what_it_makes", r"pipeline.scan\(\) serves another batch 0"),
    compiled.NoCopy: ("test_copies_make_the_same", "but a pickle fails: .*Define its functions in a module"),
    compiled.Forgetful: ("test_copies_make_the_same", "a pickle makes something else"),
    compiled.HalvesHostFields: ("test_host_fields_have_a_row_for_each_record", "6 rows in field 'text'"),
    compiled.TurnsHostFieldsAround: (
        "test_host_fields_have_a_row_for_each_record",
        "leave host fields at their records",
    ),
    compiled.UsesWhatItLeavesOut: ("test_before_narrowing_says_what_it_uses", "its result differs without them"),
    compiled.Stopped: ("test_gradients_pass", "gradient of its parameters is zero in all 11 records"),
    compiled.NotFinite: ("test_gradients_pass", "gradient of the field 'x' is not finite"),
    compiled.Ignoring: (OPTIONS, "offset=.* is accepted and changes nothing .*Other records may show"),
    compiled.Forgiving: ("test_an_unknown_option_is_refused", "accepted no_such_option=1; leave model_config of Stage"),
    compiled.Lenient: ("test_numbers_and_flags_are_strict", "factor takes '0.5'; .*leave strict of Stage as it is"),
    compiled.Changeable: ("test_a_config_never_changes", "leave it frozen, as Stage is"),
    compiled.Rounded: ("test_a_config_survives_json", "factor came back different: factor=2.0 as 1.0"),
    compiled.Undescribed: (
        "test_its_schema_says_what_is_accepted",
        "refuses a config that works: factor: 2.5 is not of",
    ),
    on_host.OnDevice: (BUILT, "says on_host = False, and is tested as a stage on the host; derive .* StageConformance"),
    on_host.BuildsADeviceStage: ("test_it_says_that_it_runs_on_the_host", "does not say that it runs on the host"),
    on_host.Late: (REFUSED, "a record without the field 'text' "),
    on_host.Halving: ("test_it_makes_a_row_for_each_record", "returned 6 rows in field 'size' for 11 records"),
    on_host.OnJax: ("test_it_makes_a_row_for_each_record", "returned a device array in field 'size'"),
    on_host.Reusing: ("test_a_batch_that_it_returned_is_left_alone", "it makes new arrays at each call"),
    on_host.TakesAway: ("test_it_leaves_its_input_alone", "its fields are text, tokens where .*returns a new dict"),
    on_host.LyingSpec: ("test_its_spec_is_true", r"says in element_spec .*'size' is int64\[\] where int32\[\]"),
    on_host.Random: ("test_it_makes_the_same_again", "draws from the generators that a stage with stochastic"),
    on_host.Centered: ("test_a_record_does_not_depend_on_its_batch", "makes something else of a record by itself"),
    on_host.DifferentByEpoch: ("test_a_record_does_not_depend_on_its_batch", "makes something else of a record by"),
    on_host.Scratch: (
        "test_threads_may_call_it_at_once",
        "when several threads call it at once: .*thread_safe = False",
    ),
    on_host.NoCopy: ("test_copies_make_the_same", "does not pickle: .*define its functions in a module"),
    on_host.Stamped: ("test_its_fingerprint_is_json", r"has the fingerprint \{.*and its copy by pickle has"),
    on_host.InBytes: ("test_its_fingerprint_is_json", "has a fingerprint that is no JSON"),
    on_host.Undrawn: ("test_another_epoch_draws_anew", "is stochastic, and made the same batch in 8 epochs"),
    on_host.JoinsBadly: ("test_joined_stages_make_what_both_make", "joined with kit_sized makes something else"),
    on_host.Wrong: ("test_its_batch_is_the_expected_one", "field 'size' of row 0 is 1 where 0 is expected"),
    on_host.OverAllColumns: ("test_other_columns_do_not_disturb_it", "when the records have other columns besides"),
    on_host.Crashing: (
        "test_a_damaged_record_is_named",
        "in a batch it raises KeyError.*raise datarax_core.StageError",
    ),
    on_host.Trusting: ("test_a_damaged_record_is_named", "made a batch of it in a batch. Raise a ValueError, or leave"),
    on_host.FailsOnce: ("test_a_damaged_record_is_named", "made a batch of it by itself"),
    on_host.Ignoring: (OPTIONS, "is_careful=True is accepted and changes nothing"),
}
"""For each stage, the promise that it breaks, and what its message says."""

KITS = (StageConformance, HostStageConformance)

NOT_BROKEN = {
    StageConformance: {
        "test_a_loop_serves_what_it_makes",  # no stage could tell loops and steps from calls of the compiled stage
        "test_steps_serve_what_it_makes",
    },
    HostStageConformance: {
        "test_a_loop_serves_what_it_makes",
        "test_steps_serve_what_it_makes",
        "test_a_scan_serves_what_it_makes",
        # of the class that both kits share, with compiled stages that break them
        "test_an_unknown_option_is_refused",
        "test_a_config_never_changes",
        "test_a_config_survives_json",
        "test_its_schema_says_what_is_accepted",
        "test_numbers_and_flags_are_strict",
    },
}
"""Promises without a stage that breaks them alone."""

DECLARED: dict[Any, dict[str, Any]] = {
    compiled.Doubling: {"expected": {"x": compiled.RECORDS["x"] * 2}},
    compiled.ModestAboutMixing: {"mixes_records": True},
    compiled.Undescribed: {"config": {"type": "kit_scale", "factor": 2.5}},
    compiled.NotFinite: {"differentiable": ["x"]},
}
HOST_DECLARED = {"expected": on_host.EXPECTED, "damaged": on_host.DAMAGED}


@pytest.fixture(scope="module", autouse=True)
def _compiled_quickly() -> Any:
    """Programs are compiled for a single batch: optimizing them costs more than it saves."""
    jax.config.update("jax_disable_most_optimizations", True)  # noqa: FBT003 - of JAX
    yield
    jax.config.update("jax_disable_most_optimizations", False)  # noqa: FBT003


def failures_of(stage: Any, kit: type[Any], **declared: Any) -> dict[str, str]:
    """Return the tests that a stage fails, in their order, with the messages."""
    registry = StageRegistry()
    registry.register(stage)
    config = {"type": stage.model_fields["type"].default}
    author = type("Conformance", (kit,), {"config": config, "registry": registry, **declared})()
    subject: Any = (HostSubject if kit is HostStageConformance else DeviceSubject)(author, Path())
    return failed_of(author, subject)


def failed_of(author: Any, subject: Any) -> dict[str, str]:
    """Return the tests that a subject fails, in their order, with the messages."""
    failed: dict[str, str] = {}
    for name in [name for kit in KITS for name in vars(kit) if name.startswith("test_") and isinstance(author, kit)]:
        try:
            getattr(author, name)(subject)
        except pytest.skip.Exception:
            continue
        except BaseException as error:  # noqa: BLE001 - also what the kit itself would raise
            failed[name] = f"{type(error).__name__}: {error}"
    return failed


def declared_of(stage: Any) -> tuple[type[Any], dict[str, Any]]:
    if issubclass(stage, on_host.Sized):
        following = {"make_following": lambda *_: on_host.Sized(times=3)} if hasattr(stage, "join") else {}
        expected = {} if stage is on_host.DifferentByEpoch else HOST_DECLARED
        return HostStageConformance, {"records": on_host.RECORDS, **expected, **following}
    return StageConformance, {"records": compiled.RECORDS, **DECLARED.get(stage, {})}


@pytest.mark.parametrize("stage", CAUGHT_BY, ids=lambda stage: f"{stage.__module__[-8:]}.{stage.__name__}")
def test_a_broken_promise_fails_first_and_few_others(stage: Any) -> None:
    kit, declared = declared_of(stage)
    failed = failures_of(stage, kit, **declared)
    promise, message = CAUGHT_BY[stage]
    assert next(iter(failed), "none") == promise, failed
    assert len(failed) <= 3, failed
    assert re.search(message, failed[promise], re.DOTALL), failed[promise]


# -- the page ---------------------------------------------------------------------------------------------------------------


def section_of(title: str) -> str:
    return PAGE.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize(
    ("kit", "title"),
    [(StageConformance, "A stage in compiled code"), (HostStageConformance, "A stage on the host")],
    ids=["compiled", "on the host"],
)
def test_the_page_lists_the_tests_in_their_order(kit: type[Any], title: str) -> None:
    said = re.findall(r"^- `(test_\w+)`: (.*)$", section_of(title), re.MULTILINE)
    tests = {name: test for name, test in vars(kit).items() if name.startswith("test_")}
    assert said == [(name, inspect.getdoc(test).splitlines()[0]) for name, test in tests.items()]  # type: ignore[union-attr]


def test_every_promise_is_broken_by_a_stage() -> None:
    held = {kit: {CAUGHT_BY[stage][0] for stage in CAUGHT_BY if declared_of(stage)[0] is kit} for kit in KITS}
    for kit, promises in held.items():
        tests = {name for name in vars(kit) if name.startswith("test_")}
        assert tests - promises == NOT_BROKEN[kit]


def test_the_stages_of_the_page_keep_all_promises(tmp_path: Path) -> None:
    page: dict[str, Any] = {"__name__": "page"}
    for title in ("A stage in compiled code", "A stage on the host"):
        for block in re.findall(r"```python\n(.*?)```", section_of(title), re.DOTALL):
            exec(compile(block, title, "exec"), page)  # noqa: S102 - our own text
    page["Fade"].__module__, globals()["Fade"] = __name__, page["Fade"]  # so that it pickles
    for author, kind in ((page["TestFade"](), DeviceSubject), (page["TestPad"](), HostSubject)):
        assert failed_of(author, kind(author, tmp_path)) == {}


# -- wrong declarations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (
            {},
            r"Conformance does not declare how its stage is made; give it config = \{\"type\": ...\}, or define make_stage",
        ),
        (
            {"config": compiled.Scale()},
            r"Conformance does not declare the records that its stage is called with; give it",
        ),
        (
            {"config": compiled.Scale(), "records": [1, 2]},
            "Conformance declares records as a list; write a dict of columns",
        ),
        ({"config": compiled.Scale(), "records": {"x": np.zeros(1)}}, "declares less than two records; stages are"),
        (
            {"config": compiled.Scale(), "records": {"x": [1, 2], "y": [1]}},
            "differ in length: x has 2, y has 1; give each",
        ),
        (
            {"config": {"type": "no_such_stage"}, "records": {"x": [1, 2]}},
            "validating its config fails: .*unknown stage",
        ),
        (
            {"records": {"x": [1, 2]}, "make_stage": lambda *_: 3},
            r"promises to be callable, but make_stage\(\) returned 3; return a config, a mapping",
        ),
        (
            {"config": on_host.Sized(), "records": on_host.RECORDS},
            r"says on_host = True, and is tested as a stage on the device; derive the test from HostStageConformance",
        ),
        (
            {"config": compiled.Scale(), "records": compiled.RECORDS, "expected": {"y": [1.0] * 11}},
            "the stage kit_scale promises the expected batch, but it has no field 'y', only ",
        ),
        (
            {"config": compiled.Scale(), "records": compiled.RECORDS, "differentiable": ["y"]},
            r"declares differentiable = \['y'\], and the records have no field 'y'",
        ),
    ],
)
def test_a_wrong_declaration_is_told(declared: dict[str, Any], message: str, tmp_path: Path) -> None:
    author = type("Conformance", (StageConformance,), declared)()
    failed = failed_of(author, DeviceSubject(author, tmp_path))
    assert re.search(message, next(iter(failed.values())), re.DOTALL), failed
