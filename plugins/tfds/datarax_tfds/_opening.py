"""A data set as its config says it is to be read: by index, or as a stream of TensorFlow's."""

from ._config import TFDSConfigBase
from ._data_set import DataSet
from ._installed import has_tensorflow
from ._records import Records
from ._requirements import NeedsTensorFlow


class Opened:
    """The data set of a source, and its records where they can be reached by index. Shared by copies; outside of every graph.

    Where only TensorFlow decodes a field, and the config leaves the choice, the data set is read by ``tf.data``.

    Raises:
        NeedsTensorFlow: Only TensorFlow decodes a field, and it is not installed, or another backend was asked for.
        Whatever `DataSet.open` and `Records` raise of a data set that cannot be read.
    """

    def __init__(self, config: TFDSConfigBase, title: str) -> None:
        self.config = config
        self.data_set = DataSet.open(config, title)
        self.records: Records | None = None
        if self.data_set.backend == "tf.data":
            return
        try:
            self.records = Records(self.data_set, title)
        except NeedsTensorFlow as need:
            if config.backend != "auto" or not has_tensorflow():
                need.add_note(f"while {title} was opened, with backend={config.backend!r}")
                raise
            self.data_set = DataSet.open(config.model_copy(update={"backend": "tf.data"}), title)


def reads_alike(config: TFDSConfigBase, other: TFDSConfigBase) -> bool:
    """Whether two configs name the same records with the same fields, read in the same way."""
    return all(getattr(config, field) == getattr(other, field) for field in _OF_DATA)


_OF_DATA = (
    "name",
    "split",
    "data_dir",
    "include_keys",
    "exclude_keys",
    "as_supervised",
    "backend",
    "try_gcs",
    "download_and_prepare_kwargs",
    "beam_num_workers",
    "local_files_only",
)
