"""Sources over sources for datarax: parts of a source, draws from it, and records made of its records.

`choosing` has the views that choose records, `joining` those that join sources or repeat one, `sequences` those of records of
varying length: windows, packed rows, and batches of one length.
"""

from typing import TYPE_CHECKING

from datarax_core.faces import lazy_face

if TYPE_CHECKING:
    from .choosing.drawing.config import SampleViewConfig as SampleViewConfig
    from .choosing.filter import FilterView as FilterView
    from .choosing.filter_config import FilterViewConfig as FilterViewConfig
    from .choosing.folds import k_fold as k_fold
    from .choosing.folds import stratified_split as stratified_split
    from .choosing.groups import GroupsView as GroupsView
    from .choosing.groups_config import GroupsViewConfig as GroupsViewConfig
    from .choosing.sample import SampleView as SampleView
    from .choosing.subset import SubsetView as SubsetView
    from .choosing.subset_config import SubsetViewConfig as SubsetViewConfig
    from .joining.concat import ConcatView as ConcatView
    from .joining.concat import ConcatViewConfig as ConcatViewConfig
    from .joining.repeat import RepeatView as RepeatView
    from .joining.repeat import RepeatViewConfig as RepeatViewConfig
    from .joining.zip import ZipView as ZipView
    from .joining.zip import ZipViewConfig as ZipViewConfig
    from .sequences.bucket import BucketView as BucketView
    from .sequences.bucketing.config import BucketViewConfig as BucketViewConfig
    from .sequences.lengths import lengths_of as lengths_of
    from .sequences.pack import PackView as PackView
    from .sequences.pack import PackViewConfig as PackViewConfig
    from .sequences.window import WindowView as WindowView
    from .sequences.window import WindowViewConfig as WindowViewConfig

__getattr__, __dir__, __all__ = lazy_face(
    __name__,
    {
        "choosing.filter": ("FilterView",),
        "choosing.filter_config": ("FilterViewConfig",),
        "choosing.folds": ("k_fold", "stratified_split"),
        "choosing.groups": ("GroupsView",),
        "choosing.groups_config": ("GroupsViewConfig",),
        "choosing.sample": ("SampleView",),
        "choosing.drawing.config": ("SampleViewConfig",),
        "choosing.subset": ("SubsetView",),
        "choosing.subset_config": ("SubsetViewConfig",),
        "joining.concat": ("ConcatView", "ConcatViewConfig"),
        "joining.repeat": ("RepeatView", "RepeatViewConfig"),
        "joining.zip": ("ZipView", "ZipViewConfig"),
        "sequences.bucket": ("BucketView",),
        "sequences.bucketing.config": ("BucketViewConfig",),
        "sequences.lengths": ("lengths_of",),
        "sequences.pack": ("PackView", "PackViewConfig"),
        "sequences.window": ("WindowView", "WindowViewConfig"),
    },
)
