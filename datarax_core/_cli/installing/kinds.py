"""Installed entry points with the noun for their kind."""

from collections.abc import Iterator
from typing import Final

from datarax_core.extensions.discovery import GROUPS, Environment, Installed

NOUNS: Final = dict(zip(GROUPS, ("source", "stage", "decoder", "hook plugin"), strict=True))


def entries_by_kind(environment: Environment) -> Iterator[tuple[str, Installed]]:
    """Yield the noun for its kind and the entry of each installed plugin."""
    for group, noun in NOUNS.items():
        for entry in environment.entries(group):
            yield noun, entry
