"""All promises of a hook plugin in one test class: the most basic one first, and what builds on a broken one left out."""

from typing import Final

import pytest

from datarax_core.testing.promises import ordered, subject_of

from .batches import BatchPromises
from .declarations import HookDeclarations
from .effects import UsagePromises
from .lives import LifePromises
from .others import OtherPromises
from .subject import HookSubject

_REGISTERED: Final = ("test_it_can_be_registered",)
_SERVED: Final = (*_REGISTERED, "test_an_ordinary_run_goes_on")

_NEEDS: Final[dict[type, tuple[str, ...]]] = {
    UsagePromises: _REGISTERED,
    BatchPromises: _SERVED,
    OtherPromises: _SERVED,
    LifePromises: _SERVED,
}
"""The promises of each group in the order in which they are tested, and the promises on which they build."""

_MORE: Final = {
    "test_each_hook_has_the_declared_effect": ("test_an_ordinary_run_goes_on",),
    "test_the_pipeline_is_left_alone": ("test_batches_are_left_alone",),
}


class HookConformance(*_NEEDS, HookDeclarations):  # type: ignore[misc]  # mypy does not follow computed bases
    """Tests of every promise that a hook plugin makes: subclass this in a test module, and run pytest.

    Declare the plugin, and for each hook that it implements what the hook does::

        class TestAcmeWatch(HookConformance):
            def make_plugin(self):
                return Watch()

            def check_datarax_epoch_finished(self, plugin, run):
                assert plugin.epochs == run.told("datarax_epoch_finished", "epoch")

    The kit registers the plugin, and no other, serves small pipelines, and calls the method with the plugin and the
    `ServedRun`.
    `HookDeclarations` documents everything else that a subclass can declare.
    """

    @pytest.fixture
    def subject(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HookSubject:
        """The hook plugin under test, made once for each test class.

        Called: by every test, through pytest.
        """
        return subject_of(self, HookSubject, request, tmp_path_factory)


for _name, _test in ordered(_NEEDS, _MORE):
    setattr(HookConformance, _name, _test)
