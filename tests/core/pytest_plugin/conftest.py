"""Fixtures of core for authors, as their sessions have them by ``datarax = true``."""

from datarax_core.pytest_plugin.fixtures import drx, plugins, tiny_source

__all__ = ["drx", "plugins", "tiny_source"]
