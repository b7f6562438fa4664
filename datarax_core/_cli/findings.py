"""What is known of installed plugins: from their metadata at first, and then from importing them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from datarax_core._catalog import Catalog, Status
from datarax_core._discovery import Environment, Installed

from .kinds import KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A plugin, and what is wrong with it.

    ``status`` is ready, which is ok once it was imported; or disabled, conflict, unmet, broken, contract, hung or died, of
    which ``problem`` says more, and what to do. ``seconds`` is how long the import took beyond what core imports itself, and
    ``imports`` holds the packages that took most of it, with their seconds.
    """

    kind: str
    name: str
    distribution: str
    version: str
    target: str
    status: str = "ready"
    problem: str = ""
    seconds: float | None = None
    imports: dict[str, float] = field(default_factory=dict)

    @property
    def is_problem(self) -> bool:
        """Whether there is something to mend."""
        return self.status not in ("ready", "ok", "disabled")

    @property
    def may_import(self) -> bool:
        """Whether to try; also one that lacks something may be able to do without."""
        return self.status in ("ready", "unmet")

    @property
    def title(self) -> str:
        """What sentences call it: ``source 'memory' (datarax-memory 0.1.0)``."""
        return f"{self.kind} {self.name!r} ({self.distribution} {self.version})"

    @property
    def label(self) -> str:
        """Kind and name: ``source:memory``."""
        return f"{self.kind}:{self.name}"

    @property
    def package(self) -> str:
        """The package that it is imported from."""
        return self.target.partition(":")[0].partition(".")[0].strip()


def installed_plugins() -> list[Finding]:
    """Every plugin, by distribution; imports none of them."""
    return sorted(_found(), key=lambda finding: (finding.distribution, finding.version))


def _found() -> Iterator[Finding]:
    environment = Environment.now()
    for kind in KINDS:
        catalog = Catalog.from_environment(kind)
        for entry in catalog.entries():
            status, detail = catalog.status(entry)
            yield Finding(
                kind=kind.word,
                name=entry.name,
                distribution=entry.dist,
                version=entry.version,
                target=entry.target,
                status=status,
                problem=_problem(kind.word, entry, status, detail, environment.unmet(entry)),
            )


def _problem(kind: str, entry: Installed, status: Status, detail: str, unmet: list[str]) -> str:
    """One sentence that stands alone; of what a distribution lacks, the same for all of its plugins."""
    if status == "unmet":
        missing = " ".join(f"'{line.partition(';')[0].strip()}'" for line in unmet)
        return f"{entry.origin} {detail}, which this environment does not satisfy; pip install {missing}"
    return f"{kind} {entry.name!r} {'is disabled ' if status == 'disabled' else ''}{detail}" if detail else ""
