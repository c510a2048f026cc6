"""Pairs that repeat another, and views that another set has: the search against comparing all, and what select makes of it."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import twoview
from runs import curate
from test_selections import ids, made, refused, row
from twoview import duplicates
from twoview.cli import main
from twoview.curation.verdicts import perceptual_hash
from twoview.duplicates import Hashes, hashes_of, left_out_bytes, nearest, picture_set, repeats, stored_as
from twoview.errors import ConfigError
from twoview.report.page import _how
from twoview.schema import Row
from twoview.selections import SelectConfig, select, write_selection
from twoview.shards import read_manifest
from twoview.sources.video import Video

pytest.importorskip("faiss", reason="faiss is absent: pip install 'twoview[dedup]'")


def hashes(codes: list[int], known: list[bool] | None = None) -> Hashes:
    yes = np.ones(len(codes), bool)
    data = np.array(codes, ">u8").view(np.uint8).reshape(-1, 8)
    return Hashes(codes=data, present=yes if known is None else np.array(known, bool), plain=~yes)


def bits(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def by_comparing(a: list[int], b: list[int], known: list[bool], near: int) -> list[tuple[int, bool, int]]:
    """What each pair repeats, crosswise or not, and how far: pair by pair."""
    found: list[tuple[int, bool, int]] = []
    for i in range(len(a)):
        each = [
            (j, crossed, max(bits(a[i], x), bits(b[i], y)))
            for j in range(i)
            for crossed, (x, y) in enumerate(((a[j], b[j]), (b[j], a[j])))
            if known[i] and known[j] and found[j][0] < 0
        ]
        found.append(next(((j, bool(crossed), far) for j, crossed, far in each if far <= near), (-1, False, 0)))
    return found


NEARBY = st.builds(
    lambda base, flips: base ^ sum({1 << f for f in flips}),
    st.sampled_from([0, 0xFFFF << 20, (1 << 64) - 1]),
    st.lists(st.integers(0, 63), max_size=6),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NEARBY, NEARBY, st.booleans()), max_size=24), st.integers(0, 10), st.sampled_from([3, 1024]))
def test_repeats_are_those_of_comparing_everything(pairs: list[tuple[int, int, bool]], near: int, block: int) -> None:
    a, b, unknown = ([pair[k] for pair in pairs] for k in range(3))
    known = [not u for u in unknown]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK", block)
        of, crossed, far = repeats(hashes(a, known), hashes(b, known), near)
    assert list(zip(of.tolist(), crossed.tolist(), far.tolist(), strict=True)) == by_comparing(a, b, known, near)


@settings(max_examples=40, deadline=None)
@given(st.lists(NEARBY, max_size=20), st.lists(NEARBY, max_size=20))
def test_nearest_is_the_first_of_the_nearest(codes: list[int], among: list[int]) -> None:
    of, far = nearest(hashes(codes).codes, hashes(among).codes)
    if not among:
        assert (of == -1).all()
        assert (far > 64).all()
        return
    for code, i, distance in zip(codes, of.tolist(), far.tolist(), strict=True):
        every = [bits(code, other) for other in among]
        assert (i, distance) == (every.index(min(every)), min(every))


def test_hashes_of_columns() -> None:
    found = hashes_of(
        pa.chunked_array([["00000000000000ff", None], ["xyz", "FFFFFFFFFFFFFFFF"]]), pa.chunked_array([[0.9, 5.0, None, 1.0]])
    )
    assert found.present.tolist() == [True, False, False, True]
    assert found.plain.tolist() == [True, False, False, False]
    assert found.known.tolist() == [False, False, False, True]
    assert found.codes[0].tolist() == [0] * 7 + [255]
    assert len(hashes_of(pa.chunked_array([], pa.string()), pa.chunked_array([], pa.float64())).codes) == 0


# ------------------------------------------------------------------------------------------------------- selections


FRAMES = [0x0F0F_0F0F_0F0F_0F0F << k & (1 << 64) - 1 ^ (0x1234_5678_9ABC_DEF1 * (3 * k + 1)) % (1 << 64) for k in range(12)]
"""Far from each other, as the frames of a walk are."""


def shown(number: int, a: int, b: int, off: int = 0, **more: object) -> Row:
    """A pair of two of FRAMES, `off` bits off."""
    views = [f"{FRAMES[k] ^ (1 << off) - 1:016x}" for k in (a, b)]
    known = {"phash_a": views[0], "phash_b": views[1], "sharpness_a": 90.0, "sharpness_b": 90.0}
    return row(number, **known | {"shard": "shards/nowhere.tar", "offset": 0, "size": 1} | more)


def test_frames_are_far_from_each_other() -> None:
    assert min(bits(a, b) for i, a in enumerate(FRAMES) for b in FRAMES[:i]) > 16


@pytest.fixture
def walked(tmp_path: Path) -> Path:
    """Neighbours of a walk; 1-2 again in the other order, 0-1 again slightly and rather changed, and a still camera."""
    rows = [
        shown(0, 0, 1),
        shown(1, 1, 2),
        shown(2, 2, 3),
        shown(3, 2, 1),
        shown(4, 0, 1, off=6),
        shown(5, 0, 1, off=7),
        *(shown(n, 5, 6, off=n % 3, overlap=0.6 + n / 1000) for n in range(6, 12)),
        shown(12, 0, 3),
    ]
    return made(tmp_path / "walked", rows)


def test_of_repeated_pairs_the_first(walked: Path) -> None:
    """To share one frame, or both with two pairs, is to repeat nothing."""
    assert ids(walked, SelectConfig(dedup=True)) == [0, 1, 2, 5, 6, 12]
    assert ids(walked, SelectConfig(dedup=True, near_bits=0)) == [0, 1, 2, 4, 5, 6, 7, 8, 12]
    assert ids(walked, SelectConfig(dedup=True, near_bits=8)) == [0, 1, 2, 6, 12]
    assert ids(walked, SelectConfig()) == list(range(13))


def test_what_was_left_out_is_named(walked: Path) -> None:
    left_out = select(walked, SelectConfig(dedup=True)).left_out.to_pylist()
    assert left_out[0] == {
        "pair_id": "mine/scene/000003-000004",
        "duplicate_of": "mine/scene/000001-000002",
        "against": "",
        "views": "ba",
        "bits": 0,
    }
    assert [line["bits"] for line in left_out] == [0, 6, 1, 2, 0, 1, 2]
    assert {line["duplicate_of"][-6:] for line in left_out[2:]} == {"000007"}


def test_slow_change_is_thinned_out_and_not_lost(tmp_path: Path) -> None:
    """Each is near its neighbours alone: what repeats a pair that was taken goes, and what repeats one that went stays."""
    folder = made(tmp_path / "slow", [shown(n, 0, 1, off=4 * n) for n in range(8)])
    assert ids(folder, SelectConfig(dedup=True)) == [0, 2, 4, 6]


def test_duplicates_go_after_other_conditions_and_before_quotas(walked: Path) -> None:
    dropped = frozenset({"mine/scene/000001-000002"})
    assert 3 in ids(walked, SelectConfig(dedup=True, drop=dropped))
    assert 9 in ids(walked, SelectConfig(dedup=True, where="frame_index_a > 8"))
    some = set(ids(walked, SelectConfig(dedup=True, quota={"mine": 5})))
    assert len(some) == 5
    assert some < {0, 1, 2, 5, 6, 12}


def test_of_a_group_the_best_is_compared(tmp_path: Path) -> None:
    """What --against takes makes room in its group; what repeats another is only looked for among the best."""
    group = {"group": "one", "overlap": 0.55}
    rows = [shown(0, 0, 1), shown(1, 0, 1, **group), shown(2, 2, 3, group="one", overlap=0.6), shown(3, 4, 5)]
    folder, other = made(tmp_path / "pairs", rows), made(tmp_path / "other", [shown(9, 0, 9)])
    assert ids(folder, SelectConfig(dedup=True, overlap=(0.5, 0.7))) == [0, 3]
    assert ids(folder, SelectConfig(against=(other,), overlap=(0.5, 0.7))) == [2, 3]


def test_against_a_dataset_and_a_selection(walked: Path, tmp_path: Path) -> None:
    """One view is enough, its kept pairs count, and --dedup looks only at what is left."""
    other = made(tmp_path / "other", [shown(50, 9, 2, off=2), shown(51, 8, 6), refused(52, 0.4, "overlap_low", **HASHED_0)])
    assert ids(walked, SelectConfig(against=(other,))) == [0, 4, 5, 12]
    config = SelectConfig(where="frame_index_a = 51")
    write_selection(other, "few", select(other, config), config, None)
    chosen = Path(f"{other}@few")
    assert ids(walked, SelectConfig(against=(chosen,), dedup=True)) == [0, 1, 2, 5, 12]
    selected = select(walked, SelectConfig(against=(chosen, other), dedup=True, near_bits=0))
    lines = [(line["against"], line["views"], line["bits"]) for line in selected.left_out.to_pylist()]
    assert lines[:2] == [(str(chosen), "b", 0)] * 2  # two of the six are not a bit off
    assert lines[2:] == [("", "ba", 0), ("", "ab", 0), ("", "ab", 0)]
    assert ids(walked, SelectConfig(against=(walked,))) == []


HASHED_0 = {"phash_a": f"{FRAMES[0]:016x}", "phash_b": f"{FRAMES[1]:016x}"}


def test_pairs_that_cannot_be_compared_stay_and_are_counted(tmp_path: Path) -> None:
    """Without a hash, or too plain for one: not even copies of each other go."""
    rows = [
        *(row(n) for n in range(2)),
        *(shown(n, 0, 1, phash_b=None) for n in (2, 3)),
        *(shown(n, 0, 1, sharpness_a=0.5) for n in (4, 5)),
        *(shown(n, 0, 1, sharpness_a=None, sharpness_b=None) for n in (6, 7)),
    ]
    folder = made(tmp_path / "pairs", rows)
    selected = select(folder, SelectConfig(dedup=True))
    assert (len(selected.keys), selected.num_unhashed, selected.num_plain) == (7, 4, 2)
    other = made(tmp_path / "other", [shown(9, 0, 9, sharpness_a=0.0)])
    assert ids(folder, SelectConfig(against=(other,))) == list(range(8))  # a plain picture is nobody's copy
    other = made(tmp_path / "others", [shown(9, 0, 9)])
    selected = select(folder, SelectConfig(against=(other,)))
    assert (len(selected.keys), selected.num_unhashed, selected.num_plain) == (4, 2, 2)  # the view that has a hash was compared


def test_a_manifest_of_an_earlier_version_has_no_hashes(walked: Path) -> None:
    for path in (walked / "manifest").glob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["phash_a", "phash_b", "sharpness_a"]), path)
    selected = select(walked, SelectConfig(dedup=True, against=(walked,)))
    assert (len(selected.keys), selected.num_unhashed) == (13, 13)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"near_bits": 15, "dedup": True}, "--near-bits 15: give 0 to 14"),
        ({"near_bits": -1, "dedup": True}, "--near-bits -1: give 0 to 14"),
        ({"near_bits": 3}, "--near-bits 3: it speaks of --dedup and --against"),
    ],
)
def test_bits_that_make_no_sense(config: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SelectConfig(**config)


def test_the_search_is_one_more_package(walked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    for config in (SelectConfig(dedup=True), SelectConfig(against=(Path("nowhere"),))):
        with pytest.raises(ConfigError, match=r"^--dedup and --against need one more package: pip install 'twoview\[dedup\]'$"):
            select(walked, config)
    assert len(select(walked, SelectConfig()).keys) == 13


def test_how_it_was_chosen_is_in_the_file(walked: Path, tmp_path: Path) -> None:
    other = made(tmp_path / "other", [shown(50, 9, 2)])
    config = SelectConfig(dedup=True, against=(other,), near_bits=4)
    path = write_selection(walked, "x", select(walked, config), config, None)
    how = json.loads(pq.read_schema(path).metadata[b"selection"])
    assert {name: how[name] for name in ("dedup", "against", "near_bits")} == {
        "dedup": True,
        "against": [str(other)],
        "near_bits": 4,
    }
    assert _how(how) == [f"without pairs of which a view is in {other}", "without pairs that repeat an earlier one"]
    listed = walked / "selections" / "x.left_out.tsv"
    assert listed.read_text().splitlines()[:2] == [
        "pair_id\tduplicate_of\tagainst\tviews\tbits",
        f"mine/scene/000001-000002\tmine/scene/000050-000051\t{other}\tb\t0",
    ]
    config = SelectConfig(drop=frozenset(select(walked, config).left_out["pair_id"].to_pylist()))  # the same pairs, otherwise
    write_selection(walked, "x", select(walked, config), config, None)
    assert not listed.exists()


def test_odd_names_in_the_list() -> None:
    line = {"pair_id": 'a\tb"/1-2', "duplicate_of": "c\nd", "against": "", "views": "ab", "bits": 2}
    text = left_out_bytes(pa.Table.from_pylist([line], duplicates.LEFT_OUT)).decode()
    assert text == 'pair_id\tduplicate_of\tagainst\tviews\tbits\n"a\tb""/1-2"\t"c\nd"\t\tab\t2\n'


# ------------------------------------------------------------------------------------------------- pictures and footage


def write_copy(path: Path, video: Video, width: int, height: int) -> Path:
    """A video at another size and quality."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "32", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(len(video)):
            frame = cv2.resize(video[i].image, (width, height), interpolation=cv2.INTER_AREA)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def twice(walk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The walk, and the same at another size, curated together."""
    folder = tmp_path_factory.mktemp("twice")
    copy = write_copy(folder / "copy.mp4", Video(walk), 320, 240)
    assert curate([walk, copy], folder / "pairs") == 0
    return folder / "pairs"


@pytest.fixture
def own(twice: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(twice, tmp_path / "pairs"))


def test_a_video_that_was_encoded_again(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = set(twoview.open(own).manifest()["pair_id"].to_pylist())
    capsys.readouterr()
    assert main(["select", str(own), "--name", "once", "--dedup"]) == 0
    said = capsys.readouterr()
    once = twoview.open(f"{own}@once").manifest()["pair_id"].to_pylist()
    copied = {pair for pair in first if "/copy.mp4/" in pair and pair.replace("/copy.", "/walk.") in first}
    assert len(copied) > 2
    assert not copied & set(once)
    assert {pair for pair in first if "/walk.mp4/" in pair} <= set(once)
    assert said.err == ""
    lines = said.out.splitlines()
    assert lines[1] == f"left out, within 6 bits of what they duplicate; every one in {own}/selections/once.left_out.tsv"
    assert lines[2] == f"  {len(first) - len(once):8,} that repeat an earlier pair"
    assert any(" as video/walk.mp4/" in line for line in lines[3:])


def test_against_a_folder_of_pictures(own: Path, tmp_path: Path, walk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Larger, darker, in a folder below: what is compared is what would be stored. What cannot be compared is named."""
    kept = [r for r in twoview.open(own).manifest().to_pylist() if r["scene"] == "walk.mp4"]
    frame = Video(walk)[kept[0]["frame_index_b"]].image
    folder = tmp_path / "eval" / "deep"
    folder.mkdir(parents=True)
    darker = cv2.convertScaleAbs(cv2.resize(frame, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC), alpha=0.8)
    cv2.imwrite(str(folder / "seen.jpg"), cv2.cvtColor(darker, cv2.COLOR_RGB2BGR))
    cv2.imwrite(str(folder / "blank.png"), np.full((64, 64, 3), 200, np.uint8))
    (folder / "bad.jpg").write_bytes(b"nothing")
    (folder / "clip.mp4").write_bytes(b"nothing")
    capsys.readouterr()
    assert main(["select", str(own), "--name", "clean", "--against", str(folder.parent)]) == 3
    said = capsys.readouterr()
    assert f"unreadable: {folder}/bad.jpg" in said.err
    assert f"{folder.parent}: videos there are not looked at (1)" in said.err
    assert f"{folder.parent}: 1 of its 2 pictures cannot be compared (1 too plain for one)" in said.err
    assert f"with a view that is in {folder.parent}" in said.out
    assert f"{kept[0]['pair_id']} (b) as {folder}/seen.jpg, " in said.out
    left = [r["pair_id"] for r in select(own, SelectConfig(against=(folder.parent,))).left_out.to_pylist()]
    assert kept[0]["pair_id"] in left
    assert len(left) < len(kept)
    index = kept[0]["frame_index_b"]
    near = {
        r["pair_id"]
        for r in read_manifest(own).to_pylist()
        if {r["frame_index_a"], r["frame_index_b"]} & {*range(index - 3, index + 4)}
    }
    assert set(left) <= near


def test_pictures_are_hashed_as_the_dataset_stores_them(own: Path, photos: Path) -> None:
    assert stored_as(own) == ("centre", 112)
    known = picture_set(photos, *stored_as(own), lambda num, total: None)
    stored = twoview.open(own)[0]
    of, far = nearest(hashes([int(perceptual_hash(stored.a), 16)]).codes, known.hashes.codes)
    assert far[0] <= 2
    assert known.names[int(of[0])].as_py() == str(photos / f"{stored.row.frame_index_a // 3 + 1}.jpg")
    assert stored_as(photos) == ("centre", 256)  # an import does not say


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", "nowhere: no such file or folder"),
        ("walked@none", "walked@none: no such selection"),
        ("empty", "empty: no pictures there$"),
        ("videos", r"videos: no pictures there \(videos are not looked at: curate them"),
    ],
)
def test_sets_that_are_none(name: str, words: str, walked: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"x")
    with pytest.raises(ConfigError, match=words):
        select(walked, SelectConfig(against=(tmp_path / name,)))


def test_nothing_is_left(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dataset against itself: the terminal says why, and nothing is written."""
    assert main(["select", str(own), "--name", "none", "--against", str(own), "--dedup"]) == 4
    said = capsys.readouterr()
    assert "nothing selected of" in said.err
    assert f"with a view that is in {own}" in said.out
    assert "         0 that repeat an earlier pair" in said.out
    assert not (own / "selections").exists()


def test_pictures_none_of_which_can_be_read(walked: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "1.jpg").write_bytes(b"x")
    selected = select(walked, SelectConfig(against=(tmp_path / "bad",)))
    assert len(selected.keys) == 13
    assert [len(pictures.errors) for pictures in selected.sets] == [1]


def test_what_is_not_compared_is_said(walked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = walked / "manifest" / "part-000000.parquet"
    rows = [replace(shown(0, 0, 1), phash_a=None), shown(1, 1, 2, sharpness_b=0.0), shown(2, 2, 3)]
    made(walked.parent / "some", rows)
    shutil.copy(walked.parent / "some" / "manifest" / path.name, path)
    assert main(["select", str(walked), "--name", "x", "--dedup"]) == 0
    said = capsys.readouterr().err
    assert "2 of the 6 selected pairs could not be compared, and are in (1 without a hash, 1 too plain for one)" in said
