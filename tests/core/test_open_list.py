"""Names that other rooms and installed packages give meaning to."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from forkdiv.core.config.open_list import OpenList, load_object
from forkdiv.core.errors import UserError

HOME = "tests.core.test_open_list"  # a module that is imported already, and registers nothing


def animals() -> OpenList[object]:
    return OpenList("animal", HOME, "forkdiv.animals")


def test_a_registered_object_is_loaded_at_its_first_use() -> None:
    loads: list[str] = []

    def load() -> object:
        loads.append("cat")
        return "meow"

    names = animals()
    names.register("cat", load)
    assert names.names() == ("cat",) and names.check("cat") == "cat" and loads == []
    assert names.get("cat") == "meow" and loads == ["cat"]


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    names = animals()
    names.register("cat", lambda: 1)
    names.register("dog", lambda: 2)
    with pytest.raises(ValueError, match="unknown animal: got 'cow'; allowed: cat, dog; correct"):
        names.check("cow")
    with pytest.raises(KeyError):
        names.get("cow")


def test_the_home_is_imported_when_the_list_is_first_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zoo_home.py").write_text("LOADED = True")
    monkeypatch.syspath_prepend(tmp_path)
    names: OpenList[object] = OpenList("animal", "zoo_home", "forkdiv.animals")
    assert "zoo_home" not in sys.modules
    names.names()
    assert sys.modules.pop("zoo_home").LOADED


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Installs a package that adds one name: its metadata and its module, as pip would."""

    def install(group: str, code: str) -> None:
        info = tmp_path / "own_plugin-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-plugin\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\nowned = own_plugin:Owned\n")
        (tmp_path / "own_plugin.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)

    return install


def test_an_installed_package_adds_a_name_by_an_entry_point(
    plugin: Callable[[str, str], None],
) -> None:
    plugin("forkdiv.animals", "class Owned: sound = 'moo'")
    names = animals()
    names.register("cat", lambda: "meow")
    assert names.names() == ("cat", "owned")
    owned = names.get("owned")
    assert isinstance(owned, type) and vars(owned)["sound"] == "moo"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.exit(0)", r"ends the program when it is imported \(exit status 0\)"),
        ("raise RuntimeError('x' * 9999)", r"fails when it is imported \(RuntimeError: xxx"),
        ("import no_such_module", r"fails when it is imported \(ModuleNotFoundError: No module"),
        ("(", r"fails when it is imported \(SyntaxError: "),
    ],
)
def test_a_package_that_fails_or_exits_when_it_is_imported_is_refused(
    plugin: Callable[[str, str], None], code: str, reason: str
) -> None:
    sys.modules.pop("own_plugin", None)
    plugin("forkdiv.animals", code)
    with pytest.raises(UserError, match=reason) as refused:
        animals().get("owned")
    assert "the animal 'owned' of an installed package cannot be loaded" in str(refused.value)
    assert len(str(refused.value)) < 600


def test_a_place_is_loaded_by_its_name() -> None:
    assert load_object("forkdiv.core.config.open_list:OpenList") is OpenList
