"""All promises of a source in one test class."""

import pytest

from .claims import ClaimPromises
from .configs import ConfigPromises
from .declarations import Declarations
from .hosts import HostPromises
from .leaks import LeakPromises
from .order import OrderPromises
from .processes import ListingPromises, ProcessPromises
from .records import ErrorPromises, RecordPromises
from .routes import RoutePromises, StreamPromises
from .states import StatePromises
from .subject import Subject

_SUBJECT = pytest.StashKey[Subject]()


class SourceConformance(
    ListingPromises,
    ConfigPromises,
    RecordPromises,
    OrderPromises,
    RoutePromises,
    StreamPromises,
    HostPromises,
    StatePromises,
    ProcessPromises,
    LeakPromises,
    ErrorPromises,
    ClaimPromises,
    Declarations,
):
    """Tests of every promise that a source makes: subclass this in a test module, and run pytest.

    ::

        class TestAcmeParquet(SourceConformance):
            config = {"type": "acme_parquet", "paths": "tests/digits.parquet"}
            expected_length = 1797
            expected_records = {0: {"label": 0}}

    If files must be written first, define `make_config`::

        class TestAcmeParquet(SourceConformance):
            expected_length = 100

            def make_config(self, folder):
                write_table(folder / "x.parquet", 100)
                return {"type": "acme_parquet", "paths": str(folder / "x.parquet")}

    If the constructor takes data that no config names, define `make_source`::

        class TestAcmeTable(SourceConformance):
            config = AcmeTableConfig(shuffle=True)

            def make_source(self, config, seed):
                return AcmeTable(config, ROWS, rngs=nnx.Rngs(seed))

    Tests of promises that a source does not make, such as random access for a stream, are skipped with the reason. A few
    hundred records are enough, and keep the tests fast. `Declarations` documents everything else that a subclass can declare.
    """

    @pytest.fixture
    def subject(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
        """The source under test, made once for each test class."""
        stash = request.node.parent.stash
        if _SUBJECT not in stash:
            stash[_SUBJECT] = Subject(self, tmp_path_factory.mktemp(type(self).__name__, numbered=True))
        made: Subject = stash[_SUBJECT]
        return made
