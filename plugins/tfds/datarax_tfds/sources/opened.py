"""An opened data set: its description and, if its files have random access, its records by index."""

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from datarax_core.record_files import BadRecordPolicy, ReadError, RecordReader
from datarax_core.records import Batch, ElementSpec
from datarax_tfds.backends import NeedsTensorFlow, has_tensorflow
from datarax_tfds.config import TFDSConfigBase, forward_only
from datarax_tfds.dataset.data_set import DataSet
from datarax_tfds.dataset.description import understood
from datarax_tfds.features.decoder import FeatureDecoder
from datarax_tfds.features.examples import DecodedExamples
from datarax_tfds.features.stored import UndecodableRecord
from datarax_tfds.files.record_files import RecordFiles
from datarax_tfds.unprepared import ExampleRecords

_DATA_OPTIONS: Final = (
    "name",
    "split",
    "data_dir",
    "include_keys",
    "exclude_keys",
    "as_supervised",
    "as_objects",
    "builder_kwargs",
    "backend",
    "try_gcs",
    "download_and_prepare_kwargs",
    "beam_num_workers",
    "local_files_only",
    "on_error",
    "max_errors",
    "quarantine",
    "exclude",
)
"""Fields of a config that decide which records with which fields are read, and by which reader."""


class Opened:
    """The data set of a source, and its records if they can be read by index. Copies of a source share it, outside of graphs.

    If only TensorFlow decodes a field, and the config has ``backend="auto"``, the data set is read by ``tf.data``.

    Args:
        config: Config of the source.
        title: Title of the source, for messages.

    Raises:
        NeedsTensorFlow: Only TensorFlow decodes a field, and it is not installed, or the config names another backend.
        Whatever `DataSet.open` and `Records` raise if the data set cannot be read.
    """

    def __init__(self, config: TFDSConfigBase, title: str) -> None:
        self.config = config
        self.data_set = DataSet.open(config, title)
        self.records: Records | None = None
        if self.data_set.backend == "tf.data":
            self._require_forward(title)
            return
        try:
            self.records = Records(self.data_set, config, title)
        except NeedsTensorFlow as need:
            if config.backend != "auto" or not has_tensorflow():
                need.add_note(f"while {title} was opened, with backend={config.backend!r}")
                raise
            self._require_forward(title)
            self.data_set = DataSet.open(config.model_copy(update={"backend": "tf.data"}), title)

    @property
    def num_records(self) -> int:
        """Number of records that are served: all but the excluded ones."""
        return self.data_set.num_records if self.records is None else self.records.length

    def _require_forward(self, title: str) -> None:
        if (option := forward_only(self.config.model_dump(include={"on_error", "exclude"}))) is not None:
            raise ValueError(
                f"{title}: {self.data_set.full_name} is read by tf.data, forward only, where {option} has no use; leave it out"
            )


def reads_alike(config: TFDSConfigBase, other: TFDSConfigBase) -> bool:
    """Return whether two configs name the same records with the same fields, read in the same way."""
    return all(getattr(config, field) == getattr(other, field) for field in _DATA_OPTIONS)


class Records(RecordReader):
    """The records of a split by record index: read from its files, and decoded as one batch.

    ``files`` are those of a prepared data set, or of a folder of examples.

    Copies of a source share it; it is compared by identity, outside of every graph. Picklable: files are opened anew.

    Args:
        data_set: A data set whose files are read without TensorFlow.
        config: Says what happens to bad records.
        title: Title of the source, for messages.

    Raises:
        ValueError: The data set is read by ``tf.data``.
        NeedsTensorFlow: Only TensorFlow decodes a field.
        FileNotFoundError, PermissionError, DataFileError: A file cannot be read, as `RecordFiles` says.
        ConfigError: The list of excluded records is damaged, or is one of other files.
    """

    files: RecordFiles | ExampleRecords

    def __init__(self, data_set: DataSet, config: TFDSConfigBase, title: str) -> None:
        if data_set.backend == "tf.data":
            raise ValueError(f"{title} is read by tf.data, which has no random access")
        with understood(Path(data_set.folder)):
            decoder = DecodedExamples if data_set.backend == "mock_data" else FeatureDecoder
            features = decoder(data_set.features, data_set.kept, as_objects=config.as_objects)  # may raise: first
        policy = config.bad_record_policy()
        if data_set.unprepared is None:
            self.files = RecordFiles(data_set.parts, data_set.backend, title)  # type: ignore[arg-type]  # one of its two
            others = os.listdir(data_set.folder) if config.exclude else ()  # noqa: PTH208 - names alone
        else:
            self.files = data_set.unprepared.records(data_set.parts)
            others = data_set.unprepared.file_names() if config.exclude else ()
        self._begin(FieldDecoder(features, data_set.fields), config.exclude, policy, others)

    def _begin(
        self,
        decoder: "FieldDecoder",
        exclude: str | None = None,
        policy: BadRecordPolicy | None = None,
        others: Sequence[str] = (),
    ) -> None:
        super().__init__(self.files.table, decoder, exclude=exclude, policy=policy, other_files=others)  # type: ignore[arg-type]  # all that is asked of a decoder
        self.features = decoder.features
        self.element_spec = decoder.element_spec()

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if "table" not in state:  # a pickle of version 0.1.0, in which `decoder` was that of the features
            fields = state["_fields"]
            del self.__dict__["spec"]
            self._begin(FieldDecoder(state["decoder"], fields))

    @property
    def decoded_as(self) -> str:
        """What messages say of decoding."""
        return "decoded"

    def read_stored(self, records: np.ndarray) -> list[bytes]:
        """Return the bytes of records; see `RecordReader.read_stored`."""
        return self.files.stored(records)

    def read_block(self, indices: np.ndarray) -> list[bytes]:
        """Return the bytes of the records at int64 (k,) ``indices``.

        Raises:
            ReadError: A record cannot be read.
            DataFileError: A file changed since it was first opened.
        """
        return self._stored(indices)

    def close(self) -> None:
        """Close all files that are not in use; the next read opens them again."""
        self.files.close()

    def require_room(self, source: Any) -> None:
        """Look whether the first record can have the declared shapes, before arrays for all records are made.

        Nothing is said of a record that is bad for other reasons: it is an error, or substituted, when it is read.

        Raises:
            RecordError: It cannot have them.
        """
        with contextlib.suppress(ReadError):
            (record,) = self.read_block(np.zeros(1, np.int64))
            try:
                self.features.require_room(record)
            except UndecodableRecord as error:
                if self._substitutes is None:
                    raise self._record_error(0, f"cannot be decoded: {error.reason}", error.reason, source) from error

    def decoded(self, indices: np.ndarray) -> Batch:
        """Return the records at int64 (k,) ``indices``, without substitutes.

        Raises:
            ReadError, UndecodableRecord: A record cannot be read or decoded.
            DataFileError: A file changed since it was first opened.
        """
        return self.served(self.features.decode(self.read_block(indices)))

    def fill(self, indices: np.ndarray, stored: Sequence[bytes], columns: Mapping[str, Any]) -> None:
        """Decode consecutive records into the columns of all records.

        Args:
            indices: int64 (k,), each one more than the one before.
            stored: The bytes of these records, as `read_block` returns them.
            columns: For each field, by its name in the data set, an array with a row for every record.

        Raises:
            UndecodableRecord: A record cannot be decoded.
        """
        self.features.decode_into(stored, columns, int(indices[0]))

    def served(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields by the names under which they are served, given fields by their names in the data set."""
        return self.decoder.served(stored)  # type: ignore[attr-defined,no-any-return]  # it is a FieldDecoder

    def fingerprint(self) -> dict[str, Any]:
        """Return the facts that a restored state must match: those of the files, and which records are excluded."""
        if not len(self.excluded):
            return self.files.fingerprint()
        digest = hashlib.sha256(self.excluded.tobytes()).hexdigest()[:16]
        return {**self.files.fingerprint(), "excluded": [len(self.excluded), digest]}


class FieldDecoder:
    """Decoder of the features of a data set to the fields that are served, by the names under which they are served."""

    type = "tfds"

    def __init__(self, features: FeatureDecoder, fields: Sequence[tuple[str, str]]) -> None:
        self.features = features
        self._fields = tuple(fields)

    def element_spec(self) -> ElementSpec:
        """Return the element spec, by the declarations alone."""
        return self.served(self.features.spec)

    def difference(self, record: bytes, spec: ElementSpec) -> str:  # noqa: ARG002 - the signature of Decoder
        """Return nothing: every record is held against the declarations when it is decoded."""
        return ""

    def decode(self, records: Sequence[bytes], spec: ElementSpec) -> Batch:  # noqa: ARG002 - the signature of Decoder
        """Return the records as a batch of new arrays.

        Raises:
            ValueError: A record cannot be decoded.
        """
        try:
            return self.served(self.features.decode(records))
        except UndecodableRecord as error:
            raise ValueError(error.reason) from error

    def served(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields by the names under which they are served, given fields by their names in the data set."""
        return {name: stored[key] for name, key in self._fields}
