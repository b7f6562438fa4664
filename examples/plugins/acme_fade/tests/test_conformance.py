"""The conformance tests of datarax stages."""

import numpy as np

from datarax_core.testing import StageConformance


class TestAcmeFade(StageConformance):
    """All conformance tests, over pictures in a dict of fields."""

    config = {"type": "acme_fade", "field": "photo.pixels", "least": 0.25, "to": 0.5}
    records = {
        "photo": {"pixels": np.linspace(0, 1, 24 * 12, dtype=np.float32).reshape(24, 2, 6)},
        "label": np.arange(24, dtype=np.int32),
    }
    expected = {"label": np.arange(24)}
    differentiable = ("photo.pixels",)
