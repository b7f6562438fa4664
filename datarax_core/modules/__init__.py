"""Modules: what sources, stages and pipelines share as Flax NNX modules with a config, state on the host, and saved states.

Imports `devices`, `config`, `order` and `records`.
"""

from .counts import CountValue
from .fingerprints import set_state_but
from .host_state import HostState
from .module import DataraxModule, StructuralModule, checked_rngs

__all__ = ["CountValue", "DataraxModule", "HostState", "StructuralModule", "checked_rngs", "set_state_but"]
