"""What a class must have to be a source, a stage or a decoder: checked once, when it is first used."""

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from .errors import PluginContractError

if TYPE_CHECKING:
    from .decoders import Decoder
    from .source import DataSourceModule
    from .stages import Stage


def declared_name(loaded: object) -> str | None:
    """What a class gives as its registered name: the default of its ``type``, or of that of its config; None if nothing."""
    fields = getattr(getattr(loaded, "config_class", loaded), "model_fields", None)
    default = getattr(fields.get("type"), "default", None) if isinstance(fields, dict) else None
    return default if isinstance(default, str) else None


def check_source(loaded: object, name: str | None, origin: str) -> "type[DataSourceModule]":
    """``loaded``, if it is a source for ``name`` (None takes the name that its config gives).

    Raises:
        PluginContractError: All that is missing, and what to write.
    """
    from .source import DataSourceModule  # noqa: PLC0415 - imports JAX; the plugin's own import has paid for it by now

    if not isinstance(loaded, type):
        problems = [f"it is {type(loaded).__name__} {loaded!r:.80}, not a class; name the source class instead"]
    else:
        checks = _base_problems(loaded, DataSourceModule), _config_problems(loaded, name), _build_problems(loaded)
        problems = [problem for check in checks for problem in check]
    if problems:
        label = repr(name) if name else getattr(loaded, "__qualname__", repr(loaded))
        raise PluginContractError(
            "source", name or label, f"source {label} ({origin}) is no source: " + "; ".join(problems)
        )
    return cast("type[DataSourceModule]", loaded)


def check_decoder(loaded: object, name: str | None, origin: str) -> "type[Decoder]":
    """``loaded``, if it is a decoder for ``name`` (None takes the name that its ``type`` gives).

    Raises:
        PluginContractError: All that is missing, and what to write.
    """
    from .decoders import Decoder  # noqa: PLC0415 - decoders imports this module

    if not isinstance(loaded, type):
        problems = [f"it is {type(loaded).__name__} {loaded!r:.80}, not a class; name the decoder class instead"]
    elif not issubclass(loaded, Decoder):
        problems = [f"it does not derive from Decoder; write `class {loaded.__name__}(Decoder):`"]
    else:
        problems = [*_name_problems(loaded.__name__, loaded.model_fields["type"].default, name)]
        if loaded.decode_record is Decoder.decode_record and loaded.decode is Decoder.decode:
            problems.append("it defines neither decode_record() nor decode(); write one of them")
    if problems:
        label = repr(name) if name else getattr(loaded, "__qualname__", repr(loaded))
        raise PluginContractError(
            "decoder", name or label, f"decoder {label} ({origin}) is no decoder: " + "; ".join(problems)
        )
    return cast("type[Decoder]", loaded)


def check_stage(loaded: object, name: str | None, origin: str) -> "type[Stage]":
    """``loaded``, if it is a stage for ``name`` (None takes the name that its ``type`` gives).

    Raises:
        PluginContractError: All that is missing, and what to write.
    """
    from .stages import Stage  # noqa: PLC0415 - stages imports this module

    if not isinstance(loaded, type):
        problems = [f"it is {type(loaded).__name__} {loaded!r:.80}, not a class; name the stage class instead"]
    elif not issubclass(loaded, Stage):
        problems = [f"it does not derive from Stage; write `class {loaded.__name__}(Stage):`"]
    else:
        problems = [*_name_problems(loaded.__name__, loaded.model_fields["type"].default, name)]
        if loaded.__call__ is Stage.__call__ and loaded.build is Stage.build:
            problems.append("it defines neither __call__() nor build(); write one of them")
    if problems:
        label = repr(name) if name else getattr(loaded, "__qualname__", repr(loaded))
        raise PluginContractError(
            "stage", name or label, f"stage {label} ({origin}) is no stage: " + "; ".join(problems)
        )
    return cast("type[Stage]", loaded)


def _base_problems(loaded: type, base: type) -> Iterator[str]:
    if not issubclass(loaded, base):
        yield f"it does not derive from DataSourceModule; write `class {loaded.__name__}(DataSourceModule):`"


def _config_problems(loaded: type, name: str | None) -> Iterator[str]:
    from .config import SourceConfig  # noqa: PLC0415 - config imports registry, which imports this module

    config: Any = getattr(loaded, "config_class", None)
    if config is None:
        yield "it has no config_class; write `config_class = YourConfig`, derived from datarax_core.config.SourceConfig"
    elif not (isinstance(config, type) and issubclass(config, SourceConfig)):
        yield f"its config_class {config!r} does not derive from datarax_core.config.SourceConfig; let it"
    else:
        yield from _name_problems(config.__name__, config.model_fields["type"].default, name)


def _name_problems(config: str, default: object, name: str | None) -> Iterator[str]:
    wanted = name or "your_name"
    remedy = f'write `type: Literal["{wanted}"] = "{wanted}"` in it'
    if not isinstance(default, str) or not default:
        yield f"{config}.type has no default; {remedy}"
    elif name is not None and default != name:
        yield f"{config}.type defaults to {default!r}, but the entry point is named {name!r}; {remedy}"


def _build_problems(loaded: type) -> Iterator[str]:
    from_config = getattr(loaded, "from_config", None)
    remedy = "write `@classmethod def from_config(cls, config, build)`"
    if from_config is None:
        yield f"it has no from_config; {remedy}"
    elif not inspect.ismethod(from_config):
        yield f"its from_config is no classmethod; {remedy}"
    else:
        try:
            inspect.signature(from_config).bind("config", "build")
        except TypeError as cause:
            yield f"its from_config cannot be called with (config, build): {cause}; {remedy}"
