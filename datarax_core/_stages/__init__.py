"""The stages that come with core, each found by its name in a config, and in Python from ``datarax_core``."""

from ._cast import Cast
from ._one_hot import OneHot
from ._rename import Rename
from ._rescale import Rescale
from ._select import Select

__all__ = ["Cast", "OneHot", "Rename", "Rescale", "Select"]
