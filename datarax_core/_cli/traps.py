"""Known traps of environments in which every plugin can be imported and something fails all the same."""

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from .findings import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Trap of this environment: its consequence and the remedy. ``is_problem`` says whether it breaks something."""

    trap: str
    text: str
    is_problem: bool = False


def advice(findings: list[Finding]) -> list[Advice]:
    """Return the traps that apply to core and to the plugins of ``findings``, problems first."""
    needed = Needed({finding.distribution for finding in findings if not finding.place})
    found = [one for trap in _OF_LIBRARIES for one in trap(needed)]
    found += [*needed.unmet, *_tensorflow(findings)]
    return sorted(found, key=lambda one: not one.is_problem)


class Needed:
    """Requirements of core and of some distributions, and of these requirements in turn; pip may have replaced any of them."""

    def __init__(self, distributions: set[str]) -> None:
        self.unmet: list[Advice] = []
        self._versions: dict[str, Version] = {}
        self._direct = distributions
        queue, seen = [Requirement(name) for name in sorted({"datarax-core", *distributions})], set[str]()
        while queue:
            wanted = queue.pop(0)
            if (key := f"{canonicalize_name(wanted.name)}[{','.join(sorted(wanted.extras))}]") not in seen:
                seen.add(key)
                queue += self._visit(wanted)

    def version(self, name: str) -> Version | None:
        """Return the installed version of a distribution; None if it is not required."""
        return self._versions.get(name)

    def _visit(self, wanted: Requirement) -> Iterator[Requirement]:
        for needed in _requirements(wanted):
            version = _version(needed.name)
            if version is not None and needed.specifier.contains(version, prereleases=True):
                self._versions[canonicalize_name(needed.name)] = version
                yield needed
            elif wanted.name not in self._direct:  # a plugin's own requirements are reported with the plugin
                found = f"{version} is installed" if version else "it is not installed"
                text = f"{wanted.name} {_version(wanted.name)} needs {needed.name}{needed.specifier}, and {found}"
                remedy = f"pip install '{needed.name}{needed.specifier}'"
                self.unmet.append(Advice(trap="requirement", text=f"{text}; {remedy}", is_problem=True))


def _protobuf(needed: Needed) -> Iterator[Advice]:
    tfds, protobuf = needed.version("tensorflow-datasets"), _version("protobuf")
    if tfds and protobuf and protobuf < _PROTOBUF_OF_TFDS:
        yield Advice(
            trap="protobuf",
            text=f"protobuf {protobuf} is too old for tensorflow-datasets {tfds}, whose import leaves an empty module with it, "
            f"though its metadata allow it; pip install 'protobuf>={_PROTOBUF_OF_TFDS}'",
            is_problem=True,
        )


def _importlib_resources(needed: Needed) -> Iterator[Advice]:
    tfds = needed.version("tensorflow-datasets")
    if tfds and not _version("importlib-resources"):
        yield Advice(
            trap="importlib_resources",
            text=f"tensorflow-datasets {tfds} needs importlib_resources for data sets by name, and declares it nowhere; "
            "pip install importlib_resources",
            is_problem=True,
        )


def _prometheus(needed: Needed) -> Iterator[Advice]:
    grain = needed.version("grain")
    if grain and _version("prometheus-client"):
        yield Advice(
            trap="prometheus_client",
            text=f"prometheus_client is installed, and its mere presence makes Grain {grain} take 1.3 to 1.8 times as long for "
            "each element that its own iterators serve (a pipeline of datarax does not use them); if nothing needs it, "
            "pip uninstall prometheus-client",
        )


def _forked_readers(needed: Needed) -> Iterator[Advice]:
    reader = needed.version("array-record")
    if reader and multiprocessing.get_all_start_methods()[0] == "fork":
        yield Advice(
            trap="fork",
            text=f"Python {sys.version_info.major}.{sys.version_info.minor} forks processes by default here, and readers of "
            f"array-record {reader} hang in a fork; start those that read by spawn or forkserver, in a PyTorch DataLoader by "
            "multiprocessing_context='spawn' (workers: in a config does)",
        )


def _tensorflow(findings: list[Finding]) -> Iterator[Advice]:
    for finding in findings:
        if "tensorflow" in finding.imports:
            yield Advice(
                trap="tensorflow",
                text=f"{finding.kind} {finding.name!r} imports TensorFlow as soon as it is named "
                f"({finding.imports['tensorflow']:.1f} s): next to JAX it is known to disturb collectives of NCCL; "
                f"{finding.distribution} would do better to import it in the function that needs it",
            )


def _requirements(wanted: Requirement) -> Iterator[Requirement]:
    lines: list[str] | None = None
    with suppress(metadata.PackageNotFoundError):  # of a plugin that a test adds
        lines = metadata.requires(wanted.name)
    for line in lines or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:  # the distribution that declares it is reported as unmet
            continue
        environments = [{"extra": extra} for extra in ("", *wanted.extras)]
        if requirement.marker is None or any(map(requirement.marker.evaluate, environments)):
            yield requirement


def _version(name: str) -> Version | None:
    try:
        return Version(metadata.version(name))
    except (metadata.PackageNotFoundError, InvalidVersion, TypeError):  # TypeError: damaged metadata
        return None


_PROTOBUF_OF_TFDS: Final = Version("6.31.1")

_OF_LIBRARIES: Final[tuple[Callable[[Needed], Iterator[Advice]], ...]] = (
    _protobuf,
    _importlib_resources,
    _forked_readers,
    _prometheus,
)
