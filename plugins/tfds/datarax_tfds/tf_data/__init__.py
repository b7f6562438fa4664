"""The ``tf.data`` backend: a TensorFlow graph that reads and decodes records, and its values as NumPy arrays.

Imports `splits`; TensorFlow is imported when a graph is built.
"""

from .graph import Graph, Shuffle, tensorflow
from .values import as_numpy, spec_of_features

__all__ = [
    "Graph",
    "Shuffle",
    "as_numpy",
    "spec_of_features",
    "tensorflow",
]
