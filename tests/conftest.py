"""Fixtures of all tests: real distributions on disk, as an installer writes them."""

import fcntl
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from remote_servers import Bucket, HttpServer, S3Server

NOBODY = 65534  # the ordinary user of most systems

WORKING = """
    from typing import Literal

    import jax
    import numpy as np

    from datarax_core import DataSourceModule, SourceConfig


    class {cls}Config(SourceConfig):
        type: Literal["{name}"] = "{name}"
        size: int = 4


    class {cls}(DataSourceModule):
        config_class = {cls}Config

        def __len__(self):
            return self.config.size

        def element_spec(self):
            return {{"x": jax.ShapeDtypeStruct((), np.int32)}}

        def get_records(self, indices):
            return {{"x": np.asarray(indices, np.int32)}}
"""


@pytest.fixture(scope="session", autouse=True)
def _interrupts_arrive() -> None:
    """Processes that tests start can be interrupted, also where a shell runs the tests in the background."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


MadeOnce = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Return ``made_once(name, make)``, which gives a folder that ``make`` fills, once for all pytest workers."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def once(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of another worker, in which it failed
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return once


@dataclass
class Site:
    """Folder of installed distributions."""

    folder: Path
    packages: set[str] = field(default_factory=set)

    def install(
        self,
        dist: str,
        sources: Mapping[str, str],
        *,
        code: str | None = None,
        version: str = "1.0",
        requires: tuple[str, ...] = (),
        group: str = "datarax.sources",
    ) -> None:
        """Install a distribution whose package, of the same name, holds ``code``; None leaves the package out."""
        package = dist.replace("-", "_")
        info = self.folder / f"{package}-{version}.dist-info"
        info.mkdir(parents=True)
        lines = ["Metadata-Version: 2.1", f"Name: {dist}", f"Version: {version}"]
        lines += [f"Requires-Dist: {line}" for line in requires]
        (info / "METADATA").write_text("\n".join([*lines, "", ""]))
        entries = [f"{name} = {target}" for name, target in sources.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *entries, ""]))
        if code is not None:
            self.packages.add(package)
            (self.folder / package).mkdir(exist_ok=True)
            (self.folder / package / "__init__.py").write_text(dedent(code))

    def install_working(self, dist: str, name: str, *, version: str = "1.0", requires: tuple[str, ...] = ()) -> None:
        """Install a distribution with a source that works."""
        target = f"{dist.replace('-', '_')}:Source"
        code = WORKING.format(cls="Source", name=name)
        self.install(dist, {name: target}, code=code, version=version, requires=requires)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Return a folder of distributions that this process, and processes that it starts, import from."""
    made = Site(tmp_path / "site")
    made.folder.mkdir()
    monkeypatch.syspath_prepend(made.folder)
    monkeypatch.setenv("PYTHONPATH", str(made.folder))
    monkeypatch.delenv("DATARAX_DISABLE_PLUGINS", raising=False)
    monkeypatch.delenv("DATARAX_STRICT_PLUGINS", raising=False)
    yield made
    for package in made.packages:
        sys.modules.pop(package, None)


@pytest.fixture
def http_server(tmp_path: Path) -> Iterator["HttpServer"]:
    """Return an HTTP server of a new folder, on the loopback."""
    from remote_servers import HttpServer  # noqa: PLC0415 - few tests need one

    (tmp_path / "served").mkdir()
    server = HttpServer(tmp_path / "served")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _s3_server() -> Iterator["S3Server"]:
    from remote_servers import S3Server  # noqa: PLC0415 - takes two seconds

    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def s3_server(_s3_server: "S3Server", monkeypatch: pytest.MonkeyPatch) -> "S3Server":
    """Return an S3 server on the loopback, without faults, that the environment names."""
    from remote_servers import Faults  # noqa: PLC0415 - few tests need one

    _s3_server.faults = Faults()
    for name, value in _s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return _s3_server


@pytest.fixture
def bucket(s3_server: "S3Server") -> "Bucket":
    """Return a new bucket of the S3 server."""
    from remote_servers import Bucket  # noqa: PLC0415 - few tests need one

    return Bucket(s3_server, f"bucket-{secrets.token_hex(6)}")


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """Return a folder that other users may read; pytest's own folder is not readable for them."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Drop root's rights for the test, since root may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    yield
    if user == 0:
        os.seteuid(user)
