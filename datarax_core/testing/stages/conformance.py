"""All promises of a stage in one test class, for compiled stages and for those on the host: the most basic one first."""

from typing import Final

import pytest

from datarax_core.testing.promises import ordered

from .building import BuildPromises
from .declarations import DeviceDeclarations, HostDeclarations
from .subject import StageSubject

_SUBJECT = pytest.StashKey[StageSubject]()

_NEEDS: Final[dict[type, tuple[str, ...]]] = {BuildPromises: ()}
_HOST_NEEDS: Final[dict[type, tuple[str, ...]]] = {BuildPromises: ()}


class StageConformance(*_NEEDS, DeviceDeclarations):  # type: ignore[misc]  # mypy does not follow computed bases
    """Tests of every promise of a stage that runs in compiled code: subclass this in a test module, and run pytest."""

    @pytest.fixture
    def subject(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> StageSubject:
        """The stage under test, made once for each test class."""
        stash = request.node.parent.stash
        if _SUBJECT not in stash:
            stash[_SUBJECT] = StageSubject(self, tmp_path_factory.mktemp(type(self).__name__, numbered=True))
        made: StageSubject = stash[_SUBJECT]
        return made


class HostStageConformance(*_HOST_NEEDS, HostDeclarations):  # type: ignore[misc]  # mypy does not follow computed bases
    """Tests of every promise of a stage that runs on the host: subclass this in a test module, and run pytest."""

    @pytest.fixture
    def subject(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> StageSubject:
        """The stage under test, made once for each test class."""
        stash = request.node.parent.stash
        if _SUBJECT not in stash:
            stash[_SUBJECT] = StageSubject(self, tmp_path_factory.mktemp(type(self).__name__, numbered=True))
        made: StageSubject = stash[_SUBJECT]
        return made


for _kit, _needs in ((StageConformance, _NEEDS), (HostStageConformance, _HOST_NEEDS)):
    for _name, _test in ordered(_needs):
        setattr(_kit, _name, _test)
