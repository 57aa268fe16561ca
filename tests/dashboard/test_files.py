"""The page's files: small, complete, their own, and true to what the API tells."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import msgspec
import pytest

from mlxserve.api.health import HealthReport
from mlxserve.api.page import FOLDER
from mlxserve.api.traffic.account import Past, Totals
from mlxserve.api.traffic.history import Series
from mlxserve.api.traffic.listing import OpenRequest
from mlxserve.api.traffic.report import Traffic

MOST_BYTES = 300_000
VENDORED = FOLDER / "vendor"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
OURS = [path for path in FILES if VENDORED not in path.parents]
SCRIPTS = [path for path in OURS if path.suffix == ".js"]
LOADS = r"\beval\(|new Function|\bimport\(|XMLHttpRequest|sourceMappingURL|@import"
PAGE = (FOLDER / "index.html").read_text()


def script(name: str) -> str:
    return (FOLDER / name).read_text()


def names(kind: type) -> set[str]:
    return {field.name for field in msgspec.structs.fields(kind)}


def imports(path: Path) -> list[Path]:
    """The modules that a script loads."""
    return [(path.parent / name).resolve() for name in re.findall(r'from "(\.[^"]+)"', path.read_text())]


def keys_of(text: str, constant: str) -> set[str]:
    """The keys of a literal object in a script."""
    [body] = re.findall(rf"const {constant} = \{{(.*?)\n\}};", text, re.DOTALL)
    return set(re.findall(r"^  \"?([\w-]+)\"?:", body, re.MULTILINE))


def test_all_of_it_is_small() -> None:
    assert sum(path.stat().st_size for path in FILES) < MOST_BYTES


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_no_file_of_ours_names_another_server(path: Path) -> None:
    hosts = set(re.findall(r"""(?:https?:|["'(`])//([\w.-]+)""", path.read_text()))
    assert hosts <= {"www.w3.org"}, "SVG's namespace, which nothing is loaded from"


@pytest.mark.parametrize("library", [path for path in VENDORED.iterdir() if path.is_dir()], ids=lambda path: path.name)
def test_each_library_has_its_licence_beside_it(library: Path) -> None:
    assert (library / "LICENSE").stat().st_size > 500
    assert library.name in (VENDORED / "README.md").read_text().lower()


def test_no_library_loads_anything() -> None:
    for path in VENDORED.rglob("*.*"):
        text = path.read_text()
        assert not re.search(LOADS, text), path


def test_nothing_in_the_page_runs_or_styles_by_itself() -> None:
    assert not re.search(r"<script>|<style|\son\w+=|\sstyle=|javascript:", PAGE)
    for path in SCRIPTS:
        assert not re.search(r"(inner|outer|Adjacent)HTML|setAttribute\(\"style|\beval\(", path.read_text()), path


def test_what_is_loaded_is_there() -> None:
    loaded = re.findall(r'(?:src|href)="/dashboard/([^"]+)"', PAGE)
    assert {path.name for path in OURS if path.suffix == ".css"} <= {Path(name).name for name in loaded}
    for name in loaded:
        assert (FOLDER / name).is_file(), name
    for path in SCRIPTS:
        assert all(imported.is_file() for imported in imports(path)), path


def test_every_script_is_used() -> None:
    imported = chain.from_iterable(imports(path) for path in SCRIPTS)
    assert {path.resolve() for path in SCRIPTS} - set(imported) == {FOLDER / "main.js", FOLDER / "look.js"}


def test_the_page_asks_for_what_the_api_tells() -> None:
    ours = "\n".join(path.read_text() for path in SCRIPTS)
    assert set(re.findall(r"\bhealth\??\.(\w+)", ours)) <= names(HealthReport)
    assert set(re.findall(r"(?:server\.|(?<![\w./]))traffic\??\.(\w+)", ours)) <= names(Traffic)
    traffic = script("traffic.js")
    assert set(re.findall(r'name: "(\w+)"', traffic)) == names(Series) - {"step", "times"}
    assert keys_of(traffic, "TOTALS") <= names(Totals)
    assert set(re.findall(r"\bone\.(\w+)", script("requests.js"))) <= names(OpenRequest) | names(Past)


def test_every_drawing_that_is_asked_for_is_there() -> None:
    drawn = keys_of(script("icons.js"), "PATHS")
    asked = set(re.findall(r'\bicon\("(\w+)"\)', "\n".join(path.read_text() for path in SCRIPTS)))
    assert asked | keys_of(script("status.js"), "STATES") <= drawn
