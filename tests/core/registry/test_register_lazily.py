"""Classes registered by name, which are imported and checked when the name is first used."""

import sys
from pathlib import Path
from textwrap import dedent

import pytest

from datarax_core.errors import PluginConflictError, PluginContractError, PluginLoadError
from datarax_core.extensions.hooks import HookRegistry
from datarax_core.pipeline.build import build_source
from datarax_core.registry.decoders import DecoderRegistry
from datarax_core.registry.sources import SourceRegistry
from datarax_core.registry.stages import StageRegistry

COUNT = """
    from typing import Literal

    import jax
    import numpy as np

    from datarax_core import DataSourceModule, Decoder, SourceConfig, Stage

    print("imported")


    class CountConfig(SourceConfig):
        type: Literal["count"] = "count"


    class Count(DataSourceModule):
        config_class = CountConfig

        def __len__(self):
            return 4

        def element_spec(self):
            return {"x": jax.ShapeDtypeStruct((), np.int32)}

        def get_records(self, indices):
            return {"x": np.asarray(indices, np.int32)}


    class Halve(Stage):
        type: Literal["halve"] = "halve"

        def __call__(self, batch):
            return {"x": batch["x"] // 2}


    class Plain(Decoder):
        type: Literal["plain"] = "plain"

        def decode_record(self, record):
            return {"x": record}
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a module with a source, a stage and a decoder, which is not imported."""
    (tmp_path / "acme_lazy.py").write_text(dedent(COUNT))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "acme_lazy", raising=False)
    return "acme_lazy"


def test_it_is_imported_when_its_name_is_first_used(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    sources, stages, decoders = SourceRegistry(), StageRegistry(), DecoderRegistry()
    sources.register_lazily("count", f"{module}:Count")
    stages.register_lazily("halve", f"{module}:Halve")
    decoders.register_lazily("plain", f"{module}:Plain")
    (info,) = sources.describe()
    assert (info.name, info.status, info.target) == ("count", "ready", "acme_lazy:Count")
    assert info.origin == info.place == sources.origin("count") == "registered by hand as acme_lazy:Count"
    assert module not in sys.modules
    assert sources.get("count") is sys.modules[module].Count
    assert (stages.get("halve").__name__, decoders.get("plain").__name__) == ("Halve", "Plain")
    assert len(build_source({"type": "count"}, sources)) == 4
    assert capsys.readouterr() == ("", "imported\n")


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (
            "acme_absent:Count",
            PluginLoadError,
            "failed to import acme_absent:Count: ModuleNotFoundError: No module named",
        ),
        (
            "acme_lazy:Cuont",
            PluginLoadError,
            "has no attribute 'Cuont'; correct what register_lazily was given, or that",
        ),
        ("acme_lazy:Halve", PluginContractError, "is no source: it does not derive from DataSourceModule"),
        ("acme_lazy:Count", PluginContractError, "type defaults to 'count', but it is registered by the name 'number'"),
    ],
)
def test_what_it_names_is_checked_then_and_again(
    module: str, target: str, error: type[Exception], message: str
) -> None:
    assert module == "acme_lazy"
    registry = SourceRegistry()
    registry.register_lazily("number", target)
    for _ in range(2):
        with pytest.raises(error, match=rf"^source 'number' \(registered by hand as {target}\) .*{message}"):
            registry.get("number")


def test_a_taken_name_is_a_conflict(module: str) -> None:
    registry = SourceRegistry()
    registry.register_lazily("count", f"{module}:Count")
    message = (
        r"^source 'count' cannot be registered as other:Count: the name is taken by acme_lazy:Count \(registered by hand as "
        r"acme_lazy:Count\); register it by another name$"
    )
    with pytest.raises(PluginConflictError, match=message):
        registry.register_lazily("count", "other:Count")
    with pytest.raises(PluginConflictError, match="the name is taken by acme_lazy:Count"):
        registry.register(registry.get("count"))
    with pytest.raises(PluginConflictError, match="cannot be registered as acme:Mix: the name belongs to datarax-mix"):
        registry.register_lazily("mix", "acme:Mix")
    registry.register_lazily("memory", "datarax_memory.source:MemorySource")
    assert registry.get("memory").__name__ == "MemorySource"


@pytest.mark.parametrize("target", ["acme", "acme:", ":Count", "acme.sources.Count", "./acme.py:Count", "acme:Count:x"])
def test_a_target_is_a_module_and_a_class(target: str) -> None:
    message = (
        rf"^source 'count' cannot be registered lazily: '{target}' names no module and class; write 'package.module:Cl"
    )
    with pytest.raises(ValueError, match=message):
        SourceRegistry().register_lazily("count", target)


def test_a_name_is_a_text_that_is_not_empty() -> None:
    with pytest.raises(ValueError, match="its name is empty"):
        StageRegistry().register_lazily("", "acme:Count")
    message = r"^a source is registered lazily by two texts, such as 'memory' and 'acme:Class', not 'count' and <class 'int'>$"
    with pytest.raises(TypeError, match=message):
        SourceRegistry().register_lazily("count", int)  # type: ignore[arg-type]


def test_hook_plugins_are_registered_elsewhere() -> None:
    message = (
        r"^hook plugin 'watch' \(acme:watch\) is not registered here; import it, and write `default_hooks\(\)\.register"
    )
    with pytest.raises(PluginContractError, match=message):
        HookRegistry().register_lazily("watch", "acme:watch")
