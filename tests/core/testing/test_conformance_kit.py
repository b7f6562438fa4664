"""The conformance kit: each of its tests fails for the sources that break its promise, and for no others."""

import inspect
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from kit_runs import Verdicts, docstrings_of, said_on_the_page, verdicts_of
from kit_sources import broken_life, broken_order, broken_records, healthy
from kit_sources import conformances as made

from datarax_core import SourceRegistry
from datarax_core.testing import Shows, SourceConformance
from datarax_core.testing.sources.subject import Subject

CAUGHT_BY = {
    "test_it_is_built_from_its_config": [broken_records.Unbuildable],
    "test_what_it_guesses_is_a_config": [broken_records.GuessesAForeignOption],
    "test_numbers_and_flags_are_strict": [broken_records.Lenient],
    "test_a_foreign_file_is_named": [broken_records.NamesNoFile],
    "test_each_serving_has_an_id_of_its_own": [broken_order.AlikeTwice],
    "test_an_epoch_is_as_long_as_its_length_says": [broken_order.TooLong],
    "test_epochs_of_a_stream_without_a_length_go_on": [broken_order.SingleEpoch],
    "test_a_copy_starts_over": [broken_life.ForgetsItsData],
    "test_an_unknown_option_is_refused": [broken_records.Forgiving],
    "test_every_option_is_refused_or_has_an_effect": [broken_records.Ignoring],
    "test_a_config_never_changes": [broken_records.Changeable],
    "test_a_config_survives_json": [broken_records.Scaled],
    "test_its_schema_says_what_is_accepted": [broken_records.ByText],
    "test_length_is_the_expected_one": [broken_records.OneShort],
    "test_records_are_the_expected_ones": [broken_records.Swapped],
    "test_the_element_spec_is_true": [broken_records.WideElements],
    "test_a_batch_is_its_records_in_the_order_asked_for": [broken_records.Deduplicating],
    "test_a_record_by_itself_is_its_row_of_a_batch": [broken_records.CountsForward],
    "test_a_batch_that_was_given_away_is_left_alone": [broken_records.Reusing, broken_records.ReusingASize],
    "test_an_index_out_of_range_is_named": [broken_records.Wrapping],
    "test_a_missing_path_is_named": [broken_records.TakesNothing],
    "test_a_damaged_record_is_named": [broken_records.Vague],
    "test_it_claims_a_length_that_it_has": [broken_records.Lengthless],
    "test_it_claims_the_states_that_it_has": [broken_records.Stateless],
    "test_it_claims_that_it_can_be_traced": [broken_records.SecretlyTraceable],
    "test_it_claims_epochs_of_every_record_once": [broken_records.Modest],
    "test_get_batch_at_is_stateless": [broken_order.Seeking],
    "test_a_batch_has_the_size_that_was_asked_for": [broken_order.Short],
    "test_positions_go_on_epoch_after_epoch": [broken_order.Wraps32],
    "test_a_range_is_the_same_however_it_is_cut": [broken_order.OneByOne],
    "test_an_order_is_a_function_of_its_key": [broken_order.TypedKeys],
    "test_another_key_is_another_order": [broken_order.HalfKeys],
    "test_another_seed_is_another_order": [broken_order.Unseeded],
    "test_an_epoch_serves_every_record_once": [broken_order.Repeating],
    "test_an_order_is_a_permutation_at_every_length": [broken_order.NoBijection],
    "test_a_loop_over_it_serves_its_order": [broken_order.LoopsInSequence],
    "test_get_batch_serves_its_order": [broken_order.DropsTheTail],
    "test_get_batch_at_serves_its_order": [broken_order.Blockwise],
    "test_a_pipeline_s_loop_serves_its_order": [broken_order.SequentialAhead],
    "test_a_pipeline_s_steps_serve_its_order": [broken_order.SequentialSteps],
    "test_compiled_steps_serve_its_order": [broken_order.SequentialInTraces],
    "test_get_batch_at_can_be_compiled": [broken_order.KnowsNoTracedKeys],
    "test_a_scan_serves_its_order": [broken_order.WrongOnTheHost],
    "test_hosts_share_every_batch": [broken_order.SameParts],
    "test_shards_are_disjoint_and_complete": [broken_order.HalfSharded],
    "test_batches_of_any_size_are_the_same_records": [broken_order.InPairs],
    "test_skipping_is_reading": [broken_order.SkipsShort],
    "test_the_end_is_the_end": [broken_order.Reviving],
    "test_a_shuffled_stream_has_another_order_in_each_epoch": [broken_order.SameEpochs],
    "test_the_batch_sizes_of_a_source_agree": [broken_order.Miscounts],
    "test_a_state_is_a_little_json": [broken_life.HeavyState],
    "test_a_state_resumes_exactly_at_every_step": [broken_life.Rounding],
    "test_a_state_can_be_restored_twice": [broken_life.Consuming],
    "test_a_pipeline_resumes_exactly": [broken_life.CountsItsOwn],
    "test_a_state_is_that_of_any_number_of_hosts": [broken_order.PartsInAll],
    "test_a_foreign_state_is_refused": [broken_life.Trusting],
    "test_a_state_of_other_records_is_refused": [broken_life.ForgetsItsOptions],
    "test_a_state_fits_the_same_files_elsewhere": [broken_life.BoundToAPath],
    "test_reset_starts_over": [broken_life.ResetsNothing, broken_life.ResetsToItsOwn],
    "test_it_works_without_a_network": [broken_life.PhonesHome],
    "test_it_pickles_where_it_stands": [broken_life.Forgetful],
    "test_it_is_read_by_a_spawned_process": [broken_life.ByTable],
    "test_threads_read_it_at_once": [broken_life.SharesScratch],
    "test_another_thread_reads_it": [broken_life.BoundToAThread, broken_life.KeepsAConnection],
    "test_calls_of_a_source_in_any_order_serve_its_order": [broken_life.RewoundByCopies],
    "test_calls_of_a_pipeline_in_any_order_serve_its_order": [broken_life.StepsForward],
    "test_worker_processes_serve_its_order": [broken_life.LeavesTheTail],
    "test_memory_is_flat_over_epochs": [broken_life.Hoarding],
    "test_no_file_stays_open": [broken_life.LeavesOpen],
    "test_no_thread_is_left": [broken_life.LeavesAThread],
}
"""For each promise, the sources that break it."""

ALSO_CAUGHT_BY = {
    broken_records.ByText: {"test_numbers_and_flags_are_strict"},  # it takes numbers as text
    broken_order.Repeating: {"test_each_serving_has_an_id_of_its_own"},
    broken_order.WrongOnTheHost: {"test_compiled_steps_serve_its_order", "test_get_batch_at_can_be_compiled"},
    broken_life.KeepsAConnection: {"test_it_pickles_where_it_stands"},
    broken_life.CountsItsOwn: {"test_a_state_is_that_of_any_number_of_hosts"},  # which read as pipelines do
}
"""For sources that break several promises at once: the other tests that must fail."""

OF_INSTALLED = {"test_listing_does_not_import_it", "test_importing_it_is_light"}
"""Promises of installed plugins; `test_an_installed_source_is_listed_and_imported_at_low_cost` breaks them."""

SLOW = {
    "test_its_schema_says_what_is_accepted",
    "test_it_is_read_by_a_spawned_process",
    "test_compiled_steps_serve_its_order",
    "test_get_batch_at_can_be_compiled",
    "test_memory_is_flat_over_epochs",
    "test_calls_of_a_source_in_any_order_serve_its_order",
    "test_calls_of_a_pipeline_in_any_order_serve_its_order",
    "test_worker_processes_serve_its_order",
}
"""Run only for the sources that break these promises, and for those that keep all."""


SHARED = {"test_worker_processes_serve_its_order": {healthy.Healthy, healthy.TextInShards, healthy.HealthyFile}}
"""Tests that cost most and hardly differ between right sources, with those that they run for."""


def verdicts_for(sources: set[type[Any]]) -> Verdicts:
    """Run the kit on sources, in this process, without slow tests that have no use."""
    named = {f"Test{source.__name__}": source for source in made.CONFORMANCES if source in sources}

    def is_wanted(cls: str, test: str) -> bool:
        wanted = expected_of(named[cls])
        if wanted:
            return test not in SLOW or test in wanted
        return named[cls] in SHARED.get(test, sources)

    return verdicts_of(made, named, is_wanted)


def expected_of(source: type[Any]) -> set[str]:
    return {name for name, sources in CAUGHT_BY.items() if source in sources} | ALSO_CAUGHT_BY.get(source, set())


@pytest.fixture
def _nothing_left() -> Iterator[None]:
    """End the threads and close the files that sources leave behind on purpose."""
    broken_life.STOP.clear()
    yield
    broken_life.STOP.set()
    while broken_life.OPENED:
        os.close(broken_life.OPENED.pop())


def test_every_promise_has_a_source_that_breaks_it() -> None:
    promises = {name for name, _ in inspect.getmembers(SourceConformance) if name.startswith("test_")}
    assert promises == CAUGHT_BY.keys() | OF_INSTALLED
    broken = [source for sources in CAUGHT_BY.values() for source in sources]
    assert len(broken) == len(set(broken))
    assert set(broken) == {*broken_records.CONFORMANCES, *broken_order.CONFORMANCES, *broken_life.CONFORMANCES}


def test_the_page_of_the_kit_has_the_docstring_of_each_test() -> None:
    assert said_on_the_page("## The promises") == docstrings_of(SourceConformance)


@pytest.mark.parametrize("group", [broken_records, broken_order, broken_life, healthy])
@pytest.mark.usefixtures("_nothing_left")
def test_each_broken_source_fails_the_tests_of_its_promise_and_no_others(group: Any) -> None:
    broken = {source for sources in CAUGHT_BY.values() for source in sources}
    sources = {
        source
        for source in made.CONFORMANCES
        if source in getattr(group, "CONFORMANCES", set(made.CONFORMANCES) - broken)
    }
    verdicts = verdicts_for(sources)
    expected = {f"Test{source.__name__}": expected_of(source) for source in sources}
    found = {name: set(verdicts.failed[name]) for name in expected}
    surprises = {key: text for key, text in verdicts.messages.items() if key[1] not in expected[key[0]]}
    assert found == expected, "\n\n".join(f"{key}: {text}" for key, text in surprises.items())
    assert verdicts.ran


class DeclaresNothing(SourceConformance):
    pass


class NamesNoField(healthy.Conformance):
    effective = {"colour": "red"}


class DeclaresWhatIsRefused(healthy.Conformance):
    effective = {"size": 0}


class LabelledConfig(healthy.HealthyConfig):
    label: str = "none"


class Labelled(healthy.Healthy):
    config_class = LabelledConfig


class DeclaresNoEffect(healthy.Conformance):
    source_class = Labelled


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (
            DeclaresNothing,
            r"DeclaresNothing does not declare how its source is made; give it config = \{\"type\": ...\}, or define",
        ),
        (NamesNoField, "HealthyConfig has no field 'colour', which effective or shown_elsewhere names; correct"),
        (DeclaresWhatIsRefused, r"but size=0, which effective declares, is refused: .*greater than or equal to 1"),
        (
            DeclaresNoEffect,
            "LabelledConfig promises to ignore no option, but label has no other value that the kit could try",
        ),
    ],
)
def test_a_wrong_declaration_is_reported(declared: type[Any], message: str, tmp_path: Path) -> None:
    author = declared()
    with pytest.raises(pytest.fail.Exception, match=f"(?s){message}"):
        author.test_every_option_is_refused_or_has_an_effect(Subject(author, tmp_path))


@pytest.mark.parametrize(
    ("package", "test"),
    [
        ("jsonschema", "test_its_schema_says_what_is_accepted"),
        ("hypothesis", "test_calls_of_a_source_in_any_order_serve_its_order"),
    ],
)
def test_a_package_that_is_not_installed_is_named(
    package: str, test: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    author = healthy.Conformance()
    with pytest.raises(
        pytest.fail.Exception, match=f"which is not installed: pip install .*, or pip install {package}"
    ):
        getattr(author, test)(Subject(author, tmp_path))


def test_the_former_name_of_the_needed_options_still_works() -> None:
    assert Shows(value=1, beside={"a": 2}) == Shows(value=1, needs={"a": 2})
    assert Shows(value=1, beside={"a": 2}, needs={"b": 3}).needs == {"a": 2, "b": 3}
    assert Shows(value=1).needs == {}


INSTALLED = """
    import {imported}
    from kit_sources.healthy import Healthy, HealthyConfig


    class Config(HealthyConfig):
        type: Literal["{name}"] = "{name}"


    class Source(Healthy):
        config_class = Config
"""


@pytest.mark.parametrize(
    ("name", "test", "message"),
    [
        ("light", None, ""),
        (
            "early",
            "test_listing_does_not_import_it",
            "listing source 'early' is promised to import nothing of its plugin, but it imported 'acme_early'",
        ),
        (
            "heavy",
            "test_importing_it_is_light",
            "importing source 'heavy' imports torch, which every config",
        ),
    ],
)
def test_an_installed_source_is_listed_and_imported_at_low_cost(
    site: Any, name: str, test: str | None, message: str
) -> None:
    code = f"from typing import Literal\n{dedent(INSTALLED)}".format(
        name=name, imported="torch" if name == "heavy" else "sys"
    )
    site.install(f"acme-{name}", {name: f"acme_{name}:Source"}, code=code)
    (site.folder / "torch.py").write_text("")
    if name == "early":
        (site.folder / "sitecustomize.py").write_text("import acme_early")

    class Conformance(SourceConformance):
        config = {"type": name}
        registry = SourceRegistry.from_environment()

    author = Conformance()
    for each in sorted(OF_INSTALLED):
        run = partial(getattr(author, each), Subject(author, site.folder))
        if each == test:
            with pytest.raises(pytest.fail.Exception, match=message):
                run()
        else:
            run()
