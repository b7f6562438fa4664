"""``drx sources``: the installed sources."""

from datarax_core._cli.listing import list_plugins
from datarax_core._cli.options import Debug, Json
from datarax_core.registry.sources import SourceRegistry


def sources(*, as_json: Json = False, _debug: Debug = False) -> None:
    """List the installed sources. Imports none of them."""
    list_plugins(SourceRegistry.from_environment(), as_json=as_json, install="datarax-memory")
