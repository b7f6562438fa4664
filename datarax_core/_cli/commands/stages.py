"""``drx stages``: the installed stages."""

from datarax_core._cli.listing import list_plugins
from datarax_core._cli.options import Debug, Json
from datarax_core.registry.stages import StageRegistry


def stages(*, as_json: Json = False, _debug: Debug = False) -> None:
    """List the installed stages, which a config applies to each batch. Imports none of them."""
    list_plugins(StageRegistry.from_environment(), as_json=as_json, install="datarax-core")
