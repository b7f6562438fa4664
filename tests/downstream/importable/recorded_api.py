"""The recorded public API: what plugins rely on, as text, and the changes of it that break them.

Run: ``make api``, or ``python tests/downstream/importable/recorded_api.py [--accept NAME ...]``. It writes the public names of
the tree to tests/downstream/api.txt. What was added is recorded; what would break plugins is refused, unless it is named.
"""

import argparse
import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "docs"))  # this is run as a script, too

from public_names import Definition, Function, Member, Tree, decorators, field_of, signature  # noqa: E402

RECORDED = ROOT / "tests/downstream/api.txt"
EARLIER = ROOT / "tests/downstream/api-0.1.0.txt"

HEAD = """\
# What plugins may rely on: every public name of datarax_core, by the module that it is imported from, as a stub.
# `make api` writes it. Removing a line of it breaks plugins: CONTRIBUTING.md says how a name is deprecated.
"""
EARLIER_HEAD = """\
# The public names of datarax_core 0.1.0, as its users know them: they go on working, or tests/downstream says why not.
# Recorded once from that version's files; never changed.
"""

Found = Function | ast.ClassDef | ast.stmt

Parameter = tuple[str, str | None]
"""Kind and default of a parameter; the default is None where a value must be given."""


@dataclass
class Api:
    """Public names, by face, and what stands behind each."""

    faces: dict[str, dict[str, Found]] = field(default_factory=dict)
    bases: dict[int, set[str]] = field(default_factory=dict)
    """For each class, by the identity of its node, the names of all classes that it derives from."""
    imported: set[tuple[str, str]] = field(default_factory=set)
    """Face and name of what another face defines."""


# -- writing ---------------------------------------------------------------------------------------------------------------


def text_of(tree: Tree, head: str = HEAD) -> str:
    """Return the public names of a package as a stub, section by section."""
    homes: dict[Definition, str] = {}
    for face, names in tree.faces.items():
        for definition in names.values():
            homes.setdefault(definition, face)
    lines = [head]
    for face, names in tree.faces.items():
        lines += [f"## {face}", ""]
        lines += [f"from {homes[each]} import {name}" for name, each in names.items() if homes[each] != face]
        for name, each in names.items():
            if homes[each] == face:
                lines += ["", *_stub(each, name, set(homes))]
        lines.append("")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def _stub(each: Definition, name: str, public: set[Definition]) -> Iterator[str]:
    if isinstance(each.node, Function):
        yield f"def {name}{signature(each.node)}: ..."
    elif isinstance(each.node, ast.ClassDef):
        if (places := _by_place(each.node)) is not None:
            yield "@dataclass" if places else "@dataclass(kw_only=True)"
        yield f"class {name}{_listed_bases(each, public)}:"
        members = list(_members(each, public))
        constructor = next((_constructor(a) for a in (each, *each.ancestors) if _constructor(a) is not None), None)
        if constructor is not None:
            yield f"    def __init__{signature(constructor)}: ..."
        for member in members:
            yield from _member(member)
        if constructor is None and not members:
            yield "    ..."
    else:
        annotation, value = field_of(each.node)
        yield f"{name}: {annotation or 'Any'}" + ("" if value is None or annotation == "Final" else f" = {value}")


def _members(each: Definition, public: set[Definition]) -> Iterator[Member]:
    """Yield the members of a class, and those of classes that are in no face."""
    above = [base for base in each.ancestors if base in public]
    known = {base for cls in above for base in cls.ancestors}
    hidden = [base for base in each.ancestors if base not in public and base not in known]
    seen: set[str] = set()
    for cls in (each, *hidden):
        for name, member in (cls.own | cls.assigned).items():
            if name not in seen and not name.startswith("test_"):  # the tests of a kit are nobody's to call
                seen.add(name)
                yield member


def _member(member: Member) -> Iterator[str]:
    if not isinstance(member.node, Function):
        annotation, value = field_of(member.node)
        written = f"    {member.name}" + (f": {annotation}" if annotation else "")
        yield written + ("" if value is None else f" = {value}")
        return
    if member.is_abstract:
        yield "    @abstractmethod"
    if member.kind in {"property", "classmethod", "staticmethod"}:
        yield f"    @{member.kind}"
    if "Default:" in member.doc:
        yield "    @overridable"
    yield f"    def {member.name}{signature(member.node)}: ..."


def _listed_bases(each: Definition, public: set[Definition]) -> str:
    names: list[str] = []
    for base in each.bases:
        if isinstance(base, str):
            names.append(base)
        else:
            names += [a.name for a in (base, *base.ancestors) if a in public][:1]
    names = [name for name in dict.fromkeys(names) if name not in {"Protocol", "Generic"} and name[0] != "*"]
    return f"({', '.join(names)})" if names else ""


def _by_place(node: Found) -> bool | None:
    """Return whether the fields of a class may be given by place: None if it is neither a dataclass nor a named tuple."""
    if not isinstance(node, ast.ClassDef):
        return None
    found = next((each for each in node.decorator_list if ast.unparse(each).startswith("dataclass")), None)
    if found is None:
        return True if any(ast.unparse(base) == "NamedTuple" for base in node.bases) else None
    words = found.keywords if isinstance(found, ast.Call) else []
    return not any(word.arg == "kw_only" and ast.unparse(word.value) == "True" for word in words)


def _constructor(cls: Definition) -> Function | None:
    body = cls.node.body if isinstance(cls.node, ast.ClassDef) else []
    return next((node for node in body if isinstance(node, Function) and node.name == "__init__"), None)


# -- reading ---------------------------------------------------------------------------------------------------------------


def parsed(text: str) -> Api:
    """Return the names of a recorded text."""
    api = Api()
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        face, _, body = section.partition("\n")
        api.faces[face.strip()] = {name: node for node in ast.parse(body).body for name in _names_in(node)}
    for face, names in api.faces.items():
        for name, node in list(names.items()):
            if isinstance(node, ast.ImportFrom):
                api.imported.add((face, name))
                api.faces[face][name] = api.faces[node.module or ""][name]
    every = {name: node for names in api.faces.values() for name, node in names.items()}
    for node in (each for names in api.faces.values() for each in names.values()):
        if isinstance(node, ast.ClassDef):
            api.bases[id(node)] = _all_bases(node, every)
    return api


def _names_in(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [alias.name for alias in node.names]
    return [node.name] if isinstance(node, ast.ClassDef | Function) else [_target(node)]


def _all_bases(cls: ast.ClassDef, every: Mapping[str, Found]) -> set[str]:
    found: set[str] = set()
    for name in map(ast.unparse, cls.bases):
        found.add(name)
        if isinstance(base := every.get(name.partition("[")[0]), ast.ClassDef) and base is not cls:
            found |= _all_bases(base, every)
    return found


def members_of(cls: ast.ClassDef, api: Api) -> dict[str, ast.stmt]:
    """Return the members of a recorded class, those of its recorded bases included."""
    every = {name: node for names in api.faces.values() for name, node in names.items()}
    found: dict[str, ast.stmt] = {}
    for each in (cls, *(every[name] for name in api.bases.get(id(cls), ()) if name in every)):
        found = _own_members(each) | found if isinstance(each, ast.ClassDef) else found
    return found


def _own_members(cls: ast.ClassDef) -> dict[str, ast.stmt]:
    named = ((node.name if isinstance(node, Function) else _target(node), node) for node in cls.body)
    return {name: node for name, node in named if name}


def _target(node: ast.stmt) -> str:
    if isinstance(node, ast.AnnAssign):
        return ast.unparse(node.target)
    return ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""


# -- comparing -------------------------------------------------------------------------------------------------------------


def breaks(
    old: Api, new: Api, elsewhere: Callable[[str, str], Found | bool | None] = lambda _face, _name: None
) -> dict[str, str]:
    """Return what breaks plugins, by name: a sentence that says which, and what to do instead.

    Args:
        old: What plugins rely on.
        new: What there is.
        elsewhere: Finds a name that is in no face any more: its definition, or True if it is there and nothing more is known.
    """
    found: dict[str, str] = {}
    for face, names in old.faces.items():
        for name, before in names.items():
            is_imported = (face, name) in old.imported
            after = new.faces.get(face, {}).get(name) or elsewhere(face, name)
            title = f"{face}.{name}"
            if after is None or after is False:
                found[title] = (
                    f"{title} is gone: plugins that import it break. Keep it for a release: `forward_names` of "
                    "datarax_core.moved gives a name of a package its new place, with a DeprecationWarning"
                )
            elif not isinstance(after, bool) and not is_imported:
                found |= dict(_changes(title, before, after, old, new))
    return found


def _changes(title: str, before: Found, after: Found, old: Api, new: Api) -> Iterator[tuple[str, str]]:
    if isinstance(before, ast.ClassDef) and isinstance(after, ast.ClassDef):
        lost = {base for base in old.bases[id(before)] if base.partition("[")[0] in _names(old)} - new.bases[id(after)]
        for base in sorted(lost):
            yield (
                f"{title}({base})",
                f"{title} derives no more from {base}: plugins that ask isinstance, or catch it, break. Keep the base class",
            )
        theirs, ours = _own_members(before), members_of(after, new)
        for name, was in theirs.items():
            member = f"{title}.{name}"
            if name not in ours:
                yield (
                    member,
                    (
                        f"{member} is gone: plugins that call, override or set it break. Keep it for a release, with a "
                        "DeprecationWarning that names what takes its place"
                    ),
                )
            else:
                yield from _member_changes(member, was, ours[name])
        yield from _new_demands(title, before, after, old, new)
        yield from _other_places(title, before, after)
    elif isinstance(before, Function) and isinstance(after, Function):
        yield from _parameter_changes(title, before, after)
    elif isinstance(before, ast.ClassDef | Function) and not isinstance(after, ast.ClassDef):
        yield (
            title,
            f"{title} was a {_kind(before)} and is a {_kind(after)}: plugins that use it as one break. Keep its kind",
        )


def _names(api: Api) -> set[str]:
    return {name for names in api.faces.values() for name in names}


def _new_demands(
    title: str, before: ast.ClassDef, after: ast.ClassDef, old: Api, new: Api
) -> Iterator[tuple[str, str]]:
    theirs = members_of(before, old)
    for name, node in members_of(after, new).items():
        is_new_method = "abstractmethod" in decorators(node) and "abstractmethod" not in decorators(
            theirs.get(name, ast.Pass())
        )
        if is_new_method:
            yield (
                f"{title}.{name}",
                (
                    f"{title}.{name} must be written now: classes of plugins that derive from {title} cannot be made any more. "
                    "Give it a default"
                ),
            )
        if (
            name not in theirs
            and isinstance(node, ast.AnnAssign)
            and node.value is None
            and _has_fields(title, before, old)
        ):
            yield (
                f"{title}.{name}",
                f"{title}.{name} is a new field without a default: plugins that make a {title} break. Give it a default",
            )


def _other_places(title: str, before: ast.ClassDef, after: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield what breaks where a dataclass or a named tuple is made of values by place."""
    if not _by_place(before):
        return
    was, now = ([name for name, node in _own_members(c).items() if _is_field(node)] for c in (before, after))
    if not _by_place(after):
        yield title, f"{title} takes no values by place any more: plugins that make one so break. Keep its kind"
    elif now[: len(was)] != was and set(was) <= set(now):
        yield (
            title,
            (
                f"{title} takes {', '.join(now)} in this order, where plugins pass {', '.join(was)} by place: put new "
                "fields behind the others"
            ),
        )


def _is_field(node: ast.stmt) -> bool:
    return isinstance(node, ast.AnnAssign) and not ast.unparse(node.annotation).startswith("ClassVar")


def _has_fields(title: str, cls: ast.ClassDef, api: Api) -> bool:
    """Return whether a class is made of its fields: it has some without a constructor of its own, and is no mere protocol."""
    members = members_of(cls, api)
    return (
        "__init__" not in members and any(isinstance(node, ast.AnnAssign) for node in members.values()) and bool(title)
    )


def _member_changes(title: str, before: ast.stmt, after: ast.stmt) -> Iterator[tuple[str, str]]:
    was, now = _kind(before), _kind(after)
    is_value = {was, now} <= {"attribute", "property"}
    if was != now and not is_value and (was, now) != ("method", "classmethod"):
        yield title, f"{title} was a {was} and is a {now}: plugins that use it as one break. Keep its kind"
    elif isinstance(before, Function) and isinstance(after, Function) and was != "property":
        yield from _parameter_changes(title, before, after)
    elif not isinstance(before, Function) and not isinstance(after, Function):
        first, second = field_of(before)[1], field_of(after)[1]
        if first is not None and second is None:
            yield title, f"{title} has lost its default: plugins that leave it out break. Keep the default, {first}"
        elif first is not None and first != second:
            yield (
                title,
                (
                    f"{title} had the default {first} and has {second}: plugins that rely on it change without a "
                    "word. Add another "
                    "name, or warn for a release where it is left out"
                ),
            )


def _parameter_changes(title: str, before: Function, after: Function) -> Iterator[tuple[str, str]]:
    was, now = _parameters(before), _parameters(after)
    yield from _lost_parameters(title, was, now, takes_any=after.args.kwarg is not None)
    for name, (_, default) in now.items():
        if name not in was and default is None:
            sentence = f"{title}() requires {name!r}, which is new: plugins that call it break. Give it a default"
            yield f"{title}({name})", sentence
        elif name not in was and "overridable" in decorators(before):
            yield (
                f"{title}({name})",
                (
                    f"{title}() has the new parameter {name!r}, and plugins override it without: core may pass it "
                    "only to methods "
                    "that take it, as set_state_but of datarax_core.modules does. Name it with --accept once that is so"
                ),
            )
    order, new_order = ([n for n, (kind, _) in each.items() if kind == "positional"] for each in (was, now))
    if new_order[: len(order)] != [name for name in order if name in new_order] and set(order) <= set(new_order):
        yield (
            title,
            (
                f"{title}() takes {', '.join(new_order)} in this order, where plugins pass {', '.join(order)} by "
                "place: put new "
                "parameters behind the others, or let them be given by name only"
            ),
        )


def _lost_parameters(
    title: str, was: Mapping[str, Parameter], now: Mapping[str, Parameter], *, takes_any: bool
) -> Iterator[tuple[str, str]]:
    for name, (kind, default) in was.items():
        place = f"{title}({name})"
        if name not in now:
            if not (takes_any and kind == "keyword"):
                yield (
                    place,
                    (
                        f"{title}() takes no {name!r} any more: plugins that pass it, or override the method with it, "
                        "break. Keep "
                        "it for a release, with a DeprecationWarning where it is given"
                    ),
                )
            continue
        new_kind, new_default = now[name]
        if kind == "positional" and new_kind == "keyword":
            yield place, f"{title}() takes {name!r} by name only: plugins that pass it by place break. Keep its place"
        if default is not None and new_default is None:
            yield (
                place,
                f"{title}() requires {name!r} now: plugins that leave it out break. Keep its default, {default}",
            )
        elif default is not None and default != new_default:
            yield (
                place,
                (
                    f"{name!r} of {title}() had the default {default} and has {new_default}: plugins that rely on it change "
                    "without a word. Add another parameter, or warn for a release where it is left out"
                ),
            )


def _parameters(node: Function) -> dict[str, Parameter]:
    """Return kind and default of each parameter; the default is None where a value must be given."""
    given = node.args
    places = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(places) - len(given.defaults)) + [ast.unparse(value) for value in given.defaults]
    found: dict[str, Parameter] = {
        each.arg: ("positional", default) for each, default in zip(places, defaults, strict=True)
    }
    for each, value in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        found[each.arg] = ("keyword", None if value is None else ast.unparse(value))
    for name in ("self", "cls"):
        found.pop(name, None)
    return found


def _kind(node: Found) -> str:
    if isinstance(node, ast.ClassDef):
        return "class"
    if isinstance(node, Function):
        kinds = [name for name in ("property", "classmethod", "staticmethod") if name in decorators(node)]
        return kinds[0] if kinds else "method"
    return "attribute"


def main() -> int:
    """Record the names of the tree, unless something breaks that is not named."""
    parser = argparse.ArgumentParser(description="Record the public names of datarax_core.")
    parser.add_argument(
        "--accept", nargs="*", default=[], help="names that may break plugins, as the sentences give them"
    )
    accepted = parser.parse_args().accept
    written = text_of(Tree(ROOT / "datarax_core"))
    found = breaks(parsed(RECORDED.read_text(encoding="utf-8")), parsed(written)) if RECORDED.exists() else {}
    refused = {name: sentence for name, sentence in found.items() if name not in accepted}
    for name, sentence in refused.items():
        sys.stderr.write(f"{name}: {sentence}\n")
    if not refused:
        RECORDED.write_text(written, encoding="utf-8")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
