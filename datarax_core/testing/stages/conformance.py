"""All promises of a stage in one test class, for compiled stages and for those on the host: the most basic one first."""

from typing import Any, Final

import pytest

from datarax_core.testing.configs import ConfigPromises
from datarax_core.testing.promises import ordered, subject_of

from .batches import BatchPromises
from .building import BuildPromises, MistakePromises
from .declarations import DeviceDeclarations, HostDeclarations
from .fields import FieldPromises, GradientPromises
from .host_calls import HostSubject
from .host_pipelines import HostResultPromises, HostRoutePromises, RecordErrorPromises
from .host_results import HostCallPromises
from .programs import DeviceSubject
from .results import ResultPromises
from .routes import CopyPromises, RoutePromises

_BUILT: Final = ("test_it_is_built_from_its_config",)
_COMPILED: Final = (*_BUILT, "test_it_can_be_compiled")
_MADE: Final = (*_COMPILED, "test_it_makes_a_row_for_each_record")
_SURE: Final = (
    *_MADE,
    "test_it_leaves_its_input_alone",
    "test_it_makes_the_same_again",
    "test_compiled_and_uncompiled_code_agree",
)
_ALIKE: Final = (*_SURE, "test_batches_of_any_size_work", "test_a_record_does_not_depend_on_its_batch")

_NEEDS: Final[dict[type, tuple[str, ...]]] = {
    BuildPromises: (),
    ResultPromises: _COMPILED,
    FieldPromises: _MADE,
    BatchPromises: _SURE,
    MistakePromises: _SURE,
    ConfigPromises: (*_MADE, "test_records_it_cannot_work_on_are_refused"),
    CopyPromises: _ALIKE,
    RoutePromises: (*_ALIKE, "test_it_is_compiled_once"),
    GradientPromises: _SURE,
}
"""The promises of each group in the order in which they are tested, and the promises on which they build."""

_MORE: Final = {
    "test_a_record_does_not_depend_on_its_batch": (*_SURE, "test_batches_of_any_size_work"),
    "test_host_fields_have_a_row_for_each_record": (*_MADE, "test_its_spec_is_true"),
    "test_padded_rows_change_no_others": (*_ALIKE, "test_host_fields_have_a_row_for_each_record"),
    "test_another_epoch_draws_anew": _ALIKE,
    "test_its_spec_is_true": _MADE,
    "test_its_batch_is_the_expected_one": _MADE,
    "test_it_leaves_its_input_alone": _MADE,
    "test_it_makes_the_same_again": _MADE,
    "test_compiled_and_uncompiled_code_agree": (
        *_MADE,
        "test_it_makes_the_same_again",
        "test_it_leaves_its_input_alone",
    ),
    "test_it_is_compiled_once": _SURE,
}
"""Promises on which single ones build, besides those of their group."""

_ON_HOST: Final = (*_BUILT, "test_it_says_that_it_runs_on_the_host")
_ROWS: Final = (*_ON_HOST, "test_it_makes_a_row_for_each_record")
_SAME: Final = (
    *_ROWS,
    "test_a_batch_that_it_returned_is_left_alone",
    "test_it_leaves_its_input_alone",
    "test_its_spec_is_true",
    "test_it_makes_the_same_again",
)
_EACH: Final = (*_SAME, "test_a_record_does_not_depend_on_its_batch")

_HOST_NEEDS: Final[dict[type, tuple[str, ...]]] = {
    BuildPromises: (),
    HostCallPromises: _SAME,
    MistakePromises: _SAME,
    HostResultPromises: _EACH,
    ConfigPromises: (*_ROWS, "test_records_it_cannot_work_on_are_refused"),
    HostRoutePromises: (*_EACH, "test_threads_may_call_it_at_once"),
    RecordErrorPromises: _EACH,
}
"""The promises of each group of host stages in the order in which they are tested, and the promises on which they build."""

_HOST_MORE: Final = {"test_threads_may_call_it_at_once": _EACH}


class StageConformance(*_NEEDS, DeviceDeclarations):  # type: ignore[misc]  # mypy does not follow computed bases
    """Tests of every promise of a stage that runs in compiled code: subclass this in a test module, and run pytest.

    ::

        class TestFade(StageConformance):
            config = {"type": "acme_fade", "field": "image", "strength": 0.5}
            records = {"image": np.arange(12 * 4, dtype=np.float32).reshape(12, 4), "label": np.arange(12)}

    A stage that is made in Python, such as an ``nnx.Module`` or a function, is made by `make_stage`::

        class TestNormalized(StageConformance):
            records = {"x": np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)}

            def make_stage(self, folder):
                return Normalized(nnx.Rngs(0))

    Tests of promises that a stage does not make, such as random numbers, are skipped with the reason. `DeviceDeclarations`
    documents everything else that a subclass can declare.
    """

    @pytest.fixture
    def subject(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
        """The stage under test, made once for each test class.

        Called: by every test, through pytest.
        """
        return subject_of(self, DeviceSubject, request, tmp_path_factory)


class HostStageConformance(*_HOST_NEEDS, HostDeclarations):  # type: ignore[misc]  # mypy does not follow computed bases
    """Tests of every promise of a stage that runs on the host: subclass this in a test module, and run pytest.

    ::

        class TestSlugs(HostStageConformance):
            config = {"type": "acme_slugs", "field": "title"}
            records = {"title": ["One", "Two words", "", "More, of them"] * 3, "label": np.arange(12)}
            expected = {"title": ["one", "two-words", "", "more-of-them"] * 3}

    Text and bytes are lists, and so are arrays that differ in length. Tests of promises that a stage does not make are skipped
    with the reason. `HostDeclarations` documents everything else that a subclass can declare.
    """

    @pytest.fixture
    def subject(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
        """The stage under test, made once for each test class.

        Called: by every test, through pytest.
        """
        return subject_of(self, HostSubject, request, tmp_path_factory)


for _kit, _needs, _more in ((StageConformance, _NEEDS, _MORE), (HostStageConformance, _HOST_NEEDS, _HOST_MORE)):
    for _name, _test in ordered(_needs, _more):
        setattr(_kit, _name, _test)
