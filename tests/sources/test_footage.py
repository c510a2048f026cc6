"""What is found in folders, lists and names, what it is called, and how it is known again."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from footage_made import number_in, numbered, write_video
from twoview.errors import ConfigError, UnreadableError
from twoview.schema import Source
from twoview.sources import Footage, find_footage

MIB = 1 << 20


def touch(root: Path, *names: str) -> Path:
    """Files that hold their own name: what is found does not depend on what is inside."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))
    return root


def scenes(footage: Footage) -> dict[str, tuple[str, list[str]]]:
    """Name, kind and names of files of each scene."""
    return {name: (item.kind, [p.name for p in item.paths]) for name, item in footage.inputs.items()}


def listed(folder: Path, text: str, encoding: str = "utf-8") -> Footage:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "list.tsv").write_bytes(text.encode(encoding))
    return find_footage((), folder / "list.tsv")


# ------------------------------------------------------------------------------------------------------------- folders


def test_kinds_and_names_in_a_folder(tmp_path: Path) -> None:
    names = (
        "trip/b.mp4",
        "trip/a.MOV",
        "trip/day 2/10.jpg",
        "trip/day 2/9.JPG",
        "trip/day 2/1.heic",
        "trip/day 2/x/c.webm",
        "trip/0.png",
    )
    footage = find_footage([touch(tmp_path, *names) / "trip"])
    assert scenes(footage) == {
        "trip": ("images", ["0.png"]),
        "trip/a.MOV": ("video", ["a.MOV"]),
        "trip/b.mp4": ("video", ["b.mp4"]),
        "trip/day 2": ("images", ["1.heic", "9.JPG", "10.jpg"]),
        "trip/day 2/x/c.webm": ("video", ["c.webm"]),
    }
    assert footage.num_ignored == 0
    assert footage.names() == list(footage.inputs)
    assert isinstance(footage, Source)


def test_folders_and_files_come_in_natural_order(tmp_path: Path) -> None:
    names = [f"a/s{k}/{n}.mp4" for k in (10, 2, 1) for n in ("v10", "v9")]
    assert find_footage([touch(tmp_path, *names) / "a"]).names() == [f"a/s{k}/{n}.mp4" for k in (1, 2, 10) for n in ("v9", "v10")]


def test_other_files_are_counted_and_hidden_ones_are_not_there(tmp_path: Path) -> None:
    names = ("a/1.jpg", "a/notes.txt", "a/b/README", "a/b/1.json", "a/.DS_Store", "a/._1.jpg", "a/.cache/2.jpg", "a/.v.mp4")
    footage = find_footage([touch(tmp_path, *names) / "a"])
    assert scenes(footage) == {"a": ("images", ["1.jpg"])}
    assert footage.num_ignored == 3


def test_a_dataset_of_an_earlier_run_is_not_footage(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "a/1.jpg",
        "a/out/plan.parquet",
        "a/out/9.jpg",
        "a/out/shards/x.mp4",
        "a/b/c/plan.parquet",
        "a/b/c/2.mp4",
        "a/b/3.mp4",
    )
    footage = find_footage([tmp_path / "a"])
    assert footage.names() == ["a", "a/b/3.mp4"]
    assert footage.num_ignored == 0


def test_a_folder_with_nothing_in_it(tmp_path: Path) -> None:
    assert find_footage([tmp_path]).names() == []


def test_a_dot_has_the_name_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(touch(tmp_path, "trip/1.jpg", "trip/sub/a.mp4") / "trip")
    assert find_footage([Path()]).names() == ["trip", "trip/sub/a.mp4"]
    monkeypatch.chdir("sub")
    assert find_footage([Path("..")]).names() == ["trip", "trip/sub/a.mp4"]


def test_a_linked_folder_keeps_the_name_it_is_given_by(tmp_path: Path) -> None:
    touch(tmp_path, "disk7/a.mp4")
    (tmp_path / "holiday").symlink_to("disk7")
    assert find_footage([tmp_path / "holiday"]).names() == ["holiday/a.mp4"]


def test_links_that_lead_in_a_circle(tmp_path: Path) -> None:
    """Each folder once; without care two such links make 2^40 paths."""
    touch(tmp_path, "a/1.jpg", "a/b/2.jpg", "a/c/3.mp4", "elsewhere/4.jpg")
    for at, to in (
        ("a/loop", "."),
        ("a/b/up", ".."),
        ("a/b/across", "../c"),
        ("a/c/across", "../b"),
        ("a/c/out", "../../elsewhere"),
    ):
        (tmp_path / at).symlink_to(to)
    (tmp_path / "a/gone").symlink_to("nowhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "a")
    assert find_footage([tmp_path / "a"]).names() == ["a", "a/b", "a/c/3.mp4", "a/c/out"]


def test_a_linked_file_is_footage_and_a_dangling_one_is_unreadable(tmp_path: Path) -> None:
    write_video(touch(tmp_path, "a/x.txt") / "v.mp4", [numbered(1)])
    (tmp_path / "a/ok.mp4").symlink_to("../v.mp4")
    (tmp_path / "a/gone.mp4").symlink_to("../w.mp4")
    footage = find_footage([tmp_path / "a"])
    assert footage.names() == ["a/gone.mp4", "a/ok.mp4"]
    assert len(footage.open("a/ok.mp4")) == 1
    with pytest.raises(UnreadableError, match=r"gone\.mp4"):
        footage.open("a/gone.mp4")
    footage.fingerprint("a/gone.mp4")


def test_a_name_that_no_table_can_hold(tmp_path: Path) -> None:
    """Latin-1 on an old disk: said of that one file, and the others are there."""
    try:
        touch(tmp_path, os.fsdecode(b"a/\xe9t\xe9.mp4"), os.fsdecode(b"a/\xe9t\xe9.jpg"), "a/1.jpg", os.fsdecode(b"\xe9/2.jpg"))
    except OSError:
        pytest.skip("this disk knows names in UTF-8 only")
    footage = find_footage([tmp_path / "a"])
    assert scenes(footage)["a"] == ("images", ["1.jpg"])
    for name in ("a/\ufffdt\ufffd.mp4", "a/\ufffdt\ufffd.jpg"):
        with pytest.raises(UnreadableError, match="UTF-8"):
            footage.open(name)
        footage.about(name).uri.encode()
        footage.fingerprint(name)
    with pytest.raises(ConfigError, match="UTF-8"):
        find_footage([tmp_path / os.fsdecode(b"\xe9")])


# --------------------------------------------------------------------------------------------------------------- paths


def test_files_given_one_by_one(tmp_path: Path) -> None:
    """Photos of one folder are one scene, as a shell writes them for `photos/*.jpg`; in the order given."""
    touch(tmp_path, "x/v.mp4", "x/2.jpg", "x/10.jpg", "y/1.jpg", "z/x/1.jpg", "odd.bin")
    footage = find_footage([tmp_path / p for p in ("x/10.jpg", "x/v.mp4", "y/1.jpg", "x/2.jpg", "z/x/1.jpg", "odd.bin")])
    assert scenes(footage) == {
        "v.mp4": ("video", ["v.mp4"]),
        "odd.bin": ("video", ["odd.bin"]),
        "x": ("images", ["10.jpg", "2.jpg"]),
        "y": ("images", ["1.jpg"]),
        "x~2": ("images", ["1.jpg"]),
    }


def test_two_of_one_name(tmp_path: Path) -> None:
    touch(tmp_path, "a/v.mp4", "b/v.mp4", "c/v.mp4", "d/v.mp4~2", "e/s/1.jpg", "f/s/1.jpg")
    paths = ("a/v.mp4", "d/v.mp4~2", "b/v.mp4", "c/v.mp4", "e/s", "f/s")
    footage = find_footage([tmp_path / p for p in paths])
    assert footage.names() == ["v.mp4", "v.mp4~2", "v.mp4~3", "v.mp4~4", "s", "s~2"]
    assert [item.paths[0].parent.name for item in footage.inputs.values()][:4] == ["a", "d", "b", "c"]
    assert footage.open("s~2").name == "s~2"


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "no.mp4", tmp_path / ("x" * 300)):
        with pytest.raises(ConfigError) as caught:
            find_footage([path])
        assert str(path) in str(caught.value)


def test_only_the_first_scenes(tmp_path: Path) -> None:
    footage = find_footage([touch(tmp_path, "a/1.mp4", "a/2.mp4", "a/3.mp4", "a/x.txt") / "a"])
    assert footage.take(2).names() == ["a/1.mp4", "a/2.mp4"]
    assert footage.take(2).num_ignored == 1
    assert footage.take(None).names() == footage.names()


# --------------------------------------------------------------------------------------------------------------- lists


def test_pipes_are_left_alone(tmp_path: Path) -> None:
    """Opening one would wait for ever."""
    touch(tmp_path / "mine", "good.mp4")
    os.mkfifo(tmp_path / "mine" / "pipe.mp4")
    footage = find_footage([tmp_path / "mine"])
    assert (footage.names(), footage.num_ignored) == (["mine/good.mp4"], 1)
    with pytest.raises(ConfigError, match=r"pipe\.mp4: neither a file nor a folder, but a pipe or a device"):
        find_footage([tmp_path / "mine" / "pipe.mp4"])
    footage = listed(tmp_path / "mine", "pipe.mp4\ngood.mp4\n")
    assert scenes(footage) == {"pipe.mp4": ("missing", ["pipe.mp4"]), "good.mp4": ("video", ["good.mp4"])}
    with pytest.raises(UnreadableError, match="a pipe or a device"):
        footage.open("pipe.mp4")


@pytest.mark.parametrize("header", ["path\tsource\tlicence", "path\tsource"])
def test_a_list_with_a_header(header: str, tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    footage = listed(tmp_path, f"{header}\na.mp4\tmine\n")
    assert {name: item.source for name, item in footage.inputs.items()} == {"a.mp4": "mine"}


def test_a_list(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "l/a.mp4",
        "l/x.mp4",
        "w/b.mp4",
        "w/f/1.jpg",
        "w/f/s/c.mkv",
        "w/f/s/notes.txt",
        "l/p/2.jpg",
        "l/p/1.jpg",
        "l/0.png",
    )
    text = f"""# what Ann filmed
a.mp4
  # more
x.mp4\tann's street\t CC BY 4.0{" "}

../w/b.mp4\t\tCC0
{tmp_path}/w/f\twalks
p/2.jpg\tann
p/1.jpg\tann
0.png
gone/d.mp4\told\tCC0
"""
    footage = listed(tmp_path / "l", text)
    top = str(tmp_path).lstrip("/")
    found = [(n, i.kind, i.source, i.licence, [p.name for p in i.paths]) for n, i in footage.inputs.items()]
    assert found == [
        ("a.mp4", "video", "video", None, ["a.mp4"]),
        ("x.mp4", "video", "ann's street", "CC BY 4.0", ["x.mp4"]),
        ("../w/b.mp4", "video", "video", "CC0", ["b.mp4"]),
        (f"{top}/w/f", "images", "walks", None, ["1.jpg"]),
        (f"{top}/w/f/s/c.mkv", "video", "walks", None, ["c.mkv"]),
        ("gone/d.mp4", "missing", "old", "CC0", ["d.mp4"]),
        ("p", "images", "ann", None, ["2.jpg", "1.jpg"]),
        ("l", "images", "images", None, ["0.png"]),
    ]
    assert footage.num_ignored == 1
    assert footage.about("x.mp4").licence == "CC BY 4.0"
    assert footage.about("p").uri == str(tmp_path / "l" / "p")
    with pytest.raises(UnreadableError, match=r"gone/d\.mp4"):
        footage.open("gone/d.mp4")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_how_a_list_is_written(end: str, encoding: str, tmp_path: Path) -> None:
    touch(tmp_path, "a b.mp4", "東京.mp4", "one\u2028two.mp4", "c.mp4")
    text = end.join(["a b.mp4\ts\tCC0", "東京.mp4", "one\u2028two.mp4", "", "c.mp4"])
    footage = listed(tmp_path, text, encoding)
    assert footage.names() == ["a b.mp4", "東京.mp4", "one\u2028two.mp4", "c.mp4"]
    assert {i.kind for i in footage.inputs.values()} == {"video"}
    assert footage.inputs["a b.mp4"].licence == "CC0"


def test_a_list_names_its_own_folder(tmp_path: Path) -> None:
    touch(tmp_path, "trip/1.jpg", "trip/sub/a.mp4")
    assert listed(tmp_path / "trip", ".\n").names() == ["trip", "trip/sub/a.mp4"]


def test_photos_of_one_folder_with_two_licences_are_two_scenes(tmp_path: Path) -> None:
    touch(tmp_path, "p/1.jpg", "p/2.jpg", "p/3.jpg")
    footage = listed(tmp_path, "p/1.jpg\t\tCC0\np/2.jpg\np/3.jpg\t\tCC0\n")
    assert {n: (i.licence, [p.name for p in i.paths]) for n, i in footage.inputs.items()} == {
        "p": ("CC0", ["1.jpg", "3.jpg"]),
        "p~2": (None, ["2.jpg"]),
    }


@pytest.mark.parametrize("line", ["a.mp4\ts\tCC0\tmore", "\ts\tCC0", "a.mp4\t\t\t"])
def test_a_line_that_is_not_three_columns(line: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 3") as caught:
        listed(tmp_path, f"# columns\na.mp4\n{line}\nb.mp4\n")
    assert "list.tsv" in str(caught.value)


def test_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.tsv"):
        find_footage((), tmp_path / "no.tsv")
    with pytest.raises(ConfigError, match="UTF-8"):
        listed(tmp_path, "café.mp4\n", "latin-1")
    with pytest.raises(ConfigError):
        find_footage((), tmp_path)


@pytest.mark.parametrize("line", ["x" * 5000, "a\0b.mp4", "list.tsv/a.mp4", "//", "~/a.mp4"])
def test_one_odd_line_does_not_lose_the_list(line: str, tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    footage = listed(tmp_path, f"a.mp4\n{line.replace('//', 'no//where')}\n")
    assert [item.kind for item in footage.inputs.values()] == ["video", "missing"]


def test_a_long_list(tmp_path: Path) -> None:
    names = [f"clips/{k:05d}.mp4" for k in range(5000)]
    touch(tmp_path, *names[:100])
    footage = listed(tmp_path, "\n".join([*names, *names[:1000], *(f"p/{k}.jpg" for k in range(100))]))
    assert footage.names()[:5000] == names
    assert sum(item.kind == "video" for item in footage.inputs.values()) == 100
    assert (len(footage.inputs), footage.num_repeated) == (5100, 1000)


def test_what_is_given_twice_is_one_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/v.mp4", "a/sub/1.jpg", "a/sub/2.jpg", "b/v.mp4")
    monkeypatch.chdir(tmp_path)
    footage = find_footage([Path(p) for p in ("a", "a/v.mp4", "./a/../a/v.mp4", "a/sub", "b/v.mp4")])
    assert footage.names() == ["a/v.mp4", "a/sub", "v.mp4"]
    assert footage.num_repeated == 3
    footage = find_footage([Path("a/sub/2.jpg"), Path("a/sub/1.jpg"), Path("a/sub/2.jpg")])
    assert scenes(footage) == {"sub": ("images", ["2.jpg", "1.jpg"])}


# -------------------------------------------------------------------------------------------------------- fingerprints


def printed(path: Path) -> tuple[str, int]:
    footage = find_footage([path])
    return footage.fingerprint(footage.names()[0])


def test_a_fingerprint_speaks_of_the_bytes_not_of_the_place(tmp_path: Path) -> None:
    path = touch(tmp_path, "one/v.mp4") / "one" / "v.mp4"
    data = bytearray(os.urandom(3 * MIB))
    path.write_bytes(data)
    before = printed(path)
    assert before[1] == 3 * MIB
    (tmp_path / "two").mkdir()
    moved = path.rename(tmp_path / "two" / "v.mp4")
    os.utime(moved, (0, 0))
    assert printed(moved) == before
    for at, noticed in ((0, True), (MIB - 1, True), (MIB, False), (2 * MIB - 1, False), (2 * MIB, True), (3 * MIB - 1, True)):
        changed = bytearray(data)
        changed[at] ^= 1
        moved.write_bytes(changed)
        assert (printed(moved) != before) == noticed, at
    moved.write_bytes(data[:MIB] + bytes(1) + data[MIB:])
    assert printed(moved)[0] != before[0]
    assert printed(moved)[1] == 3 * MIB + 1


def test_a_short_file_is_hashed_whole(tmp_path: Path) -> None:
    path = touch(tmp_path, "v.mp4") / "v.mp4"
    seen = set()
    for data in (b"", b"a", b"b", b"ab", b"ba", bytes(MIB), bytes(MIB + 1)):
        path.write_bytes(data)
        seen.add(printed(path))
    assert len(seen) == 7


def test_the_fingerprint_of_a_folder_of_photos(tmp_path: Path) -> None:
    folder = touch(tmp_path, "p/1.jpg", "p/2.jpg", "p/3.jpg") / "p"
    before = printed(folder)
    assert before[1] == 3 * len("p/1.jpg")

    def after(*change: Path | bytes) -> str:
        path, data = change
        old = path.read_bytes()
        path.write_bytes(data)
        now = printed(folder)[0]
        path.write_bytes(old)
        return now

    assert printed(folder) == before
    assert after(folder / "1.jpg", b"p/x.jpg") != before[0]
    assert after(folder / "3.jpg", b"p/x.jpg") != before[0]
    assert after(folder / "2.jpg", b"longer than it was") != before[0]
    (folder / "2.jpg").rename(folder / "2b.jpg")
    assert printed(folder)[0] != before[0]
    touch(tmp_path, "p/2.jpg", "p/notes.txt")
    (folder / "2b.jpg").unlink()
    assert printed(folder) == before
    touch(tmp_path, "p/4.jpg")
    assert printed(folder)[0] != before[0]
    folder.rename(tmp_path / "q")
    (tmp_path / "q" / "4.jpg").unlink()
    assert printed(tmp_path / "q") == before


def test_a_file_that_is_gone_has_a_fingerprint(tmp_path: Path) -> None:
    footage = listed(tmp_path, "a.mp4\nb.mp4\n")
    prints = [footage.fingerprint(name) for name in footage.names()]
    assert prints[0] != prints[1]
    assert [num_bytes for _, num_bytes in prints] == [0, 0]


# --------------------------------------------------------------------------------------------------------------- opened


def test_scenes_open_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "trip" / "stills").mkdir(parents=True)
    write_video(tmp_path / "trip" / "v.mp4", [numbered(k) for k in range(4)])
    for k in range(3):
        Image.fromarray(numbered(k)).save(tmp_path / "trip" / "stills" / f"{k}.png")
    (tmp_path / "trip" / "bad.mp4").write_text("no video")
    footage = find_footage([tmp_path / "trip"])
    for name, num, uri in (("trip/v.mp4", 4, "trip/v.mp4"), ("trip/stills", 3, "trip/stills")):
        scene = footage.open(name)
        assert (scene.name, len(scene)) == (name, num)
        assert [number_in(scene[i].image) for i in range(num)] == list(range(num))
        assert scene[1].id == f"{footage.about(name).source}/{name}/000001"
        assert footage.about(name).uri == str(tmp_path / uri)
        assert scene.info.uri == str(tmp_path / uri)
    with pytest.raises(UnreadableError, match=r"bad\.mp4"):
        footage.open("trip/bad.mp4")


def names_of(paths: Sequence[Path]) -> list[str]:
    return find_footage(paths).names()


def test_the_same_names_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "x/trip/1.jpg", "x/trip/s/v.mp4")
    expected = ["trip", "trip/s/v.mp4"]
    assert names_of([tmp_path / "x" / "trip"]) == expected
    monkeypatch.chdir(tmp_path)
    assert names_of([Path("x/trip")]) == names_of([Path("x/../x/trip/")]) == expected
    (tmp_path / "x").rename(tmp_path / "y")
    assert names_of([Path("y/trip")]) == expected
