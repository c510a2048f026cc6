"""Scenes that are left out by a rule: nothing is proposed in them, and the run says so."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from twoview.audit import dataset_plan, summarise
from twoview.cli.curate import curate_to
from twoview.curation.adaptive import Adaptive
from twoview.curation.curate import CurateConfig
from twoview.curation.propose import AllPairs, BestOfWindow, Consecutive, EverySeconds, Twins
from twoview.report import write_report
from twoview.schema import Proposer, Scene, SceneInfo
from twoview.shards import read_scenes
from twoview.sources.skipped import Skipped
from twoview.sources.video import Video

PROPOSERS = (EverySeconds(), Consecutive(), BestOfWindow(), AllPairs(), AllPairs(keep="lowest"), Adaptive(), Twins())


@dataclass(frozen=True)
class Some:
    """A source of a video, or of none, and of two scenes that are skipped."""

    video: Path | None = None

    def names(self) -> list[str]:
        return [*(["walk"] if self.video else []), "short", "shorter"]

    def about(self, name: str) -> SceneInfo:
        return SceneInfo(source="some", scene=name, uri=f"/there/{name}", kind="video", licence="CC0-1.0", split="train")

    def open(self, name: str) -> Scene:
        if name == "walk":
            assert self.video
            return Video(self.video, source="some", name=name)
        return Skipped(self.about(name), f"/there/{name}: lasts no time")


def test_a_skipped_scene_says_why() -> None:
    scene = Some().open("short")
    assert isinstance(scene, Skipped)
    assert (len(scene), scene.name, scene.licence) == (0, "short", "CC0-1.0")
    assert (scene.info.status, scene.info.error, scene.info.split) == ("skipped", "/there/short: lasts no time", "train")
    with pytest.raises(IndexError, match="lasts no time"):
        scene[0]


@pytest.mark.parametrize("propose", PROPOSERS, ids=lambda p: type(p).__name__)
def test_nothing_is_proposed_in_it(propose: Proposer) -> None:
    assert list(propose(Some().open("short"))) == []


@pytest.mark.parametrize("propose", [EverySeconds(), Adaptive()], ids=["every_seconds", "adaptive"])
def test_a_run_tells_and_is_no_failure(propose: Proposer, walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pairs"
    config = CurateConfig(source=lambda paths, list_file: Some(walk), propose=propose, size=112, overlap=(0.3, 0.95))
    assert curate_to([], config, out) == 0
    said = capsys.readouterr().out
    assert "skipped by a rule of the dataset: 2 of 3 scenes, each in scenes/ there, as /there/short: lasts no time" in said
    summary = summarise(out, dataset_plan(out))
    assert summary.errors == ()
    assert summary.inputs == {"ok": 1, "skipped": 2}
    rows = {row["scene"]: row for row in read_scenes(out).to_pylist()}
    assert (rows["short"]["status"], rows["short"]["num_frames"], rows["short"]["num_pairs"]) == ("skipped", 0, 0)
    assert rows["shorter"]["error"] == "/there/shorter: lasts no time"
    assert "Inputs with faults" not in write_report(out).read_text()


def test_nothing_else_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert curate_to([], CurateConfig(source=lambda paths, list_file: Some()), tmp_path / "pairs") == 4
    assert "every scene is skipped, as /there/short: lasts no time" in capsys.readouterr().err
