"""Sources: the protocol that every source implements, and base classes to derive sources from.

A source knows only its records and their order; epochs, batches and devices belong to the pipeline. Imports `modules`,
`devices`, `files`, `config`, `order` and `records`.
"""

from typing import TYPE_CHECKING

from datarax_core.faces import lazy_face

if TYPE_CHECKING:
    from datarax_core.devices.memory import fits_device_memory as fits_device_memory
    from datarax_core.devices.memory import host_memory as host_memory
    from datarax_core.errors import reason_of as reason_of
    from datarax_core.files.open_files import Closable as Closable
    from datarax_core.files.open_files import OpenFiles as OpenFiles
    from datarax_core.files.paths import LocalFilesOnlyMixin as LocalFilesOnlyMixin
    from datarax_core.files.paths import not_on_this_machine as not_on_this_machine
    from datarax_core.files.table import FileTable as FileTable
    from datarax_core.files.table import require_file as require_file
    from datarax_core.modules.counts import CountValue as CountValue
    from datarax_core.modules.host_state import HostState as HostState
    from datarax_core.modules.module import DataraxModule as DataraxModule
    from datarax_core.modules.module import StructuralModule as StructuralModule
    from datarax_core.modules.module import checked_rngs as checked_rngs
    from datarax_core.storage.stores.stamps import Stamp as Stamp

    from .access import Access as Access
    from .access import Capabilities as Capabilities
    from .access import OrderKey as OrderKey
    from .access import compiled_with as compiled_with
    from .blocks import BlockSize as BlockSize
    from .blocks import WritesRecords as WritesRecords
    from .blocks import Written as Written
    from .blocks import record_blocks as record_blocks
    from .blocks import verified_blocks as verified_blocks
    from .columns import ColumnGather as ColumnGather
    from .columns import Columns as Columns
    from .columns import Form as Form
    from .columns import columns_of as columns_of
    from .data_set_info import DataSetInfo as DataSetInfo
    from .description import view_lines as view_lines
    from .eager import EagerSourceBase as EagerSourceBase
    from .eager import Placement as Placement
    from .identity import content_of_files as content_of_files
    from .iterables.source import IterableSource as IterableSource
    from .iterables.source import from_iterable as from_iterable
    from .known_columns import field_struct as field_struct
    from .known_columns import lengths_of_column as lengths_of_column
    from .metadata import MetadataManager as MetadataManager
    from .metadata import RecordMetadata as RecordMetadata
    from .sequence import SequenceSource as SequenceSource
    from .sequence import SequenceSourceConfig as SequenceSourceConfig
    from .sequence import from_sequence as from_sequence
    from .source import DataSourceModule as DataSourceModule
    from .streaming import StreamingSourceBase as StreamingSourceBase
    from .subset import Subset as Subset
    from .verification import Verified as Verified
    from .verification import append_to_quarantine as append_to_quarantine
    from .verification import require_quarantine as require_quarantine
    from .verification import verified as verified
    from .views.conditions import Condition as Condition
    from .views.conditions import condition_of as condition_of
    from .views.conditions import conditions_of as conditions_of
    from .views.conditions import kept_by as kept_by
    from .views.conditions import key_of as key_of
    from .views.kept_tables import kept_table as kept_table
    from .views.view import SourceView as SourceView

__getattr__, __dir__, __all__ = lazy_face(
    __name__,
    {
        ".devices.memory": ("fits_device_memory", "host_memory"),
        ".errors": ("reason_of",),
        ".files.open_files": ("Closable", "OpenFiles"),
        ".files.paths": ("LocalFilesOnlyMixin", "not_on_this_machine"),
        ".files.table": ("FileTable", "require_file"),
        ".modules.counts": ("CountValue",),
        ".modules.host_state": ("HostState",),
        ".modules.module": ("DataraxModule", "StructuralModule", "checked_rngs"),
        ".storage.stores.stamps": ("Stamp",),
        "access": ("Access", "Capabilities", "OrderKey", "compiled_with"),
        "blocks": ("BlockSize", "WritesRecords", "Written", "record_blocks", "verified_blocks"),
        "columns": ("ColumnGather", "Columns", "Form", "columns_of"),
        "data_set_info": ("DataSetInfo",),
        "description": ("view_lines",),
        "eager": ("EagerSourceBase", "Placement"),
        "identity": ("content_of_files",),
        "iterables.source": ("IterableSource", "from_iterable"),
        "known_columns": ("field_struct", "lengths_of_column"),
        "metadata": ("MetadataManager", "RecordMetadata"),
        "sequence": ("SequenceSource", "SequenceSourceConfig", "from_sequence"),
        "streaming": ("StreamingSourceBase",),
        "source": ("DataSourceModule",),
        "subset": ("Subset",),
        "verification": ("Verified", "append_to_quarantine", "require_quarantine", "verified"),
        "views.conditions": ("Condition", "condition_of", "conditions_of", "kept_by", "key_of"),
        "views.kept_tables": ("kept_table",),
        "views.view": ("SourceView",),
    },
)
