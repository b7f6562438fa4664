"""All promises of a source, as one test class."""

from ._claims import ClaimPromises
from ._configs import ConfigPromises
from ._declarations import Declarations
from ._hosts import HostPromises
from ._isolation import IsolationPromises
from ._leaks import LeakPromises
from ._listing import ListingPromises
from ._mistakes import MistakePromises
from ._order import OrderPromises
from ._records import RecordPromises
from ._resuming import StatePromises
from ._routes import RoutePromises
from ._streams import StreamPromises


class SourceConformance(
    ListingPromises,
    ConfigPromises,
    RecordPromises,
    OrderPromises,
    RoutePromises,
    StreamPromises,
    HostPromises,
    StatePromises,
    IsolationPromises,
    LeakPromises,
    MistakePromises,
    ClaimPromises,
    Declarations,
):
    """Whether a source keeps every promise: subclass it in a test module of yours, and run pytest.

    ::

        class TestAcmeParquet(SourceConformance):
            config = {"type": "acme_parquet", "paths": "tests/digits.parquet"}
            expected_length = 1797
            expected_records = {0: {"label": 0}}

    Where files have to be written first::

        class TestAcmeParquet(SourceConformance):
            expected_length = 100

            def make_config(self, folder):
                write_table(folder / "x.parquet", 100)
                return {"type": "acme_parquet", "paths": str(folder / "x.parquet")}

    Where the constructor takes data that no config names::

        class TestAcmeTable(SourceConformance):
            config = AcmeTableConfig(shuffle=True)

            def make_source(self, config, seed):
                return AcmeTable(config, ROWS, rngs=nnx.Rngs(seed))

    All else that can be said of a source is in `Declarations`. A few hundred records are enough, and fast.
    """
