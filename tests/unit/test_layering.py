"""Who may import whom: the imports are read from the source, nothing is executed."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

OURS: dict[str, frozenset[str]] = {
    "flows": frozenset({"flows", "tasks", "pipeline"}),
    "tasks": frozenset({"tasks", "pipeline", "providers"}),
    "pipeline": frozenset({"pipeline"}),
    "providers": frozenset({"providers", "pipeline"}),
    "sandbox": frozenset({"sandbox"}),
    "trainers": frozenset({"trainers", "sandbox"}),
    "deployments": frozenset({"deployments", "flows", "tasks", "pipeline"}),
}
"""Each package and what it may import of ours."""

RESERVED: dict[str, frozenset[str]] = {
    "prefect": frozenset({"flows", "tasks", "deployments"}),
    "httpx": frozenset({"providers", "sandbox"}),
    "fastapi": frozenset({"sandbox", "deployments"}),
    "uvicorn": frozenset({"sandbox", "deployments"}),
    "sqlalchemy": frozenset({"pipeline", "sandbox"}),
    "torch": frozenset({"sandbox", "trainers"}),
    "pycocotools": frozenset({"sandbox"}),
    "sklearn": frozenset({"sandbox"}),
    "h5py": frozenset({"pipeline", "sandbox"}),
    "onnxruntime": frozenset({"pipeline", "sandbox", "trainers"}),
    "pictograph": frozenset(),
    "cog": frozenset({"trainers"}),
}
"""Foreign packages that belong to certain packages of ours; the vendor's client belongs to the tests alone."""

LAZY: dict[str, frozenset[str]] = {"providers/connect.py": frozenset({"sandbox"})}
"""What a single file may import against the rule, inside a function only."""


ROOMS = ("journal", "start", "watch", "sweep", "download", "data", "smoke", "report")
"""The packages of the core, each of which may import those before it; what lies beside them imports none."""


@dataclass(frozen=True)
class _Import:
    """One import in one file."""

    module: str
    line: int
    lazy: bool

    @property
    def top(self) -> str:
        """The package."""
        return self.module.partition(".")[0]


def _modules_of(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [node.module or ""]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in {"import_module", "__import__"}:
            return [str(node.args[0].value)]
    return []


def _imports(node: ast.AST, lazy: bool = False) -> Iterator[_Import]:
    for child in ast.iter_child_nodes(node):
        for module in _modules_of(child):
            yield _Import(module, getattr(child, "lineno", 0), lazy)
        yield from _imports(child, lazy or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)))


def _judge(package: str, file: str, found: _Import) -> str | None:
    forbidden = (found.top in OURS and found.top not in OURS[package]) or (
        found.top in RESERVED and package not in RESERVED[found.top]
    )
    if not forbidden or (found.lazy and found.top in LAZY.get(file, ())):
        return None
    return f"{file}:{found.line} imports {found.top}"


def violations(root: Path) -> list[str]:
    """Return every import under ``root`` that the tables forbid, as ``file:line imports package``."""
    faults = []
    for package in OURS:
        for path in sorted((root / package).rglob("*.py")):
            file = path.relative_to(root).as_posix()
            tree = ast.parse(path.read_text(encoding="utf-8"), file)
            faults += [fault for found in _imports(tree) if (fault := _judge(package, file, found))]
    return faults


def climbs(root: Path) -> list[str]:
    """Return every import in the core under ``root`` of a room that comes later than its own, as ``file:line room``."""
    found = []
    for path in sorted((root / "pipeline").rglob("*.py")):
        room = path.relative_to(root).parts[1]
        allowed = ROOMS[: ROOMS.index(room) + 1] if room in ROOMS else ()
        for item in _imports(ast.parse(path.read_text(encoding="utf-8"))):
            parts = item.module.split(".")
            if parts[0] == "pipeline" and parts[1:2] and parts[1] in ROOMS and parts[1] not in allowed:
                found.append(f"{path.relative_to(root).as_posix()}:{item.line} {parts[1]}")
    return found


def _write(root: Path, file: str, source: str) -> None:
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(source, encoding="utf-8")


def test_every_import_points_the_right_way() -> None:
    """``flows -> tasks -> {pipeline, providers}``, ``providers -> pipeline``, and the engine stays outside the core."""
    assert violations(ROOT) == []


def test_the_rooms_of_the_core_have_an_order() -> None:
    """No room needs one that comes after it, so each can be read, and tested, with what is before it."""
    assert climbs(ROOT) == []
    assert {path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")} == set(ROOMS)


@pytest.mark.parametrize(
    ("file", "source", "fault"),
    [
        ("pipeline/journal/a.py", "from pipeline.watch.polling import observe", "pipeline/journal/a.py:1 watch"),
        ("pipeline/models.py", "def f():\n    import pipeline.data.tiles", "pipeline/models.py:2 data"),
        ("pipeline/report/a.py", "from pipeline.smoke.judging import a\nfrom pipeline.errors import b", None),
    ],
)
def test_the_checker_sees_a_climb(file: str, source: str, fault: str | None, tmp_path: Path) -> None:
    """From a room to a later one, and from beside the rooms into any."""
    _write(tmp_path, file, source)
    assert climbs(tmp_path) == ([fault] if fault else [])


def test_the_reader_of_tiles_stays_optional() -> None:
    """It is an extra: one file of the core imports it, inside functions."""
    found = [
        (path.name, found.lazy)
        for path in sorted((ROOT / "pipeline").rglob("*.py"))
        for found in _imports(ast.parse(path.read_text(encoding="utf-8")))
        if found.top == "h5py"
    ]
    assert set(found) == {("tile_file.py", True)}


def test_every_package_is_under_the_rule() -> None:
    """What is shipped is what is checked, and none of it is empty."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        shipped = tomllib.load(file)["tool"]["setuptools"]["packages"]
    assert {name.partition(".")[0] for name in shipped} == set(OURS)
    inits = {path.parent for package in OURS for path in (ROOT / package).rglob("__init__.py")}
    assert set(shipped) == {path.relative_to(ROOT).as_posix().replace("/", ".") for path in inits}
    assert [package for package in OURS if not list((ROOT / package).rglob("*.py"))] == []


@pytest.mark.parametrize(
    ("file", "source", "imported"),
    [
        ("pipeline/a.py", "import prefect", "prefect"),
        ("pipeline/a.py", "import prefect.states as s", "prefect"),
        ("pipeline/a.py", "from httpx import Client", "httpx"),
        ("pipeline/a.py", "def f():\n    import providers.http", "providers"),
        ("pipeline/a.py", "if TYPE_CHECKING:\n    from tasks import x", "tasks"),
        ("pipeline/deep/a.py", "try:\n    import sandbox\nexcept ImportError:\n    pass", "sandbox"),
        ("pipeline/a.py", "import importlib\nimportlib.import_module('prefect.flows')", "prefect"),
        ("providers/a.py", "from prefect import task", "prefect"),
        ("providers/a.py", "def f():\n    import sandbox", "sandbox"),
        ("providers/connect.py", "import sandbox", "sandbox"),
        ("providers/connect.py", "class A:\n    from sandbox import server", "sandbox"),
        ("providers/connect.py", "def f():\n    import tasks", "tasks"),
        ("sandbox/a.py", "from pipeline.models import Money", "pipeline"),
        ("sandbox/api/a.py", "import providers", "providers"),
        ("sandbox/a.py", "from trainers.replicate import train", "trainers"),
        ("trainers/replicate/a.py", "from pipeline.errors import UnpackError", "pipeline"),
        ("providers/a.py", "import cog", "cog"),
        ("flows/a.py", "from providers import connect", "providers"),
        ("flows/a.py", "import os, sandbox", "sandbox"),
        ("tasks/a.py", "import flows", "flows"),
        ("tasks/a.py", "import h5py", "h5py"),
        ("deployments/a.py", "import providers", "providers"),
        ("tasks/a.py", "import fastapi", "fastapi"),
        ("providers/a.py", "import pictograph", "pictograph"),
    ],
)
def test_the_checker_sees_a_wrong_import(file: str, source: str, imported: str, tmp_path: Path) -> None:
    """However it is written and wherever it hides."""
    _write(tmp_path, file, source)
    assert [fault.partition(":")[0] for fault in violations(tmp_path)] == [file]
    assert violations(tmp_path)[0].endswith(f" imports {imported}")


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("flows/a.py", "import prefect\nfrom tasks import a\nfrom pipeline.models import b"),
        ("tasks/a.py", "import prefect\nfrom providers.connect import a"),
        ("providers/a.py", "import httpx\nfrom pipeline import a\nfrom . import b"),
        ("providers/connect.py", "def f():\n    from sandbox import server"),
        ("providers/connect.py", "class A:\n    def f(self):\n        import sandbox.server"),
        ("pipeline/a.py", "import json\nimport prefectural\nfrom pipeline.errors import b\nx = 'import prefect'"),
        ("trainers/a/b.py", "import torch, cog\nfrom sandbox.training.run import a\nfrom trainers.a import c"),
        ("sandbox/a.py", "import fastapi\nfrom sandbox.api import a"),
        ("deployments/a.py", "import fastapi, uvicorn\nfrom tasks import a"),
        ("bench/a.py", "import prefect, sandbox, providers"),
    ],
)
def test_the_checker_lets_right_imports_pass(file: str, source: str, tmp_path: Path) -> None:
    """What the tables allow is not reported."""
    _write(tmp_path, file, source)
    assert violations(tmp_path) == []
