"""Public names of the core, read from its source files: `reference.py` and the tests of the recorded API use it.

Nothing is imported: signatures are written as in the files, so that they are the same in every version of Python and of the
libraries.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef

OPEN_MODULES = ("errors", "background", "faces", "moved")
"""Modules outside of packages that plugins import from; all their names without an underscore are public."""


@dataclass(frozen=True)
class Member:
    """Public attribute, property or method of a class."""

    name: str
    kind: str
    """``method``, ``classmethod``, ``staticmethod``, ``property`` or ``attribute``."""
    node: ast.stmt
    doc: str
    owner: "Definition"
    """The class that defines it."""

    @property
    def is_abstract(self) -> bool:
        """Whether a subclass must define it."""
        return any("abstractmethod" in text for text in decorators(self.node))


@dataclass
class Definition:
    """Public class, function, constant or type."""

    name: str
    module: str
    node: ast.stmt
    doc: str
    tree: "Tree" = field(repr=False)

    @property
    def kind(self) -> str:
        """``class``, ``function`` or ``value``."""
        if isinstance(self.node, ast.ClassDef):
            return "class"
        return "function" if isinstance(self.node, Function) else "value"

    @cached_property
    def bases(self) -> list["Definition | str"]:
        """The bases of a class: definitions of core, and other bases as they are written."""
        if not isinstance(self.node, ast.ClassDef):
            return []
        written = [each.value if isinstance(each, ast.Subscript) else each for each in self.node.bases]
        return [self.tree.find(self.module, text) or text for text in map(ast.unparse, written)]

    @cached_property
    def ancestors(self) -> list["Definition"]:
        """The classes of core that a class derives from, nearest first."""
        found: list[Definition] = []
        for base in self.bases:
            if isinstance(base, Definition):
                found += [base, *base.ancestors]
        return [each for place, each in enumerate(found) if each not in found[place + 1 :]]

    @cached_property
    def outside_bases(self) -> list[str]:
        """The bases of a class, or of those that it derives from, that core does not define."""
        every = [base for each in (self, *self.ancestors) for base in each.bases if isinstance(base, str)]
        return list(dict.fromkeys(every))

    @cached_property
    def own(self) -> dict[str, Member]:
        """The public attributes and methods that a class itself defines."""
        return {member.name: member for member in _members(self)} if isinstance(self.node, ast.ClassDef) else {}

    @cached_property
    def assigned(self) -> dict[str, Member]:
        """The public attributes that the constructor of a class assigns, and its body does not name."""
        found: dict[str, Member] = {}
        constructor = next((each for each in getattr(self.node, "body", ()) if _is_constructor(each)), None)
        for node in ast.walk(constructor) if constructor is not None else ():
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            for target in (part for each in targets for part in getattr(each, "elts", [each])):
                if (
                    isinstance(target, ast.Attribute)
                    and ast.unparse(target.value) == "self"
                    and target.attr not in self.own
                ):
                    annotation = node.annotation if isinstance(node, ast.AnnAssign) else ast.Name("Any", ast.Load())
                    declared = ast.AnnAssign(ast.Name(target.attr, ast.Store()), annotation, None, 1)
                    if not target.attr.startswith("_"):
                        found.setdefault(target.attr, Member(target.attr, "attribute", declared, "", self))
        return found

    @cached_property
    def every(self) -> dict[str, Member]:
        """The public attributes and methods of a class, its own and inherited ones."""
        found: dict[str, Member] = {}
        for each in (self, *self.ancestors):
            for name, member in each.own.items():
                found.setdefault(name, member)
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Definition) and (self.module, self.name) == (other.module, other.name)

    def __hash__(self) -> int:
        return hash((self.module, self.name))


class Tree:
    """Source files of a package."""

    def __init__(self, folder: Path, open_modules: Sequence[str] = OPEN_MODULES) -> None:
        self.folder, self.package, self._open = folder, folder.name, open_modules
        self._modules: dict[str, ast.Module] = {}
        self._found: dict[tuple[str, str], Definition | None] = {}

    @cached_property
    def faces(self) -> dict[str, dict[str, Definition]]:
        """The public names of each public module, in the order of their names."""
        found: dict[str, dict[str, Definition]] = {}
        folders = sorted(path.parent.name for path in self.folder.glob("*/__init__.py"))
        named = ["", *(name for name in folders if not name.startswith("_"))]
        for face in (*named, *(name for name in self._open if (self.folder / f"{name}.py").exists())):
            module = f"{self.package}.{face}".rstrip(".")
            names = self._names_of_face(module)
            definitions = {name: self.find(module, name) for name in sorted(names, key=_kind_and_name)}
            found[module] = {name: each for name, each in definitions.items() if each is not None}
        return found

    def parsed(self, module: str) -> ast.Module | None:
        """Return the syntax tree of a module of the package; None for any other module."""
        if module not in self._modules:
            path = self.folder.parent.joinpath(*module.split("."))
            path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            if module.partition(".")[0] != self.package or not path.exists():
                return None
            self._modules[module] = ast.parse(path.read_text(encoding="utf-8"))
        return self._modules[module]

    def find(self, module: str, name: str) -> Definition | None:
        """Return the definition of a name that a module defines or imports; None if another package defines it."""
        if (module, name) not in self._found:
            self._found[module, name] = self._look_up(module, name)
        return self._found[module, name]

    def _look_up(self, module: str, name: str) -> Definition | None:
        tree = self.parsed(module)
        for place, node in enumerate(_statements(tree) if tree else ()):
            if isinstance(node, ast.ClassDef | Function) and node.name == name:
                return Definition(name, module, node, ast.get_docstring(node) or "", self)
            if name in _assigned(node):
                following = tree.body[place + 1] if tree and node in tree.body and place + 1 < len(tree.body) else None
                return Definition(name, module, node, _text(following), self)
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return self.find(self._absolute(module, node), alias.name)
        return None

    def _absolute(self, module: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        path = self.folder.parent.joinpath(*module.split("."))
        package = module.split(".") if path.is_dir() else module.split(".")[:-1]
        above = package[: len(package) - node.level + 1]
        return ".".join([*above, *filter(None, [node.module])])

    def _names_of_face(self, module: str) -> list[str]:
        tree = self.parsed(module)
        names: list[str] = []
        is_open = module.rpartition(".")[2] in self._open
        for node in tree.body if tree else ():
            if isinstance(node, ast.If) and is_open:
                continue
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                names += [alias.asname or alias.name for each in node.body for alias in each.names]  # type: ignore[attr-defined]
            elif isinstance(node, ast.Assign) and _assigned(node) == ["__all__"]:
                names += [each for each in ast.literal_eval(node.value) if not each.startswith("__")]
            elif is_open and not _is_type_variable(node):
                defined = [node.name] if isinstance(node, ast.ClassDef | Function) else _assigned(node)
                names += [each for each in defined if not each.startswith("_")]
        return names


def signature(node: Function, *, bound: bool = False) -> str:
    """Return parameters and result as they are written; ``bound`` leaves ``self`` or ``cls`` out."""
    given = parsed_arguments(node, bound=bound)
    result = f" -> {_annotation(node.returns)}" if node.returns else ""
    places = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(places) - len(given.defaults)) + given.defaults
    parts = [_parameter(each, default) for each, default in zip(places, defaults, strict=True)]
    if given.posonlyargs:
        parts.insert(len(given.posonlyargs), "/")
    if given.vararg is not None:
        parts.append(f"*{_parameter(given.vararg, None)}")
    elif given.kwonlyargs:
        parts.append("*")
    parts += [_parameter(each, default) for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    parts += [] if given.kwarg is None else [f"**{_parameter(given.kwarg, None)}"]
    return f"({', '.join(parts)}){result}"


def _parameter(given: ast.arg, default: ast.expr | None) -> str:
    annotation = "" if given.annotation is None else f": {ast.unparse(given.annotation)}"
    equals = " = " if annotation else "="
    return f"{given.arg}{annotation}" + ("" if default is None else f"{equals}{ast.unparse(default)}")


def parsed_arguments(node: Function, *, bound: bool) -> ast.arguments:
    """Return the parameters of a function, with annotations as plain text."""
    new = ast.parse(f"def f({ast.unparse(node.args)}): ...").body[0]
    assert isinstance(new, ast.FunctionDef)  # noqa: S101 - what was parsed
    given = new.args
    is_static = any(text == "staticmethod" for text in decorators(node))
    if bound and not is_static and (given.posonlyargs or given.args):
        (given.posonlyargs or given.args).pop(0)
    for each in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg):
        if each is not None and each.annotation is not None:
            each.annotation = ast.parse(_annotation(each.annotation), mode="eval").body
    return given


def field_of(node: ast.stmt) -> tuple[str, str | None]:
    """Return annotation and default of an attribute; the default is None where a value must be given."""
    if isinstance(node, ast.Assign):
        return "", ast.unparse(node.value)
    assert isinstance(node, ast.AnnAssign)  # noqa: S101 - what attributes are
    annotation, value = _annotation(node.annotation), node.value
    if isinstance(value, ast.Call) and ast.unparse(value.func) in {"Field", "field"}:
        given = {each.arg: each.value for each in value.keywords}
        factory = given.get("default_factory")
        default = value.args[0] if value.args else given.get("default")
        if factory is not None:
            return annotation, f"{ast.unparse(factory)}()"
        return annotation, None if default is None or ast.unparse(default) == "..." else ast.unparse(default)
    return annotation, None if value is None else ast.unparse(value)


def description_of(node: ast.stmt) -> str:
    """Return the description that a field of a config is declared with."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call):
        for each in node.value.keywords:
            if each.arg == "description":
                try:
                    return str(ast.literal_eval(each.value))
                except ValueError:  # put together by an expression
                    return ""
    return ""


def decorators(node: ast.stmt) -> list[str]:
    """Return the decorators of a definition as they are written."""
    return [ast.unparse(each) for each in getattr(node, "decorator_list", ())]


def _members(cls: Definition) -> Iterator[Member]:
    assert isinstance(cls.node, ast.ClassDef)  # noqa: S101 - as the caller knows
    body = cls.node.body
    for place, node in enumerate(body):
        following = body[place + 1] if place + 1 < len(body) else None
        if isinstance(node, Function):
            written = decorators(node)
            if any(text.endswith((".setter", ".deleter")) or text == "overload" for text in written):
                continue
            if not node.name.startswith("_") or (node.name in _SPECIAL and ast.get_docstring(node)):
                yield Member(node.name, _kind(written), node, ast.get_docstring(node) or "", cls)
        else:
            for name in _assigned(node):
                if not name.startswith("_") and name != "model_config":
                    yield Member(name, "attribute", node, _text(following) or description_of(node), cls)


def _is_type_variable(node: ast.stmt) -> bool:
    value = getattr(node, "value", None)
    return isinstance(value, ast.Call) and ast.unparse(value.func) in {"TypeVar", "ParamSpec"}


def _is_constructor(node: ast.stmt) -> bool:
    return isinstance(node, Function) and node.name == "__init__"


_SPECIAL = frozenset({"__call__", "__getitem__", "__iter__", "__len__", "__next__"})
"""Special methods that the reference shows where they have a docstring."""


def _kind(written: list[str]) -> str:
    for name in ("classmethod", "staticmethod"):
        if name in written:
            return name
    is_property = any(text in {"property", "cached_property", "count_of_cursor"} for text in written)
    return "property" if is_property else "method"


def _statements(tree: ast.Module) -> list[ast.stmt]:
    """Return the statements of a module, those for type checkers included."""
    inner = [each for node in tree.body if isinstance(node, ast.If | ast.Try) for each in node.body]
    return [*tree.body, *inner]


def _assigned(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.AnnAssign):
        return [node.target.id] if isinstance(node.target, ast.Name) else []
    if isinstance(node, ast.Assign):
        return [each.id for each in node.targets if isinstance(each, ast.Name)]
    return []


def _annotation(node: ast.expr) -> str:
    """Return an annotation without the quotes of names that are defined later."""

    class Unquoted(ast.NodeTransformer):
        def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
            if ast.unparse(node.value) in {"Literal", "typing.Literal"}:
                return node
            return self.generic_visit(node)

        def visit_Constant(self, node: ast.Constant) -> ast.AST:
            return ast.parse(node.value, mode="eval").body if isinstance(node.value, str) else node

    copy = ast.parse(ast.unparse(node), mode="eval")
    return ast.unparse(Unquoted().visit(copy))


def _text(node: ast.stmt | None) -> str:
    """Return the docstring that a statement after an assignment is."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        lines = node.value.value.strip().splitlines()
        return "\n".join([lines[0], *_dedented(lines[1:])])
    return ""


def _dedented(lines: list[str]) -> list[str]:
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return [line[margin:] for line in lines]


def _kind_and_name(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name
