"""Weighted mixtures for datarax: several sources as one, in exact proportions, each child in its own order.

`source` is the node that users build. `schedule`, `timeline`, `ramps`, `stages` and `order` are the arithmetic from positions
to records; `children`, `reading`, `device_table` and `fields` read the records.
"""

from datarax_core.moved import forward_modules

from .config import MixDataSourcesConfig
from .source import MixDataSourcesNode
from .weight_stages import WeightStage

__all__ = ["MixDataSourcesConfig", "MixDataSourcesNode", "WeightStage"]

forward_modules(  # for pickles of version 0.1.0
    {
        "datarax_mix._children": "datarax_mix.children",
        "datarax_mix._config": "datarax_mix.config",
        "datarax_mix._fields": "datarax_mix.fields",
        "datarax_mix._fractions": "datarax_mix.shares",
        "datarax_mix._joined": "datarax_mix.device_table",
        "datarax_mix._order": "datarax_mix.order",
        "datarax_mix._source": "datarax_mix.source",
        "datarax_mix._stream": "datarax_mix.reading",
        "datarax_mix._timeline": "datarax_mix.timeline",
    },
    renamed={
        "datarax_mix._children.Mixed": "MixedChildren",
        "datarax_mix._joined.Joined": "DeviceTable",
        "datarax_mix._order.Drawn": "CategoricalOrder",
        "datarax_mix._order.Proportional": "ProportionalOrder",
    },
)
