"""Pages of the website that lie elsewhere in the repository: the READMEs of core, plugins and examples, with links between all.

mkdocs calls the functions (``hooks`` in ``mkdocs.yml``).
"""

import re
from pathlib import Path
from posixpath import dirname, normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    **{
        f"plugins/{path.parent.name}/README.md": f"plugins/{path.parent.name}.md"
        for path in ROOT.glob("plugins/*/README.md")
    },
    **{
        f"examples/plugins/{path.parent.name}/README.md": f"examples/{path.parent.name}.md"
        for path in ROOT.glob("examples/plugins/*/README.md")
    },
}
"""The page of each file outside of ``docs``."""

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie elsewhere."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the text of a page with links to the files of the repository as links to their pages; others lose the link."""
    at = page.file.src_uri
    source = next((path for path, found in PAGES.items() if found == at), f"docs/{at}")

    def linked(link: re.Match[str]) -> str:
        target = normpath(f"{dirname(source)}/{link['target']}".lstrip("/"))
        found = _page_of(target)
        if found is not None:
            return f"[{link['text']}]({relpath(found, dirname(at) or '.')}{link['anchor'] or ''})"
        if (ROOT / target).exists():
            return link["text"]
        return link[0]  # dead: mkdocs says so

    return LINK.sub(linked, markdown)


def _page_of(target: str) -> str | None:
    """Return the page of a file or a folder of the repository; None if it has none."""
    for file in (target, f"{target}/README.md"):
        if file in PAGES:
            return PAGES[file]
        if file.startswith("docs/") and file.endswith(".md") and (ROOT / file).exists():
            return file.removeprefix("docs/")
    return None
