"""Write docs/reference from docstrings and signatures of core: ``python docs/reference.py``. A test compares them.

Facts that an author needs stand in the docstrings as sections of their own: ``Called:`` says when and by whom a name is called,
and on which threads; ``Default:`` what happens where no subclass overrides it. A name with a default may be overridden;
``Default: none`` means that a subclass must write it.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from config_types import table_of_types
from public_names import Definition, Function, Member, Tree, field_of, signature

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).with_name("reference")
PACKAGE = "datarax_core"

PAGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "sources": (
        "Sources",
        "Base classes of sources with random access, what they are made of, and the classes of modules that they derive from.",
        ("sources", "modules"),
    ),
    "streams": (
        "Streams",
        "Sources that are read forward only: the base class, and streams over what is iterable.",
        ("sources.streaming", "sources.iterables"),
    ),
    "views": (
        "Views",
        "Sources over sources: the base class, its config, parts of a source, and conditions.",
        ("sources.views", "sources.subset", "registry.view_config"),
    ),
    "stages": (
        "Stages",
        "The base class of stages, on the device and on the host, what helps to write them, and the stages of core.",
        ("stages", "registry.stages"),
    ),
    "decoders": (
        "Decoders",
        "The base class of decoders, which turn the bytes of records into arrays, and their registry.",
        ("registry.decoders",),
    ),
    "hooks": (
        "Hooks",
        "The hooks that a plugin may implement, what they are given, and the object that calls them.",
        ("extensions.hooks", "extensions.hookspecs"),
    ),
    "order": (
        "Orders and batches",
        "From positions of a stream to record indices, and to sizes of batches.",
        ("order",),
    ),
    "records": (
        "Records",
        "Element specs, batches, ragged columns, and dtypes.",
        ("records",),
    ),
    "files": (
        "Files and storage",
        "Paths, tables and pools of files, records in files, addresses, and the cache.",
        ("files", "storage", "record_files"),
    ),
    "config": (
        "Configs",
        "Base classes of configs, the types of their fields, and the config of a pipeline.",
        ("config", "registry.pipeline_config"),
    ),
    "registry": (
        "Registries and errors",
        "Plugins by name, and every error that is raised on purpose.",
        ("registry", "extensions", "errors"),
    ),
    "testing": (
        "Testing kits",
        "Test classes that show whether a plugin keeps its promises, with what an author declares, and fixtures for tests.",
        ("testing", "pytest_plugin"),
    ),
    "pipeline": (
        "Pipeline",
        "What users call: the pipeline, sources built from configs, devices, and helpers for work in the background.",
        ("pipeline", "devices", "routes", "background", "faces", "moved"),
    ),
}
"""For each page, its title, a sentence, and the modules whose names stand on it; the longest match decides."""

FIRST = (
    "DataSourceModule", "EagerSourceBase", "RecordFilesSource", "StreamingSourceBase", "SourceView", "ViewConfig", "Stage",
    "Decoder", "HookSpecs", "hookimpl", "Order", "BatchSizes", "Ragged", "SourceConfig", "SourceRegistry", "StageRegistry",
    "SourceConformance", "StageConformance", "HostStageConformance", "DecoderConformance", "HookConformance", "Pipeline",
)  # fmt: skip
"""Names that stand at the top of their page, in this order."""

LEFT_OUT = {
    "datarax_core.routes.Definition": "how a pipeline is built inside; nothing outside of core uses it",
    "datarax_core.routes.Prepared": "how a pipeline is built inside; nothing outside of core uses it",
    "datarax_core.routes.Route": "how a pipeline is built inside; nothing outside of core uses it",
    "datarax_core.routes.route_class": "how a pipeline is built inside; nothing outside of core uses it",
    "datarax_core.routes.route_of": "how a pipeline is built inside; nothing outside of core uses it",
    "datarax_core.workers.Workers": "the worker processes of a pipeline, which start and end with it",
}
"""Public names that no page has, with the reason."""

BASES = (
    "DataSourceModule", "EagerSourceBase", "RecordFilesSource", "StreamingSourceBase", "SourceView", "Subset", "RecordReader",
    "LocalFilesOnlyMixin", "HostState", "Stage", "Decoder", "HookSpecs", "BatchSizes", "SourceConfig", "SourceConfigBase",
    "ViewConfig", "RemoteOptions", "BadRecordOptions", "SourceConformance", "StageConformance", "HostStageConformance",
    "DecoderConformance", "HookConformance",
)  # fmt: skip
"""Classes that authors derive from: each of their public names says when and by whom it is called."""

FEW = 12
"""Inherited names that are all listed; of more, only those that may be overridden."""

SECTIONS = ("Args", "Returns", "Yields", "Raises", "Called", "Default", "Attributes", "Example", "Note")
HEAD = re.compile(rf"^({'|'.join(SECTIONS)}):(?: (.*))?$")
NAME = re.compile(r"(?<!`)`([\w.]+(?:\(\))?)`(?!`)")


class Reference:
    """All pages, and the links between their names."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree

    @cached_property
    def homes(self) -> dict[Definition, list[str]]:
        """The faces of each public name; that to import it from is the first."""
        found: dict[Definition, list[str]] = defaultdict(list)
        for face, names in self.tree.faces.items():
            for definition in names.values():
                found[definition].append(face)
        return found

    @cached_property
    def pages(self) -> dict[str, list[Definition]]:
        """The names of each page, in their order."""
        found: dict[str, list[Definition]] = {page: [] for page in PAGES}
        for definition, faces in self.homes.items():
            if not any(f"{face}.{definition.name}" in LEFT_OUT for face in faces):
                found[self.page_of(definition)].append(definition)
        for names in found.values():
            names.sort(key=self._place)
        return found

    def page_of(self, definition: Definition) -> str:
        """Return the page of a name, by the module that defines it."""
        module = definition.module.removeprefix(f"{PACKAGE}.")
        matches = [
            (len(prefix), page)
            for page, (_, _, prefixes) in PAGES.items()
            for prefix in prefixes
            if module == prefix or module.startswith(f"{prefix}.")
        ]
        if not matches:
            raise ValueError(f"{definition.module}.{definition.name} has no page: add its package to PAGES")
        return max(matches)[1]

    def _place(self, each: Definition) -> tuple[int, int, str, int]:
        """Return where a name stands on its page: the first ones, and then as their modules are listed in `PAGES`."""
        prefixes = PAGES[self.page_of(each)][2]
        module = each.module.removeprefix(f"{PACKAGE}.")
        best = max(
            (len(prefix), -number) for number, prefix in enumerate(prefixes) if f"{module}.".startswith(f"{prefix}.")
        )
        return (FIRST.index(each.name) if each.name in FIRST else len(FIRST), -best[1], each.module, each.node.lineno)

    @cached_property
    def shown(self) -> dict[Definition, list[Member]]:
        """The members that each public class shows: its own, and those of classes that are in no face."""
        found: dict[Definition, list[Member]] = {}
        for definition in self.homes:
            above = [each for each in definition.ancestors if each in self.homes]
            known = {each for public in above for each in public.ancestors}
            hidden = [each for each in definition.ancestors if each not in self.homes and each not in known]
            members: dict[str, Member] = {}
            for each in (definition, *hidden):
                for name, member in each.own.items():
                    members.setdefault(name, member)
            inherited = {name for public in above for name in public.every}
            found[definition] = [
                member
                for name, member in members.items()
                if name not in inherited or (member.doc and not _is_constant(member))
            ]
        return found

    @cached_property
    def anchors(self) -> dict[str, str]:
        """The address of each entry, by ``Class.member`` or name; names that stand for several things are left out."""
        found: dict[str, str] = {}
        twice: set[str] = set()
        for page, names in self.pages.items():
            for definition in names:
                entries = [definition.name, *(f"{definition.name}.{m.name}" for m in self.shown[definition] if m.doc)]
                for name in entries:
                    twice |= {name} & found.keys()
                    found[name] = f"{page}.md#{name}"
        return {name: place for name, place in found.items() if name not in twice}

    @cached_property
    def _addresses(self) -> dict[Definition, str]:
        return {each: f"{page}.md#{each.name}" for page, names in self.pages.items() for each in names}

    def link(self, name: str, page: str, around: Definition | None) -> str:
        """Return a name of a docstring as Markdown: a link to its entry, if it has one."""
        called = name.removesuffix("()")
        found = None if around is None else self.tree.find(around.module, called)
        place = None if found is None else self._addresses.get(found)
        for each in self._meanings(called, around):
            place = place or self.anchors.get(each)
        return f"[`{name}`]({place.removeprefix(f'{page}.md')})" if place else f"`{name}`"

    def _meanings(self, name: str, around: Definition | None) -> Iterator[str]:
        head, _, last = name.rpartition(".")
        if around is not None:
            if around.kind == "class" and not head:
                yield from (f"{each.name}.{name}" for each in (around, *around.ancestors))
                yield from (f"{each.name}.{name}" for each in self._below(around))
            found = self.tree.find(around.module, name.partition(".")[0])
            if found is not None and found not in self.homes:
                yield from (f"{each.name}.{last}" for each in self._below(found))
        if head and (cls := next((each for each in self._every_class if each.name == head.rpartition(".")[2]), None)):
            yield from (f"{each.name}.{last}" for each in (cls, *cls.ancestors, *self._below(cls)))
        yield name
        yield last
        if around is not None and not head:
            yield from (f"{each}.{name}" for each in ("DataSourceModule", "HookSpecs", "Pipeline"))

    @cached_property
    def _every_class(self) -> list[Definition]:
        every = [base for each in self.homes for base in (each, *each.ancestors)]
        return list(dict.fromkeys(each for each in every if each.kind == "class"))

    def _below(self, cls: Definition) -> list[Definition]:
        """Return the public classes that derive from a class, the nearest first."""
        below = [each for each in self.homes if cls in each.ancestors]
        return sorted(below, key=lambda each: len(each.ancestors))

    def text(self, doc: str, page: str, around: Definition | None) -> Iterator[str]:
        """Yield the lines of a docstring as Markdown."""
        section = ""
        is_code = False
        for line in _fenced(doc.splitlines()):
            is_code ^= line.lstrip().startswith("```")
            if is_code or line.lstrip().startswith("```"):
                yield line
                continue
            if found := HEAD.match(line):
                section, rest = found[1], found[2] or ""
                yield ""
                title = {"Args": "Arguments", "Default": "By default"}.get(section, section)
                yield f"**{title}:** {self.marked(rest, page, around)}".rstrip()
                if not rest:
                    yield ""
                continue
            if line and not line.startswith(" "):
                section = ""
            text = self.marked(line.strip(), page, around)
            if section in {"Args", "Raises", "Attributes"} and (
                item := re.match(r"    (\*{0,2}[\w., |]+): (.*)", line)
            ):
                yield f"- `{item[1]}`: {self.marked(item[2], page, around)}"
            elif section in {"Args", "Raises", "Attributes"} and text:
                yield f"  {text}"
            else:
                yield text

    def marked(self, text: str, page: str, around: Definition | None) -> str:
        """Return a line of a docstring with links, and code in single backticks."""
        parts = re.split(r"(``.+?``)", text)
        return "".join(
            f"`{part[2:-2]}`" if part.startswith("``") else NAME.sub(lambda n: self.link(n[1], page, around), part)
            for part in parts
        )

    # -- pages -----------------------------------------------------------------------------------------------------------

    def page(self, page: str) -> str:
        """Return a page."""
        title, sentence, _ = PAGES[page]
        names = self.pages[page]
        lines = [
            f"# {title}",
            "",
            sentence,
            "",
            "Written by `make docs` from the docstrings; [all pages](README.md).",
            "",
        ]
        lines += [", ".join(f"[`{each.name}`](#{each.name})" for each in names), ""]
        for each in names:
            lines += self.entry(each, page)
        if page == "config":
            lines += table_of_types()
        return _joined(lines)

    def entry(self, each: Definition, page: str) -> Iterator[str]:
        """Yield the lines of a public name and of its members."""
        faces = self.homes[each]
        yield from (f'<a id="{each.name}"></a>', "", f"## {each.name}", "")
        also = f"; also in {', '.join(f'`{face}`' for face in faces[1:])}" if faces[1:] else ""
        if isinstance(each.node, Function):
            yield from (f"`{each.name}{signature(each.node)}`", "")
        elif each.kind == "class":
            bases = [
                self.link(b.name, page, each) if isinstance(b, Definition) else f"`{b}`"
                for b in self._public_bases(each)
            ]
            constructor = _constructor(each)
            yield f"Class `{each.name}{constructor}`{', of ' + ', '.join(bases) if bases else ''}."
            yield ""
        elif each.kind == "value":
            yield from (f"`{_assignment(each)}`", "")
        yield from (f"`from {faces[0]} import {each.name}`{also}", "")
        yield from self.text(each.doc, page, each)
        yield ""
        if each.kind == "class":
            yield from self.members(each, page)

    def _public_bases(self, cls: Definition) -> list[Definition | str]:
        """Return the bases of a class, with those of a base that is in no face in its place."""
        found: list[Definition | str] = []
        for base in cls.bases:
            is_hidden = isinstance(base, Definition) and base not in self.homes
            found += self._public_bases(base) if is_hidden else [base]  # type: ignore[arg-type]  # a definition, then
        public = [
            each for each in dict.fromkeys(found) if not str(each).startswith(("Protocol", "ABC", "Generic", "*"))
        ]
        above = {known for each in public if isinstance(each, Definition) for known in each.ancestors}
        return [each for each in public if each not in above]

    def members(self, cls: Definition, page: str) -> Iterator[str]:
        """Yield the lines of the members of a class, in groups if they say what may be overridden."""
        groups: dict[str, list[Member]] = defaultdict(list)
        is_base = cls.name in BASES or any("Default:" in m.doc for m in self.shown[cls])
        plain = [member for member in self.shown[cls] if not member.doc]
        if plain:
            yield from (f"Attributes: {', '.join(f'`{_heading(member)}`' for member in plain)}.", "")
        for member in self.shown[cls]:
            if member.doc:
                groups[group_of(member, cls) if is_base else ""].append(member)
        for group in ("", "Fields", "To be written", "May be declared", "May be overridden", "Called, not overridden"):
            if groups[group] and group:
                yield from (f"### {cls.name}: {group[0].lower()}{group[1:]}", "")
            for member in groups[group]:
                yield from (f'<a id="{cls.name}.{member.name}"></a>', "", f"**`{_heading(member)}`**", "")
                around = cls if member.owner not in self.homes else member.owner
                yield from (*self.text(member.doc, page, around), "")
                above = next(
                    (a for a in cls.ancestors if member.name in a.own and "Called:" in a.own[member.name].doc), None
                )
                if above is not None and "Called:" not in member.doc:
                    base = next(
                        (b for b in (above, *self._below(above)) if f"{b.name}.{member.name}" in self.anchors), above
                    )
                    yield from (f"Called as {self.link(f'{base.name}.{member.name}', page, None)} is.", "")
        yield from self._inherited(cls, page)

    def _inherited(self, cls: Definition, page: str) -> Iterator[str]:
        """Yield a line for each public base class, with what is inherited from it."""
        known = {member.name for member in self.shown[cls]}
        for public in (each for each in cls.ancestors if each in self.homes):
            members = [member for member in self.shown[public] if member.doc and member.name not in known]
            known.update(member.name for member in members)
            is_long = len(members) > FEW
            named = [member for member in members if not is_long or "Default:" in member.doc]
            links = [self.link(f"{public.name}.{m.name}", page, None).replace(f"`{public.name}.", "`") for m in named]
            if more := len(members) - len(named):
                links.append(f"and {more} more, which are called and not overridden")
            if links:
                yield from (f"Inherited from {self.link(public.name, page, None)}: {', '.join(links)}.", "")

    def index(self) -> str:
        """Return the page that lists all pages and names."""
        lines = [
            "# Reference", "",
            "Every public name of `datarax_core`, with its signature. Names that a plugin overrides say when, by whom and on",
            "which threads they are called, and what the default does. Written by `make docs` from the docstrings.", "",
            "| page | what is there |", "|---|---|",
        ]  # fmt: skip
        for page, (title, sentence, _) in PAGES.items():
            lines.append(f"| [{title}]({page}.md) | {sentence} |")
        lines += ["", "## Names", ""]
        for page, names in self.pages.items():
            links = ", ".join(f"[`{each.name}`]({page}.md#{each.name})" for each in names)
            lines += [f"**{PAGES[page][0]}**: {links}", ""]
        lines += ["## Names left out", ""]
        lines += [f"- `{name}`: {reason}" for name, reason in LEFT_OUT.items()]
        return _joined(lines)

    def written(self) -> dict[str, str]:
        """Return the text of each page by file name."""
        return {"README.md": self.index(), **{f"{page}.md": self.page(page) for page in PAGES}}


def group_of(member: Member, cls: Definition) -> str:
    """Return whether authors write, declare, override or call a member of a base class."""
    docs = [each.own[member.name].doc for each in (cls, *cls.ancestors) if member.name in each.own]
    default = next((found for doc in docs if (found := fact(doc, "Default")) is not None), None)
    if not isinstance(member.node, Function) and default is None and fact(member.doc, "Called") is None:
        return "May be declared" if cls.name.endswith("Conformance") else "Fields"
    if default is None:
        return "Called, not overridden"
    is_missing = (
        default.startswith("none") and fact(member.doc, "Default") is not None
    )  # a subclass that has it wrote it
    return "To be written" if is_missing else "May be overridden"


def _fenced(lines: list[str]) -> Iterator[str]:
    """Yield the lines of a docstring with fences around the indented blocks that ``::`` announces."""
    margin, begun = -1, False
    held: list[str] = []  # empty lines, which may be behind the block
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if margin >= 0 and line.strip() and indent <= margin:
            yield from ("```", *(held or [""]))
            margin, held = -1, []
        if margin >= 0:
            held = [*held, line] if not line.strip() else held
            if line.strip():
                yield from (*(held if begun else []), line[margin + 4 :])
                held, begun = [], True
        elif line.rstrip().endswith("::"):
            if line.strip() != "::":
                yield line.rstrip()[:-1]
            yield from ("", "```python")
            margin, begun = indent, False
        else:
            yield line
    if margin >= 0:
        yield "```"


def fact(doc: str, section: str) -> str | None:
    """Return the text of a section of a docstring; None if it has none."""
    found = re.search(rf"^{section}: *(.*(?:\n +\S.*)*)", doc, re.MULTILINE)
    return None if found is None else " ".join(found[1].split())


def reference() -> Reference:
    """Return the reference of this tree."""
    return Reference(Tree(ROOT / PACKAGE))


def _heading(member: Member) -> str:
    if isinstance(member.node, Function):
        if member.kind == "property":
            returns = signature(member.node, bound=True).removeprefix("()")
            return f"{member.name}{returns}"
        prefix = {"classmethod": "classmethod ", "staticmethod": "staticmethod "}.get(member.kind, "")
        return f"{prefix}{member.name}{signature(member.node, bound=True)}"
    annotation, default = field_of(member.node)
    default = "..." if default is not None and len(default) > 60 else default
    return f"{member.name}{f': {annotation}' if annotation else ''}{f' = {default}' if default is not None else ''}"


def _is_constant(member: Member) -> bool:
    return member.kind == "attribute" and not member.doc


def _constructor(cls: Definition) -> str:
    for each in (cls, *cls.ancestors):
        for node in getattr(each.node, "body", ()):
            if isinstance(node, Function) and node.name == "__init__":
                return signature(node, bound=True).removesuffix(" -> None")
    return ""


def _assignment(each: Definition) -> str:
    annotation, value = field_of(each.node)
    value = "..." if value is None or len(value) > 100 else value
    return f"{each.name}{f': {annotation}' if annotation not in {'', 'TypeAlias', 'Final'} else ''} = {value}"


def _joined(lines: list[str]) -> str:
    text = "\n".join(line.rstrip() for line in lines)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    pages = reference().written()
    for stale in FOLDER.glob("*.md"):
        if stale.name not in pages:
            stale.unlink()
    for name, text in pages.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
