"""Plugins that a user of ``drx`` names by file or module: with the option, and in the working folder's pyproject.toml."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from datarax_core.errors import ConfigError, did_you_mean
from datarax_core.extensions.defaults import set_aside
from datarax_core.extensions.places import OPTION, PROJECT_FILE, Place, given_places, handed_on

_TABLE: Final = "[tool.datarax]"
_KEYS: Final = ("plugins",)

_HINT: Final = re.compile(
    r"""^\s*\[\s*["']?tool["']?\s*\.\s*["']?datarax\b|^\s*(["']?tool["']?\s*\.\s*)?["']?datarax["']?\s*[.=]""",
    re.MULTILINE,
)
"""Pattern of a text that may have the table; most have none, and parsing them would take milliseconds."""


@contextmanager
def named_plugins(words: Sequence[str]) -> Iterator[None]:
    """Use the plugins of these words, and of ``pyproject.toml``, for the time of a ``with`` block, in child processes too.

    Raises:
        ConfigError: ``[tool.datarax]`` cannot be read, or holds something else than ``plugins = [...]``.
        PluginNotFoundError: A word names neither a file that is there, nor a module.
    """
    places = given(words)
    with ExitStack() as stack:
        if places:
            stack.enter_context(handed_on(places))
            stack.enter_context(set_aside())
            for place in given_places():
                place.check()
        yield


def given(words: Sequence[str]) -> list[Place]:
    """Return the places of these words, and of the ``pyproject.toml`` of the working folder."""
    folder = Path.cwd()
    file = folder / PROJECT_FILE
    return [
        *(Place(word, OPTION, str(folder)) for word in words),
        *(Place(word, PROJECT_FILE, str(folder)) for word in _words_of(file)),
    ]


def _words_of(file: Path) -> list[str]:
    """Return ``plugins`` of ``[tool.datarax]``."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError):  # it is not there, or not for us to say
        return []
    if not _HINT.search(text):
        return []
    import tomllib  # noqa: PLC0415 - few folders have the table

    try:
        table = tomllib.loads(text).get("tool", {}).get("datarax", {})
    except tomllib.TOMLDecodeError as cause:
        raise ConfigError(f"{file.name}: {_TABLE} cannot be read, since the file is no TOML: {cause}") from cause
    if not isinstance(table, dict):
        raise ConfigError(f"{file.name}: tool.datarax is a table, {_TABLE}, not {table!r:.80}")
    if unknown := [key for key in table if key not in _KEYS]:
        raise ConfigError("\n".join(f"{file.name}: {_unknown(key)}" for key in unknown))
    return _list_of_words(table.get("plugins", []), file.name)


def _unknown(key: str) -> str:
    hint = did_you_mean(key, _KEYS) or f" (keys: {', '.join(_KEYS)})"
    return f"{_TABLE} has the unknown key {key!r}{hint}"


def _list_of_words(value: Any, file: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) and word for word in value):
        example = 'such as plugins = ["./my_source.py", "my_package.stages"]'
        raise ConfigError(f"{file}: plugins of {_TABLE} is a list of files and modules, {example}, not {value!r:.80}")
    return value
