"""The fields that a mixture takes of a child, by the names that they get: ``select`` and ``rename`` of the config."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import jax

from datarax_core.errors import SpecError
from datarax_core.records import ElementSpec, named_fields


@dataclass(frozen=True)
class ChosenFields:
    """Takes fields of a child's records and gives them other names."""

    stored: Mapping[str, str]
    """From the name of each field in the mixture to its name in the child."""

    def __call__(self, record: Any) -> dict[str, Any]:
        """Return a record, batch or spec of the child with the chosen fields; of host fields alone, those among them."""
        return {name: record[stored] for name, stored in self.stored.items() if stored in record}

    def stored_names(self, spec: ElementSpec) -> dict[str, str]:
        """Return, for each leaf of the child's spec that is taken, its dotted name in the mixture and that in the child."""
        names = jax.tree.unflatten(jax.tree.structure(spec), list(named_fields(spec)))
        return named_fields(self(names))


def chosen_fields(
    spec: ElementSpec, select: Sequence[str] | None, rename: Mapping[str, str] | None, child: str
) -> ChosenFields | None:
    """Return the choice that ``select`` and ``rename`` make among the fields of a child; None if they are not given.

    Args:
        spec: Element spec of the child.
        select: Names of the fields to take, before they are renamed; None takes all.
        rename: From a name in the child to the name in the mixture.
        child: Title of the child in errors.

    Raises:
        SpecError: The records have no named fields, or not the fields that are named; or two fields get one name.
    """
    if select is None and not rename:
        return None
    if not isinstance(spec, Mapping):
        raise SpecError(f"{child} has records without named fields, of which none can be selected or renamed")
    rename = rename or {}
    for word, names in (("select", select or ()), ("rename", rename)):
        if unknown := [name for name in names if name not in spec]:
            raise SpecError(_unknown(word, unknown[0], spec, child, rename))
    taken = list(spec) if select is None else list(select)
    if dropped := [name for name in rename if name not in taken]:
        raise SpecError(
            f"rename gives {dropped[0]!r} of {child} a new name, and select drops it; leave it out of one of them"
        )
    stored: dict[str, str] = {}
    for name in taken:
        new = rename.get(name, name)
        if new in stored:
            raise SpecError(
                f"{stored[new]!r} and {name!r} of {child} would both be called {new!r}; rename both, or drop one with select"
            )
        stored[new] = name
    return ChosenFields(stored)


def _unknown(word: str, name: str, spec: Mapping[str, Any], child: str, rename: Mapping[str, str]) -> str:
    refused = f"{word} names the field {name!r} of {child}, which has {', '.join(map(repr, spec))}"
    if name in rename.values():
        return f"{refused}; select comes before rename: name the field as the child does"
    close = get_close_matches(name, list(spec), n=1)
    return f"{refused}; did you mean {close[0]!r}?" if close else f"{refused}; name one of these"
