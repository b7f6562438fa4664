"""Hooks that make sources, hooks that decide about records, and hooks that fail: errors name the plugin."""

from collections.abc import Callable, Generator
from typing import Any, Literal

import pytest

from datarax_core import AnySource, DataSourceModule, RecordError, SourceConfig, build_source, default_hooks, hookimpl
from datarax_core.errors import PluginContractError
from datarax_core.extensions.hooks import Hooks
from datarax_core.registry.sources import SourceRegistry, record_failed


class LeafConfig(SourceConfig):
    type: Literal["leaf"] = "leaf"
    number: int = 0


class Leaf(DataSourceModule):
    config_class = LeafConfig


class NestConfig(SourceConfig):
    type: Literal["nest"] = "nest"
    inner: AnySource


class Nest(DataSourceModule):
    config_class = NestConfig
    inner: DataSourceModule

    @classmethod
    def from_config(cls, config: SourceConfig, build: Any) -> "Nest":
        assert isinstance(config, NestConfig)
        nest = cls(config, rngs=build.rngs)
        nest.inner = build(config.inner)
        return nest


@pytest.fixture
def registry() -> SourceRegistry:
    registry = SourceRegistry()
    registry.register(Leaf)
    registry.register(Nest)
    return registry


# -- sources ------------------------------------------------------------------------------------------------------------


def test_sources_are_registered_when_a_plugin_is_loaded() -> None:
    class Registers:
        @hookimpl
        def datarax_register_sources(self, registry: SourceRegistry) -> None:
            registry.register(Leaf)

    registry = SourceRegistry()
    Hooks(registry).register(Registers())
    assert registry.get("leaf") is Leaf


def test_a_plugin_that_fails_to_register_by_hand_is_not_registered() -> None:
    class Registers:
        @hookimpl
        def datarax_register_sources(self) -> None:
            raise OSError("no such catalogue")

        @hookimpl
        def datarax_batch_ready(self) -> None: ...

    hooks = Hooks(SourceRegistry())
    with pytest.raises(OSError, match="no such catalogue") as caught:
        hooks.register(Registers(), "mine")
    assert caught.value.__notes__ == ["while datarax_register_sources of hook plugin 'mine' (registered by hand) ran"]
    assert not hooks.hears_batches


def test_a_wrapper_is_called_around_every_source_at_every_depth(registry: SourceRegistry) -> None:
    seen: list[str] = []

    class Wraps:
        @hookimpl(wrapper=True)
        def datarax_create_source(self, config: SourceConfig) -> Generator[None, DataSourceModule, DataSourceModule]:
            seen.append(f"> {config.type}")
            source = yield
            source.name = f"wrapped {config.type}"
            seen.append(f"< {config.type}")
            return source

    config = {"type": "nest", "inner": {"type": "nest", "inner": {"type": "leaf"}}}
    with default_hooks().registered(Wraps()):
        source = build_source(config, registry)
    assert isinstance(source, Nest)
    assert seen == ["> nest", "> nest", "> leaf", "< leaf", "< nest", "< nest"]
    assert (source.name, source.inner.name) == ("wrapped nest", "wrapped nest")
    assert build_source(config, registry).name is None


def test_a_hook_makes_the_source_itself_or_leaves_it_to_others(registry: SourceRegistry) -> None:
    class Replaces:
        @hookimpl
        def datarax_create_source(
            self, config: SourceConfig, build: Callable[[SourceConfig], DataSourceModule]
        ) -> DataSourceModule | None:
            return build(config.inner) if isinstance(config, NestConfig) else None

    with default_hooks().registered(Replaces()):
        source = build_source({"type": "nest", "inner": {"type": "leaf", "number": 3}}, registry)
    assert isinstance(source, Leaf)
    assert source.config == LeafConfig(number=3)


def test_the_result_of_the_create_hook_has_to_be_a_source(registry: SourceRegistry) -> None:
    class Forgets:
        @hookimpl(wrapper=True)
        def datarax_create_source(self) -> Generator[None, object, None]:
            yield

    message = (
        r"^datarax_create_source of hook plugin 'Forgets' \(registered by hand\) gave None for the source 'leaf'; an "
    )
    with default_hooks().registered(Forgets()), pytest.raises(PluginContractError, match=message):
        build_source({"type": "leaf"}, registry)


# -- errors -------------------------------------------------------------------------------------------------------------


class Fails:
    def __init__(self, where: str) -> None:
        self.where = where

    @hookimpl(wrapper=True)
    def datarax_create_source(self) -> Generator[None, Any, Any]:
        if self.where == "before":
            raise OSError("before")
        source = yield
        if self.where == "after":
            raise OSError("after")
        return source


@pytest.mark.parametrize("where", ["before", "after"])
def test_an_error_of_a_wrapper_is_noted(registry: SourceRegistry, where: str) -> None:
    with default_hooks().registered(Fails(where), "fails"), pytest.raises(OSError, match=where) as caught:
        build_source({"type": "leaf"}, registry)
    assert caught.value.__notes__ == ["while datarax_create_source of hook plugin 'fails' (registered by hand) ran"]


def test_an_error_that_passes_through_a_wrapper_does_not_name_the_wrapper(registry: SourceRegistry) -> None:
    class Broken(Leaf):
        @classmethod
        def from_config(cls, config: SourceConfig, build: Any) -> "Broken":
            raise FileNotFoundError(f"no such file: {config.type}.npz for {build}")

    class BrokenConfig(SourceConfig):
        type: Literal["broken"] = "broken"

    Broken.config_class = BrokenConfig
    registry.register(Broken)
    with default_hooks().registered(Fails("never")), pytest.raises(FileNotFoundError) as caught:
        build_source({"type": "broken"}, registry)
    assert not hasattr(caught.value, "__notes__")


def test_a_wrapper_that_yields_twice_is_named(registry: SourceRegistry) -> None:
    class Twice:
        @hookimpl(wrapper=True)
        def datarax_create_source(self) -> Generator[None, Any, Any]:
            yield
            return (yield)

    message = r"^a wrapper yields once, and this one did twice, while datarax_create_source of hook plugin 'Twice' "
    with default_hooks().registered(Twice()), pytest.raises(RuntimeError, match=message):
        build_source({"type": "leaf"}, registry)


# -- records that fail --------------------------------------------------------------------------------------------------


class Answers:
    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.heard: list[tuple[Any, int]] = []

    @hookimpl
    def datarax_record_failed(self, source: Any, index: int) -> Any:
        self.heard.append((source, index))
        return self.answer


def test_the_first_answer_decides_about_a_record() -> None:
    source, error = Leaf(LeafConfig()), RecordError("record 3 is bad", record=3, reason="bad")
    silent, strict, lax = Answers(None), Answers("raise"), Answers("substitute")
    hooks = default_hooks()
    record_failed(source, 3, error)
    with hooks.registered(silent):
        record_failed(source, 3, error)
        with hooks.registered(strict):
            with pytest.raises(RecordError, match="record 3 is bad"):
                record_failed(source, 3, error)
            with hooks.registered(lax):
                record_failed(source, 3, error)
    assert (len(silent.heard), len(strict.heard), lax.heard) == (1, 1, [(source, 3)])


def test_an_answer_that_is_none_is_an_error() -> None:
    error = RecordError("record 3 is bad", record=3, reason="bad")
    message = r"^datarax_record_failed answers 'raise', 'substitute' or None, not True$"
    with default_hooks().registered(Answers(True)), pytest.raises(ValueError, match=message):  # noqa: FBT003
        record_failed(Leaf(LeafConfig()), 3, error)
