"""``drx decoders``: the installed decoders."""

from datarax_core._cli.listing import list_plugins
from datarax_core._cli.options import Debug, Json
from datarax_core.registry.decoders import DecoderRegistry


def decoders(*, as_json: Json = False, _debug: Debug = False) -> None:
    """List the installed decoders, which turn the bytes of records into arrays. Imports none of them."""
    list_plugins(DecoderRegistry.from_environment(), as_json=as_json, install="datarax-arrayrecord")
