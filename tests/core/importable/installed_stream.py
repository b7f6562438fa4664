"""A plugin with a stream, for tests of commands."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Site

STREAM = """
    from typing import Literal

    import jax
    import numpy as np

    from datarax_core import SourceConfig, StreamingSourceBase


    class Config(SourceConfig):
        type: Literal["{name}"] = "{name}"


    class Source(StreamingSourceBase):
        config_class = Config

        def element_spec(self):
            return {{"label": jax.ShapeDtypeStruct((), np.int64)}}

        def records_from(self, epoch, start):
            i = start
            while i < {end}:
                yield {{"label": np.int64(i)}}
                i += 1
                if {broken}:
                    raise ValueError("the line is cut")
"""


def install_stream(site: "Site", *, end: str, broken: str = "False") -> None:
    """A stream without a length, as the source ``acme_stream``."""
    code = STREAM.format(name="acme_stream", end=end, broken=broken)
    site.install("acme-stream", {"acme_stream": "acme_stream:Source"}, code=code)
