"""The ``tf.data`` backend: a graph of TensorFlow's that reads and decodes records, and its values as arrays of NumPy.

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
