"""The contract between core and plugins has a number; core keeps its word for the last two."""

from typing import Final

from .errors import PluginContractError, PluginIncompatibleError

API_VERSION: Final = 1
"""The contract that this core keeps with plugins; it moves on when a plugin has to change. A plugin that says
``API_VERSION = 1`` in its class, or in its module of hooks, is refused by a core that has moved on twice, and by one that
is not there yet; without it a plugin is taken as one of today."""

BY_HAND: Final = "registered by hand"
"""What stands for distribution and version, where there is none."""


def check_api_version(plugin: object, kind: str, name: str, origin: str) -> None:
    """Refuse a plugin that says it keeps a contract which this core does not; ``origin`` is its distribution and version.

    Raises:
        PluginIncompatibleError: Says which of the two to upgrade.
        PluginContractError: It says something else.
    """
    given = getattr(plugin, "API_VERSION", None)
    if given is None:
        return
    title = f"{kind} {name!r} ({origin})"
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        message = f"{title} has API_VERSION {given!r:.80}; it is a whole number from 1, such as {API_VERSION}"
        raise PluginContractError(kind, name, message)
    accepted = range(max(1, API_VERSION - 1), API_VERSION + 1)
    if given not in accepted:
        older = "it" if origin == BY_HAND else origin.partition(" ")[0]
        remedy = f"upgrade {'datarax-core' if given > API_VERSION else older}"
        message = (
            f"{title} is written for version {given} of the plugin API, and this datarax-core has "
            f"{' and '.join(map(str, accepted))}; {remedy}"
        )
        raise PluginIncompatibleError(kind, name, message)
