"""What the documents show is code that runs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from runs import twoview as command
from twoview.cli import main
from twoview.exchange import EXPORTS
from twoview.pretraining.checkpoints import write_checkpoint
from twoview.pretraining.data import Batch
from twoview.pretraining.decoder import DecoderConfig
from twoview.pretraining.masked import MaskedConfig, MaskedModel
from twoview.pretraining.vit import ViT, vit_config
from twoview.recipes import CURATE
from twoview.shards import read_manifest
from twoview.sources.video import Video
from walk_made import write_walk

DOCS = Path(__file__).parents[1] / "docs"


def block(heading: str) -> str:
    """The Python under a heading of extend.md."""
    section = (DOCS / "extend.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]


CASES = [
    ("A proposer", "leaps", ["--propose.stride", "5"]),
    ("A proposer that looks", "brighter", ["--propose.stride", "4"]),
    ("A filter", "sharp_only", []),
    ("A source", "stacks", ["--propose.step", "5"]),
]


@pytest.mark.parametrize(("heading", "recipe", "flags"), CASES, ids=[recipe for _, recipe, _ in CASES])
def test_own_pieces(heading: str, recipe: str, flags: list[str], walk: Path, tmp_path: Path) -> None:
    """As a user does it: a file of his own, and two workers."""
    (tmp_path / "my_file.py").write_text(block(heading))
    path = walk
    if recipe == "stacks":
        path, video = tmp_path / "stacks", Video(walk)
        path.mkdir()
        np.save(path / "frames.npy", np.stack([cv2.resize(video[i].image, (240, 180)) for i in range(0, 60, 2)]))
    done = command("curate", path, "--recipe", f"my_file:{recipe}", *flags, "--out", "pairs", "--workers", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = read_manifest(tmp_path / "pairs").to_pylist()
    assert any(row["kept"] for row in rows)
    if recipe == "leaps":
        assert {row["frame_index_b"] - row["frame_index_a"] for row in rows} == {5, 10}
    if recipe == "brighter":
        assert {row["frame_index_b"] - row["frame_index_a"] for row in rows} >= {4, 8}
    if recipe == "stacks":
        assert {row["scene"] for row in rows} == {str(path / "frames.npy")}


def test_the_composition_of_extend() -> None:
    names: dict[str, Any] = {}
    exec(block("Several sources as one dataset"), names)
    composition = names["rooms_and_things"]()
    assert composition.quota.keys() == composition.members.keys() == {"scannet", "co3d"}
    assert composition.of("co3d").estimator.name.startswith("covisibility")


def test_training_as_in_readme(as_in_readme: Path) -> None:
    """Both lines as they stand, but for fewer epochs."""
    first, again = README.split("\n## Models\n")[1].split("```")[3].strip().splitlines()
    few = ["--epochs", "2", "--warm-up-epochs", "1", "--workers", "0"]
    assert main([*first.partition("#")[0].split()[1:], *few]) == 0
    assert main(again.partition("#")[0].split()[1:]) == 0
    assert (as_in_readme / "run" / "panels").exists()


def test_the_objective_of_extend() -> None:
    names: dict[str, Any] = {}
    exec(block("An objective"), names)
    views = [torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8) for _ in "ab"]
    objective = names["SameMean"]()
    loss = objective(Batch(a=views[0], b=views[1], seeds=torch.arange(2)))["loss"]
    loss.backward()
    assert objective.encoder.cls_token.grad is not None


def test_concepts_name_every_recipe() -> None:
    text = (DOCS / "concepts.md").read_text()
    assert all(f"`{name}`" in text for name in CURATE if name != "released")


# -------------------------------------------------------------------------------------------------------------- README


README = (DOCS.parent / "README.md").read_text()


@pytest.fixture
def as_in_readme(wide: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders that README speaks of."""
    shutil.copytree(wide, tmp_path / "pairs")
    shutil.copytree(dataset, tmp_path / "twoview-demo" / "pairs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL), ids=["twoview", "webdataset", "models"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_python_of_readme(code: str, as_in_readme: Path) -> None:
    names: dict = {}
    if "checkpoint.pth" in code:
        torch.save({"model": ViT(vit_config("Ti", depth=1)).state_dict()}, "checkpoint.pth")
    exec(code, names)
    if "tokens" in names:
        assert names["tokens"].shape == (1, 281, 192)
    else:
        assert len(names.get("pairs", ())) > 2 or names["patches"].shape == (2, 196)


def test_models_as_in_readme(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line as it stands."""
    lines = README.split("\n## Models\n")[1].split("```")[5].strip().splitlines()
    assert len(lines) == 3
    monkeypatch.chdir(tmp_path)
    for name in ("1.jpg", "2.jpg"):
        shutil.copy(photos / name, tmp_path)
    model = MaskedModel(MaskedConfig(encoder=vit_config("Ti", depth=1), decoder=DecoderConfig(depth=1)))
    write_checkpoint(Path("checkpoint.pth"), model)
    for line in lines:
        assert main(line.partition("#")[0].split()[1:]) == 0
    assert {path.name for path in tmp_path.iterdir()} >= {"vit", "vit.safetensors", "panel.png"}


def test_choosing_as_in_readme(tmp_path: Path) -> None:
    """Every line as it stands, in a shell, on the demo's video."""
    commands = README.split("\n## Choose later\n")[1].split("```")[1]
    assert commands.count("twoview ") == 6
    write_walk(tmp_path / "holiday.mp4")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = ["bash", "-euc", commands]
    done = subprocess.run(shell, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "stored from" not in done.stderr  # the band was stored
    assert (tmp_path / "stored" / "selections" / "mix.html").exists()


def test_exporting_as_in_readme(as_in_readme: Path) -> None:
    table = README.split("\n## Hand on\n")[1].split("\n## ")[0]
    names = re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.MULTILINE)
    assert names == list(EXPORTS)


@pytest.mark.parametrize("name", ["README.md", "docs/paper.md", "docs/concepts.md", "docs/format.md", "docs/extend.md"])
def test_what_the_docs_name_is_there(name: str) -> None:
    """`room/file.py:Thing` and `benchmarks/file.py`, wherever the docs speak of them."""
    root = DOCS.parent
    text = (root / name).read_text()
    for path, thing in re.findall(r"`((?:\w+/)*\w+\.py)(?::(\w+))?`", text):
        found = [p for p in (root / path, root / "src" / "twoview" / path) if p.exists()]
        assert found or path == "my_file.py", path
        assert not thing or re.search(rf"^(def|class) {thing}\b|^{thing}\b", found[0].read_text(), re.M), f"{path}:{thing}"
