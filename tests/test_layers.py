"""Imports go one way, torch stays right of the contract and OpenCV left of it."""

import ast
from pathlib import Path

import pytest

import twoview

PACKAGE = Path(twoview.__file__).parent
LAYERS = (
    {"schema", "errors"},
    {"geometry", "shards", "plan", "dataset", "licences", "listings", "locks"},
    {"sources", "render"},
    {"curation", "pretraining"},
    {"audit", "duplicates", "selections", "exchange", "evaluation"},
    {"report"},
    {"recipes"},
    {"demo", "cli", "__main__"},
)
LEFT = {"geometry", "shards", "plan", "sources", "render", "curation", "audit", "demo"}
RIGHT = {"pretraining", "evaluation"}


def layer_of(room: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if room in layer)


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.name != "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> list[str]:
    """Dotted names a module imports anywhere in it, relative ones made absolute."""
    package = ("twoview", *path.relative_to(PACKAGE).parent.parts)
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            stem = ".".join(filter(None, (base, node.module)))
            names += [f"{stem}.{alias.name}" for alias in node.names] if stem == "twoview" else [stem]
    return names


def test_every_module_has_a_layer() -> None:
    assert {room_of(p) for p in modules()} <= set().union(*LAYERS)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_import_runs_back(path: Path) -> None:
    rooms = [name.split(".")[1] for name in imported(path) if name.startswith("twoview.")]
    for room in rooms:
        if room.startswith("__"):
            continue  # the version
        assert layer_of(room) <= layer_of(room_of(path)), f"{path.name} imports {room}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_torch_and_opencv_stay_on_their_side(path: Path) -> None:
    packages = {name.split(".")[0] for name in imported(path)}
    if room_of(path) in LEFT:
        assert "torch" not in packages
    if room_of(path) in RIGHT:
        assert "cv2" not in packages


def test_the_test_sees_an_arrow_that_runs_back(tmp_path: Path) -> None:
    assert layer_of("curation") > layer_of("sources") > layer_of("shards") > layer_of("schema")
    assert any(name == "twoview.shards" for name in imported(PACKAGE / "curation" / "curate.py"))
