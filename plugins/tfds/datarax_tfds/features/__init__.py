"""Decoding of records: from the bytes of a tf.train.Example to the arrays of a batch, without TensorFlow.

Imports `backends`, and core's `records`.
"""

from .decoder import FeatureDecoder
from .stored import UndecodableRecord

__all__ = [
    "FeatureDecoder",
    "UndecodableRecord",
]
