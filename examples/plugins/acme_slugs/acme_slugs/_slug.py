"""Slugs: a text in lower-case ASCII letters, digits and single hyphens."""

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

_OTHERS = re.compile(r"[^a-z0-9]+")


def slug_of(text: str, spellings: Mapping[str, str]) -> str:
    """Return the slug of a text, "" if the text has neither letter nor digit that ASCII can spell.

    Args:
        text: The text.
        spellings: How characters are spelled that lose too much with their accents, such as ``{"ä": "ae"}``; in lower case.
    """
    spelled = "".join(spellings.get(character, character) for character in unicodedata.normalize("NFC", text.lower()))
    ascii_only = unicodedata.normalize("NFKD", spelled).encode("ascii", "ignore").decode()
    return _OTHERS.sub("-", ascii_only).strip("-")


def spellings_in(path: str) -> dict[str, str]:
    """Return the spellings in a file, a line ``ä ae`` for each.

    Raises:
        ValueError: A line is something else; names it.
    """
    spellings = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        character, _, spelled = line.strip().partition(" ")
        if line.strip():
            if len(character) != 1 or not spelled.isascii() or not spelled:
                raise ValueError(
                    f"{path}:{number}: {line.strip()!r:.40} is no character and its spelling, such as 'ä ae'"
                )
            spellings[character.lower()] = spelled.strip()
    return spellings
