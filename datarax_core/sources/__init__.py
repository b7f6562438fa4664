"""Sources: the protocol that every source implements, and base classes to derive sources from.

A source knows only its records and their order; epochs, batches and devices belong to the pipeline. Imports `modules`,
`devices`, `files`, `config`, `order` and `records`.
"""

from datarax_core.devices.memory import fits_device_memory, host_memory
from datarax_core.errors import reason_of
from datarax_core.files.open_files import Closable, OpenFiles
from datarax_core.files.paths import LocalFilesOnlyMixin, not_on_this_machine
from datarax_core.files.table import FileTable, require_file
from datarax_core.modules.counts import CountValue
from datarax_core.modules.host_state import HostState
from datarax_core.modules.module import DataraxModule, StructuralModule, checked_rngs
from datarax_core.storage.stamps import Stamp

from .access import Access, Capabilities, OrderKey, compiled_with
from .blocks import BlockSize, WritesRecords, Written, record_blocks, verified_blocks
from .columns import ColumnGather, Columns, Form, columns_of
from .data_set_info import DataSetInfo
from .description import view_lines
from .eager import EagerSourceBase, Placement
from .identity import content_of_files
from .iterables.source import IterableSource, from_iterable
from .known_columns import field_struct, lengths_of_column
from .metadata import MetadataManager, RecordMetadata
from .sequence import SequenceSource, SequenceSourceConfig, from_sequence
from .source import DataSourceModule
from .streaming import StreamingSourceBase
from .subset import Subset
from .verification import (
    Verified,
    append_to_quarantine,
    require_quarantine,
    verified,
)
from .views.conditions import Condition, condition_of, conditions_of, kept_by, key_of
from .views.kept_tables import kept_table
from .views.view import SourceView

__all__ = [
    "Access",
    "BlockSize",
    "Capabilities",
    "Closable",
    "ColumnGather",
    "Columns",
    "Condition",
    "CountValue",
    "DataSetInfo",
    "DataSourceModule",
    "DataraxModule",
    "EagerSourceBase",
    "FileTable",
    "Form",
    "HostState",
    "IterableSource",
    "LocalFilesOnlyMixin",
    "MetadataManager",
    "OpenFiles",
    "OrderKey",
    "Placement",
    "RecordMetadata",
    "SequenceSource",
    "SequenceSourceConfig",
    "SourceView",
    "Stamp",
    "StreamingSourceBase",
    "StructuralModule",
    "Subset",
    "Verified",
    "WritesRecords",
    "Written",
    "append_to_quarantine",
    "checked_rngs",
    "columns_of",
    "compiled_with",
    "condition_of",
    "conditions_of",
    "content_of_files",
    "field_struct",
    "fits_device_memory",
    "from_iterable",
    "from_sequence",
    "host_memory",
    "kept_by",
    "kept_table",
    "key_of",
    "lengths_of_column",
    "not_on_this_machine",
    "reason_of",
    "record_blocks",
    "require_file",
    "require_quarantine",
    "verified",
    "verified_blocks",
    "view_lines",
]
