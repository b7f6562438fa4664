"""TensorFlow Datasets for datarax: prepared data sets, eager or streamed, without TensorFlow wherever the files allow it."""

from ._choosing import TFDSSource, from_tfds
from ._config import TFDSConfig, TFDSEagerConfig, TFDSStreamingConfig
from ._eager import TFDSEagerSource
from ._streaming import TFDSStreamingSource

__all__ = [
    "TFDSConfig",
    "TFDSEagerConfig",
    "TFDSEagerSource",
    "TFDSSource",
    "TFDSStreamingConfig",
    "TFDSStreamingSource",
    "from_tfds",
]
