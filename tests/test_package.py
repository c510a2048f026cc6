"""What a user finds first: the public names, the import that costs little, the licence, the words of --help."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import twoview
from twoview.cli import ABOUT, VERBS, main
from twoview.schema import REASONS

ROOT = Path(__file__).parents[1]


def test_public_names() -> None:
    assert sorted(twoview.__all__) == ["Dataset", "Match", "PairSample", "Row", "__version__", "measure", "open"]
    assert all(getattr(twoview, name) for name in twoview.__all__)
    assert set(twoview.__all__) <= set(dir(twoview))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = twoview.nothing


def test_type_checkers_see_the_public_names(tmp_path: Path) -> None:
    """The names are loaded late, and the package says that it is typed."""
    (tmp_path / "mine.py").write_text(
        "import twoview\npairs = twoview.open('x')\nreveal_type(pairs[0])\nreveal_type(pairs[0].row.overlap)\n"
        "reveal_type(twoview.measure('a', 'b'))\n"
    )
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "mine.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert [line.split(" is ")[1] for line in done.stdout.splitlines() if " is " in line] == [
        '"PairSample"',
        '"float | None"',
        '"Match"',
    ]
    assert (Path(twoview.__file__).parent / "py.typed").exists()


def test_import_is_light() -> None:
    code = "import sys, twoview; sys.exit(bool({'cv2', 'av', 'pyarrow', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_core_needs_neither_torch_nor_torchvision() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = " ".join(project["dependencies"])
    assert "torch" not in needed
    assert set(project["optional-dependencies"]) >= {"scenes", "train", "evaluate", "ray", "dev", "all"}
    assert not any("torchvision" in line for extra in project["optional-dependencies"].values() for line in extra)


def test_every_verb_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.strip() == ABOUT.strip()
    assert all(f"twoview {verb}" in ABOUT for verb in VERBS)


def test_every_reason_is_documented() -> None:
    text = (ROOT / "docs" / "format.md").read_text()
    assert all(f"`{reason}`" in text for reason in REASONS)
