"""All promises of a source in one test class: the most basic one first, and what builds on a broken one left out."""

from typing import Final

import pytest

from datarax_core.testing.configs import ConfigPromises
from datarax_core.testing.promises import ordered, subject_of

from .building import BuildPromises
from .claims import ClaimPromises
from .declarations import Declarations
from .hosts import HostPromises
from .interleavings import InterleavingPromises
from .leaks import LeakPromises
from .order import OrderPromises
from .processes import ListingPromises, ProcessPromises
from .records import ErrorPromises, RecordPromises
from .routes import RoutePromises, StreamPromises
from .states import StatePromises
from .subject import Subject

_BUILT: Final = ("test_it_is_built_from_its_config",)
_SPEC: Final = (
    *_BUILT,
    "test_length_is_the_expected_one",
    "test_an_epoch_is_as_long_as_its_length_says",
    "test_the_element_spec_is_true",
)
_ORDER: Final = (
    *_SPEC,
    "test_a_batch_has_the_size_that_was_asked_for",
    "test_a_range_is_the_same_however_it_is_cut",
    "test_positions_go_on_epoch_after_epoch",
    "test_the_batch_sizes_of_a_source_agree",
)
_RECORDS: Final = (
    *_SPEC,
    "test_a_batch_that_was_given_away_is_left_alone",
    "test_a_batch_is_its_records_in_the_order_asked_for",
)
_STATE: Final = "test_a_state_is_a_little_json"
_READ: Final = (*_RECORDS, *_ORDER)
_THREAD: Final = ("test_another_thread_reads_it",)
_SERVED: Final = (*_READ, "test_get_batch_serves_its_order", *_THREAD)
_CALLED: Final = (
    *_SERVED,
    *(
        name
        for group in (RoutePromises, StreamPromises, StatePromises)
        for name in vars(group)
        if name.startswith("test_")
    ),
    "test_it_pickles_where_it_stands",
    "test_it_is_read_by_a_spawned_process",
)

_NEEDS: Final[dict[type, tuple[str, ...]]] = {
    ListingPromises: (),
    BuildPromises: (),
    RecordPromises: _RECORDS,
    OrderPromises: _ORDER,
    StreamPromises: _RECORDS,
    RoutePromises: _READ,
    ConfigPromises: _BUILT,
    HostPromises: _SERVED,
    StatePromises: _SERVED,
    ProcessPromises: _READ,
    InterleavingPromises: _CALLED,
    LeakPromises: _RECORDS,
    ErrorPromises: _BUILT,
    ClaimPromises: _BUILT,
}
"""The promises of each group in the order in which they are tested, and the promises on which they build."""

_READ_TOO: Final = dict.fromkeys(
    ("test_a_batch_has_the_size_that_was_asked_for", "test_another_seed_is_another_order"), _RECORDS
)
"""The promises about the order that build on the records, too."""

_ON_OTHERS: Final = {
    "test_what_it_guesses_is_a_config": _BUILT,
    "test_every_option_is_refused_or_has_an_effect": _SERVED,
    "test_get_batch_at_is_stateless": ("test_get_batch_serves_its_order",),
    **dict.fromkeys(
        (name for name in vars(StatePromises) if name.startswith("test_a_state_") and name != _STATE),
        (_STATE,),
    ),
    # a pipeline reads ahead on a thread, and compiled code calls back on one
    **dict.fromkeys(("test_a_pipeline_s_loop_serves_its_order", "test_a_pipeline_s_steps_serve_its_order"), _THREAD),
    "test_threads_read_it_at_once": _THREAD,
    "test_it_is_read_by_a_spawned_process": ("test_it_pickles_where_it_stands",),
    "test_a_pipeline_resumes_exactly": (_STATE, "test_a_pipeline_s_loop_serves_its_order"),
    "test_a_foreign_state_is_refused": (_STATE,),
    "test_a_state_of_other_records_is_refused": (_STATE, "test_a_foreign_state_is_refused"),
    "test_a_scan_serves_its_order": ("test_a_pipeline_s_steps_serve_its_order", *_THREAD),
    "test_compiled_steps_serve_its_order": ("test_a_pipeline_s_steps_serve_its_order", *_THREAD),
    "test_worker_processes_serve_its_order": ("test_calls_of_a_pipeline_in_any_order_serve_its_order",),
}
"""Tests that build on more than their group does."""


class SourceConformance(*_NEEDS, Declarations):  # type: ignore[misc]  # mypy does not follow computed bases
    """Tests of every promise that a source makes: subclass this in a test module, and run pytest.

    ::

        class TestAcmeParquet(SourceConformance):
            config = {"type": "acme_parquet", "paths": "tests/digits.parquet"}
            expected_length = 1797
            expected_records = {0: {"label": 0}}

    If files must be written first, define `make_config`::

        class TestAcmeParquet(SourceConformance):
            expected_length = 100

            def make_config(self, folder):
                write_table(folder / "x.parquet", 100)
                return {"type": "acme_parquet", "paths": str(folder / "x.parquet")}

    If the constructor takes data that no config names, define `make_source`::

        class TestAcmeTable(SourceConformance):
            config = AcmeTableConfig(shuffle=True)

            def make_source(self, config, seed):
                return AcmeTable(config, ROWS, rngs=nnx.Rngs(seed))

    Tests of promises that a source does not make, such as random access for a stream, are skipped with the reason. A few
    hundred records are enough, and keep the tests fast. `Declarations` documents everything else that a subclass can declare.
    """

    @pytest.fixture
    def subject(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
        """The source under test, made once for each test class.

        Called: by every test, through pytest.
        """
        return subject_of(self, Subject, request, tmp_path_factory)


for _name, _test in ordered(_NEEDS, {**_READ_TOO, **_ON_OTHERS}):
    setattr(SourceConformance, _name, _test)
