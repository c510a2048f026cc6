"""The shards and manifests as other people's tools read them; each gives what the rows say."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from twoview.shards import SAMPLE_PARTS, read_manifest, read_sample

duckdb = pytest.importorskip("duckdb", reason="duckdb is of the dev extra")
pandas = pytest.importorskip("pandas", reason="pandas is of the dev extra")
wds = pytest.importorskip("webdataset", reason="webdataset is of the dev extra")

WHERE = ("shard", "offset", "size")


def stored_rows(out: Path) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in read_manifest(out).to_pylist() if row["stored"]}


def shards(out: Path) -> list[str]:
    return sorted(map(str, (out / "shards").glob("*.tar")))


def decoded(out: Path, row: dict[str, Any], view: str) -> np.ndarray:
    jpeg = np.frombuffer(read_sample(out, *(row[name] for name in WHERE))[f"{view}.jpg"], np.uint8)
    return cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB)


def assert_same_picture(a: np.ndarray, b: np.ndarray) -> None:
    """But for a rounding: another JPEG library may sit behind the other reader."""
    assert a.shape == b.shape
    assert np.abs(a.astype(int) - b).max() <= 4


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves tars open
def test_webdataset(wide: Path) -> None:
    rows = stored_rows(wide)
    read = {}
    for sample in wds.WebDataset(shards(wide), shardshuffle=False).decode("rgb8"):
        key = sample["__key__"]
        read[key] = sample
        assert {k for k in sample if not k.startswith("__")} == set(SAMPLE_PARTS)
        assert sample["json"]["overlap"] == rows[key]["overlap"]
        assert sample["json"]["homography"] == rows[key]["homography"]
        assert sample["patches.npy"].dtype == np.int16
        assert np.mean(sample["patches.npy"] >= 0, axis=1).tolist() == [rows[key]["overlap_ab"], rows[key]["overlap_ba"]]
        assert sample["points.npy"].shape == (rows[key]["num_inliers"], 4)
    assert list(read) == list(rows)
    first = next(iter(rows))
    for view in "ab":
        assert_same_picture(read[first][f"{view}.jpg"], decoded(wide, rows[first], view))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("reverse", [False, True])
def test_hugging_face_datasets(reverse: bool, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It infers its types from the first samples: kept ones, refused ones, with a clock and without, in either order."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    load_dataset = pytest.importorskip("datasets", reason="datasets is of the dev extra").load_dataset
    rows = stored_rows(wide)
    files = shards(wide)[::-1] if reverse else shards(wide)
    assert {row["scene"] for row in rows.values()} == {"walk.mp4", "photos"}  # times and none
    loaded = load_dataset("webdataset", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert set(loaded["__key__"]) == set(rows)
    assert len(loaded) == len(rows)
    for sample in loaded:
        row = rows[sample["__key__"]]
        assert sample["json"]["reasons"] == ",".join(row["reasons"])
        for name in ("overlap", "scale", "num_matches", "crop_a", "homography", "sha256_a", "kept"):
            assert sample["json"][name] == row[name], name
        assert sample["json"]["time_a_s"] == (-1000.0 if row["time_a_s"] is None else row["time_a_s"])
        assert np.mean(np.array(sample["patches.npy"]) >= 0, axis=1).tolist() == [row["overlap_ab"], row["overlap_ba"]]
    picture = np.asarray(loaded[0]["b.jpg"].convert("RGB"))
    assert_same_picture(picture, decoded(wide, rows[loaded[0]["__key__"]], "b"))


def test_duckdb(wide: Path) -> None:
    rows = read_manifest(wide).to_pylist()
    manifest = f"'{wide}/manifest/*.parquet'"
    assert duckdb.sql(f"SELECT count(*) FROM {manifest} WHERE kept").fetchall() == [(sum(row["kept"] for row in rows),)]
    by_reason = dict(duckdb.sql(f"SELECT r, count(*) FROM {manifest}, unnest(reasons) t(r) GROUP BY r").fetchall())
    assert by_reason == {r: sum(r in row["reasons"] for row in rows) for r in ("overlap_low", "overlap_high")}
    read = duckdb.sql(f"SELECT pair_id, overlap, homography[9], time_a_s FROM {manifest} ORDER BY pair_id").fetchall()
    expected = [(r["pair_id"], r["overlap"], r["homography"] and r["homography"][8], r["time_a_s"]) for r in rows]
    assert read == sorted(expected)
    scenes = duckdb.sql(f"SELECT scene, sum(num_pairs) FROM '{wide}/scenes/*.parquet' GROUP BY scene").fetchall()
    assert dict(scenes) == {s: sum(row["scene"] == s for row in rows) for s in ("walk.mp4", "photos")}


def test_pandas(wide: Path) -> None:
    rows = read_manifest(wide).to_pylist()
    frame = pandas.concat(map(pandas.read_parquet, sorted((wide / "manifest").glob("*.parquet"))), ignore_index=True)
    assert list(frame.columns) == list(rows[0])
    assert frame["kept"].dtype == bool
    assert frame["pair_id"].tolist() == [row["pair_id"] for row in rows]
    assert frame["overlap"].tolist() == [row["overlap"] for row in rows]
    assert frame["homography"].isna().tolist() == [row["homography"] is None for row in rows]
    assert frame["time_a_s"].isna().tolist() == [row["scene"] == "photos" for row in rows]


def test_config_is_json(wide: Path) -> None:
    assert json.loads((wide / "config.json").read_text())["format"] == 1
