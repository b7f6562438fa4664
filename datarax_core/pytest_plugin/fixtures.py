"""Fixtures for tests of plugins; each imports what it needs when a test uses it, so that conftest files may set up JAX."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .commands import Drx
    from .isolation import Plugins
    from .tiny import TinySource


@pytest.fixture
def plugins() -> "Iterator[Plugins]":
    """Return the plugins of this test: core's own, those that it adds, and installed distributions that it lets in.

    All registries, hooks and commands see these and no others; after the test, all is as before.
    """
    from .isolation import Plugins  # noqa: PLC0415 - see the module's docstring

    with Plugins() as isolated:
        yield isolated


@pytest.fixture
def drx() -> "Drx":
    """Return a function that runs a command: ``drx("peek", "x.yaml").output``."""
    from .commands import Drx  # noqa: PLC0415 - see the module's docstring

    return Drx()


@pytest.fixture
def tiny_source(request: pytest.FixtureRequest) -> "Iterator[TinySource]":
    """Return a shuffled source of eight records; configs of this test may name such sources by ``type: tiny``."""
    from flax import nnx  # noqa: PLC0415 - see the module's docstring

    from .isolation import Plugins  # noqa: PLC0415
    from .tiny import TinyConfig, TinySource  # noqa: PLC0415

    source = TinySource(TinyConfig(shuffle=True), rngs=nnx.Rngs(0))
    given = request.getfixturevalue("plugins") if "plugins" in request.fixturenames else None
    if isinstance(given, Plugins):  # and no fixture of the user's own that has this name
        given.add(TinySource, distribution="tiny")
        yield source
        return
    with Plugins(beside_installed=True) as added:
        added.add(TinySource, distribution="tiny")
        yield source
