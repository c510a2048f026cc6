"""What the documents show is code that runs."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from runs import twoview as command
from twoview.recipes import CURATE
from twoview.shards import read_manifest
from twoview.sources.video import Video

DOCS = Path(__file__).parents[1] / "docs"


def block(heading: str) -> str:
    """The Python under a heading of extend.md."""
    section = (DOCS / "extend.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]


CASES = [
    ("A proposer", "leaps", ["--propose.stride", "5"]),
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
    if recipe == "stacks":
        assert {row["scene"] for row in rows} == {str(path / "frames.npy")}


def test_concepts_name_every_recipe() -> None:
    text = (DOCS / "concepts.md").read_text()
    assert all(f"`{name}`" in text for name in CURATE if name != "released")
