"""Fixtures of pytest for tests of plugins: `plugins` (temporary ones, and no others), `drx` (commands) and `tiny_source`.

pytest loads the module `switch` in every session. It imports the fixtures only if asked: by ``datarax = true`` under
``[tool.pytest.ini_options]``, or by ``pytest --datarax``. Names of this face are types of what the fixtures give.
"""

from typing import TYPE_CHECKING

from datarax_core.faces import lazy_face

if TYPE_CHECKING:
    from .commands import Drx as Drx
    from .commands import Ended as Ended
    from .isolation import Plugins as Plugins
    from .tiny import TinyConfig as TinyConfig
    from .tiny import TinySource as TinySource

__getattr__, __dir__, __all__ = lazy_face(
    __name__,
    {
        "commands": ("Drx", "Ended"),
        "isolation": ("Plugins",),
        "tiny": ("TinyConfig", "TinySource"),
    },
)
