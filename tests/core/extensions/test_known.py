"""The table of known plugins: its form, that it agrees with what is installed here, and the hints that come from it."""

import re
from typing import Any

import pytest
from commands import invoke

from datarax_core._cli.description import described
from datarax_core.errors import PluginNotFoundError
from datarax_core.extensions import known
from datarax_core.extensions.hooks import HookRegistry
from datarax_core.extensions.known import FIRST_PARTIES, THIRD_PARTIES, Known, homes, owners
from datarax_core.registry.decoders import DecoderRegistry
from datarax_core.registry.sources import SourceRegistry
from datarax_core.registry.stages import StageRegistry

REGISTRIES = {
    registry.group.noun: registry for registry in (SourceRegistry, StageRegistry, DecoderRegistry, HookRegistry)
}
THEIRS = ("source", "acme_rows", "acme-rows", "rows of files", ("*.rows",))


@pytest.mark.parametrize("row", [*FIRST_PARTIES, *THIRD_PARTIES], ids=lambda row: f"{row[0]}-{row[1]}")
def test_a_line_has_its_form(row: Any) -> None:
    one = Known(*row)
    assert one.kind in REGISTRIES
    assert re.fullmatch(r"[a-z][a-z0-9_]*", one.name)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", one.distribution)
    assert 5 <= len(one.summary) <= 80, "one short line"
    assert not one.summary.endswith(".")
    assert isinstance(one.opens, tuple)
    assert all(pattern == pattern.lower() and pattern.startswith("*") for pattern in one.opens)
    assert not one.opens or one.kind == "source"


def test_lines_of_third_parties_are_sorted_and_take_no_first_party_name() -> None:
    assert list(THIRD_PARTIES) == sorted(THIRD_PARTIES)
    own = {row[:2] for row in FIRST_PARTIES}
    assert [row for row in THIRD_PARTIES if row[:2] in own or row[2].startswith("datarax-")] == []


@pytest.mark.parametrize("noun", REGISTRIES)
def test_first_parties_are_those_that_this_tree_provides(noun: str) -> None:
    infos = REGISTRIES[noun].from_environment().describe()
    provided = {info.name: info.distribution for info in infos if info.distribution.startswith("datarax-")}
    assert owners(noun) == provided == dict(REGISTRIES[noun].group.first_party)


def test_a_name_of_a_third_party_is_a_hint_and_no_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "THIRD_PARTIES", (THEIRS,))
    assert homes(["source"])["acme_rows"] == "acme-rows"
    assert "acme_rows" not in owners("source")
    registry = SourceRegistry()
    with pytest.raises(Exception, match=r"^source 'acme_rows' is not installed; pip install acme-rows$"):
        registry.get("acme_rows")
    with pytest.raises(
        Exception, match=r"unknown source 'acme_row'; did you mean 'acme_rows' \(pip install acme-rows\)\?"
    ):
        registry.get("acme_row")


def test_commands_know_names_of_third_parties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "THIRD_PARTIES", (THEIRS,))
    with pytest.raises(PluginNotFoundError, match=r"^plugin 'acme_rows' is not installed; pip install acme-rows$"):
        list(described("acme_rows"))
    done = invoke("check", "acme_rows")
    assert (done.exit_code, done.stderr) == (1, "plugin 'acme_rows' is not installed; pip install acme-rows\n")
