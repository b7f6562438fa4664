"""All promises of a decoder in one test class: the most basic one first, and what builds on a broken one left out."""

from typing import Final

import pytest

from datarax_core.testing.configs import ConfigPromises
from datarax_core.testing.promises import ordered, subject_of

from .damage import DamagePromises
from .declarations import DecoderDeclarations
from .processes import ProcessPromises
from .reading import BuildPromises, ReadPromises, SpecPromises
from .round_trips import RoundTripPromises, WritePromises
from .subject import DecoderSubject

_BUILT: Final = ("test_it_is_built_from_its_config",)
_SPEC: Final = (
    *_BUILT,
    "test_the_spec_of_one_record_is_true_of_all",
    "test_a_batch_that_was_given_away_is_left_alone",
)
_WRITTEN: Final = (*_SPEC, "test_what_it_writes_it_reads")
_READ: Final = (*_WRITTEN, "test_a_batch_is_its_records_in_any_order")

_SPAWNED: Final = (*_READ, "test_a_copy_by_pickle_decodes_alike", "test_it_decodes_in_a_spawned_process")
_TRIED: Final = (*_SPAWNED, "test_a_damaged_record_is_refused_or_fits")

_NEEDS: Final[dict[type, tuple[str, ...]]] = {
    BuildPromises: (),
    ConfigPromises: _BUILT,
    SpecPromises: _SPEC,
    RoundTripPromises: _SPEC,
    ReadPromises: _WRITTEN,
    WritePromises: _READ,
    ProcessPromises: _READ,
    DamagePromises: _TRIED,
}
"""The promises of each group in the order in which they are tested, and the promises on which they build."""

_MORE: Final = {"test_it_decodes_in_a_spawned_process": ("test_a_copy_by_pickle_decodes_alike",)}


class DecoderConformance(*_NEEDS, DecoderDeclarations):  # type: ignore[misc]  # mypy does not follow computed bases
    """Tests of every promise that a decoder makes: subclass this in a test module, and run pytest.

    A decoder that writes is given a batch, from which the kit makes the records::

        class TestAcmeRecords(DecoderConformance):
            config = {"type": "acme_records", "fields": {"label": "int32", "image": "uint8[8, 8]"}}
            batch = {"label": np.arange(12, dtype=np.int32), "image": np.zeros((12, 8, 8), np.uint8)}
            dtypes = ["uint8", "int32", "float32"]

    One that only reads is given bytes, and is told what they hold::

        class TestAcmeLog(DecoderConformance):
            config = {"type": "acme_log"}
            records = [b"12:00 start", b"12:05 stop"]
            expected_records = {1: {"time": "12:05", "event": "stop"}}

    Tests of promises that a decoder does not make, such as writing, are skipped with the reason. Damaged records are decoded
    in a process of their own, shared by all classes, so that a crash or an endless loop ends a test, and not the run.
    `DecoderDeclarations` documents everything else that a subclass can declare.
    """

    @pytest.fixture
    def subject(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DecoderSubject:
        """The decoder under test, made once for each test class.

        Called: by every test, through pytest.
        """
        return subject_of(self, DecoderSubject, request, tmp_path_factory)


for _name, _test in ordered(_NEEDS, _MORE):
    setattr(DecoderConformance, _name, _test)
