"""Decoding of records in a graph; steps (data sets within records) are decoded by NumPy, from the bytes of the same records.

A batch of ``tf.data`` holds no data sets. The graph passes the bytes of such records on, and the decoder that serves steps when
records are read by index decodes them, so that both backends serve the same steps.
"""

from typing import Any, Final

import numpy as np

from datarax_core.records import Batch, ElementSpec
from datarax_tfds.backends import NeedsTensorFlow
from datarax_tfds.features.decoder import FeatureDecoder, holds_steps

from .library import tensorflow
from .values import SHAPE, VALUES, as_numpy, spec_of_features

_DECODED: Final = "decoded"
_STORED: Final = "stored"


class GraphDecoder:
    """Decoder of records by a TensorFlow graph, with a field for each feature.

    Args:
        features: The FeaturesDict of the fields that are served.
        full_name: Name of the data set, for messages.
        as_objects: Whether arrays of varying shape are objects, and not ragged columns.

    Raises:
        ValueError: A feature in or beside the steps of a field has no NumPy decoder, or a field cannot be batched.
    """

    def __init__(self, features: Any, full_name: str, *, as_objects: bool = False) -> None:
        with_steps = [name for name, feature in features.items() if holds_steps(feature)]
        self._steps = _steps_decoder(features, with_steps) if with_steps else None
        kept = {name: feature for name, feature in features.items() if name not in with_steps}
        self._features = type(features)(kept) if kept else None
        by_graph = spec_of_features(self._features, full_name, as_objects=as_objects) if kept else {}
        self._by_graph: ElementSpec = by_graph
        self.spec: ElementSpec = {**by_graph, **(self._steps.spec if self._steps else {})}
        """Element spec by the names that fields have in the data set."""

    @property
    def has_varying(self) -> bool:
        """Whether the shape of an array that the graph makes varies from record to record."""
        if self._features is None:
            return False
        return any(None in info.shape for info in tensorflow().nest.flatten(self._features.get_tensor_info()))

    def in_graph(self, record: Any) -> dict[str, Any]:
        """Return what the graph batches of a record; the operations of it, when the graph is made."""
        tf = tensorflow()

        def packed(value: Any) -> Any:
            if isinstance(value, tf.RaggedTensor) or value.shape.is_fully_defined():
                return value
            return {VALUES: tf.reshape(value, [-1]), SHAPE: tf.shape(value)}

        out = {_STORED: record} if self._steps is not None else {}
        if self._features is not None:
            out[_DECODED] = tf.nest.map_structure(packed, self._features.deserialize_example(record))
        return out

    def arrays(self, batch: Any) -> Batch:
        """Return a batch of the graph as arrays of `spec`.

        Raises:
            UndecodableRecord: The steps of a record cannot be decoded; the error names the row.
        """
        out = {} if self._features is None else as_numpy(batch[_DECODED], self._by_graph)
        if self._steps is not None:
            out = {**out, **self._steps.decode(np.asarray(batch[_STORED]).tolist())}
        return out

    def require_decodable(self, record: Any) -> None:
        """Decode one record by itself, outside of a graph.

        Raises:
            UndecodableRecord, tensorflow.errors.OpError: The record cannot be decoded.
        """
        if self._features is not None:
            self._features.deserialize_example(record)
        if self._steps is not None:
            self._steps.decode([record if isinstance(record, bytes) else record.numpy()])


def _steps_decoder(features: Any, names: list[str]) -> FeatureDecoder:
    try:
        return FeatureDecoder(features, names)
    except NeedsTensorFlow as need:
        raise ValueError(
            f"field {need.field!r}, beside steps, is decoded by TensorFlow only ({need.reason}), whose batches hold no steps; "
            f"leave it out (exclude_keys={{{need.field.split('.')[0]!r}}})"
        ) from need
