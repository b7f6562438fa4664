"""The conformance tests of datarax decoders."""

import numpy as np

from datarax_core.testing import DecoderConformance, Shows

WAVE = np.sin(np.arange(40, dtype=np.float32))


class TestAnyNumber(DecoderConformance):
    """All conformance tests, over packets with any number of samples, one of them with none."""

    config = {"type": "acme_records"}
    batch = {
        "sensor": np.arange(20, dtype=np.uint32),
        "second": np.arange(20, dtype=np.uint32) + 1_700_000_000,
        "samples": [WAVE[: 2 * row] for row in range(20)],
    }
    expected_records = {0: {"samples": []}, 3: {"sensor": 3, "samples": WAVE[:6]}}
    effective = {"num_samples": Shows(value=6, at=lambda decoder: decoder.element_spec())}
