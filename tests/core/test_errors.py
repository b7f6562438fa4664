"""Tree of errors: its documentation, and pickling of each class. The text of each message is tested where it is raised."""

import copy
import inspect
import pickle
import re

import pytest

from datarax_core import errors

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if cls.__module__ == errors.__name__ and issubclass(cls, Exception) and not issubclass(cls, Warning)
]


def _make(cls: type[Exception]) -> Exception:
    if issubclass(cls, errors.PluginError):
        return cls("source", "nix", "no such thing")
    if issubclass(cls, errors.DataFileError):
        return cls("a.file", "no such thing")
    if issubclass(cls, errors.RecordError):
        return cls("no such thing", record=7, reason="it is gone", path="a.file", row=3)
    return cls("no such thing")


def test_the_documented_tree_is_the_tree() -> None:
    documented = re.findall(
        r"\b(\w+Error)\b", (errors.__doc__ or "").split("Each class")[0].replace("(ValueError)", "")
    )
    assert sorted(documented) == sorted(cls.__name__ for cls in CLASSES)


def test_the_documented_tree_shows_which_errors_are_value_errors() -> None:
    documented = re.findall(r"(\w+Error) .*\(ValueError\)", errors.__doc__ or "")
    assert sorted(documented) == sorted(cls.__name__ for cls in CLASSES if issubclass(cls, ValueError))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
class TestEveryError:
    def test_is_a_datarax_error_and_no_key_error(self, cls: type[Exception]) -> None:
        assert issubclass(cls, errors.DataraxError)
        assert not issubclass(cls, LookupError)

    def test_has_a_docstring(self, cls: type[Exception]) -> None:
        assert inspect.getdoc(cls)
        assert cls.__doc__ is not None

    @pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy])  # noqa: S301
    def test_survives_pickling_and_copying(self, cls: type[Exception], again: object) -> None:
        error = _make(cls)
        assert callable(again)
        twin = again(error)
        assert type(twin) is cls
        assert str(twin) == "no such thing"
        assert vars(twin) == vars(error)
