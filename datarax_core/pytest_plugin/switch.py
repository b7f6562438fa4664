"""Switch of the fixtures: pytest loads this module in every session, and it imports nothing else unless it is asked to."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: "pytest.Parser", pluginmanager: "pytest.PytestPluginManager") -> None:
    """Add the option ``--datarax``, and the ini value ``datarax``."""
    # pytest rewrites the assertions in all packages of a distribution that has a plugin. Core has none, and rewriting its
    # modules would double the time of their import. The set is private: without it, they are rewritten.
    getattr(getattr(pluginmanager, "rewrite_hook", None), "_must_rewrite", set()).discard("datarax_core")
    text = "fixtures of datarax-core for tests of plugins: plugins, drx and tiny_source"
    parser.getgroup("datarax").addoption("--datarax", action="store_true", help=text)
    parser.addini("datarax", text, type="bool", default=False)


def pytest_configure(config: "pytest.Config") -> None:
    """Register the fixtures, if the option or the ini value asks for them."""
    if config.getoption("--datarax") or config.getini("datarax"):
        from . import fixtures  # noqa: PLC0415 - most sessions do without

        config.pluginmanager.register(fixtures, "datarax-fixtures")
