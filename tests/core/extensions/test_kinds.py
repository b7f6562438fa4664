"""Every kind of plugin has the same four statuses: sources, streams and views, stages of both sides, decoders, hooks."""

from typing import TYPE_CHECKING, Any

import pytest

from datarax_core._cli.findings import REGISTRIES
from datarax_core.errors import PluginConflictError, PluginDisabledError, PluginIncompatibleError, PluginNotFoundError

if TYPE_CHECKING:
    from conftest import Site

_SOURCE = """
from typing import Literal
import jax, numpy as np
from datarax_core import {base}, {config}

class Config({config}):
    type: Literal["acme"] = "acme"

class Plugin({base}):
    config_class = Config
    def element_spec(self):
        return {{"x": jax.ShapeDtypeStruct((), np.int32)}}
"""

_OWN_CONFIG = """
from typing import ClassVar, Literal
from datarax_core import {base}

class Plugin({base}):
    type: Literal["acme"] = "acme"
{body}
"""

_HOOKS = """
from datarax_core import hookimpl

class Plugin:
    @hookimpl
    def datarax_pipeline_opened(self, pipeline):
        pass

Plugin = Plugin()
"""

CODES = {
    "source": ("source", _SOURCE.format(base="DataSourceModule", config="SourceConfig")),
    "stream": ("source", _SOURCE.format(base="StreamingSourceBase", config="SourceConfig")),
    "view": ("source", _SOURCE.format(base="SourceView", config="ViewConfig")),
    "stage": ("stage", _OWN_CONFIG.format(base="Stage", body="    def __call__(self, batch):\n        return batch")),
    "host stage": (
        "stage",
        _OWN_CONFIG.format(
            base="Stage", body="    on_host: ClassVar = True\n    def __call__(self, batch):\n        return batch"
        ),
    ),
    "decoder": (
        "decoder",
        _OWN_CONFIG.format(base="Decoder", body="    def decode_record(self, record):\n        return {}"),
    ),
    "hook plugin": ("hook plugin", _HOOKS),
}


@pytest.fixture(params=CODES)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def install(site: "Site", kind: str, dist: str = "acme-one", **options: Any) -> None:
    noun, code = CODES[kind]
    package = dist.replace("-", "_")
    site.install(dist, {"acme": f"{package}:Plugin"}, code=code, group=REGISTRIES[noun].group.name, **options)


def listed(kind: str) -> dict[str, tuple[str, str]]:
    registry = REGISTRIES[CODES[kind][0]].from_environment()
    return {info.distribution: (info.status, info.detail) for info in registry.describe() if info.name == "acme"}


def test_ready(site: "Site", kind: str) -> None:
    install(site, kind)
    assert listed(kind) == {"acme-one": ("ready", "")}
    loaded: Any = REGISTRIES[CODES[kind][0]].from_environment().get("acme")
    assert getattr(loaded, "__name__", type(loaded).__name__) == "Plugin"


def test_disabled(site: "Site", kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, kind)
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "acme")
    assert listed(kind) == {
        "acme-one": ("disabled", "by DATARAX_DISABLE_PLUGINS=acme; take that out of the variable to use it")
    }
    with pytest.raises(PluginDisabledError, match=rf"^{CODES[kind][0]} 'acme' \(acme-one 1.0\) is disabled by DATARAX"):
        REGISTRIES[CODES[kind][0]].from_environment().get("acme")


def test_conflict(site: "Site", kind: str) -> None:
    install(site, kind)
    install(site, kind, "acme-two")
    assert {dist: status for dist, (status, _) in listed(kind).items()} == {
        "acme-one": "conflict",
        "acme-two": "conflict",
    }
    with pytest.raises(
        PluginConflictError, match=rf"^{CODES[kind][0]} 'acme' is provided by acme-one 1.0 .* and acme-two"
    ):
        REGISTRIES[CODES[kind][0]].from_environment().get("acme")


def test_unmet(site: "Site", kind: str) -> None:
    install(site, kind, requires=("datarax-core>=99",))
    assert listed(kind) == {"acme-one": ("unmet", "needs datarax-core>=99")}
    with pytest.raises(
        PluginIncompatibleError, match=rf"^{CODES[kind][0]} 'acme' \(acme-one 1.0\) needs datarax-core>=99, and"
    ):
        REGISTRIES[CODES[kind][0]].from_environment().get("acme")


def test_unknown(kind: str) -> None:
    with pytest.raises(PluginNotFoundError, match=rf"^unknown {CODES[kind][0]} 'acme'"):
        REGISTRIES[CODES[kind][0]].from_environment().get("acme")
