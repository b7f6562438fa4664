"""What plugins rely on is recorded: the public names of this tree, and those of 0.1.0. A change that breaks plugins fails."""

import importlib
import warnings
from typing import Any

import pytest
from public_names import Tree
from recorded_api import EARLIER, RECORDED, ROOT, Api, breaks, parsed, text_of

CHANGED_SINCE_0_1_0 = {
    "datarax_core.Columns.beside": "now host_columns; only core called it",
    "datarax_core.DataSourceModule.beside_records": "now host_field_records; only sources on the device with text had it",
    "datarax_core.DataSourceModule.require_no_beside": "now require_no_host_fields; only core called it",
    "datarax_core.DataSourceModule.order_window": "now positions_ahead; it changes the speed only",
    "datarax_core.DataSourceModule.write_records": "now a method of those classes only that write; see WritesRecords",
    "datarax_core.DecoderRegistry(PluginListing)": "registries have one base, PluginRegistry",
    "datarax_core.HookRegistry(PluginListing)": "registries have one base, PluginRegistry",
    "datarax_core.SourceRegistry(PluginListing)": "registries have one base, PluginRegistry",
    "datarax_core.StageRegistry(PluginListing)": "registries have one base, PluginRegistry",
    "datarax_core.registry.PluginRegistry(PluginListing)": "registries have one base, PluginRegistry",
    "datarax_core.DecoderRegistry.kind": "now group, an EntryPointGroup; only registries of core had it",
    "datarax_core.HookRegistry.kind": "now group, an EntryPointGroup; only registries of core had it",
    "datarax_core.SourceRegistry.kind": "now group, an EntryPointGroup; only registries of core had it",
    "datarax_core.StageRegistry.kind": "now group, an EntryPointGroup; only registries of core had it",
    "datarax_core.registry.PluginListing.kind": "now group, an EntryPointGroup; only registries of core had it",
    "datarax_core.EagerSourceBase.__init__(shuffle)": "None asks the config, and is False where that says nothing, as before",
    "datarax_core.EagerSourceBase.beside_records": "now host_field_records; only sources on the device with text had it",
    "datarax_core.Subset.beside_records": "now host_field_records; only core called it",
    "datarax_core.Pipeline.__init__(prefetch)": '"auto" reads ahead two batches or more: the batches are the same',
    "datarax_core.PipelineConfig.prefetch": '"auto" reads ahead two batches or more: the batches are the same',
    "datarax_core.testing.Shows.beside": "the former name of needs; None is no other options, as an empty mapping was",
    "datarax_core.testing.SourceConformance.another_process": "a fixture of the kit's own",
    "datarax_core.compatibility.check_api_version": "only core called it",
    "datarax_core.config.plugin_schema(kind)": "now noun; by place it is as before",
    "datarax_core.config.plugin_schema(noun)": "formerly kind; by place it is as before",
    "datarax_core.order.fold_in(words)": "now key_data; by place it is as before",
    "datarax_core.order.fold_in(key_data)": "formerly words; by place it is as before",
    "datarax_core.prefetch.Ahead.announce": "now request; only core called it",
    "datarax_core.prefetch.Ahead.forget": "now cancel; only core called it",
    "datarax_core.spec.require_no_key(what)": "now description; by place it is as before",
    "datarax_core.spec.require_no_key(description)": "formerly what; by place it is as before",
    "datarax_core.spec.with_beside(beside)": "now host_fields; by place it is as before",
    "datarax_core.spec.with_beside(host_fields)": "formerly beside; by place it is as before",
}
"""What users of 0.1.0 find otherwise, with the reason. Nothing is added to it without one that its users would accept."""


@pytest.fixture(scope="module")
def written() -> str:
    return text_of(Tree(ROOT / "datarax_core"))


@pytest.fixture(scope="module")
def today(written: str) -> Api:
    return parsed(written)


def test_nothing_that_plugins_rely_on_breaks(today: Api) -> None:
    found = breaks(parsed(RECORDED.read_text(encoding="utf-8")), today)
    assert not found, "\n".join(found.values())


def test_what_was_added_is_recorded(written: str) -> None:
    assert written == RECORDED.read_text(encoding="utf-8"), "run make api, which records what was added"


def test_names_of_0_1_0_go_on_working(today: Api) -> None:
    every = {name: node for names in today.faces.values() for name, node in names.items()}

    def elsewhere(face: str, name: str) -> Any:
        """Find a name in a module that was moved, as an import of today does."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                found = getattr(importlib.import_module(face), name)
        except (ImportError, AttributeError):
            return None
        is_ours = str(getattr(found, "__module__", "")).startswith("datarax_core")
        return every.get(getattr(found, "__qualname__", ""), True) if is_ours else True

    found = breaks(parsed(EARLIER.read_text(encoding="utf-8")), today, elsewhere)
    assert [sentence for name, sentence in found.items() if name not in CHANGED_SINCE_0_1_0] == []
    assert sorted(CHANGED_SINCE_0_1_0.keys() - found.keys()) == [], "these work as before: leave them out of the list"


API = """
## datarax_core

class Base:
    ...

class Source(Base):
    def __init__(self, config: Config, *, name: str | None=None) -> None: ...
    traceable: ClassVar[bool] = False
    @overridable
    def get_records(self, indices: Any) -> Batch: ...
    def get_batch(self, size: int, key: Any=None) -> Batch: ...
    @property
    def title(self) -> str: ...

class Config:
    type: Name
    shuffle: Flag = False

@dataclass
class Place:
    file: str
    row: int = 0

def build(config: Config, registry: Any=None, *, seed: int=0) -> Source: ...

## datarax_core.sources

from datarax_core import Source

SEED: Final
"""

BREAKING = {
    "a name is gone": ("SEED: Final", "", r"datarax_core.sources.SEED is gone: plugins that import it break\. Keep"),
    "a name is gone from one face": (
        "from datarax_core import Source\n", "", "datarax_core.sources.Source is gone: plugins that import it",
    ),
    "a method is gone": (
        "    def get_batch(self, size: int, key: Any=None) -> Batch: ...\n", "",
        "Source.get_batch is gone: plugins that call, override or set it break. Keep it for a release",
    ),
    "a property became a method": (
        "    @property\n    def title", "    def title",
        "Source.title was a property and is a method: plugins that use it as one break. Keep its kind",
    ),
    "an attribute has another default": (
        "traceable: ClassVar[bool] = False", "traceable: ClassVar[bool] = True",
        "Source.traceable had the default False and has True: plugins that rely on it change without a word. Add another name",
    ),
    "a field is gone": ("    shuffle: Flag = False\n", "", "Config.shuffle is gone: plugins that call, override"),
    "a field is required": (
        "shuffle: Flag = False", "shuffle: Flag",
        "Config.shuffle has lost its default: plugins that leave it out break. Keep the default, False",
    ),
    "a field is new and required": (
        "    type: Name\n", "    type: Name\n    seed: Count\n",
        "Config.seed is a new field without a default: plugins that make a datarax_core.Config break. Give it a default",
    ),
    "a base class is gone": ("class Source(Base)", "class Source", "Source derives no more from Base: plugins that"),
    "a class became a function": (
        "class Config:\n    type: Name\n    shuffle: Flag = False", "def Config(type: Name, shuffle: Flag=False) -> Any: ...",
        "Config was a class and is a method: plugins that use it as one break",
    ),
    "a parameter is gone": (
        "registry: Any=None, *", "*",
        r"build\(\) takes no 'registry' any more: plugins that pass it, or override the method with it, break",
    ),
    "a parameter is required": (
        "seed: int=0", "seed: int", r"build\(\) requires 'seed' now: plugins that leave it out break. Keep its default, 0",
    ),
    "a parameter is new and required": (
        "seed: int=0", "seed: int=0, split: str",
        r"build\(\) requires 'split', which is new: plugins that call it break. Give it a default",
    ),
    "a parameter is new before others": (
        "config: Config, registry: Any=None", "config: Config, path: Any=None, registry: Any=None",
        r"build\(\) takes config, path, registry in this order, where plugins pass config, registry by place: put new param",
    ),
    "parameters change places": (
        "config: Config, registry: Any=None", "registry: Any=None, config: Config=None",
        r"build\(\) takes registry, config in this order, where plugins pass config, registry by place",
    ),
    "a parameter is taken by name only": (
        "size: int, key: Any=None", "size: int, *, key: Any=None",
        r"get_batch\(\) takes 'key' by name only: plugins that pass it by place break. Keep its place",
    ),
    "a parameter has another default": (
        "seed: int=0", "seed: int=1", r"'seed' of datarax_core.build\(\) had the default 0 and has 1: plugins that rely on it",
    ),
    "a parameter is new in what plugins override": (
        "indices: Any)", "indices: Any, key: Any=None)",
        r"get_records\(\) has the new parameter 'key', and plugins override it without: core may pass it only to methods that",
    ),
    "fields change places": (
        "    file: str\n    row: int = 0", "    row: int = 0\n    file: str = ''",
        "Place takes row, file in this order, where plugins pass file, row by place: put new fields behind the others",
    ),
    "a field is new before others": (
        "    row: int = 0", "    size: int = 0\n    row: int = 0", "Place takes file, size, row in this order, where plugins",
    ),
    "fields are given by name only": (
        "@dataclass\n", "@dataclass(kw_only=True)\n", "Place takes no values by place any more: plugins that make one so",
    ),
    "a method must be written": (
        "    def get_batch", "    @abstractmethod\n    def get_batch",
        "Source.get_batch must be written now: classes of plugins that derive from datarax_core.Source cannot be made any more",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "sentence"), BREAKING.values(), ids=BREAKING)
def test_what_breaks_plugins_is_found(before: str, after: str, sentence: str) -> None:
    assert API.count(before) == 1
    found = breaks(parsed(API), parsed(API.replace(before, after)))
    assert len(found) >= 1
    with pytest.raises(ValueError, match=sentence):
        raise ValueError(next(iter(found.values())))
    assert len(found) <= 2, found


ADDED = {
    "a name": ("SEED: Final", "SEED: Final\n\nSIZE: Final"),
    "a method": ("    @property\n", "    def close(self) -> None: ...\n    @property\n"),
    "a parameter with a default": ("seed: int=0", "seed: int=0, split: str='train'"),
    "a positional parameter behind the others": ("registry: Any=None, *", "registry: Any=None, path: Any=None, *"),
    "a field behind those that are given by place": ("    row: int = 0\n", "    row: int = 0\n    size: int = 0\n"),
    "a constant of a class with fields": ("    file: str\n", "    SIZE: ClassVar[int] = 1\n    file: str\n"),
    "a field with a default": ("    type: Name\n", "    type: Name\n    seed: Count = 1\n"),
    "a method that moved to the base class": (
        "    ...\n\nclass Source(Base):", "    def added(self) -> None: ...\n\nclass Source(Base):",
    ),
    "a wider annotation": ("size: int, key", "size: int | None, key"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), ADDED.values(), ids=ADDED)
def test_what_is_added_breaks_nothing(before: str, after: str) -> None:
    assert API.count(before) == 1
    assert breaks(parsed(API), parsed(API.replace(before, after))) == {}


def test_fields_that_change_places_in_the_tree_are_found(tmp_path: Any) -> None:
    package = tmp_path / "datarax_core"
    package.mkdir()
    head = (
        '__all__ = ["Place"]\n\nfrom dataclasses import dataclass\n\n\n@dataclass\nclass Place:\n    """A place."""\n\n'
    )
    (package / "__init__.py").write_text(f"{head}    file: int = 0\n    row: int = 0\n")
    before = parsed(text_of(Tree(package)))
    (package / "__init__.py").write_text(f"{head}    row: int = 0\n    file: int = 0\n")
    assert list(breaks(before, parsed(text_of(Tree(package))))) == ["datarax_core.Place"]


def test_a_change_of_the_tree_is_found(tmp_path: Any) -> None:
    """The text is that of the files: a parameter that leaves a signature leaves the text."""
    package = tmp_path / "datarax_core"
    package.mkdir()
    (package / "__init__.py").write_text(
        '__all__ = ["f"]\n\n\ndef f(a: int, b: str = "x") -> int:\n    """Return it."""\n'
    )
    before = parsed(text_of(Tree(package)))
    (package / "__init__.py").write_text('__all__ = ["f"]\n\n\ndef f(a: int) -> int:\n    """Return it."""\n')
    assert list(breaks(before, parsed(text_of(Tree(package))))) == ["datarax_core.f(b)"]
