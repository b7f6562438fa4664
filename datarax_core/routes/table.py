"""The one place where a route is chosen by the way in which a source is reached."""

from collections.abc import Mapping
from typing import Final

from datarax_core.sources.access import Access
from datarax_core.sources.source import DataSourceModule

from .base import Route
from .device import DeviceRoute
from .host import HostRoute
from .stream import StreamRoute

ROUTES: Final[Mapping[Access, type[Route]]] = {
    "device": DeviceRoute,
    "host": HostRoute,
    "stream": StreamRoute,
}


def route_class(source: DataSourceModule) -> type[Route]:
    """Return the class of the routes from ``source``."""
    return ROUTES[source.access]
