"""A dataset from its manifest and one's own copies of the footage: what comes back, as what, and why the rest does not."""

import csv
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import twoview
from footage_made import number_in, numbered, write_video
from runs import curate, digests, driver, finish, litter, start
from twoview.audit import dataset_plan, faults
from twoview.cli import main
from twoview.exchange import Remade, remake, shared
from twoview.exchange.recognise import alike
from twoview.shards import finished_parts, read_manifest, read_sample, read_scenes


def share(dataset: Path, to: Path) -> Path:
    """A dataset as it is handed on: without its pictures."""
    shutil.copytree(dataset, to, ignore=shutil.ignore_patterns("shards", "*.html", "runs.jsonl"))
    return to


def remade(shared: Path | str, footage: list[Path], out: Path, *more: str) -> int:
    """The exit code of `twoview import --from manifest` with one worker."""
    given = ["--footage", *map(str, footage)]
    return main(["import", str(shared), "--from", "manifest", "--out", str(out), "--workers", "1", *given, *more])


def counts(done: Remade) -> tuple[int, int, int]:
    return done.num_exact, done.num_alike, done.num_gone


def outcomes(out: Path) -> list[dict]:
    """What became of each pair."""
    return pa.concat_tables([pq.read_table(p) for p in sorted((out / "remade").glob("part-*.parquet"))]).to_pylist()


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "remade.tsv").open(newline="") as file:
        return {line["scene"]: line for line in csv.DictReader(file, dialect="excel-tab")}


def assert_sound(out: Path) -> None:
    assert faults(out, dataset_plan(out)) == []
    assert litter(out) == []


def encoded_again(video: Path, to: Path, crf: int = 30, size: tuple[int, int] | None = None, rate: int = 0, step: int = 1) -> Path:
    """Another encoding. rate: of a copy that shows at each moment what the original shows; step: only every so-many-th frame."""
    with av.open(str(video)) as source, av.open(str(to), "w") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
        was = Fraction(source.streams.video[0].average_rate or 25)
        rate = rate or int(was / step)
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": "veryfast"})
        height, width = frames[0].shape[:2]
        stream.width, stream.height = size or (width, height)
        stream.pix_fmt = "yuv420p"
        for k in range(int(len(frames) * rate / was)):
            image = frames[int(k * was / rate)]
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(stream.width, stream.height)
            frame.pts, frame.time_base = k, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return to


# ------------------------------------------------------------------------------------------------------- the same bytes


def test_moved_copies_give_every_byte(
    walk: Path, photos: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The video elsewhere, the folder of photos under another name; refused pairs are in the manifest as they were."""
    (mine := tmp_path / "mine" / "deep").mkdir(parents=True)
    shutil.copy(walk, mine)
    shutil.copytree(photos, tmp_path / "mine" / "summer")
    out = tmp_path / "out"
    assert remade(share(dataset, tmp_path / "shared"), [tmp_path / "mine"], out) == 0
    said = capsys.readouterr().out.splitlines()
    num = int(read_manifest(dataset)["stored"].to_numpy().sum())
    assert said[-1] == f"{num} of {num} pairs are back, {num} of them to the byte: {out}"
    assert digests(out) == digests(dataset)
    assert_sound(out)
    assert main(["audit", str(out)]) == 0
    assert {line["uri"] for line in read_scenes(out).to_pylist()} == {str(mine / "walk.mp4"), str(tmp_path / "mine" / "summer")}
    assert {line["footage"] for line in table(out).values()} == {str(mine / "walk.mp4"), str(tmp_path / "mine" / "summer")}
    assert len(twoview.open(out)) == len(twoview.open(dataset)) > 0


def test_two_workers(footage: list[Path], dataset: Path, tmp_path: Path) -> None:
    command = ["import", share(dataset, tmp_path / "shared"), "--from", "manifest", "--out", tmp_path / "out", "--workers", "2"]
    code, said = finish(start(None, *command, "--footage", *footage))
    assert code == 0, said
    assert digests(tmp_path / "out") == digests(dataset)
    assert_sound(tmp_path / "out")


RECIPES = {
    "covisible": ["--recipe", "paper", "--crop", "covisible", "--store", "0.3:0.9", "--size", "128", "--propose.seconds", "0.7"],
    "covisibility": ["--recipe", "covisibility", "--size", "96", "--overlap", "0.4:0.8", "--max-pairs-per-scene", "4"],
    "released": ["--recipe", "released", "--overlap", "0.4:0.9", "--seed", "3"],
    "whole frames": ["--recipe", "paper", "--crop", "none", "--overlap", "0.3:0.9"],
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_crop_and_estimator(recipe: str, walk: Path, tmp_path: Path) -> None:
    assert curate([walk], tmp_path / "pairs", flags=tuple(RECIPES[recipe])) == 0
    (tmp_path / "mine").mkdir()
    shutil.copy(walk, tmp_path / "mine" / "another name.mp4")  # its size tells
    assert remade(share(tmp_path / "pairs", tmp_path / "shared"), [tmp_path / "mine"], tmp_path / "out") == 0
    assert digests(tmp_path / "out") == digests(tmp_path / "pairs")


@pytest.mark.parametrize("recipe", ["walk", "multiview_habitat"])
def test_walks_are_walked_again(recipe: str, flat: Path, tmp_path: Path) -> None:
    """By the seed and the scene's name in the manifest, whatever the file is called here. Depth comes back too."""
    flags = ("--recipe", recipe, "--source.samples", "4" if recipe == "walk" else "16", "--seed", "5", "--size", "96")
    more = ("--min-sharpness", "0", "--source.headings", "4", "--overlap", "0.2:1") if recipe == "walk" else ("--overlap", "0.3:1")
    assert curate([flat], tmp_path / "pairs", *more, flags=flags) == 0
    (tmp_path / "mine").mkdir()
    shutil.copy(flat, tmp_path / "mine" / "house.glb")
    assert remade(share(tmp_path / "pairs", tmp_path / "shared"), [tmp_path / "mine"], tmp_path / "out") == 0
    assert digests(tmp_path / "out") == digests(tmp_path / "pairs")
    pair = twoview.open(tmp_path / "out")[0]
    assert pair.depth_a_m is not None
    assert pair.row.scene == "flat.glb"


def test_walks_by_another_renderer(flat: Path, tmp_path: Path) -> None:
    """The same views; the manifest alone says which, without a plan. Rays are to be had everywhere."""
    flags = ("--recipe", "multiview_habitat", "--source.samples", "16", "--seed", "5", "--size", "96", "--overlap", "0.3:1")
    assert curate([flat], tmp_path / "pairs", flags=flags) == 0
    shared_ = share(tmp_path / "pairs", tmp_path / "shared")
    (shared_ / "plan.parquet").unlink()
    changed(shared_, lambda config: config["source"].update(backend="ray"))
    done = remake(shared_, [flat], tmp_path / "out")
    assert done.num_gone == 0
    for old, new in zip(twoview.open(tmp_path / "pairs"), twoview.open(tmp_path / "out"), strict=True):
        assert np.abs(old.a.astype(int) - new.a).mean() < 8  # without anti-aliasing; another view would be 40 off
        assert old.row.pose_b == new.row.pose_b
        assert (np.abs(old.depth_b_m - new.depth_b_m) > 0.02).mean() < 0.05


def write_rgbd(folder: Path) -> Path:
    """A wall 2 m away, seen from places 5 cm apart."""
    folder.mkdir(parents=True)
    np.savetxt(folder / "camera-intrinsics.txt", [[100, 0, 79.5], [0, 100, 59.5], [0, 0, 1]])
    texture = cv2.resize(np.random.default_rng(1).integers(0, 255, (30, 80, 3), np.uint8), (640, 120))
    for k in range(6):
        pose = np.eye(4)
        pose[0, 3] = 0.4 * k
        np.savetxt(folder / f"frame-{k:06d}.pose.txt", pose)
        cv2.imwrite(str(folder / f"frame-{k:06d}.color.png"), texture[:, 20 * k : 20 * k + 160])
        cv2.imwrite(str(folder / f"frame-{k:06d}.depth.png"), np.full((120, 160), 2000, np.uint16))
    return folder


def test_rgbd(tmp_path: Path) -> None:
    folder = write_rgbd(tmp_path / "room")
    flags = ("--recipe", "rgbd", "--propose.step", "2", "--overlap", "0.3:0.9", "--size", "96")
    assert curate([folder], tmp_path / "pairs", flags=flags) == 0
    folder = folder.rename(tmp_path / "kitchen")
    assert remade(share(tmp_path / "pairs", tmp_path / "shared"), [folder], tmp_path / "out") == 0
    assert digests(tmp_path / "out") == digests(tmp_path / "pairs")


def test_what_is_made_again_can_be_shared_again(footage: list[Path], dataset: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    assert remade(share(dataset, tmp_path / "shared"), footage, first) == 0
    assert remade(share(first, tmp_path / "again"), footage, tmp_path / "second") == 0
    assert digests(tmp_path / "second") == digests(dataset)


# ------------------------------------------------------------------------------------------------------ another encoding

NUMBERED = ("--recipe", "consecutive", "--propose.step", "20", "--overlap", "0.3:0.97", "--crop", "none", "--size", "128")


def counted(number: int) -> np.ndarray:
    """A picture that spells its number over a coarse texture, which moves by 3 px from each to the next."""
    image = numbered(number, 512, 256)
    texture = cv2.resize(
        np.random.default_rng(0).integers(0, 255, (22, 176, 3), np.uint8), (1056, 128), interpolation=cv2.INTER_CUBIC
    )
    image[128:] = texture[:, 3 * number : 3 * number + 512]
    return image


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A video of them, 20 frames a second, and pairs of it."""
    folder = tmp_path_factory.mktemp("counting")
    video = write_video(folder / "counting.mp4", map(counted, range(1, 161)), rate=20, options={"crf": "15"})
    assert curate([video], folder / "pairs", flags=NUMBERED) == 0
    return video, folder / "pairs"


COPIES = {
    "another crf": {"crf": 35},
    "another container": {"crf": 28, "to": "counting.mkv"},
    "half the size": {"size": (256, 128)},
    "every second frame": {"step": 2},
    "50 frames a second": {"rate": 50},
    "24 frames a second, in AVI": {"rate": 24, "to": "counting.avi"},
}


@pytest.mark.parametrize("copy", COPIES)
def test_another_encoding_is_alike(copy: str, counting: tuple[Path, Path], tmp_path: Path) -> None:
    """Every picture is of the frame that it was of, and the pair has patches and points of the pictures that are there."""
    video, pairs = counting
    (tmp_path / "mine").mkdir()
    how = {"to": "counting.mp4"} | COPIES[copy]
    encoded_again(video, tmp_path / "mine" / how.pop("to"), **how)
    done = remake(share(pairs, tmp_path / "shared"), [tmp_path / "mine"], tmp_path / "out")
    num = len(twoview.open(pairs))
    assert counts(done) == (0, num, 0)
    assert num >= 5
    assert_sound(tmp_path / "out")
    for old, new in zip(twoview.open(pairs), twoview.open(tmp_path / "out"), strict=True):
        assert (
            (number_in(new.a), number_in(new.b))
            == (number_in(old.a), number_in(old.b))
            == (
                old.row.frame_index_a + 1,
                old.row.frame_index_b + 1,
            )
        )
        assert (new.row.pair_id, new.row.overlap, new.row.time_b_s) == (old.row.pair_id, old.row.overlap, old.row.time_b_s)
        assert new.row.sha256_a != old.row.sha256_a
        assert new.patches.shape == (2, 196)
        assert (new.patches >= 0).mean() == pytest.approx((old.patches >= 0).mean(), abs=0.1)
        assert len(new.points) > 10
        assert not np.array_equal(new.points, old.points)  # measured in what is stored
    assert {line["codec"] for line in read_scenes(tmp_path / "out").to_pylist()} == {"h264"}


def test_windows_grow_with_the_frames(walk: Path, tmp_path: Path) -> None:
    """What is cut by the pair lies where it lay, in a copy of another size."""
    assert curate([walk], tmp_path / "pairs", flags=tuple(RECIPES["covisible"])) == 0
    (tmp_path / "mine").mkdir()
    encoded_again(walk, tmp_path / "mine" / "walk.mkv", crf=15, size=(960, 720))
    done = remake(share(tmp_path / "pairs", tmp_path / "shared"), [tmp_path / "mine"], tmp_path / "out")
    pairs, again = (twoview.open(tmp_path / name) for name in ("pairs", "out"))
    assert done.num_gone <= 1 < done.num_alike  # of one a hash may lie just beyond
    assert len(again) >= len(pairs) - 1 > 1
    known = {pair.row.pair_id: pair for pair in pairs}
    for new in again:
        old = known[new.row.pair_id]
        assert new.row.crop_a == [2 * x for x in old.row.crop_a]
        assert np.abs(cv2.GaussianBlur(old.a, (0, 0), 2).astype(int) - cv2.GaussianBlur(new.a, (0, 0), 2)).mean() < 4


def test_of_two_videos_of_one_name_the_one_that_shows_it(counting: tuple[Path, Path], walk: Path, tmp_path: Path) -> None:
    video, pairs = counting
    for folder in ("a", "b", "c"):
        (tmp_path / "mine" / folder).mkdir(parents=True)
    shutil.copy(walk, tmp_path / "mine" / "a" / "counting.mp4")
    (tmp_path / "mine" / "b" / "counting.mp4").write_text("nothing to see")
    encoded_again(video, tmp_path / "mine" / "c" / "Counting.mkv")
    done = remake(share(pairs, tmp_path / "shared"), [tmp_path / "mine"], tmp_path / "out")
    assert done.num_alike == len(twoview.open(pairs))
    assert done.scenes[0].footage == str(tmp_path / "mine" / "c" / "Counting.mkv")


def test_names_that_are_alike() -> None:
    assert alike("trip/day 1/clip.mp4", "disk/Day 1/CLIP.mkv") == 2
    assert alike("clip.mp4~2", "clip.mp4") == alike("photos", "old/photos") == 1
    assert alike("trip/a.mp4", "trip/b.mp4") == 0


# ------------------------------------------------------------------------------------------------------------ what is gone


def test_a_deleted_video(photos: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert remade(share(dataset, tmp_path / "shared"), [photos], out) == 3
    said = capsys.readouterr().out
    assert "not_found: walk.mp4: nothing in the footage has its bytes or its name" in said
    assert_sound(out)
    old, new = (read_manifest(d).to_pylist() for d in (dataset, out))
    for was, now in zip(old, new, strict=True):
        assert {name: now[name] for name in ("key", "time_a_s", "overlap", "num_inliers", "group")} == {
            name: was[name] for name in ("key", "time_a_s", "overlap", "num_inliers", "group")
        }
        if was["scene"] == "walk.mp4" and was["stored"]:
            assert (now["kept"], now["stored"], now["reasons"]) == (False, False, ["unreadable"])
            refused = next(row for row in old if not row["stored"] and row["found"])
            assert {name for name, value in now.items() if value is None} >= {n for n, v in refused.items() if v is None}
        else:
            assert now == was
    states = {(line["scene"], line["status"]) for line in read_scenes(out).to_pylist()}
    assert states == {("walk.mp4", "unreadable"), ("walk.mp4", "ok"), ("photos", "ok")}  # ok: nothing was stored of that part
    assert table(out)["walk.mp4"]["footage"] == ""
    assert main(["audit", str(out)]) == 0


def test_a_video_that_was_cut(counting: tuple[Path, Path], tmp_path: Path) -> None:
    """What it still holds is there to the byte; the rest is gone, and says when the copy ends."""
    video, pairs = counting
    (tmp_path / "mine").mkdir()
    with av.open(str(video)) as source, av.open(str(tmp_path / "mine" / "counting.mp4"), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is not None and number < 90:
                packet.stream = stream
                container.mux(packet)
    assert remade(share(pairs, tmp_path / "shared"), [tmp_path / "mine"], tmp_path / "out") == 3
    for one in outcomes(tmp_path / "out"):
        last = int(one["pair_id"][-6:])
        if last < 80:
            assert (one["status"], one["reason"], one["frame_b"]) == ("exact", "", last)
        elif last > 92:
            assert (one["status"], one["reason"]) == ("gone", "unreadable")
            assert re.search(r"no frame at [0-9.]+ s: the copy ends at 4\.\d+ s$", one["detail"])
    assert {one["status"] for one in outcomes(tmp_path / "out")} == {"exact", "gone"}
    kept = {one["key"] for one in outcomes(tmp_path / "out") if one["status"] == "exact"}
    assert set(twoview.open(tmp_path / "out").keys.to_pylist()) == kept
    (line,) = {
        (line["status"], line["error"].split(" pairs are gone, the first: ")[0])
        for line in read_scenes(tmp_path / "out").to_pylist()
    }
    assert line == ("partial", f"{len(outcomes(tmp_path / 'out')) - len(kept)} of {len(outcomes(tmp_path / 'out'))}")


@pytest.fixture(scope="module")
def of_photos(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of the photos, as they are shared."""
    folder = tmp_path_factory.mktemp("of photos")
    flags = ("--recipe", "all_pairs", "--propose.keep", "all", "--size", "112", "--overlap", "0.6:0.95")
    assert curate([photos], folder / "pairs", flags=flags) == 0
    return share(folder / "pairs", folder / "shared")


@pytest.fixture
def photo_pairs(of_photos: Path, photos: Path, tmp_path: Path) -> tuple[Path, Path]:
    """They, and a copy of the photos."""
    return of_photos, Path(shutil.copytree(photos, tmp_path / "mine" / "photos"))


def test_a_photo_that_is_another_now(photo_pairs: tuple[Path, Path], tmp_path: Path) -> None:
    shared_, mine = photo_pairs
    cv2.imwrite(str(mine / "4.jpg"), np.random.default_rng(0).integers(0, 255, (360, 480, 3), np.uint8))
    assert remade(shared_, [mine], tmp_path / "out") == 3
    for one in outcomes(tmp_path / "out"):
        uses = "000003" in one["pair_id"][-13:].split("-")
        assert (one["status"], one["reason"]) == (("gone", "too_different") if uses else ("exact", ""))
        assert not uses or f"{mine}: frame 3 is not picture" in one["detail"]
    assert {one["status"] for one in outcomes(tmp_path / "out")} == {"exact", "gone"}
    assert_sound(tmp_path / "out")


def test_a_photo_that_cannot_be_read(photo_pairs: tuple[Path, Path], tmp_path: Path) -> None:
    shared_, mine = photo_pairs
    (mine / "4.jpg").write_bytes((mine / "4.jpg").read_bytes()[:3000])
    assert remade(shared_, [mine], tmp_path / "out") == 3
    assert {one["detail"] for one in outcomes(tmp_path / "out")} == {"", f"{mine / '4.jpg'}: the picture is cut short"}
    assert {one["reason"] for one in outcomes(tmp_path / "out")} == {"", "unreadable"}


def test_photos_that_moved_up(photo_pairs: tuple[Path, Path], tmp_path: Path) -> None:
    """One was deleted, so that others have its number: they are found by what they show."""
    shared_, mine = photo_pairs
    (mine / "2.jpg").unlink()
    assert remade(shared_, [mine], tmp_path / "out") == 3
    for one in outcomes(tmp_path / "out"):
        frames = [int(number) for number in one["pair_id"][-13:].split("-")]
        if 1 in frames:
            assert (one["status"], one["reason"]) == ("gone", "too_different")
        else:
            assert (one["status"], one["frame_a"], one["frame_b"]) == ("exact", *(f - (f > 1) for f in frames))


def test_nothing_is_found(photos: Path, counting: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert remade(share(counting[1], tmp_path / "shared"), [photos], tmp_path / "out") == 4
    said = capsys.readouterr()
    assert said.err == "nothing made again: none of the scenes is in the footage; nothing was written\n"
    assert "not_found: counting.mp4: nothing in the footage has its bytes or its name" in said.out
    assert not (tmp_path / "out").exists()


def test_nothing_is_alike(walk: Path, counting: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    shutil.copy(walk, tmp_path / "mine" / "counting.mp4")
    assert remade(share(counting[1], tmp_path / "shared"), [tmp_path / "mine"], tmp_path / "out") == 4
    assert capsys.readouterr().err == "nothing made again: no picture in the footage is one of the manifest's\n"
    assert {one["status"] for one in outcomes(tmp_path / "out")} == {"gone"}
    assert_sound(tmp_path / "out")
    assert list((tmp_path / "out" / "shards").iterdir()) == []


# --------------------------------------------------------------------------------------------------- less than all of it


def samples(out: Path, name: str | None = None) -> dict[str, dict[str, bytes]]:
    dataset = twoview.open(out, name)
    return {key: dataset.files(i) for i, key in enumerate(dataset.keys.to_pylist())}


def test_a_selection(wide: Path, footage: list[Path], tmp_path: Path) -> None:
    """Also of pairs that were stored and not kept; its pairs alone are made, and DIR@NAME is theirs."""
    pairs = Path(shutil.copytree(wide, tmp_path / "pairs"))
    assert main(["select", str(pairs), "--name", "low", "--overlap", "0.3:0.8", "--where", "scene = 'walk.mp4'"]) == 0
    shared_ = share(pairs, tmp_path / "shared")
    assert remade(f"{shared_}@low", footage[:1], tmp_path / "out") == 0
    wanted = samples(pairs, "low")
    assert samples(tmp_path / "out", "low") == wanted
    assert {row["key"] for row in read_manifest(tmp_path / "out").to_pylist()} == set(wanted)
    assert {name for row in read_manifest(tmp_path / "out").to_pylist() for name in row["reasons"]} & {
        "overlap_low",
        "overlap_high",
    }
    assert_sound(tmp_path / "out")


def test_selections_come_along(wide: Path, footage: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = Path(shutil.copytree(wide, tmp_path / "pairs"))
    for name, where in (("all", "true"), ("video", "source = 'video'"), ("photos", "source = 'images'")):
        assert main(["select", str(pairs), "--name", name, "--overlap", "0.3:0.9", "--where", where]) == 0
    (pairs / "selections" / "broken.parquet").write_text("no table")
    shared_ = share(pairs, tmp_path / "shared")
    capsys.readouterr()
    assert remade(shared_, footage[:1], tmp_path / "out") == 3
    said = capsys.readouterr().out.splitlines()
    assert samples(tmp_path / "out", "video") == samples(tmp_path / "out", "all") == samples(pairs, "video")
    num = len(samples(pairs, "photos"))
    assert f"selection photos: {num} of its {num} pairs are gone" in said
    assert f"selection all: {num} of its {num + len(samples(pairs, 'video'))} pairs are gone" in said
    assert sum(line.startswith(f"{shared_ / 'selections' / 'broken.parquet'}: left out, it cannot be read (") for line in said) == 1
    assert sorted(p.stem for p in (tmp_path / "out" / "selections").iterdir()) == ["all", "video"]


def test_one_file(dataset: Path, footage: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest that somebody wrote with other tools: the kept pairs, in any order, a column too many; config.json beside it."""
    monkeypatch.setattr(shared, "CHUNK_PAIRS", 5)
    rows = read_manifest(dataset)
    rows = rows.filter(rows["kept"])
    rows = rows.take(pa.array(np.random.default_rng(0).permutation(len(rows)))).append_column("mine", pa.array(range(len(rows))))
    (tmp_path / "shared").mkdir()
    pq.write_table(rows, tmp_path / "shared" / "best.parquet")
    shutil.copy(dataset / "config.json", tmp_path / "shared")
    assert remade(tmp_path / "shared" / "best.parquet", footage, tmp_path / "out") == 0
    assert finished_parts(tmp_path / "out") == list(range(-(-len(rows) // 5)))
    assert samples(tmp_path / "out") == samples(dataset)
    assert_sound(tmp_path / "out")


def test_a_file_without_its_config(dataset: Path, footage: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path := tmp_path / "a" / "b").mkdir(parents=True)
    shutil.copy(dataset / "manifest" / "part-000000.parquet", path)
    assert remade(path / "part-000000.parquet", footage, tmp_path / "out") == 2
    words = "no config.json beside it or a folder above: it says how the pictures were cut"
    assert capsys.readouterr().err == f"twoview: {path / 'part-000000.parquet'}: {words}\n"


def test_one_part(dataset: Path, footage: list[Path], tmp_path: Path) -> None:
    """config.json lies a folder above."""
    part = finished_parts(dataset)[-1]
    path = share(dataset, tmp_path / "shared") / "manifest" / f"part-{part:06d}.parquet"
    assert remade(path, footage, tmp_path / "out") == 0
    wanted = {row["key"] for row in read_manifest(dataset, [part]).to_pylist() if row["kept"]}
    assert samples(tmp_path / "out") == {key: files for key, files in samples(dataset).items() if key in wanted}


@pytest.mark.parametrize("left_out", ["plan.parquet", "scenes", "both"])
def test_less_than_the_folder(left_out: str, dataset: Path, footage: list[Path], tmp_path: Path) -> None:
    """Without the plan the names must do."""
    shared_ = share(dataset, tmp_path / "shared")
    if left_out != "scenes":
        (shared_ / "plan.parquet").unlink()
    if left_out != "plan.parquet":
        shutil.rmtree(shared_ / "scenes")
    assert remade(shared_, footage, tmp_path / "out") == 0
    assert digests(tmp_path / "out") == digests(dataset)
    assert_sound(tmp_path / "out")
    assert main(["audit", str(tmp_path / "out")]) == 0


OWN = """
from dataclasses import dataclass, replace
import numpy as np
from twoview.recipes import paper
from twoview.schema import Match
from twoview.sources import find_footage

@dataclass(frozen=True, kw_only=True)
class Guess:
    name = "guess@1"
    def describe(self, image): return image
    def measure(self, a, b):
        return Match(found=True, overlap_ab=0.6, overlap_ba=0.6, patches=np.zeros((2, 196), np.int16), patch_grid=(14, 14))

def mine(paths, list_file): return find_footage(paths, list_file)
def guess(): return replace(paper(), estimator=Guess())
def found(): return replace(paper(), source=mine, overlap=(0.3, 0.9))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_pieces.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("own")
def test_an_estimator_of_somebody_else(walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its pictures are there, without patches; it is not looked for, let alone run."""
    assert curate([walk], tmp_path / "pairs", flags=("--recipe", "own_pieces:guess")) == 0
    (tmp_path / "own_pieces.py").write_text("raise SystemExit('this was run')")
    assert remade(share(tmp_path / "pairs", tmp_path / "shared"), [walk], tmp_path / "out") == 0
    assert "no pair has patches or points: the estimator guess@1 is none of twoview's" in capsys.readouterr().out
    for old, new in zip(twoview.open(tmp_path / "pairs"), twoview.open(tmp_path / "out"), strict=True):
        assert np.array_equal(new.a, old.a)
        assert (new.patches.shape, new.points.shape, new.row.patch_grid, new.row.overlap) == ((2, 0), (0, 4), None, 0.6)
    assert_sound(tmp_path / "out")


@pytest.mark.usefixtures("own")
def test_a_source_of_somebody_else(walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert curate([walk], tmp_path / "pairs", flags=("--recipe", "own_pieces:found")) == 0
    assert remade(share(tmp_path / "pairs", tmp_path / "shared"), [walk], tmp_path / "out") == 2
    assert "its footage was found by mine, a source that is none of twoview's" in capsys.readouterr().err


def test_another_version_of_the_estimator(dataset: Path, footage: list[Path], tmp_path: Path) -> None:
    shared_ = share(dataset, tmp_path / "shared")
    changed(shared_, lambda config: config["estimator"].update(name="paper@0"))
    done = remake(shared_, footage, tmp_path / "out")
    assert done.notes == ("no pair has patches or points: they were measured by paper@0, and this version has paper@1",)
    assert {pair.patches.shape for pair in twoview.open(tmp_path / "out")} == {(2, 0)}


# ------------------------------------------------------------------------------------------------- stopped, and going on

KILLED = "os.killpg(0, signal.SIGKILL)"
PLACES = {
    "with the plan written aside": f"""
Path.replace = lambda path, to: {KILLED} if to.name == 'plan.parquet' else os.replace(path, to)
""",
    "inside a later part": f"""
write = shards.ShardWriter.write_sample
def write_sample(self, *args):
    write(self, *args)
    if self.part == 3: {KILLED}
shards.ShardWriter.write_sample = write_sample
""",
    "with a part's outcomes written aside": f"""
Path.replace = lambda path, to: {KILLED} if to.parent.name == 'remade' and '3' in to.name else os.replace(path, to)
""",
    "between the outcomes and the manifest": f"""
Path.replace = lambda path, to: {KILLED} if to.parent.name == 'manifest' and '3' in to.name else os.replace(path, to)
""",
    "before the table": f"""
Path.replace = lambda path, to: {KILLED} if to.name == 'remade.tsv' else os.replace(path, to)
""",
}


@pytest.mark.parametrize("place", PLACES)
def test_killed_and_run_again(place: str, footage: list[Path], dataset: Path, tmp_path: Path) -> None:
    """At most one part is lost, and what comes out is what nobody disturbed."""
    shared_, out = share(dataset, tmp_path / "shared"), tmp_path / "out"
    command = ["import", shared_, "--from", "manifest", "--out", out, "--workers", "1", "--footage", *footage]
    code, said = finish(start(driver(tmp_path, PLACES[place]), *command))
    assert code == -signal.SIGKILL, said
    assert not (out / "remade.tsv").exists()
    before = {p: p.stat().st_mtime_ns for p in (out / "manifest").glob("part*")}
    assert len(before) == (0 if "plan" in place else 5 if "table" in place else 3)
    assert remade(shared_, footage, out) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert digests(out) == digests(dataset)
    assert_sound(out)
    assert sum(int(line["exact"]) for line in table(out).values()) == int(read_manifest(dataset)["stored"].to_numpy().sum())


def test_interrupted(footage: list[Path], dataset: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def stopping(num: int, total: int) -> None:
        told.append((num, total))
        if num >= total // 2:
            raise KeyboardInterrupt

    shared_, out = share(dataset, tmp_path / "shared"), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        remake(shared_, footage, out, tell=stopping)
    total = told[-1][1]
    told.clear()
    remake(shared_, footage, out, tell=lambda num, total: told.append((num, total)))
    assert told[-1] == (total, total)
    assert digests(out) == digests(dataset)


def test_what_is_finished_is_left(footage: list[Path], dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared_, out = share(dataset, tmp_path / "shared"), tmp_path / "out"
    said = []
    for _ in range(2):
        assert remade(shared_, footage, out) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


# ------------------------------------------------------------------------------------------------------------- bad input


def changed(folder: Path, change: Callable[[dict], object]) -> None:
    """config.json with another configuration."""
    known = json.loads((folder / "config.json").read_text())
    change(known["config"])
    (folder / "config.json").write_text(json.dumps(known))


def rewritten(folder: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    path = folder / "manifest" / "part-000000.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def imported(folder: Path) -> None:
    changed(folder, lambda config: config.update({"import": "mimic"}))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no such folder": (shutil.rmtree, "{shared}: no such file or folder"),
    "no manifest": (
        lambda s: shutil.rmtree(s / "manifest"),
        "{shared}: no manifest there (manifest/part-000000.parquet and so on)",
    ),
    "no config.json": (
        lambda s: (s / "config.json").unlink(),
        "{shared}/config.json: no such file: it says how the pictures were cut",
    ),
    "broken config.json": (lambda s: (s / "config.json").write_text("{"), "{shared}/config.json: not the config.json of a dataset"),
    "config.json of another program": (
        lambda s: (s / "config.json").write_text('{"config": {"model": "vit"}}'),
        "{shared}/config.json: not the config.json of a dataset",
    ),
    "an import": (
        imported,
        "{shared}/config.json: its pairs were imported (mimic), not cut from footage: import them again from there",
    ),
    "a source that is not there": (
        lambda s: changed(s, lambda c: c.update(source={"type": "twoview.sources.dreams:Dreams"})),
        "{shared}/config.json: twoview.sources.dreams:Dreams is not as in this version of twoview: use the one that it names",
    ),
    "a source that is none": (
        lambda s: changed(s, lambda c: c.update(source={"type": "twoview.sources.footage:Footage", "inputs": {}})),
        "{shared}/config.json: its footage was found by twoview.sources.footage:Footage, a source that is none of twoview's",
    ),
    "an estimator with a field too many": (
        lambda s: changed(s, lambda c: c["estimator"].update(magic=1)),
        "{shared}/config.json: twoview.curation.homography:Paper is not as in this version of twoview: use the one that it names",
    ),
    "no crop": (lambda s: changed(s, lambda c: c.update(crop="star")), "{shared}/config.json: the crop 'star' is not one of"),
    "no size": (lambda s: changed(s, lambda c: c.update(size="large")), "{shared}/config.json: invalid literal for int()"),
    "a huge size": (
        lambda s: changed(s, lambda c: c.update(size=1 << 40)),
        "--size is 1099511627776: give a side from 16 to 4096 px",
    ),
    "a manifest that is no table": (
        lambda s: (s / "manifest" / "part-000000.parquet").write_text("x"),
        "{shared}/manifest/part-000000.parquet: not a manifest that can be read (",
    ),
    "a table that is no manifest": (
        lambda s: rewritten(s, lambda t: t.drop_columns(["sha256_b"])),
        "{shared}/manifest/part-000000.parquet: not a manifest of twoview: no column sha256_b",
    ),
    "a column of something else": (
        lambda s: rewritten(s, lambda t: t.set_column(0, "key", pa.array([[1]] * len(t)))),
        "{shared}/manifest/part-000000.parquet: not a manifest that can be read (",
    ),
    "nothing in a column": (
        lambda s: rewritten(s, lambda t: t.set_column(t.schema.get_field_index("scene"), "scene", pa.nulls(len(t), pa.string()))),
        "{shared}/manifest/part-000000.parquet: not a manifest of twoview: nothing in column scene of some rows",
    ),
    "a key that leads out of the tar": (
        lambda s: rewritten(s, lambda t: t.set_column(0, "key", pa.array(["../../etc/passwd"] * len(t)))),
        "{shared}/manifest/part-000000.parquet: the key of 'video/walk.mp4/000000-000001' is not its key",
    ),
    "a pair twice": (
        lambda s: rewritten(s, lambda t: pa.concat_tables([t, t])),
        "{shared}/manifest/part-000000.parquet: video/walk.mp4/000000-000001 stands twice",
    ),
    "no stored pair": (
        lambda s: [
            pq.write_table(t.set_column(t.schema.get_field_index("stored"), "stored", pa.array([False] * len(t))), p)
            for p in (s / "manifest").iterdir()
            for t in [pq.read_table(p)]
        ],
        "{shared}: none of its pairs was stored, so there are no pictures to make",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_in_one_line(
    what: str, dataset: Path, footage: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, line = BAD[what]
    shared_ = share(dataset, tmp_path / "shared")
    spoil(shared_)
    assert remade(shared_, footage, tmp_path / "out") == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"twoview: {line.format(shared=shared_)}")
    assert not (tmp_path / "out").exists()


def test_bad_flags_in_one_line(dataset: Path, footage: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared_, out = share(dataset, tmp_path / "shared"), tmp_path / "out"
    begin, out_flag = ["import", str(shared_), "--from"], ["--out", str(out)]
    lines = {
        (*begin, "manifest", *out_flag): "--from manifest: give your own copies of the footage with --footage PATH [PATH ...]",
        (*begin, "manifest", *out_flag, "--footage", str(tmp_path / "x")): f"{tmp_path / 'x'}: no such file or folder. Give",
        (*begin, "manifest", *out_flag, "--workers", "-1", "--footage", str(tmp_path)): "--workers is -1: give a number from 1",
        (*begin, "mimic", *out_flag, "--footage", str(tmp_path)): "--footage and --workers go with --from manifest: --from mimic",
        ("import", f"{shared_}@x", "--from", "manifest", *out_flag, "--footage", str(tmp_path)): f"{shared_}@x: no such selection",
    }
    for args, line in lines.items():
        assert main(list(args)) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith(f"twoview: {line}")
        assert not out.exists()


def test_a_selection_of_other_pairs(dataset: Path, footage: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared_ = share(dataset, tmp_path / "shared")
    (shared_ / "selections").mkdir()
    keys = [*read_manifest(dataset)["key"].to_pylist()[:2], "0123456789abcdef"]
    pq.write_table(pa.table({"key": keys}), shared_ / "selections" / "odd.parquet")
    assert remade(f"{shared_}@odd", footage, tmp_path / "out") == 2
    assert capsys.readouterr().err == f"twoview: {shared_}@odd: 1 of its 3 pairs are not in the manifest there\n"


def foreign(out: Path, shared_: Path, footage: list[Path], dataset: Path) -> None:
    out.mkdir()
    (out / "thesis.tex").touch()


def curated(out: Path, shared_: Path, footage: list[Path], dataset: Path) -> None:
    shutil.copytree(dataset, out)


def of_other_footage(out: Path, shared_: Path, footage: list[Path], dataset: Path) -> None:
    assert remade(shared_, footage[:1], out) == 3


def of_another_manifest(out: Path, shared_: Path, footage: list[Path], dataset: Path) -> None:
    assert remade(shared_ / "manifest" / "part-000000.parquet", footage, out) == 0


@pytest.mark.parametrize("holds", [foreign, curated, of_other_footage, of_another_manifest])
def test_an_out_of_something_else(
    holds: Callable, dataset: Path, footage: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared_, out = share(dataset, tmp_path / "shared"), tmp_path / "out"
    holds(out, shared_, footage, dataset)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    capsys.readouterr()
    assert remade(shared_, footage, out) == 2
    words = f"{out} holds something else than pairs of {shared_} from this footage: give an --out that is new or empty"
    assert capsys.readouterr().err == f"twoview: {words}\n"
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_curate_does_not_go_on_with_it(footage: list[Path], dataset: Path, tmp_path: Path) -> None:
    assert remade(share(dataset, tmp_path / "shared"), footage, tmp_path / "out") == 0
    assert curate(footage, tmp_path / "out") == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_out_that_cannot_be_written(footage: list[Path], dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    assert remade(share(dataset, tmp_path / "shared"), footage, tmp_path / "closed" / "out") == 2


def test_out_is_a_file(footage: list[Path], dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").touch()
    assert remade(share(dataset, tmp_path / "shared"), footage, tmp_path / "out") == 2
    assert capsys.readouterr().err.startswith(f"twoview: --out {tmp_path / 'out'}: cannot be written (")


def test_samples_lie_where_the_rows_say(footage: list[Path], dataset: Path, tmp_path: Path) -> None:
    """A selection of the first video's late pairs: other offsets than in the original."""
    shared_ = share(dataset, tmp_path / "shared")
    rows = read_manifest(dataset)
    late = [row["key"] for row in rows.filter(rows["stored"]).to_pylist()][1::2]
    (shared_ / "selections").mkdir()
    pq.write_table(pa.table({"key": late}), shared_ / "selections" / "late.parquet")
    assert remade(f"{shared_}@late", footage, tmp_path / "out") == 0
    for row in read_manifest(tmp_path / "out").to_pylist():
        files = read_sample(tmp_path / "out", row["shard"], row["offset"], row["size"])
        assert json.loads(files["json"])["key"] == row["key"]
    assert read_manifest(tmp_path / "out")["key"].to_pylist() == late
