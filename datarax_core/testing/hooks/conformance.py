"""All promises of a hook plugin in one test class: the most basic one first, and what builds on a broken one left out."""

from typing import Final

import pytest

from datarax_core.testing.promises import ordered

from .declarations import HookDeclarations
from .subject import HookSubject

_SUBJECT = pytest.StashKey[HookSubject]()

_NEEDS: Final[dict[type, tuple[str, ...]]] = {}


class HookConformance(*_NEEDS, HookDeclarations):  # type: ignore[misc]  # mypy does not follow computed bases
    """Tests of every promise of a hook plugin: subclass this in a test module, and run pytest."""

    @pytest.fixture
    def subject(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HookSubject:
        """The hook plugin under test, made once for each test class.

        Called: by every test, through pytest.
        """
        stash = request.node.parent.stash
        if _SUBJECT not in stash:
            stash[_SUBJECT] = HookSubject(self, tmp_path_factory.mktemp(type(self).__name__, numbered=True))
        made: HookSubject = stash[_SUBJECT]
        return made


for _name, _test in ordered(_NEEDS):
    setattr(HookConformance, _name, _test)
