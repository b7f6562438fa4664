"""All promises of a decoder in one test class: the most basic one first, and what builds on a broken one left out."""

from typing import Final

import pytest

from datarax_core.testing.promises import ordered

from .declarations import DecoderDeclarations
from .subject import DecoderSubject

_SUBJECT = pytest.StashKey[DecoderSubject]()

_NEEDS: Final[dict[type, tuple[str, ...]]] = {}


class DecoderConformance(*_NEEDS, DecoderDeclarations):  # type: ignore[misc]  # mypy does not follow computed bases
    """Tests of every promise of a decoder: subclass this in a test module, and run pytest."""

    @pytest.fixture
    def subject(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DecoderSubject:
        """The decoder under test, made once for each test class."""
        stash = request.node.parent.stash
        if _SUBJECT not in stash:
            stash[_SUBJECT] = DecoderSubject(self, tmp_path_factory.mktemp(type(self).__name__, numbered=True))
        made: DecoderSubject = stash[_SUBJECT]
        return made


for _name, _test in ordered(_NEEDS):
    setattr(DecoderConformance, _name, _test)
