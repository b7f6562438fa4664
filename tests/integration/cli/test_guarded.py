"""``drx schema`` and ``drx sources`` beside plugins that crash, end or hang the process that imports them."""

import json
from typing import TYPE_CHECKING

import pytest
from commands import DRX, run

if TYPE_CHECKING:
    from conftest import Site

# They would be imported as well, and take their time.
OURS = "datarax-arrayrecord,datarax-image,datarax-memory,datarax-mix,datarax-text,datarax-tfds"


@pytest.mark.parametrize(
    ("code", "timeout", "problem"),
    [
        ("import os\nos.abort()", "60", "crashed the interpreter (SIGABRT) in acme_bad/__init__.py, line 2"),
        ("import os\nos._exit(0)", "60", "ended the interpreter with exit code 0"),
        ("import time\ntime.sleep(99)", "6", "did not end within 6 s and was stopped"),
    ],
)
def test_a_plugin_that_ends_or_stops_the_process_is_left_out_of_the_schema(
    site: "Site", monkeypatch: pytest.MonkeyPatch, code: str, timeout: str, problem: str
) -> None:
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", OURS)
    site.install("acme-bad", {"acme_bad": "acme_bad:St"}, code=code, group="datarax.decoders")
    fine = "from datarax_core import Decoder\nclass D(Decoder):\n    type: str = 'acme_fine'\n"
    fine += "    def decode_record(self, r): return r\n"
    site.install("acme-fine", {"acme_fine": "acme_fine:D"}, code=fine, group="datarax.decoders")
    done = run(DRX, "schema", "--timeout", timeout)
    assert done.returncode == 0, done.stderr
    names = set(json.loads(done.stdout)["$defs"])
    assert {"decoder.acme_fine", "stage.cast"} <= names
    assert "decoder.acme_bad" not in names
    assert f"left out: the import of decoder 'acme_bad' (acme-bad 1.0) {problem}" in done.stderr


def test_sources_are_listed_beside_one_that_crashes(site: "Site") -> None:
    site.install("acme-bad", {"acme_bad": "acme_bad:S"}, code="import os\nos.abort()")
    done = run(DRX, "sources")
    assert done.returncode == 0
    assert "acme_bad" in done.stdout
