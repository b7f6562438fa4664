"""The one place where a route is chosen by the way in which a source is reached."""

from collections.abc import Mapping
from typing import Final

from datarax_core.sources.access import Access
from datarax_core.sources.source import DataSourceModule

from .base import Route
from .definition import Definition
from .device import DeviceRoute
from .host import HostRoute
from .stream import StreamRoute

ROUTES: Final[Mapping[Access, type[Route]]] = {
    "device": DeviceRoute,
    "host": HostRoute,
    "stream": StreamRoute,
}


def route_class(source: DataSourceModule, on_host: int = 0) -> type[Route]:
    """Return the class of the routes from ``source``; the host reads for the first ``on_host`` stages, if there are any."""
    access = source.access
    return HostRoute if on_host and access == "device" else ROUTES[access]


def route_of(definition: Definition) -> type[Route]:
    """Return the class of the routes of a pipeline."""
    return route_class(definition.source, definition.on_host)
