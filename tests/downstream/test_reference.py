"""docs/reference: complete, up to date, without dead links; facts of what authors override stand in the docstrings."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from public_names import OPEN_MODULES, Definition, Member, field_of
from reference import BASES, FOLDER, LEFT_OUT, ROOT, Reference, fact, reference

NO_BASES = {"Columns", "DataraxModule", "FrozenConfig", "ReadError", "SequenceSource", "StructuralModule"}
"""Classes that first-party plugins derive from, and that no author needs as a base: what they are called for is no protocol."""

LOOKED_UP_INSIDE = {"__dict__", "__name__", "__qualname__", "name", "host_table", "takes_record_ids", "with_one_shape"}
"""Attributes that core looks for in stages of its own only."""


@pytest.fixture(scope="module")
def pages() -> Reference:
    return reference()


def test_the_pages_are_up_to_date(pages: Reference) -> None:
    written = pages.written()
    assert {path.name for path in FOLDER.glob("*")} == set(written), "run make docs"
    stale = [name for name, text in written.items() if (FOLDER / name).read_text(encoding="utf-8") != text]
    assert stale == [], "run make docs"


def test_every_public_name_has_one_entry_or_a_reason(pages: Reference) -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md"))
    anchors = re.findall(r'<a id="(\w+)"></a>', text)
    expected = []
    for definition, faces in pages.homes.items():
        left_out = [f"{face}.{definition.name}" in LEFT_OUT for face in faces]
        expected += [] if any(left_out) else [definition.name]
    assert sorted(anchors) == sorted(expected)
    assert all(len(reason.split()) > 3 for reason in LEFT_OUT.values())
    assert LEFT_OUT.keys() <= {f"{face}.{name}" for face, names in pages.tree.faces.items() for name in names}


def test_the_names_are_those_of_the_faces(pages: Reference) -> None:
    """They are read from the files; the interpreter has the same."""
    for face, names in pages.tree.faces.items():
        module = importlib.import_module(face)
        if face.rpartition(".")[2] not in OPEN_MODULES:
            assert sorted(names) == sorted(module.__all__), face
        for name in names:
            assert hasattr(module, name), f"{face}.{name}"


def test_every_public_name_says_what_it_is(pages: Reference) -> None:
    without = [f"{each.module}.{each.name}" for each in pages.homes if not each.doc]
    members = [
        f"{cls.name}.{member.name}"
        for cls, shown in pages.shown.items()
        for member in shown
        if not member.doc and not _is_field(member)
    ]
    assert (without, members) == ([], []), "write a docstring"


def test_links_lead_to_entries() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    anchors = {name: set(re.findall(r'<a id="([\w.]+)"></a>', text)) for name, text in texts.items()}
    found = 0
    for name, text in texts.items():
        for page, anchor in re.findall(r"\]\(([\w./-]*)#([\w.]+)\)", text):
            assert anchor in anchors[page or name], f"{name}: {page}#{anchor}"
            found += 1
        for page in re.findall(r"\]\(([\w./-]+)\)", text):
            assert (FOLDER / page).exists(), f"{name}: {page}"
    assert found > 1000


def test_names_in_docstrings_are_links(pages: Reference) -> None:
    home = next(each for each in pages.homes if each.name == "DataSourceModule")
    assert pages.link("get_records", "sources", home) == "[`get_records`](#DataSourceModule.get_records)"
    assert pages.link("get_records()", "views", home) == "[`get_records()`](sources.md#DataSourceModule.get_records)"
    assert pages.link("RecordAccess.access", "sources", None) == "[`RecordAccess.access`](#DataSourceModule.access)"
    assert pages.link("nothing_like_it", "sources", home) == "`nothing_like_it`"


# -- facts -----------------------------------------------------------------------------------------------------------------


def overridable(pages: Reference) -> Iterator[tuple[str, list[Member]]]:
    """Yield each public name of the classes that authors derive from, and its definitions, the nearest first."""
    for cls in (each for each in pages.homes if each.name in BASES):
        for name, member in cls.every.items():
            chain = [each.own[name] for each in (cls, *cls.ancestors) if name in each.own]
            if not _is_field(member) and not name.startswith("test_"):  # pytest calls the tests of a kit
                yield f"{cls.name}.{name}", chain


def test_what_authors_derive_from_says_when_it_is_called(pages: Reference) -> None:
    missing = {name for name, chain in overridable(pages) if not any(fact(each.doc, "Called") for each in chain)}
    assert sorted(missing) == [], "add a section `Called:`, when, by whom and on which threads; see CONTRIBUTING.md"


def test_what_is_overridden_says_what_the_default_does(pages: Reference) -> None:
    """A name that some class of the tree overrides is one that authors may override."""
    names = dict(overridable(pages))
    missing = {
        name
        for name in _overridden(pages)
        if name in names and not any(fact(each.doc, "Default") for each in names[name])
    }
    assert sorted(missing) == [], (
        "add a section `Default:`, what happens where no class overrides it; see CONTRIBUTING.md"
    )


def test_what_must_be_written_says_so(pages: Reference) -> None:
    abstract = {name: chain for name, chain in overridable(pages) if chain[0].is_abstract}
    assert len(abstract) > 5
    assert [
        name for name, chain in abstract.items() if not (fact(chain[0].doc, "Default") or "").startswith("none")
    ] == []


def test_facts_are_sentences(pages: Reference) -> None:
    for name, chain in overridable(pages):
        for section in ("Called", "Default"):
            text = fact(chain[0].doc, section)
            assert text is None or re.fullmatch(r".{2,}\.", text), f"{name}: {section}: {text}"


def test_the_bases_are_those_that_plugins_derive_from(pages: Reference) -> None:
    public = {each.name for each in pages.homes if each.kind == "class"}
    found = {
        base
        for _, bases, _ in _classes(ROOT / "plugins", ROOT / "examples/plugins")
        for base in bases
        if base in public
    }
    in_kits = {name for name in public if name.endswith("Conformance")}
    assert sorted(found - set(BASES) - NO_BASES - in_kits) == [], "add the class to BASES of docs/reference.py"
    assert set(BASES) <= public


def test_what_core_looks_for_in_stages_is_in_the_docstring_of_stages(pages: Reference) -> None:
    looked_up = set()
    for path in (ROOT / "datarax_core/stages").rglob("*.py"):
        looked_up |= set(re.findall(r'(?:getattr|hasattr)\(stage, "(\w+)"', path.read_text(encoding="utf-8")))
    stage = next(each for each in pages.homes if each.name == "Stage")
    named = {*re.findall(r"``(\w+)", stage.doc), *stage.every}
    assert len(looked_up) > 8
    assert sorted(looked_up - LOOKED_UP_INSIDE - named) == [], "say in the docstring of Stage what the attribute does"


def _is_field(member: Member) -> bool:
    """Return whether a member is a field of a config or of a dataclass, or the narrowed type of an attribute."""
    if not isinstance(member.node, ast.AnnAssign | ast.Assign):
        return False
    is_class_variable = "ClassVar" in field_of(member.node)[0] or isinstance(member.node, ast.Assign)
    return not is_class_variable and not (member.doc and "Called:" in member.doc)


def _classes(*folders: Path) -> Iterator[tuple[str, list[str], set[str]]]:
    """Yield name, bases and members of each class in files of code."""
    for path in (path for folder in folders for path in folder.rglob("*.py") if "tests" not in path.parts):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases]
                targets = [each.target for each in node.body if isinstance(each, ast.AnnAssign) and each.value]
                targets += [target for each in node.body if isinstance(each, ast.Assign) for target in each.targets]
                members = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
                yield node.name, bases, members | {each.id for each in targets if isinstance(each, ast.Name)}


def _overridden(pages: Reference) -> Iterator[str]:
    """Yield ``Base.member`` for each member of a base that a class of the tree overrides."""
    every: dict[str, Definition] = {each.name: each for each in pages.homes if each.kind == "class"}
    for _, bases, members in _classes(ROOT / "datarax_core", ROOT / "plugins", ROOT / "examples/plugins"):
        for base in (every[name] for name in bases if name in every):
            yield from (f"{base.name}.{name}" for name in members if name in base.every)
