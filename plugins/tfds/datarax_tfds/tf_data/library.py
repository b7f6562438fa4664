"""The import of TensorFlow, which takes no accelerator."""

import sys
from typing import Any


def tensorflow() -> Any:
    """Import TensorFlow, and hide the accelerators from it, whose memory it would take from JAX.

    Nothing is hidden if TensorFlow was imported before: its settings are the user's then.
    """
    is_ours = "tensorflow" not in sys.modules
    import tensorflow as tf  # noqa: PLC0415 - takes seconds; only this backend needs it

    if is_ours:
        for device_type in ("GPU", "TPU"):
            tf.config.set_visible_devices([], device_type)
    return tf
