"""How a test says that a promise is broken, or was never made.

Rewritten assertions do not reach an installed package, so that every failure is a sentence of its own.
"""

from typing import Any, NoReturn

import pytest


def broken(sentence: str) -> NoReturn:
    """Fail: what was promised, what happened instead, and what to do."""
    pytest.fail(sentence, pytrace=False)


def require(holds: Any, sentence: str) -> None:
    """Fail with the sentence unless something holds."""
    if not holds:
        broken(sentence)


def not_claimed(reason: str) -> NoReturn:
    """Skip a promise that the source does not make."""
    pytest.skip(reason)
