"""Structure of core and of the first-party plugins: imports without circles, folders and files of readable size.

Every import counts: also imports inside functions, and imports for type checkers only.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
DISTRIBUTIONS = sorted([CHECKOUT / "datarax_core", *CHECKOUT.glob("plugins/*/datarax_*")])
FOLDERS = sorted({path.parent for root in DISTRIBUTIONS for path in root.glob("**/*.py")})
TEST_FOLDERS = sorted({path.parent for path in CHECKOUT.glob("tests/**/*.py")})

ALLOWED_PAIR = {"datarax_core/registry/pipeline_config.py", "datarax_core/registry/sources.py"}
"""`SourceRegistry.json_schema` describes `PipelineConfig`, whose field `source` is looked up in the default registry."""

Graph = Mapping[str, set[str]]


def ids(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def modules_of(root: Path) -> dict[str, Path]:
    """Return the file of each module of a distribution, by dotted name; a package's is its ``__init__.py``."""
    return {
        ".".join([root.name, *path.relative_to(root).with_suffix("").parts]).removesuffix(".__init__"): path
        for path in sorted(root.glob("**/*.py"))
    }


def imported(module: str, path: Path) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of every import; the name is empty where a module itself is imported."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            yield from ((source, alias.name) for alias in node.names)


@cache
def imports_of(root: Path) -> dict[str, set[str]]:
    """Return the files of a distribution that each of its files imports, by path relative to the distribution."""
    modules = modules_of(root)
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        found = (modules.get(f"{source}.{name}") or modules.get(source) for source, name in imported(module, path))
        graph[relative(root, path)] = {relative(root, each) for each in found if each not in (None, path)}
    return graph


def relative(root: Path, path: Path | None) -> str:
    assert path is not None
    return path.relative_to(root.parent).as_posix()


def circles(graph: Graph) -> list[set[str]]:
    """Return the strongly connected components of more than one node."""
    reached = {node: reachable(graph, node) for node in graph}
    found: list[set[str]] = []
    for node in graph:
        together = {other for other in reached[node] if node in reached[other]}
        if len(together) > 1 and together not in found:
            found.append(together)
    return found


def reachable(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for each in graph[waiting.pop()] - seen:
            seen.add(each)
            waiting.append(each)
    return seen


@pytest.mark.parametrize("root", DISTRIBUTIONS, ids=ids)
def test_files_import_one_another_in_no_circle_but_one_pair(root: Path) -> None:
    found = circles(imports_of(root))
    assert found == ([ALLOWED_PAIR] if root.name == "datarax_core" else [])


@pytest.mark.parametrize("folder", FOLDERS, ids=ids)
def test_modules_and_packages_of_a_folder_form_no_circle(folder: Path) -> None:
    root = next(root for root in DISTRIBUTIONS if folder.is_relative_to(root))
    below = f"{relative(root, folder)}/"
    graph: dict[str, set[str]] = {}
    for file, targets in imports_of(root).items():
        if file.startswith(below) and file != f"{below}__init__.py":
            child = below + file.removeprefix(below).split("/")[0]
            inside = {below + each.removeprefix(below).split("/")[0] for each in targets if each.startswith(below)}
            graph.setdefault(child, set()).update(inside - {child, f"{below}__init__.py"})
    assert [circle for circle in circles(graph) if circle != ALLOWED_PAIR] == []


@pytest.mark.parametrize("folder", [*FOLDERS, *TEST_FOLDERS], ids=ids)
def test_a_folder_has_at_most_twenty_files(folder: Path) -> None:
    assert len(list(folder.glob("*.py"))) <= 20


def lengths() -> dict[str, int]:
    """Return the number of lines of each file, by path in the checkout."""
    paths = [path for root in DISTRIBUTIONS for path in root.glob("**/*.py")]
    return {ids(path): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}


def test_no_file_is_longer_than_600_lines() -> None:
    assert {path: length for path, length in lengths().items() if length > 600} == {}


def test_at_most_one_file_in_ten_is_shorter_than_60_lines() -> None:
    """Faces, the commands of the command line and ``__main__`` are short by nature."""
    counted = {
        path: length
        for path, length in lengths().items()
        if not path.endswith(("__init__.py", "__main__.py")) and "/_cli/" not in path
    }
    short = [path for path, length in counted.items() if length < 60]
    assert len(short) <= len(counted) / 10, short


@pytest.mark.parametrize("root", DISTRIBUTIONS, ids=ids)
def test_modules_and_packages_have_no_underscore_but_the_command_line(root: Path) -> None:
    """The names in faces are public; an underscore in the name of a module would say nothing more."""
    parts = {part for path in root.glob("**/*.py") for part in path.relative_to(root).parts}
    assert {part for part in parts if part.startswith("_")} <= {"__init__.py", "__main__.py", "_cli"}
