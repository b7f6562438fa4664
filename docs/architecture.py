"""Write the tree of modules and the layers into docs/architecture.md: ``python docs/architecture.py``. A test compares them."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("architecture.md")
BLOCK = re.compile(r"(<!-- (tree|layers): ?([\w/.-]*) -->\n)```text\n.*?```\n", re.DOTALL)
WIDTH = 26


def written(page: str) -> str:
    """Return the page with today's trees and layers in its blocks."""

    def block(found: re.Match[str]) -> str:
        lines = tree(ROOT / found[3]) if found[2] == "tree" else layers()
        text = "\n".join(line.rstrip() for line in lines)
        return f"{found[1]}```text\n{text}\n```\n"

    return BLOCK.sub(block, page)


def tree(folder: Path, depth: int = 0) -> Iterator[str]:
    """Yield a line for each module of a package: its name, and the first sentence of its docstring."""
    indent = "  " * depth
    yield entry(f"{indent}{folder.name}/", folder / "__init__.py")
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            yield entry(f"{indent}  {path.stem}", path)
    for inner in sorted(path.parent for path in folder.glob("*/__init__.py")):
        yield from tree(inner, depth + 1)


def entry(name: str, path: Path) -> str:
    """Return one line of a tree."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = " ".join(re.split(r"\n\s*\n|(?<=[.!?])\s", docstring, maxsplit=1)[0].split())
    return f"{name:<{WIDTH}} {sentence}"


def layers() -> Iterator[str]:
    """Yield the layers of core, the topmost first, as the import contract in pyproject.toml lists them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    contract = next(each for each in settings["contracts"] if each.get("containers") == ["datarax_core"])
    yield from contract["layers"]


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
