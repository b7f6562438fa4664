"""Names of the fields that a source serves."""

from collections.abc import Iterable
from typing import Any, Final

from datarax_tfds.backends import tensorflow_datasets
from datarax_tfds.config import TFDSConfigBase

SUPERVISED: Final = ("image", "label")
"""The names under which an (input, target) pair is served."""


def served_fields(
    config: TFDSConfigBase, features: Any, supervised_keys: Any, full_name: str
) -> tuple[tuple[str, str], ...]:
    """Return, for each field that is served, the name under which it is served, and its name in the data set.

    Args:
        config: Config of the source.
        features: Features of the data set.
        supervised_keys: The (input, target) pair of the data set; None if it has none.
        full_name: Name of the data set, for messages.

    Raises:
        ValueError: A key is unknown, or no field is left; the data set has no named fields, or no (input, target) pair.
    """
    if not isinstance(features, tensorflow_datasets().features.FeaturesDict):
        raise ValueError(  # noqa: TRY004 - the argument is fine, the data set cannot be served
            f"the records of {full_name} are of {type(features).__name__}, without names for their fields; only data sets "
            "whose features are a FeaturesDict are served"
        )
    if not config.as_supervised:
        return tuple((key, key) for key in config.kept_keys(sorted(features.keys())))
    return tuple(zip(SUPERVISED, _pair(supervised_keys, features.keys(), full_name), strict=True))


def _pair(supervised_keys: Any, fields: Iterable[str], full_name: str) -> tuple[str, str]:
    remedy = "leave as_supervised out, and choose fields by include_keys"
    if supervised_keys is None:
        raise ValueError(
            f"as_supervised has no use for {full_name}, which does not say what its input and target are; {remedy}: its "
            f"fields are {', '.join(map(repr, sorted(fields)))}"
        )
    if len(supervised_keys) != len(SUPERVISED) or not all(isinstance(key, str) for key in supervised_keys):
        raise ValueError(
            f"as_supervised serves an input and a target that are a field each, but those of {full_name} are "
            f"{supervised_keys!r}; {remedy}"
        )
    return supervised_keys[0], supervised_keys[1]
