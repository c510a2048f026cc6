"""Several sources as one dataset: the pairs are those of each source's own recipe, and quotas choose among them."""

import json
import shutil
import signal
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import twoview
from mimic_made import write_sources
from runs import digests, driver, finish, litter, start
from runs import twoview as run
from twoview.cli import main
from twoview.cli.curate import curate_to
from twoview.curation.composition import ALIASES, Composition, _roots
from twoview.curation.curate import CurateConfig
from twoview.curation.propose import AllPairs, Consecutive, EverySeconds
from twoview.dataset import selection_keys
from twoview.errors import ConfigError
from twoview.recipes import CURATE, PAIRS_3M, REAL, SYNTHETIC, mimic_1m, mimic_3m, mimic_real, mimic_synthetic
from twoview.report.gallery import FootageAgain
from twoview.shards import finished_parts, read_manifest, read_scenes
from twoview.sources.datasets import Mannequin, Objectron, ScanNet, StreetView
from twoview.sources.video import Video

TEN = set(PAIRS_3M)


@pytest.fixture(scope="session")
def sources(walk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sources(tmp_path_factory.mktemp("mimic") / "sources", walk)


def three() -> Composition:
    """Quick ones, each sampled in another way."""
    wide = CurateConfig(overlap=(0.3, 0.95), size=112)
    members = {
        "objectron": replace(wide, source=Objectron(), propose=EverySeconds(seconds=0.5)),
        "mannequin": replace(wide, source=Mannequin(), propose=Consecutive(step=5, every=2)),
        "street_view": replace(wide, source=StreetView(), propose=AllPairs(), overlap=(0.5, 0.75)),
    }
    return Composition(name="three", members=members, quota={"objectron": 3, "mannequin": 100, "street_view": 1}, claimed="a test")


def rows(out: Path) -> list[dict[str, object]]:
    return read_manifest(out).to_pylist()


def test_the_pairs_are_those_of_each_source_s_own_recipe(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    composition, names = three(), {"objectron": "objectron", "mannequin": "MannequinChallenge", "street_view": "3DStreetView"}
    assert curate_to([sources], composition, tmp_path / "all") == 0
    said = capsys.readouterr().out
    alone: list[dict[str, object]] = []
    for source, folder in names.items():
        assert curate_to([sources / folder], composition.members[source], tmp_path / source) == 0
        alone += rows(tmp_path / source)
    place = ("shard", "offset")
    assert [{k: v for k, v in row.items() if k not in place} for row in rows(tmp_path / "all")] == [
        {k: v for k, v in row.items() if k not in place} for row in alone
    ]
    kept = {source: sum(bool(r["kept"]) for r in alone if r["source"] == source) for source in names}
    assert kept["objectron"] > 3
    assert kept["street_view"] >= 1
    assert f"mannequin              100{kept['mannequin']:12}{kept['mannequin']:12}   {100 - kept['mannequin']} short" in said
    chosen = twoview.open(tmp_path / "all", selection="three")
    assert len(chosen) == 3 + kept["mannequin"] + 1
    assert main(["audit", str(tmp_path / "all")]) == 0


def test_three_million(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All ten trees by one command: each source gives pairs, and the shortfall of each is named."""
    out = tmp_path / "pairs"
    command = ["curate", str(sources), "--recipe", "mimic_3m", "--out", str(out), "--max-pairs-per-scene", "8"]
    assert main(command) == 0
    said = capsys.readouterr()
    kept = {
        source for source, taken in zip(*read_manifest(out).select(["source", "kept"]).to_pydict().values(), strict=True) if taken
    }
    assert kept == TEN
    for source, wanted in PAIRS_3M.items():
        line = next(line for line in said.out.splitlines() if line.startswith(source))
        num_found, num_taken = (int(word) for word in line.split()[2:4])
        assert num_found == num_taken == sum(r["source"] == source and bool(r["kept"]) for r in rows(out))
        assert line.endswith(f"{wanted - num_found:,} short")
    assert "left out: 1 of 2 scenes" in said.err
    assert "Cantwell" not in read_scenes(out)["scene"].to_pylist()
    chosen = twoview.open(out, selection="mimic_3m")
    assert len(chosen) == sum(bool(r["kept"]) for r in rows(out))
    again = FootageAgain(out, json.loads((out / "config.json").read_text()), 60.0)
    for pair in {pair.row.source: pair for pair in chosen}.values():  # as the page shows refused ones
        assert not again.card(asdict(pair.row)).why
        picture = again._open[pair.row.source, pair.row.scene]
        assert callable(picture)
        assert np.abs(picture(pair.row.frame_index_b).astype(float) - pair.b).mean() < 8  # of JPEG


def test_a_composition_is_made_again_from_its_manifest(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All sources at once, to the byte; and those of one, from its folder alone, without the one that is not there."""
    out, mine = tmp_path / "all", sources / "MannequinChallenge"
    assert curate_to([sources], three(), out) == 0
    shards = {name: digest for name, digest in digests(out).items() if name.startswith("shards/")}
    shared = read_manifest(out).to_pylist()
    shutil.rmtree(out / "shards")
    again = ("--from", "manifest", "--footage")
    assert main(["import", str(out), *again, str(sources), "--out", str(tmp_path / "whole")]) == 0
    assert shards.items() <= digests(tmp_path / "whole").items()
    assert selection_keys(tmp_path / "whole", "three").equals(selection_keys(out, "three"))
    capsys.readouterr()
    assert main(["import", str(out), *again, str(mine), "--out", str(tmp_path / "part")]) == 3
    assert "nothing in the footage has its bytes or its name" in capsys.readouterr().out
    back = {r["pair_id"]: r["sha256_a"] for r in rows(tmp_path / "part") if r["kept"]}
    assert back == {r["pair_id"]: r["sha256_a"] for r in shared if r["kept"] and r["source"] == "mannequin"}
    assert back


def test_the_held_out_scenes_are_walked_by_their_own_recipe_only(sources: Path, tmp_path: Path) -> None:
    command = ["curate", str(sources / "gibson"), "--recipe", "gibson_reconstruction_500", "--out", str(tmp_path / "pairs")]
    assert main([*command, "--max-pairs-per-scene", "6"]) == 0
    assert read_scenes(tmp_path / "pairs")["scene"].unique().to_pylist() == ["Cantwell"]
    assert 0 < len(twoview.open(tmp_path / "pairs", selection="gibson_reconstruction_500")) <= 500


def test_missing_roots_are_named_or_left_out_and_come_later(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part, out = tmp_path / "part", tmp_path / "pairs"
    part.mkdir()
    (part / "Objectron").symlink_to(sources / "objectron")
    with pytest.raises(ConfigError, match="there is no mannequin/, street_view/") as error:
        curate_to([part], three(), out)
    assert "--allow-missing" in str(error.value)
    assert not out.exists()
    composition = replace(three(), allow_missing=True)
    assert curate_to([part], composition, out) == 0
    assert "no folder for mannequin, street_view: left out" in capsys.readouterr().err
    before = digests(out)
    (part / "mannequin challenge").symlink_to(sources / "MannequinChallenge")
    assert curate_to([part], composition, out, extend=True) == 0
    assert {r["source"] for r in rows(out)} == {"objectron", "mannequin"}
    assert before.items() <= digests(out).items()
    assert f"{out}@three-2" in capsys.readouterr().out


def test_killed_and_run_again(sources: Path, tmp_path: Path) -> None:
    """The same bytes and the same choice as of a run that nobody stopped."""
    flags = ("--recipe", "mimic_real", "--allow-missing", "--workers", "2")
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert run("curate", sources, "--out", whole, *flags).returncode == 0
    kill = f"""
write = shards.ShardWriter.write_sample
def write_sample(self, *args):
    write(self, *args)
    if list(Path({str(torn)!r}).glob("manifest/*.parquet")): os.killpg(0, signal.SIGKILL)
shards.ShardWriter.write_sample = write_sample
"""
    assert finish(start(driver(tmp_path, kill), "curate", sources, "--out", torn, *flags))[0] == -signal.SIGKILL
    assert finished_parts(torn)
    assert not (torn / "selections").exists()
    again = run("curate", sources, "--out", torn, *flags)
    assert again.returncode == 0, again.stderr
    assert digests(torn) == digests(whole)
    assert litter(torn) == []
    assert twoview.open(torn, selection="mimic_real").manifest().equals(twoview.open(whole, selection="mimic_real").manifest())


@pytest.mark.parametrize(
    ("paths", "words"),
    [(["nowhere"], "no such folder"), (["file"], "not a folder"), (["empty"], "wants a folder for each of its sources")],
)
def test_bad_roots(paths: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for allow in (False, True):
        with pytest.raises(ConfigError, match=words):
            replace(three(), allow_missing=allow).source([tmp_path / name for name in paths])


def test_a_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="finds its scenes itself"):
        three().source([tmp_path], tmp_path / "list.txt")


def test_whoever_finishes_the_last_part_chooses(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert curate_to([sources], three(), tmp_path / "two", share=(2, 2)) == 0
    assert "whoever finishes the last chooses three" in capsys.readouterr().out
    assert not (tmp_path / "two" / "selections").exists()
    assert curate_to([sources], three(), tmp_path / "two", share=(1, 2)) == 0
    assert curate_to([sources], three(), tmp_path / "one") == 0
    assert (
        twoview.open(tmp_path / "two", selection="three")
        .manifest()
        .equals(twoview.open(tmp_path / "one", selection="three").manifest())
    )


def test_sources_of_ones_own_are_called_as_their_members(walk: Path, tmp_path: Path) -> None:
    """What says no more of itself than names() and open() goes by the name of its class."""
    folder = tmp_path / "My-Set"
    folder.mkdir()
    shutil.copy(walk, folder / "walk.mp4")
    config = CurateConfig(overlap=(0.3, 0.95), propose=Consecutive(step=5))
    with pytest.raises(ConfigError, match="scenes are of the source 'video'"):
        Composition(name="mine", members={"My-Set": config}, quota={"My-Set": 3}, claimed="").source([tmp_path])
    mine = replace(config, source=bare)
    composition = Composition(name="mine", members={"Bare": mine}, quota={"Bare": 3}, claimed="")
    assert curate_to([folder], composition, tmp_path / "pairs") == 0
    assert len(twoview.open(tmp_path / "pairs", selection="mine")) == 3
    with pytest.raises(ConfigError, match="--limit: Bare, the source of 'Bare', has no method take"):
        curate_to([folder], composition, tmp_path / "more", limit=1)


class Bare:
    """The least that a source has."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        return ["walk"]

    def open(self, name: str) -> Video:
        return Video(self.path, name=name)


def bare(paths: list[Path], list_file: Path | None) -> Bare:
    return Bare(next(paths[0].glob("*.mp4")))


def test_frames_that_were_exported_are_known_again(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody mined the .sens, and a reader of the manifest has the frames that the official exporter made of it."""
    scan, own = sources / "scannet", tmp_path / "own" / "scene0000_00" / "color"
    assert main(["curate", str(scan), "--recipe", "mimic_scannet", "--out", str(tmp_path / "pairs")]) == 0
    own.mkdir(parents=True)
    recording = ScanNet()([scan]).open("scene0000_00")
    for k in range(len(recording)):
        cv2.imwrite(str(own / f"{k}.jpg"), recording[k].image[:, :, ::-1])
    capsys.readouterr()
    command = [
        "import",
        str(tmp_path / "pairs"),
        "--from",
        "manifest",
        "--footage",
        str(tmp_path / "own"),
        "--out",
        str(tmp_path / "again"),
    ]
    assert main(command) == 0
    kept = sum(bool(r["kept"]) for r in rows(tmp_path / "pairs"))
    assert f"{kept} of {kept} pairs are back" in capsys.readouterr().out


def test_all_left_out_is_as_missing(sources: Path, tmp_path: Path) -> None:
    """A source of which its own rule leaves out all: said, and gone on without."""
    (tmp_path / "gibson").mkdir()
    (tmp_path / "gibson" / "Cantwell.glb").symlink_to(sources / "gibson" / "Cantwell.glb")
    (tmp_path / "mp3d").symlink_to(sources / "mp3d")
    (tmp_path / "matterport3d").symlink_to(sources / "mp3d")
    with pytest.raises(ConfigError, match=r"--recipe mimic_gibson --source.part held_out"):
        replace(mimic_synthetic(), members={"gibson": mimic_synthetic().of("gibson")}, quota={"gibson": 1}).source([tmp_path])
    found = replace(mimic_synthetic(), allow_missing=True).source([tmp_path])
    assert list(found.names()) == ["17DRP5sb8fy"]  # once, though two links lead there
    assert "every scene of it (1) is held out" in found.remark


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "my mix"}, "dashes and underscores"),
        ({"quota": {"objectron": 1}}, "the same sources"),
        ({"members": {}}, "one at least"),
    ],
)
def test_compositions_that_are_none(changes: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(three(), **changes)


@pytest.mark.parametrize("source", sorted(TEN))
def test_every_source_by_its_own_recipe(source: str, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line, as a user of one dataset does it."""
    (folder,) = _roots(source, [sources])
    flags = ("--max-pairs-per-scene", "8") if source in SYNTHETIC else ()
    assert main(["curate", str(folder), "--recipe", f"mimic_{source}", "--out", str(tmp_path / "pairs"), *flags]) == 0
    found = rows(tmp_path / "pairs")
    assert {r["source"] for r in found} == {source}
    assert any(r["kept"] for r in found)
    assert None not in {r["licence"] for r in found}


def test_members_of_two_sizes_do_not_go_together() -> None:
    members = {**three().members, "objectron": CurateConfig(source=Objectron(), size=224)}
    with pytest.raises(ConfigError, match="several sizes"):
        replace(three(), members=members)


def test_two_scenes_of_one_name_are_refused(sources: Path, tmp_path: Path) -> None:
    for name in ("hm3d/00001-17DRP5sb8fy/17DRP5sb8fy.glb", "matterport/00001-17DRP5sb8fy/00001-17DRP5sb8fy.glb"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.symlink_to(sources / "gibson" / "Adrian.glb")
    composition = replace(mimic_3m(), allow_missing=True)
    with pytest.raises(ConfigError, match="00001-17DRP5sb8fy: two sources have a scene of that name"):
        composition.source([tmp_path])


def test_quotas_are_the_paper_s_sums() -> None:
    """3,163,333 pairs, of them 1,013,577 real, 434,267 without 3DStreetView: to the 0.02 % that figure 2 can be read to."""
    real, synthetic = sum(PAIRS_3M[s] for s in REAL), sum(PAIRS_3M[s] for s in SYNTHETIC)
    assert abs(real - 1_013_577) < 600
    assert abs(real - PAIRS_3M["street_view"] - 434_267) < 600
    assert abs(real + synthetic - 3_163_333) < 600
    assert set(mimic_3m().quota) == set(mimic_1m().quota) == TEN
    assert sum(mimic_1m().quota.values()) == pytest.approx(1.3e6, abs=10)
    assert set(mimic_real().quota) == set(REAL) - {"street_view"}
    assert set(mimic_synthetic().quota) == set(SYNTHETIC)


def test_every_source_has_a_recipe_of_its_own() -> None:
    for source in TEN:
        config = CURATE[f"mimic_{source}"]()
        assert isinstance(config, CurateConfig)
        assert config.source.source == source  # pyright: ignore
        assert config.size == 224
    assert set(ALIASES) <= TEN


def test_a_change_of_a_member_is_another_dataset() -> None:
    composition = three()
    other = {**composition.members, "objectron": replace(composition.members["objectron"], overlap=(0.4, 0.95))}
    assert replace(composition, members=other).sha256 != composition.sha256
    assert replace(composition, quota=dict.fromkeys(composition.quota, 1), allow_missing=True).sha256 == composition.sha256


def test_each_source_is_foretold_for_itself(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So little footage is measured whole; then the run says that it came so."""
    assert curate_to([sources], three(), tmp_path, dry_run=True) == 0
    told = capsys.readouterr().out
    assert {p.name for p in tmp_path.iterdir()} == {"forecast.json"}
    assert curate_to([sources], three(), tmp_path) == 0
    kept = Counter(r["source"] for r in rows(tmp_path) if r["kept"])
    assert len(kept) == 3
    for source, wanted in three().quota.items():
        assert f"{source:14}{wanted:12,}{kept[source]:12,}\n" in told
    assert f"foretold: {kept.total()} pairs; kept: {kept.total()}\n" in capsys.readouterr().out


def test_licences_choose_among_the_sources(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "allowed").write_text("C-UDA-*\n")
    assert curate_to([sources], three(), tmp_path / "pairs", licences=tmp_path / "allowed") == 0
    assert {r["source"] for r in rows(tmp_path / "pairs")} == {"objectron"}
    assert "under LicenseRef-YouTube, not in" in capsys.readouterr().out


def test_help_and_bad_flags(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["curate", "--recipe", "mimic_3m", "--help"])
    assert done.value.code == 0
    assert "--allow-missing" in capsys.readouterr().out
    assert main(["curate", str(sources), "--recipe", "mimic_3m", "--out", str(tmp_path / "o"), "--limit", "0"]) == 2
    assert main(["curate", "--recipe", "mimic_3m", "--out", str(tmp_path / "o")]) == 2
    capsys.readouterr()
    assert main(["curate", str(sources), "--recipe", "mimic_3m", "--out", str(tmp_path / "o"), "--overlap", "0.4:0.8"]) == 2
    assert "(twoview curate --recipe mimic_3m --help lists the flags)" in capsys.readouterr().err
