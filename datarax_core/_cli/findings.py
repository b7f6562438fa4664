"""What is known of installed plugins: from their metadata at first, and then from importing them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from datarax_core.extensions.catalog import Catalog
from datarax_core.extensions.discovery import Environment

from .kinds import REGISTRIES


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
    for word, registry in REGISTRIES.items():
        catalog = Catalog.from_environment(registry.kind)
        for entry in catalog.entries():
            status, detail = catalog.status(entry)
            problem = "" if status == "ready" else f"{word} {entry.name!r} {detail}"
            if status == "disabled":
                problem = f"{word} {entry.name!r} is disabled {detail}"
            elif status == "unmet":  # the same sentence for all plugins of a distribution
                missing = " ".join(f"'{line.partition(';')[0].strip()}'" for line in environment.unmet(entry))
                problem = f"{entry.origin} {detail}, which this environment does not satisfy; pip install {missing}"
            yield Finding(
                kind=word,
                name=entry.name,
                distribution=entry.dist,
                version=entry.version,
                target=entry.target,
                status=status,
                problem=problem,
            )
