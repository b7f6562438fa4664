"""Fingerprints of states: what must match, what was changed on purpose, and the note of that in later states."""

import inspect
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

from datarax_core.config.base import same
from datarax_core.errors import StateError
from datarax_core.records.spec import describe_one_kind

from .state import is_count, plain

Names = Collection[str]
"""Names of entries that were changed on purpose: ``{"batch_size"}``, and ``"config.scale"`` for one value of an entry."""

COMPARED_IF_KNOWN: Final = frozenset(
    {"class", "config", "content", "objects", "records", "sample", "stochastic_stages"}
)
"""Entries of fingerprints that tell data apart; a state of an earlier release lacks them, as does one of unreadable files.

Records with text have ``records`` in place of ``sample``.
"""

_SAMPLES: Final = frozenset({"objects", "records"})

_PLACES: Final = frozenset({"length", "order", "seed", "shard", "part"})
"""Entries that decide which record a position means, of any source and of its parents: they are never named as changed."""


def require_same(
    saved: Any, own: dict[str, Any], title: str, but: Names = (), places: Callable[[], Names] = tuple
) -> dict[str, list[Any]]:
    """Raise a `StateError` that names every entry in which two fingerprints differ; both are compared as `plain` values.

    Entries that states of earlier releases lack, and that tell data apart, are compared if both fingerprints have them.

    Args:
        saved: The fingerprint in a state.
        own: The fingerprint of what is to be restored.
        title: The name of that in errors.
        but: Names of entries that were changed on purpose, as errors print them.
        places: Returns the names of entries that decide which record a position means, besides `_PLACES`.

    Returns:
        Of the entries in ``but``, those that differ, as [saved value, own value] by name.

    Raises:
        StateError: Entries differ that are not in ``but``.
        ValueError: A name in ``but`` is unknown, or that of an entry which decides which record a position means.
        TypeError: ``but`` is no collection of texts.
    """
    saved, own = plain(saved), plain(own)
    differing = _differing(saved, own)
    if not differing and not but and isinstance(saved, dict) and saved.keys() | own.keys():
        return {}
    fixed = _Places(places())
    named = _checked_names(but, saved, own, title, fixed)
    changed: dict[str, list[Any]] = {}
    for key in list(differing):
        paths = [path for top, path in named if top == key]
        found = {".".join((key, *path)): [_at(saved.get(key), path), _at(own.get(key), path)] for path in paths}
        if found and same(_without(saved.get(key), paths), _without(own.get(key), paths)):
            differing.remove(key)
        changed |= {name: values for name, values in found.items() if not same(*values)}
    lengths = {key.rpartition(".")[0] for key in differing if key.rpartition(".")[2] == "length"}
    wrong = [  # other records are sampled where the length differs
        key for key in differing if not (key.rpartition(".")[2] in _SAMPLES and key.rpartition(".")[0] in lengths)
    ]
    if wrong or not isinstance(saved, dict) or not saved.keys() | own.keys():
        raise StateError(
            f"the state is of another stream than {title}: {_listed(wrong, saved, own) or 'it has no fingerprint'}; "
            f"restore it into what saved it, or start anew with reset(){_how_to_name(wrong, but, fixed)}"
        )
    return changed


def _differing(saved: Any, own: dict[str, Any]) -> list[str]:
    """Return the names of the entries that differ, sorted."""
    keys = sorted(saved.keys() | own.keys()) if isinstance(saved, dict) else []
    both = saved.keys() & own.keys() if keys else set()
    keys = [key for key in keys if key in both or key.rpartition(".")[2] not in COMPARED_IF_KNOWN]
    return [
        key
        for key in keys
        if not same(saved.get(key), own.get(key))
        and not (key == "element_spec" and describe_one_kind(saved.get(key), own.get(key)))
    ]


def _listed(names: list[str], saved: Any, own: dict[str, Any]) -> str:
    return "; ".join(f"{name} was {saved.get(name)!r} and is {own.get(name)!r}" for name in names)


def _how_to_name(wrong: list[str], but: Names, fixed: "_Places") -> str:
    if not wrong or any(name in fixed for name in wrong):
        return ""
    names = ", ".join(map(repr, sorted({*wrong, *but})))
    return f"; or, if that was changed on purpose, say so: set_state(state, but={{{names}}})"


class _Places:
    """Names of entries that decide which record a position means."""

    def __init__(self, names: Names) -> None:
        self._names = frozenset(names)

    def __contains__(self, name: str) -> bool:
        return name.rpartition(".")[2] in _PLACES or name in self._names


# -- names of what was changed on purpose ----------------------------------------------------------------------------------


def _checked_names(
    but: Any, saved: Any, own: dict[str, Any], title: str, fixed: _Places
) -> list[tuple[str, tuple[str, ...]]]:
    """Return each name as (entry, path of keys in its value)."""
    if (
        isinstance(but, str | bytes | Mapping)
        or not isinstance(but, Collection)
        or not all(isinstance(n, str) for n in but)
    ):
        raise TypeError(
            f"but is a set of names of what was changed on purpose, such as {{'batch_size'}}, not {but!r:.80}"
        )
    if not but:
        return []
    differing = _differing(saved, own)
    entries = own.keys() | (saved.keys() if isinstance(saved, dict) else set())
    found = []
    for name in sorted(but):
        entry = _entry_of(name, entries)
        path = () if entry in (None, name) else tuple(name[len(str(entry)) + 1 :].split("."))
        if entry is None or (path and not _holds(saved.get(entry), path) and not _holds(own.get(entry), path)):
            differs = _listed(differing, saved, own) or "nothing"
            raise ValueError(
                f"but names {name!r}, which is no entry of the fingerprint of {title}; what differs: {differs}; may be named: "
                f"{', '.join(sorted(key for key in entries if key not in fixed))}"
            )
        if entry in fixed:
            values = f"was {saved.get(entry)!r} and is {own.get(entry)!r}" if entry in differing else "does not differ"
            raise ValueError(
                f"but cannot name {name!r} of {title}: it decides which record a position means ({values}); build it as it "
                "was, or begin in the new order with reset() and, in a pipeline, seek()"
            )
        found.append((entry, path))
    return found


def _entry_of(name: str, entries: AbstractSet[str]) -> str | None:
    """Return the entry that a name is of: itself, or the longest that it goes on from with a dot."""
    parts = name.split(".")
    heads = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((head for head in heads if head in entries), None)


def _holds(value: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _without(value: Any, paths: list[tuple[str, ...]]) -> Any:
    """Return a value without what the paths lead to; None if one is empty."""
    for path in paths:
        if not path:
            return None
        value = _without_one(value, path)
    return value


def _without_one(value: Any, path: tuple[str, ...]) -> Any:
    if not isinstance(value, Mapping):
        return value
    first, *rest = path
    if not rest:
        return {key: entry for key, entry in value.items() if key != first}
    return {key: _without_one(entry, tuple(rest)) if key == first else entry for key, entry in value.items()}


def set_state_but(module: Any, state: Any, but: Names, prefix: str = "") -> None:
    """Call ``module.set_state(state)``, with those names of ``but`` that are names of the module's own fingerprint.

    ``prefix`` is what they begin with in ``but``, such as ``"child."``. An author's ``set_state`` need not take names.
    """
    own = {name.removeprefix(prefix) for name in but if name.startswith(prefix)}
    if own and "but" in inspect.signature(module.set_state).parameters:
        entries = module.fingerprint().keys()
        module.set_state(state, but={name for name in own if _entry_of(name, entries) is not None})
    else:
        module.set_state(state)


# -- notes of changes in states ----------------------------------------------------------------------------------------------


def noted(changes: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """Return the entry of a state that lists what was changed on purpose, and where; nothing if nothing was."""
    return {"changed": [dict(change) for change in changes]} if changes else {}


def changes_of(state: dict[str, Any], title: str) -> tuple[dict[str, Any], ...]:
    """Return the changes that a state lists.

    Raises:
        StateError: They are no list of changes.
    """
    changes = plain(state.get("changed", []))
    if not isinstance(changes, list) or not all(_is_change(change) for change in changes):
        raise StateError(
            f"the state of {title} has changed {changes!r:.80}, where a list of changes is expected, each a dict of 'at', a "
            "place, and [old, new] by name"
        )
    return tuple(changes)


def _is_change(change: Any) -> bool:
    if not isinstance(change, dict) or not (is_count(change.get("at")) or isinstance(change.get("at"), dict)):
        return False
    return all(isinstance(value, list) and len(value) == 2 for name, value in change.items() if name != "at")
