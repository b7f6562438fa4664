"""All benchmarks, as ratios against a reference in the same run. Run: ``make bench``."""

import argparse
import os
import platform
from datetime import UTC, datetime

import arrayrecord
import buckets
import decoders
import flat
import footprint
import hooks
import host_calls
import host_stages
import images
import jax
import memory_source
import mix
import numpy as np
import packing
import prefetch
import processes
import ragged
import reading
import registry
import remote
import start
import text
import tfds
import tfds_decoding
import views
import windows
import workers
from _measure import report

PARTS = {
    "arrayrecord": arrayrecord,
    "memory": memory_source,
    "decoders": decoders,
    "images": images,
    "tfds_decoding": tfds_decoding,
    "mix": mix,
    "tfds": tfds,
    "text": text,
    "flat": flat,
    "prefetch": prefetch,
    "reading": reading,
    "start": start,
    "workers": workers,
    "processes": processes,
    "footprint": footprint,
    "registry": registry,
    "remote": remote,
    "hooks": hooks,
    "host_calls": host_calls,
    "host_stages": host_stages,
    "ragged": ragged,
    "buckets": buckets,
    "packing": packing,
    "views": views,
    "windows": windows,
}


def main() -> None:
    """Run the named parts, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which to run; all if none is named")
    parser.add_argument("--markdown", action="store_true", help="print tables for a file of results")
    arguments = parser.parse_args()
    chosen = arguments.parts or list(PARTS)
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, jax {jax.__version__} on "
        f"{jax.default_backend()}, numpy {np.__version__}, {os.cpu_count()} cores"
    )
    for name in chosen:
        module = PARTS[name]
        report((module.__doc__ or name).strip().splitlines()[0], module.rows(), markdown=arguments.markdown)


if __name__ == "__main__":
    main()
