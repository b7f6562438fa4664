"""Places of plugins that no distribution provides: words for files and modules, given to ``drx``, or in the environment.

A word is ``path/to/file.py``, ``path/to/file.py:Class``, ``module`` or ``module:Class``. Reading words imports nothing.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from datarax_core.errors import ConfigError, PluginNotFoundError, did_you_mean

from .loading import HANDED_ON, PLACES_VARIABLE

OPTION: Final = "--plugin"

PROJECT_FILE: Final = "pyproject.toml"

_DECLARED: Final = re.compile(r"""^[ \t]+type[ \t]*:[^=\n]*=[ \t]*["'](\w+)["']""", re.MULTILINE)
"""Pattern of the line with which a class declares its name: ``type: Literal["count"] = "count"``."""


FIRST_FOLDER: Final = "DATARAX_PLUGINS_FOLDER"
"""Environment variable with ``DATARAX_PLUGINS`` and the working folder in which it was read first, as JSON."""

_TABLE: Final = "[tool.datarax]"
_KEYS: Final = ("plugins",)

_HINT: Final = re.compile(
    r"""^\s*\[\s*["']?tool["']?\s*\.\s*["']?datarax\b|^\s*(["']?tool["']?\s*\.\s*)?["']?datarax["']?\s*[.=]|^\s*["']?tool["']?\s*=""",
    re.MULTILINE,
)
"""Pattern of a text that may have the table; most have none, and parsing them would take milliseconds."""


@dataclass(frozen=True, slots=True)
class Place:
    """Place of plugins: a file or a module.

    Attributes:
        word: The word for it, as it was given.
        way: How it was given: `OPTION`, `PLACES_VARIABLE` or `PROJECT_FILE`.
        folder: The folder that a relative path is relative to.
    """

    word: str
    way: str
    folder: str

    def __str__(self) -> str:
        """The place with the way, as messages name it: ``--plugin ./count.py``."""
        return f"{self.word} of {self.way}" if self.way == PROJECT_FILE else f"{self.way}{self._joint}{self.word}"

    @property
    def home(self) -> str:
        """The file or module as it was given, without the class."""
        return _split(self.word)[0]

    @property
    def attribute(self) -> str:
        """The class, or other object, that is named; empty for all plugins of the file or module."""
        return _split(self.word)[1]

    @property
    def file(self) -> str | None:
        """The absolute path of the file; None for a module."""
        home = self.home
        if not (home.endswith(".py") or "/" in home or os.sep in home):
            return None
        return os.path.abspath(os.path.join(self.folder, os.path.expanduser(home)))  # noqa: PTH100, PTH111, PTH118 - no links followed

    def check(self) -> None:
        """Raise an error unless the word can name a file that is there, or a module.

        Raises:
            PluginNotFoundError: It cannot.
        """
        path = self.file
        if path is None:
            if not all(part.isidentifier() for part in self.home.split(".")):
                forms = "path/to/file.py, path/to/file.py:Class, module, or module:Class"
                raise self.wrong(f"{self.word!r} names neither a file nor a module; write {forms}")
        elif not path.endswith(".py"):
            raise self.wrong(f"{path} is no file of Python; name a .py file, or a module by its dotted name")
        elif not os.path.isfile(path):  # noqa: PTH113
            if os.path.lexists(path):  # a link to nothing, or to itself, counts
                raise self.wrong(f"{path} is no file, but a {_what_is(path)}; name a .py file")
            folder = Path(path).parent
            others = [other.name for other in folder.glob("*.py")]
            raise self.wrong(f"there is no file {path}{did_you_mean(Path(path).name, others)}")
        elif not Path(path).stem.isidentifier():
            raise self.wrong(
                f"{path} cannot be imported, since {Path(path).stem!r} is no name of Python; call it "
                f"{_as_name(Path(path).stem)}.py, for example"
            )
        elif dotted := next((name for name in _packages_around(Path(path)) if "." in name), None):
            remedy = f"call the folder {_as_name(dotted)}, for example, or take its __init__.py out"
            raise self.wrong(f"{path} cannot be imported, since the package {dotted!r} has a dot in its name; {remedy}")

    def wrong(self, problem: str) -> PluginNotFoundError:
        """Return the error for a word that names no plugin."""
        return PluginNotFoundError("plugin", self.word, f"{self}: {problem}")

    def declared_names(self) -> list[str]:
        """Return the names that the text of a file seems to declare; of a module, none. Imports nothing."""
        try:
            text = Path(self.file or "").read_text(encoding="utf-8")
        except (OSError, ValueError):
            return []
        return list(dict.fromkeys(_DECLARED.findall(text)))

    @property
    def _joint(self) -> str:
        return "=" if self.way == PLACES_VARIABLE else " "


def _what_is(path: str) -> str:
    """Return what is at a path that is no file."""
    if os.path.isdir(path):  # noqa: PTH112
        return "folder"
    return "special file" if os.path.exists(path) else "link that leads nowhere"  # noqa: PTH110


def _as_name(text: str) -> str:
    """Return a text as a name of Python."""
    return re.sub(r"[^0-9a-zA-Z]+", "_", text)


def _packages_around(file: Path) -> Iterator[str]:
    """Yield the names of the folders that are packages around a file, the innermost first."""
    folder = file.parent
    while (folder / "__init__.py").is_file():
        yield folder.name
        folder = folder.parent


def _split(word: str) -> tuple[str, str]:
    """Return (file or module, class or ""): what is behind the last colon, if that is a name; a drive has a path there."""
    home, _, attribute = word.rpartition(":")
    return (home, attribute) if home and attribute.isidentifier() else (word, "")


def given_places() -> list[Place]:
    """Return the places that the environment names: those that ``drx`` handed on, then those of ``DATARAX_PLUGINS``."""
    return [*(Place(**each) for each in _handed()), *_of_variable(os.environ.get(PLACES_VARIABLE, ""))]


def _of_variable(value: str) -> Iterator[Place]:
    """Yield the places of ``DATARAX_PLUGINS``.

    A program may change its working folder. A file that is not there then is looked for in the folder in which the variable was
    read first, which child processes are told.
    """
    words = [word for word in map(str.strip, value.split(",")) if word]
    if not words:
        return
    folder = str(Path.cwd())
    first = _first_folder(value, folder)
    for word in words:
        place, other = Place(word, PLACES_VARIABLE, folder), Place(word, PLACES_VARIABLE, first)
        is_there = place.file is None or os.path.isfile(place.file)  # noqa: PTH113
        yield place if is_there or not os.path.isfile(other.file or "") else other  # noqa: PTH113


def _first_folder(value: str, folder: str) -> str:
    """Return the folder in which this value of ``DATARAX_PLUGINS`` was read first: ``folder``, if that is now."""
    import json  # noqa: PLC0415 - see `_handed`

    told = json.loads(os.environ.get(FIRST_FOLDER) or "{}")
    if told.get("plugins") != value:  # of an earlier value, or of the process that started this one with another
        told = {"plugins": value, "folder": folder}
        os.environ[FIRST_FOLDER] = json.dumps(told)
    return str(told["folder"])


def _handed() -> list[dict[str, str]]:
    """Return the places that ``drx`` handed on, as dicts."""
    text = os.environ.get(HANDED_ON)
    if not text:
        return []
    import json  # noqa: PLC0415 - listing what is installed does without

    handed: list[dict[str, str]] = json.loads(text)
    return handed


@contextmanager
def handed_on(places: Iterable[Place]) -> Iterator[None]:
    """Name places in the environment of this process, and of its child processes, for the time of a ``with`` block."""
    import json  # noqa: PLC0415 - see `_handed`

    before = os.environ.get(HANDED_ON)
    os.environ[HANDED_ON] = json.dumps([*map(asdict, places), *_handed()])
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(HANDED_ON, None)
        else:
            os.environ[HANDED_ON] = before


def places_for_drx(words: Sequence[str]) -> list[Place]:
    """Return the places of the words of ``--plugin``, and of the ``pyproject.toml`` of the working folder.

    Raises:
        ConfigError: ``[tool.datarax]`` cannot be read, or holds something else than ``plugins = [...]``.
    """
    folder = Path.cwd()
    file = folder / PROJECT_FILE
    return [
        *(Place(word, OPTION, str(folder)) for word in words),
        *(Place(word, PROJECT_FILE, str(folder)) for word in _words_of(file)),
    ]


def _words_of(file: Path) -> list[str]:
    """Return ``plugins`` of ``[tool.datarax]``."""
    try:
        content = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError:  # it is not there, or not for us to say
        return []
    if not _HINT.search(content.decode("latin-1")):
        return []
    try:
        text = content.decode()
    except UnicodeDecodeError as cause:
        raise ConfigError(f"{file.name}: {_TABLE} cannot be read, since the file is no UTF-8: {cause}") from cause
    import tomllib  # noqa: PLC0415 - few folders have the table

    try:
        table = tomllib.loads(text).get("tool", {}).get("datarax", {})
    except tomllib.TOMLDecodeError as cause:
        raise ConfigError(f"{file.name}: {_TABLE} cannot be read, since the file is no TOML: {cause}") from cause
    if not isinstance(table, dict):
        raise ConfigError(f"{file.name}: tool.datarax is a table, {_TABLE}, not {table!r:.80}")
    if unknown := [key for key in table if key not in _KEYS]:
        raise ConfigError("\n".join(f"{file.name}: {_unknown(key)}" for key in unknown))
    return _list_of_words(table.get("plugins", []), file.name)


def _unknown(key: str) -> str:
    hint = did_you_mean(key, _KEYS) or f" (keys: {', '.join(_KEYS)})"
    return f"{_TABLE} has the unknown key {key!r}{hint}"


def _list_of_words(value: Any, file: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) and word for word in value):
        example = 'such as plugins = ["./my_source.py", "my_package.stages"]'
        raise ConfigError(f"{file}: plugins of {_TABLE} is a list of files and modules, {example}, not {value!r:.80}")
    return value
