"""Names of data sets: ``digits``, ``digits/config``, ``digits:1.0.0``, and the full names that TFDS prints.

Also the names that TFDS itself knows, and the class that prepares each of these data sets.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from .backends import tensorflow_datasets

_VERSION: Final = r"(?:\d+|\*)(?:\.(?:\d+|\*)){2}"
_NAME: Final = re.compile(
    rf"(?P<name>[A-Za-z]\w*)(?:/(?!{_VERSION}$)(?P<config>[\w+\-.]+))?(?:[:/](?P<version>{_VERSION}))?"
)
_FORMS: Final = "a name is digits, digits/config, digits:1.0.0 or digits/config:1.0.0"


@dataclass(frozen=True, slots=True)
class DataSetName:
    """The name of a data set in parts; a number of ``version`` may be ``*``, which stands for any number."""

    name: str
    config: str | None = None
    version: str | None = None

    @classmethod
    def of(cls, text: str) -> Self:
        """Parse a name.

        Raises:
            ValueError: The text is no name of a data set; the message says what is wrong with it.
        """
        match = _NAME.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r:.200} is no name of a data set: {_trouble(text)}")
        return cls(**match.groupdict())

    def __str__(self) -> str:
        config = f"/{self.config}" if self.config else ""
        return f"{self.name}{config}" + (f":{self.version}" if self.version else "")


def _trouble(text: str) -> str:
    if text != text.strip() or " " in text:
        return f"it has spaces; {_FORMS}"
    if text.startswith(("/", ".", "~")) or "://" in text or "\\" in text:
        return "it is a path; give the folder as data_dir, and as name what the data set is called"
    if "=" in text:
        return f"arguments of a builder are not taken; {_FORMS}"
    if re.match(r"[\w\-]+:[A-Za-z]", text):
        return (
            "data sets of a namespace are not taken; prepare it with TFDS, and give its folder as data_dir, and as name "
            "what comes behind the colon"
        )
    if re.fullmatch(r"[A-Za-z]\w*(/[\w+\-.]+)?:.*", text):
        return f"its version is not three numbers, such as 1.0.0, of which some may be *; {_FORMS}"
    return _FORMS


def name_and_folder(builder: Any) -> tuple[str, str]:
    """Return the name of a builder's data set, and its folder."""
    info = builder.info
    return "/".join(filter(None, (info.name, info.config_name))) + f":{info.version}", str(builder.data_dir)


def builder_class(name: str) -> Any:
    """Return the TFDS class that prepares a data set; None if TFDS has none of this name. Touches no network.

    Raises:
        ImportError: The module of the class imports a package that is not installed.
    """
    core = tensorflow_datasets().core
    try:
        return core.registered.imported_builder_cls(core.naming.camelcase_to_snakecase(name))
    except core.registered.DatasetNotFoundError:
        return None


def importable_builder_class(name: str) -> Any:
    """Return `builder_class`; None also if the module of the class imports a package that is not installed."""
    try:
        return builder_class(name)
    except ImportError:
        return None


def known_names(dirs: Iterable[Path]) -> list[str]:
    """Return the sorted names of data sets that TFDS can prepare and of the folders in ``dirs``. No network; about 0.3 s."""
    on_disk = {path.name for folder in dirs if folder.is_dir() for path in folder.iterdir() if path.is_dir()}
    registered = tensorflow_datasets().core.registered.list_imported_builders()
    return sorted({*registered, *on_disk} - {"downloads"})
