"""Declarations of an author about a decoder: how to make it, records or a batch to write, and what is decoded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datarax_core.records.spec import Batch
from datarax_core.registry.decoders import Decoder, DecoderRegistry, default_decoders
from datarax_core.testing.checks import broken
from datarax_core.testing.options import Shows


class DecoderDeclarations:
    """Attributes and methods that an author overrides in a subclass of `DecoderConformance`.

    The config is required, and ``batch`` if the decoder writes, or else ``records``.
    """

    config: Mapping[str, Any] | Decoder | None = None
    """The config of the decoder under test. Override `make_decoder` instead if files must be written first."""

    records: Sequence[bytes] = ()
    """The bytes of some records, 2 to 100 that differ. A decoder that writes needs none: the kit writes `batch` by it.

    Override `make_records` to write them by another library: that shows more than what the decoder writes itself.
    """

    batch: Mapping[str, Any] | None = None
    """Columns with a row for each record, which the decoder writes and reads: arrays, lists of text or of arrays, `Ragged`.

    None takes what it decodes of `records`. Override `make_batch` to compute them.
    """

    expected_records: Mapping[int, Any] = {}
    """Some records by their place, as pytrees of values of the structure of the element spec, all or some of the fields."""

    dtypes: Sequence[Any] = ()
    """Dtypes that records may have, such as ``["uint8", "float32", str]``: the decoder must write and read each.

    The kit tries all that NumPy and JAX have by itself; a dtype that is not named here may be refused by name of the field.
    """

    effective: Mapping[str, Any | Shows] = {}
    """For each option whose effect the kit cannot guess: a value that changes the decoder, or `Shows`.

    The kit tries flags, choices, numbers and what `for_spec` returns by itself. ``at`` of `Shows` is called with a decoder.
    """

    shown_elsewhere: Mapping[str, str] = {}
    """For each option whose effect cannot be observed from outside: your test that shows it, ``"test_x.py::test_y"``."""

    mutations: int = 300
    """The number of damaged records that are tried."""

    most_seconds: float = 2.0
    """The CPU time that decoding a damaged record may take."""

    @property
    def registry(self) -> DecoderRegistry:
        """The registry that finds the config's ``type``: all installed decoders, unless overridden.

        Called: whenever a config of the decoder is validated.
        Default: all installed decoders.
        """
        return default_decoders()

    def make_decoder(self, folder: Path) -> Mapping[str, Any] | Decoder:  # noqa: ARG002 - for authors' overrides
        """Return the config of the decoder under test, after writing the files that it names to ``folder``.

        Called: by the tests of the kit that need it, once for each test class, on pytest's thread.
        Default: `config`.
        """
        if self.config is None:
            broken(
                f"{type(self).__name__} does not declare how its decoder is made; give it "
                'config = {"type": ...}, or define make_decoder(self, folder)'
            )
        return self.config

    def make_records(self, folder: Path) -> Sequence[bytes]:  # noqa: ARG002 - for authors' overrides
        """Return the bytes of some records; none if the decoder writes them itself.

        Called: by the tests of the kit that need it, once for each test class, on pytest's thread.
        Default: `records`.
        """
        return self.records

    def make_batch(self, folder: Path) -> Batch | None:  # noqa: ARG002 - for authors' overrides
        """Return the batch that the decoder writes and reads, as `batch` describes it.

        Called: by the tests of the kit that need it, once for each test class, on pytest's thread.
        Default: `batch`.
        """
        return self.batch
