"""What the page says is what the dataset holds: counts, pairs, pictures; also where a dataset is empty, half done or odd."""

import base64
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

import twoview
from report.made import GRID, PATCHES, ROWS, write_made
from runs import curate
from twoview.cli import main
from twoview.errors import ConfigError
from twoview.exchange import export, import_pairs
from twoview.report import write_report
from twoview.report.figures import NUM_BINS, figures_of
from twoview.report.gallery import NUM_KEPT, NUM_REFUSED
from twoview.report.page import FILTER_WORDS, REASON_WORDS
from twoview.schema import REASONS
from twoview.shards import part_paths, read_manifest, read_scenes
from twoview.sources.video import Video

STORED_ONLY = 0.0
"""Seconds for reading refused pairs again: none."""


class Page(HTMLParser):
    """The page as a reader of HTML has it: its words, the cards with their pictures, the data."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text()
        self.words: list[str] = []
        self.cards: dict[str, list[str]] = {}
        self.opened: list[str] = []
        self.key = ""
        self.feed(self.html)
        raw = self.html.split('<script type="application/json" id="data">')[1].split("</script>")[0]
        self.data = json.loads(raw)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        known = dict(attrs)
        self.opened.append(tag)
        if "data-key" in known:
            self.key = known["data-key"]
            self.cards[self.key] = []
        if tag == "img":
            self.cards[self.key].append(known["src"])

    def handle_data(self, data: str) -> None:
        if self.opened[-1:] not in (["script"], ["style"]):
            self.words.append(data)


def pixels(uri: str) -> np.ndarray:
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return image


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """The same picture, JPEG noise aside: the frame after it correlates with 0.83 at most."""
    return a.shape == b.shape and float(np.corrcoef(a.mean(axis=2).ravel(), b.mean(axis=2).ravel())[0, 1]) > 0.9


@pytest.fixture
def out(wide: Path, tmp_path: Path) -> Path:
    return shutil.copytree(wide, tmp_path / "pairs", ignore=shutil.ignore_patterns("report.html"))


def test_every_reason_has_its_words() -> None:
    assert set(REASON_WORDS) == {*REASONS, "not_selected"}
    assert all(words.endswith(".") and len(words) > 20 for words in REASON_WORDS.values())


def test_counts(out: Path) -> None:
    rows = read_manifest(out).to_pylist()
    kept = [r for r in rows if r["kept"]]
    path = write_report(out)
    assert path == out / "report.html"
    page = Page(path)
    assert page.data["num_pairs"] == len(rows)
    assert page.data["num_kept"] == len(kept)
    assert page.data["num_stored"] == sum(r["stored"] for r in rows)
    assert page.data["reasons"] == Counter(reason for r in rows for reason in r["reasons"])
    assert list(page.data["reasons"].values()) == sorted(page.data["reasons"].values(), reverse=True)
    by_source = {s: [sum(r["source"] == s for r in some) for some in (kept, rows)] for s in ("video", "images")}
    assert page.data["sources"] == by_source
    for name, some in (("kept_bins", kept), ("refused_bins", [r for r in rows if not r["kept"]])):
        bins = [0] * NUM_BINS
        for r in some:
            if r["overlap"] is not None:
                bins[min(int(r["overlap"] * NUM_BINS + 1e-9), NUM_BINS - 1)] += 1
        assert page.data[name] == bins
    for reason in page.data["reasons"]:
        assert REASON_WORDS[reason] in page.text
    assert "70–80 % of their patches" in page.text
    assert f"{sum(r['source'] == 'video' for r in kept)} of {sum(r['source'] == 'video' for r in rows)} measured" in page.text


def test_spread_of_a_scene(out: Path) -> None:
    figures, _ = figures_of(out)
    rows = [r for r in read_manifest(out).to_pylist() if r["scene"] == "walk.mp4"]
    kept = [r for r in rows if r["kept"]]
    spread = next(s for s in figures.spreads if s.scene == "walk.mp4")
    assert (spread.num_pairs, spread.num_kept, spread.num_frames) == (len(rows), len(kept), 60)
    cells = [[0] * 40, [0] * 40]
    for r in rows:
        for view in (r["frame_index_a"], r["frame_index_b"]):
            cells[1][view * 40 // 60] += 1
            cells[0][view * 40 // 60] += r["kept"]
    assert (list(spread.kept_cells), list(spread.measured_cells)) == (cells[0], cells[1])
    assert spread.coverage == sum(n > 0 for n in cells[0]) / 40
    assert spread.gap_s == pytest.approx(np.median([r["time_b_s"] - r["time_a_s"] for r in kept]))
    assert spread.gap_frames == np.median([r["frame_index_b"] - r["frame_index_a"] for r in kept])
    assert spread.rotation_deg == pytest.approx(np.median([abs(r["rotation_deg"]) for r in kept]))
    assert spread.zoom == pytest.approx(np.median([max(r["scale"], 1 / r["scale"]) for r in kept]))
    assert figures.footage_s == spread.footage_s == pytest.approx(6)
    photos = next(s for s in figures.spreads if s.source == "images")
    assert (photos.gap_s, photos.footage_s, len(photos.kept_cells)) == (None, None, 20)


def test_figures_by_hand(tmp_path: Path) -> None:
    figures, _ = figures_of(write_made(tmp_path / "made"))
    assert (figures.num_pairs, figures.num_kept, figures.num_stored) == (7, 4, 5)
    assert figures.reasons == {"overlap_high": 2, "blurred": 1, "few_matches": 1}
    assert figures.median_overlap == pytest.approx(0.64)
    assert figures.band is None
    assert [figures.kept_bins[n] for n in (25, 31, 33, 34)] == [1, 1, 1, 1]
    assert (figures.refused_bins[45], figures.refused_bins[49], sum(figures.refused_bins)) == (1, 1, 2)
    assert figures.faults == (("partial", "frame 1 is damaged"),)
    long, tiny, none = figures.spreads
    assert (long.scene, tiny.scene, none.scene) == ("long", "tiny", "none")
    assert {n: num for n, num in enumerate(long.kept_cells) if num} == {0: 1, 2: 2, 8: 2, 9: 1}
    assert {n for n, num in enumerate(long.measured_cells) if num} == {0, 2, 8, 9, 20, 22, 24, 30, 39}
    assert long.coverage == 4 / 40
    assert (long.gap_s, long.gap_frames) == (2.0, 2.0)
    assert long.rotation_deg == 20.0
    assert long.zoom == pytest.approx(2.0)  # of 2, 4 and 1.25
    assert (long.footage_s, tiny.footage_s, none.footage_s) == (4.0, None, 10.0)
    assert (figures.footage_s, figures.kept_in_footage) == (14.0, 3)
    assert (none.num_pairs, none.coverage, tiny.num_frames) == (0, None, 2)


def test_the_gallery_takes_from_every_scene_and_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twoview.report.gallery.NUM_KEPT", 2)
    monkeypatch.setattr("twoview.report.gallery.NUM_REFUSED", 2)
    page = Page(write_report(write_made(tmp_path / "made")))
    rows = {r.key: r for r in ROWS}
    shown = [rows[key] for key in page.cards]
    assert sorted(r.scene for r in shown if r.kept) == ["long", "tiny"]
    assert [(r.reasons[0], r.stored) for r in shown if not r.kept] == [("overlap_high", True), ("few_matches", False)]
    assert page.data["cards"][shown[0].key] == {"grid": list(GRID), "patches": PATCHES.tolist()}
    assert "its pictures are not stored. To look at refused pairs, curate with --store 0:1" in page.text
    assert "4 of 7 measured, from 2 scenes" in page.text
    assert "2 of 3" in page.text


def test_the_gallery(out: Path) -> None:
    """Stored pairs with their own pictures and patches, refused ones from the footage, cut as they were measured."""
    samples = {s.row.key: s for s in twoview.open(out)}
    rows = {r["key"]: r for r in read_manifest(out).to_pylist()}
    page = Page(write_report(out))
    kept = [key for key in page.cards if rows[key]["kept"]]
    assert len(kept) == min(NUM_KEPT, len(samples))
    assert {rows[key]["scene"] for key in kept} == {r["scene"] for r in rows.values() if r["kept"]}
    assert len(page.cards) - len(kept) == min(NUM_REFUSED, len(rows) - len(samples))
    for key in kept:
        a, b = page.cards[key]
        assert alike(pixels(a), samples[key].a)
        assert alike(pixels(b), samples[key].b)
        assert page.data["cards"][key] == {"grid": [14, 14], "patches": samples[key].patches.tolist()}
    assert [rows[k]["overlap"] for k in kept] == sorted((rows[k]["overlap"] for k in kept), reverse=True)
    assert {r for key in page.cards for r in rows[key]["reasons"]} == {r for row in rows.values() for r in row["reasons"]}


def test_refused_pairs_are_read_again(walk: Path, dataset: Path, tmp_path: Path) -> None:
    out = shutil.copytree(dataset, tmp_path / "pairs")
    page = Page(write_report(out))
    rows = {r["key"]: r for r in read_manifest(out).to_pylist()}
    again = [key for key in page.cards if not rows[key]["stored"] and rows[key]["source"] == "video"]
    assert again
    assert not set(again) & set(page.data["cards"])
    frames = Video(walk)
    for key in again:
        for view, uri in zip("ab", page.cards[key], strict=True):
            frame = frames[rows[key][f"frame_index_{view}"]].image[:, 60:420]
            assert alike(pixels(uri), cv2.resize(frame, (112, 112), interpolation=cv2.INTER_AREA))
    assert "read from the footage again" in page.text


def test_footage_that_is_gone_changed_or_slow(walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = shutil.copy(walk, tmp_path / "mine.mp4")
    out = tmp_path / "pairs"
    assert curate([video], out) == 0
    refused = min(NUM_REFUSED, sum(not r["kept"] for r in read_manifest(out).to_pylist()))
    assert refused > 1
    hint = "To look at refused pairs, curate with --store 0:1"
    slow = "left out: reading refused pairs again took more than 0 s"
    whole = write_report(out).read_bytes()
    words = re.compile(r"No pictures: (.*?)</div>")
    write_report(out, seconds_for_refused=STORED_ONLY)
    assert words.findall((out / "report.html").read_text()) == [slow] * refused
    video.write_bytes(video.read_bytes() + b"more")
    write_report(out)
    said = words.findall((out / "report.html").read_text())
    assert len(said) == refused
    assert set(said) == {f"what is at {video} is not, or not just, what was curated. {hint}"}
    video.unlink()
    write_report(out)
    assert f"its footage is not at {video} from here" in (out / "report.html").read_text()
    shutil.copy(walk, video)
    assert write_report(out).read_bytes() == whole


def test_the_same_dataset_gives_the_same_page(out: Path, tmp_path: Path) -> None:
    first = write_report(out).read_bytes()
    assert write_report(out).read_bytes() == first
    assert len(first) < 5_000_000
    assert not list(out.rglob("*.partial"))


def test_a_selection(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "quota.txt").write_text("video 2\n")
    arguments = ["--name", "mix", "--overlap", "0.5:0.85", "--where", "scale < 1.2", "--quota", str(out / "quota.txt")]
    assert main(["select", str(out), *arguments]) == 0
    chosen = twoview.open(out, "mix")
    capsys.readouterr()
    assert main(["audit", f"{out}@mix"]) == 0
    path = out / "selections" / "mix.html"
    assert capsys.readouterr().out.endswith(f"to look at: {path}\n")
    page = Page(path)
    rows = read_manifest(out).to_pylist()
    assert page.data["num_kept"] == len(chosen) > 2
    assert page.data["num_pairs"] == len(rows)
    keys = set(chosen.keys.to_pylist())
    assert page.data["reasons"]["not_selected"] == sum(r["kept"] and r["key"] not in keys for r in rows)
    assert set(page.cards) >= keys
    assert "A selection: overlap 0.5:0.85; where scale < 1.2; at most 2 pairs of video." in page.text
    assert "pairs@mix" in page.text
    assert not (out / "report.html").exists()
    with pytest.raises(ConfigError, match="no such selection"):
        write_report(out, "other")


def test_the_band_of_a_nested_selection(out: Path) -> None:
    """That of the nearest selection above which has one; the dataset's if none has; nobody's if one above is gone."""
    (out / "quota.txt").write_text("* 100\n")
    quota = ["--quota", str(out / "quota.txt")]
    for name, within, more in (
        ("plain", "", []),
        ("wide", "", ["--overlap", "0.4:0.8"]),
        ("mix", "@wide", quota),
        ("deep", "@mix", ["--where", "scale > 0"]),
        ("narrow", "@deep", ["--overlap", "0.5:0.75"]),
        ("strict", "@plain", quota),
    ):
        assert main(["select", f"{out}{within}", "--name", name, *more]) == 0
    bands = {name: figures_of(out, name)[0].band for name in ("wide", "mix", "deep", "narrow", "plain", "strict")}
    assert bands == {
        "wide": (0.4, 0.8),
        "mix": (0.4, 0.8),
        "deep": (0.4, 0.8),
        "narrow": (0.5, 0.75),
        "plain": (0.7, 0.8),
        "strict": (0.7, 0.8),
    }
    page = Page(write_report(out, "mix"))
    assert "left:40.00%;width:40.00%" in page.html
    assert "0.4–0.8" in page.text
    (out / "selections" / "wide.parquet").unlink()
    assert figures_of(out, "deep")[0].band is None
    assert "in-band" not in Page(write_report(out, "deep")).html.partition("<main>")[2]


def test_a_selection_without_conditions_says_that_it_is_one(out: Path) -> None:
    assert main(["select", str(out), "--name", "plain"]) == 0
    assert "A selection: the kept pairs." in Page(write_report(out, "plain")).text
    path = out / "selections" / "plain.parquet"
    for metadata in (None, {"selection": "[1]"}, {"selection": "{"}):  # a file that others wrote
        table = pq.read_table(path).replace_schema_metadata(metadata)
        pq.write_table(table, path)
        page = Page(write_report(out, "plain"))
        assert "A selection." in page.text
        assert "of their patches" not in page.text


def test_half_done(dataset: Path, tmp_path: Path) -> None:
    out = shutil.copytree(dataset, tmp_path / "pairs")
    part_paths(out, 3)[2].unlink()
    page = Page(write_report(out))
    assert "4 of 5 parts are finished" in page.text
    assert page.data["num_pairs"] == len(read_manifest(out))


def test_nothing_done_and_nothing_kept(footage: list[Path], tmp_path: Path) -> None:
    assert curate(footage, tmp_path / "none", "--parts", "1/100") == 0
    page = Page(write_report(tmp_path / "none"))
    assert "No pair has been measured yet." in page.text
    assert (page.data["num_pairs"], page.cards) == (0, {})
    assert curate(footage, tmp_path / "refused", "--overlap", "0:0") == 4
    page = Page(write_report(tmp_path / "refused"))
    assert "No pair was kept." in page.text
    assert page.data["num_kept"] == 0
    assert page.data["num_pairs"] > 10


def test_an_input_that_cannot_be_read(walk: Path, tmp_path: Path) -> None:
    (tmp_path / "broken <u>.mp4").write_bytes(walk.read_bytes()[:4000])
    curate([walk, tmp_path / "broken <u>.mp4"], tmp_path / "pairs")
    page = Page(write_report(tmp_path / "pairs"))
    error = next(s["error"] for s in read_scenes(tmp_path / "pairs").to_pylist() if s["error"])
    assert f"unreadable {error}" in page.text
    assert "u" not in page.opened
    assert "1 of 2" in page.text


def test_an_imported_dataset(out: Path, walk: Path, tmp_path: Path) -> None:
    """No band, no clock, no scenes of its own; a grid or none."""
    pairs = twoview.open(out)
    for layout, folder in (("mimic", "mimic"), ("croco", "croco")):
        if layout == "croco":
            assert (
                main(["curate", str(Path(read_scenes(out)["uri"][0].as_py())), "--out", str(tmp_path / "large"), "--workers", "1"])
                == 0
            )
            pairs = twoview.open(tmp_path / "large")
        export(pairs, layout, tmp_path / folder)
        import_pairs(tmp_path / folder, layout, tmp_path / f"{layout} back")
        page = Page(write_report(tmp_path / f"{layout} back"))
        assert page.data["num_kept"] == page.data["num_pairs"] == len(pairs)
        assert bool(page.data["cards"]) == (layout == "mimic")
        assert ("Point at a patch" in page.text) == ("Overlap" in page.text) == (layout == "mimic")
        assert len(page.cards) == min(NUM_KEPT, len(pairs))


def test_a_reason_of_the_user_s(out: Path) -> None:
    """A word that no list has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from twoview.shards import ROW_SCHEMA

    changed = 0
    for path in sorted((out / "manifest").glob("*.parquet")):  # which of them has such rows, a decoder's last bit decides
        table = pq.read_table(path)
        rows = [r | {"reasons": ["too <dark>"]} if not r["stored"] else r for r in table.to_pylist()]
        changed += sum(not r["stored"] for r in rows)
        pq.write_table(pa.Table.from_pylist(rows, ROW_SCHEMA.with_metadata(table.schema.metadata)), path)
    page = Page(write_report(out))
    assert changed
    assert page.data["reasons"]["too <dark>"] == changed
    assert FILTER_WORDS in page.text
    assert "<dark>" not in page.html


def test_runs(out: Path) -> None:
    """Time comes from runs.jsonl, and a line that is cut short hurts nobody."""
    run = {
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 20.0,
        "workers": 2,
        "num_pairs": 300,
        "num_kept": 60,
        "finished": True,
    }
    (out / "runs.jsonl").write_text(f"{json.dumps(run)}\n{json.dumps(run)}\n" + json.dumps(run)[:40])
    page = Page(write_report(out))
    assert "600 pairs in 40 s of curating: 15 measured and 3 kept a second." in page.text
    assert "2026-01-02 03:04" in page.text
    (out / "runs.jsonl").unlink()
    assert "of curating" not in Page(write_report(out)).text


def test_it_needs_nothing_else(out: Path) -> None:
    page = write_report(out).read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "url(" not in page
    assert "@import" not in page
    assert set(re.findall(r"https?://[^\"' ]*", page)) == {"http://www.w3.org/2000/svg"}
