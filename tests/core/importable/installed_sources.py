"""Plugins for tests of commands: a stream, and a source with records that cannot be read."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Site

_CODE = """
from typing import Literal

import jax
import numpy as np

from datarax_core import DataSourceModule, SourceConfig, StreamingSourceBase


class Config(SourceConfig):
    type: Literal["{name}"] = "{name}"


class Source({base}):
    config_class = Config

    def element_spec(self):
        return {{"label": jax.ShapeDtypeStruct((), np.int64)}}

{methods}
"""


def install_stream(site: "Site", *, end: str, broken: str = "False") -> None:
    """Install the source ``acme_stream``: labels from 0 to ``end``; it fails after an ``i`` that is ``broken``."""
    methods = f"""
    def records_from(self, epoch, start):
        i = start
        while i < {end}:
            yield {{"label": np.int64(i)}}
            i += 1
            if {broken}:
                raise ValueError("the line is cut")
    """
    code = _CODE.format(name="acme_stream", base="StreamingSourceBase", methods=methods)
    site.install("acme-stream", {"acme_stream": "acme_stream:Source"}, code=code)


def install_broken(site: "Site") -> None:
    """Install the source ``acme_broken``: 1,000 labels, of which 7, 407 and 807 cannot be read."""
    methods = """
    def __len__(self):
        return 1000

    def get_records(self, indices):
        if np.any(indices % 400 == 7):
            raise OSError("the disk is tired")
        return {"label": np.asarray(indices)}
    """
    code = _CODE.format(name="acme_broken", base="DataSourceModule", methods=methods)
    site.install("acme-broken", {"acme_broken": "acme_broken:Source"}, code=code)
