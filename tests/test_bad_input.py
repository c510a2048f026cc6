"""Footage that is broken, folders that cannot be written, disks that are full: one clear line, the right code, no traceback."""

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from runs import FLAGS, curate, digests, finish, litter, start, twoview
from twoview.cli import main
from twoview.shards import finished_parts, read_manifest, read_scenes


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Lines of stderr, which never hold a traceback."""
    lines = capsys.readouterr().err.splitlines()
    assert not any("Traceback" in line for line in lines)
    return lines


# ------------------------------------------------------------------------------------------------------------ inputs


@pytest.fixture
def good(photos: Path, tmp_path: Path) -> Path:
    """A folder of eight photos."""
    folder = tmp_path / "footage" / "good"
    folder.mkdir(parents=True)
    for i in range(8):
        shutil.copy(photos / f"{i + 1}.jpg", folder)
    return folder


def write_frames(path: Path, num: int, template: Path) -> None:
    """A video of the first frames of another."""
    with av.open(str(template)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 480, 360, "yuv420p"
        for _, frame in zip(range(num), source.decode(video=0), strict=False):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")))
        container.mux(stream.encode(None))


def cut_short(folder: Path, walk: Path) -> Path:
    (path := folder / "cut.mp4").write_bytes(walk.read_bytes()[:200_000])
    return path


def empty(folder: Path, walk: Path) -> Path:
    (path := folder / "empty.mp4").touch()
    return path


def text(folder: Path, walk: Path) -> Path:
    (path := folder / "text.mp4").write_text("a shopping list\n" * 1000)
    return path


BROKEN = (cut_short, empty, text)


@pytest.mark.parametrize("make", BROKEN)
def test_a_broken_video_alone(
    make: Callable[[Path, Path], Path], walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path, walk)
    assert curate([path], tmp_path / "pairs") == 3
    out = capsys.readouterr()
    assert out.err == "nothing kept: none of the inputs can be read, see the errors above\n"
    (line,) = [line for line in out.out.splitlines() if line.startswith("unreadable: ")]
    assert line.startswith(f"unreadable: {path}: ")
    (scene,) = read_scenes(tmp_path / "pairs").to_pylist()
    assert (scene["status"], f"unreadable: {scene['error']}") == ("unreadable", line)
    assert litter(tmp_path / "pairs") == []


def test_broken_inputs_among_good_ones(good: Path, walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is named, the others give what they give alone, and a picture that is torn costs its own pairs only."""
    torn = good / "4.jpg"
    torn.write_bytes(torn.read_bytes()[:5000])
    paths = [make(good.parent, walk) for make in BROKEN]
    out = tmp_path / "pairs"
    assert curate([good.parent], out) == 3
    faults = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("unreadable: ", "partial: "))]
    assert [sum(str(p) in line for line in faults) for p in [*paths, torn]] == [1] * 4
    assert f"partial: {torn}: the picture is cut short" in faults
    rows = read_manifest(out).to_pylist()
    assert [r["frame_index_a"] for r in rows if r["reasons"] == ["unreadable"]] == [2, 3]
    assert {r["found"] for r in rows if r["reasons"] == ["unreadable"]} == {None}
    assert sum(r["kept"] for r in rows) >= 3
    assert {s["status"] for s in read_scenes(out).to_pylist() if s["scene"] == "footage/good"} == {"partial"}
    assert main(["audit", str(out)]) == 0
    done = twoview("curate", good.parent, "--out", tmp_path / "two", *FLAGS, "--workers", 2)
    assert (done.returncode, done.stderr) == (3, "")
    assert digests(tmp_path / "two") == digests(out)


def test_a_video_that_breaks_off(walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What can be read of it is used, and it is named."""
    whole, cut = tmp_path / "whole.mkv", tmp_path / "cut.mkv"
    write_frames(whole, 40, walk)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    assert curate([cut], tmp_path / "pairs") == 3
    assert f"partial: {cut}: " in capsys.readouterr().out
    assert 5 < read_manifest(tmp_path / "pairs").num_rows < 39
    assert sum(read_manifest(tmp_path / "pairs")["kept"].to_pylist()) > 0


def test_one_frame_has_no_pair(walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_frames(tmp_path / "one.mp4", 1, walk)
    assert curate([tmp_path / "one.mp4"], tmp_path / "pairs") == 4
    (line,) = said(capsys)
    assert line == "nothing kept: no scene has two frames to pair"
    assert read_scenes(tmp_path / "pairs").to_pylist()[0]["num_frames"] == 1
    assert main(["audit", str(tmp_path / "pairs")]) == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--overlap", "0.1:0.2"), r"overlap_high refused 7 of 7; .* try .*\(--propose.step 2\) or .*\(--overlap 0.5:0.9\)"),
        (("--overlap", "1:1"), r"overlap_low refused 7 of 7; they share too little: try a lower band \(--overlap 0.3:0.7\)"),
        (("--overlap", "1:1", "--propose.step", "2"), r"overlap_low refused 3 of 3; .*\(--propose.step 1\) or .*"),
        (("--overlap", "0.1:0.2", "--recipe", "paper"), r"overlap_high refused 13 of 13; .* try .*\(--propose.seconds 2\) or .*"),
        (("--overlap", "1:1", "--recipe", "paper"), r"overlap_low refused 7 of 7; .* try .*\(--propose.seconds 0.5\) or .*"),
    ],
)
def test_nothing_kept_says_why_and_what_to_try(
    flags: tuple[str, ...], words: str, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = () if "--recipe" in flags else ("--recipe", "consecutive")
    assert curate([good], tmp_path / "pairs", flags=(*recipe, "--size", "112", *flags)) == 4
    (line,) = said(capsys)
    assert re.fullmatch("nothing kept: " + words, line), line


def test_nothing_in_common(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pictures of noise match nowhere: the reason that refused most is the one that is named."""
    (tmp_path / "noise").mkdir()
    for i in range(4):
        noise = np.random.default_rng(i).integers(0, 256, (160, 160, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "noise" / f"{i}.png"), noise)
    assert curate([tmp_path / "noise"], tmp_path / "pairs") == 4
    (line,) = said(capsys)
    assert line == "nothing kept: few_matches refused 3 of 3; they do not match"
    rows = read_manifest(tmp_path / "pairs").to_pylist()
    assert {(r["found"], r["overlap"], r["scale"], r["homography"]) for r in rows} == {(False, None, None, None)}


def test_a_path_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert curate([tmp_path / "gone.mp4"], tmp_path / "pairs") == 2
    assert said(capsys) == [
        f"twoview: {tmp_path / 'gone.mp4'}: no such file or folder. Give a file or a folder that is there, or --list FILE"
    ]
    assert not (tmp_path / "pairs").exists()


def test_nothing_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.pdf").touch()
    assert curate([tmp_path / "papers"], tmp_path / "pairs") == 2
    assert said(capsys) == ["twoview: no videos or pictures found (1 other files; 3D scenes want --recipe walk)"]
    assert not (tmp_path / "pairs").exists()


def test_a_list_with_a_path_that_is_not_there(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rest of a long list is not lost."""
    (tmp_path / "list.txt").write_text(f"{good}\ttrip\tCC0\ngone.mp4\n")
    assert curate([], tmp_path / "pairs", "--list", str(tmp_path / "list.txt")) == 3
    assert f"unreadable: {tmp_path / 'gone.mp4'}: no such file or folder" in capsys.readouterr().out
    assert {(r["source"], r["licence"]) for r in read_manifest(tmp_path / "pairs").to_pylist()} == {("trip", "CC0")}


# -------------------------------------------------------------------------------------------------------- where to


@pytest.mark.parametrize("kind", ["file", "below a file", "foreign", "another config.json", "dangling link"])
def test_an_out_that_is_no_place_for_a_dataset(kind: str, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("precious")
    elif kind == "below a file":
        out.write_text("precious")
        out = out / "pairs"
    elif kind == "foreign":
        out.mkdir()
        (out / "thesis.tex").write_text("precious")
    elif kind == "another config.json":
        out.mkdir()
        (out / "config.json").write_text('{"model_type": "vit"}')
    else:
        out.symlink_to(tmp_path / "nowhere")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert curate([good], out) == 2
    (line,) = said(capsys)
    assert str(out) in line
    assert "give a" in line  # what to do
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_an_out_that_may_not_be_written(
    code: int, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(path: str | Path, *_: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(os, "mkdir", refused)
    assert curate([good], tmp_path / "pairs") == 2
    assert said(capsys) == [
        f"twoview: --out {tmp_path / 'pairs'}: cannot be written ({os.strerror(code)}): give a folder of your own"
    ]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A disk of one's own with these options; called again, it changes them."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = []

    def mount(options: str) -> Path:
        how = f"remount,{options}" if mounted else options
        try:
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", folder], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount: a small disk cannot be made")
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        mounted.append(options)
        return folder

    yield mount
    if mounted:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_read_only_disk(disk: Callable[[str], Path], good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = disk("ro") / "pairs"
    assert curate([good], out) == 2
    assert said(capsys) == [f"twoview: --out {out}: cannot be written (Read-only file system): give a folder of your own"]


FULL = "the disk is full. What is finished is kept: make room, then run the same command again"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk(workers: int, disk: Callable[[str], Path], footage: list[Path], dataset: Path) -> None:
    """A real one, that lets half of a tar through. After room was made the same command finishes with the same bytes."""
    out = disk("size=500k") / "pairs"
    command = ["curate", *footage, "--out", out, *FLAGS, "--workers", workers]
    code, stderr = finish(start(None, *command))
    assert code == 75, stderr
    _, stopped, line = stderr.splitlines()
    assert stopped == f"stopped: {len(finished_parts(out))} of 5 parts are finished and kept; the same command goes on"
    assert line.startswith(f"twoview: {out}/{'shards' if workers == 1 else ''}")  # two at once: the last byte may be any file's
    assert line.endswith(FULL)
    assert digests(out).items() <= digests(dataset).items()
    assert litter(out) == []
    if workers == 1:
        assert finished_parts(out) == [0, 1, 2]

    disk("size=8m")
    code, stderr = finish(start(None, *command))
    assert code == 0, stderr
    assert digests(out) == digests(dataset)
    assert litter(out) == []


@pytest.mark.parametrize("options", ["size=4k", "size=1m,nr_inodes=6", "size=1m,nr_inodes=9"])
def test_a_disk_too_full_to_begin(
    options: str, disk: Callable[[str], Path], footage: list[Path], dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without room for the plan; without room for another file: for a lock, for a tar."""
    out = disk(options) / "pairs"
    assert curate(footage, out) == 75
    line = said(capsys)[-1]
    assert line.startswith(f"twoview: {out}/")
    assert line.endswith(FULL)
    disk("size=8m,nr_inodes=1000")
    assert curate(footage, out) == 0
    assert digests(out) == digests(dataset)
    assert litter(out) == []


@pytest.mark.parametrize("call", [1, 2, 6, 7, 11])
def test_a_disk_that_says_it_is_full(
    call: int,
    footage: list[Path],
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At the n-th file that is made certain of: config.json, plan.parquet, and those of the first parts."""
    out, fsync, calls = tmp_path / "pairs", os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert curate(footage, out) == 75
    assert said(capsys)[-1].endswith(FULL)
    assert len(finished_parts(out)) == max(0, (call - 3) // 3)
    assert curate(footage, out) == 0
    assert digests(out) == digests(dataset)
    assert litter(out) == []


def test_a_broken_manifest_is_named_and_made_anew(
    footage: list[Path], dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(dataset, tmp_path / "pairs")
    path = out / "manifest" / "part-000003.parquet"
    path.write_bytes(path.read_bytes()[:1000])
    assert curate(footage, out) == 1
    (line,) = said(capsys)
    assert line.startswith(f"twoview: {path}: cannot be read")
    assert line.endswith("Remove it and run curate again: the part is made anew")
    path.unlink()
    assert curate(footage, out) == 0
    assert digests(out) == digests(dataset)
