"""The ``tf.data`` backend: a TensorFlow graph that reads and decodes records, and its values as NumPy arrays.

Imports `splits` and `features`; TensorFlow is imported when a graph is built.
"""

from .decoding import GraphDecoder
from .graph import Graph, Shuffle
from .library import tensorflow

__all__ = [
    "Graph",
    "GraphDecoder",
    "Shuffle",
    "tensorflow",
]
