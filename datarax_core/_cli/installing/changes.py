"""What an installer changed: plugins that are new, gone, or of another version or status, read anew by a fresh process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from datarax_core._cli.findings import installed_plugins, without_unknown_words
from datarax_core._cli.output import complain
from datarax_core.errors import DataraxError
from datarax_core.extensions.catalog import DISABLE_VARIABLE
from datarax_core.extensions.loading import STRICT_VARIABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A plugin in a list: what it is, of which distribution, and whether it can be used."""

    kind: str
    name: str
    distribution: str
    version: str
    status: str
    problem: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells plugins apart, whatever their version and status."""
        return self.kind, self.name, self.distribution

    @property
    def origin(self) -> str:
        """Distribution and version; of a plugin without a distribution, its file or module."""
        return f"{self.distribution} {self.version}".rstrip()

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} ({self.origin}): {self.status}{f'; {self.problem}' if self.problem else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Plugins that are new, gone, and changed; of changed ones, as they are now and as they were."""

    new: list[Plugin] = field(default_factory=list)
    gone: list[Plugin] = field(default_factory=list)
    changed: list[tuple[Plugin, Plugin]] = field(default_factory=list)

    @classmethod
    def between(cls, before: Iterable[Plugin], after: Iterable[Plugin]) -> "Changes":
        """Return how two lists differ."""
        old, new = {one.key: one for one in before}, {one.key: one for one in after}
        return cls(
            new=[one for key, one in new.items() if key not in old],
            gone=[one for key, one in old.items() if key not in new],
            changed=[(one, old[key]) for key, one in new.items() if key in old and one != old[key]],
        )

    def lines(self) -> list[str]:
        """Return a line for each change, or one that says that there is none."""
        found = [f"new: {one}" for one in self.new] + [
            f"gone: {one.kind} {one.name!r} ({one.origin})" for one in self.gone
        ]
        found += [f"changed: {now}; was {was.origin}, {was.status}" for now, was in self.changed]
        return found or ["no plugin is new, gone or changed"]

    def as_dict(self) -> dict[str, Any]:
        """Return the changes for JSON."""
        return {
            "new": [asdict(one) for one in self.new],
            "gone": [asdict(one) for one in self.gone],
            "changed": [{"now": asdict(now), "before": asdict(was)} for now, was in self.changed],
        }


def plugins_here() -> list[Plugin]:
    """Return the plugins that this process sees."""
    with _whatever_is_wrong():
        found = installed_plugins()
    return [
        Plugin(
            kind=one.kind,
            name=one.name,
            distribution=one.distribution,
            version=one.version,
            status=one.status,
            problem=one.problem,
        )
        for one in found
    ]


def plugins_anew() -> list[Plugin]:
    """Return the plugins that a new process sees: this one does not see folders that an installer has added to the path.

    Raises:
        DataraxError: That process fails; the message holds what it printed.
    """
    command = [sys.executable, "-P", "-m", "datarax_core", "plugins", "--json"]
    with _whatever_is_wrong() as misspelt:
        for sentence in misspelt:
            complain(sentence)
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this interpreter, on core
    if done.returncode:
        raise DataraxError(f"the plugins can no longer be listed: {done.stderr.strip()}; drx check may say why")
    return [
        Plugin(
            kind=plugin["kind"],
            name=plugin["name"],
            distribution=listed["distribution"],
            version=listed["version"],
            status=plugin["status"],
            problem=plugin["problem"],
        )
        for listed in json.loads(done.stdout)
        for plugin in listed["plugins"]
    ]


@contextmanager
def _whatever_is_wrong() -> Iterator[list[str]]:
    """Have plugins listed in spite of a strict process and of words that disable nothing; yields sentences on the latter."""
    before = {name: os.environ.get(name) for name in (STRICT_VARIABLE, DISABLE_VARIABLE)}
    os.environ.pop(STRICT_VARIABLE, None)
    try:
        yield without_unknown_words()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
