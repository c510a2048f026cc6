"""Footage that several tests share, and datasets made of it once."""

import signal
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from runs import curate
from twoview.demo import write_flat
from twoview.sources.video import Video
from walk_made import write_walk


@pytest.fixture(scope="session")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of a walk through a textured room: 60 frames, 480 x 360."""
    path = tmp_path_factory.mktemp("video") / "walk.mp4"
    write_walk(path, seconds=6)
    return path


@pytest.fixture(scope="session")
def photos(walk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every third frame of the walk: 1.jpg to 20.jpg."""
    folder = tmp_path_factory.mktemp("footage") / "photos"
    folder.mkdir()
    video = Video(walk)
    for i in range(20):
        cv2.imwrite(str(folder / f"{i + 1}.jpg"), cv2.cvtColor(video[3 * i].image, cv2.COLOR_RGB2BGR))
    return folder


@pytest.fixture(scope="session")
def footage(walk: Path, photos: Path) -> list[Path]:
    return [walk, photos]


@pytest.fixture(scope="session")
def dataset(footage: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The footage curated by one worker without a stop. Read it; damage only a copy."""
    out = tmp_path_factory.mktemp("dataset") / "pairs"
    assert curate(footage, out) == 0
    return out


@pytest.fixture(scope="session")
def wide(footage: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stored wider than kept: pairs that are kept, that overlap too little, too much."""
    out = tmp_path_factory.mktemp("wide") / "pairs"
    band = ("--recipe", "paper", "--overlap", "0.7:0.8", "--store", "0.3:0.9", "--size", "128", "--propose.seconds", "0.5")
    assert curate(footage, out, flags=band) == 0
    return out


@pytest.fixture(scope="session")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A furnished flat of four rooms, as `twoview demo` makes it."""
    path = tmp_path_factory.mktemp("scene") / "flat.glb"
    write_flat(path)
    return path


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many answers of the published models there were to compare with."""
    compared, seen = 0, False
    for outcome, reports in terminalreporter.stats.items():
        for report in reports:
            if "parity/test_models.py::test_fixture[" in getattr(report, "nodeid", ""):
                seen = True
                compared += outcome == "passed" and report.when == "call"
    if seen:
        terminalreporter.write_line(f"{compared} of 4 fixtures of published models were compared")


@pytest.fixture(autouse=True)
def _own_handlers() -> Iterator[None]:
    """The command line sets a handler for SIGTERM: not for the tests after it."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
