"""All ways to copy a pipeline, by name; for tests that hold for each of them."""

import copy
import pickle
from collections.abc import Callable, Mapping

from flax import nnx

from datarax_core import Pipeline

COPIES: Mapping[str, Callable[[Pipeline], Pipeline]] = {
    "nnx.clone": nnx.clone,
    "merge": lambda pipeline: nnx.merge(*nnx.split(pipeline)),
    "deepcopy": copy.deepcopy,
    "pickle": lambda pipeline: pickle.loads(pickle.dumps(pipeline)),  # noqa: S301 - made here
    "clone": lambda pipeline: pipeline.clone(),
}
