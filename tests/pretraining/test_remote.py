"""Shards in an object store: a folder called file://, and a server that speaks S3."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pytest
from moto.server import ThreadedMotoServer
from small_runs import CONFIG, QUIET, losses

import twoview
from twoview.cli import main
from twoview.cli.pretrain import open_source
from twoview.errors import BrokenDatasetError, ConfigError
from twoview.pretraining.pools import RemoteShards, StoredPairs
from twoview.pretraining.settings import Source
from twoview.pretraining.train import pretrain


@pytest.fixture(scope="module")
def options(dataset: Path) -> Iterator[str]:
    """What stands behind s3://bucket/pairs, where the dataset is."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("EC2_METADATA_DISABLED", "true")):
            patch.setenv(f"AWS_{name}", value)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        try:
            where = f"?endpoint_override=127.0.0.1:{server.get_host_and_port()[1]}&scheme=http&region=us-east-1"
            store, _ = pafs.FileSystem.from_uri(f"s3://bucket{where}&allow_bucket_creation=true")
            store.create_dir("bucket")
            pafs.copy_files(str(dataset), "bucket/pairs", destination_filesystem=store)
            yield where
        finally:
            server.stop()


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_pairs_of_a_store_are_those_of_the_folder(dataset: Path, options: str, tmp_path: Path, kind: str) -> None:
    """Fetched when they are needed, and no more kept than asked for."""
    uri = dataset.as_uri() if kind == "file" else f"s3://bucket/pairs{options}"
    shards = RemoteShards(uri, tmp_path / "cache", keep=1)
    pool = StoredPairs(twoview.open(shards.folder), shards=shards)
    near = StoredPairs(twoview.open(dataset))
    assert len(pool) == len(near)
    assert all(np.array_equal(pool[i].b, near[i].b) for i in range(len(near)))
    assert len(list((shards.folder / "shards").glob("*.tar"))) == 1
    assert len(pool.starts()) > 1


def test_a_store_that_changed(dataset: Path, tmp_path: Path) -> None:
    """A new selection is seen, and one of the same name that is another; pairs that were curated since are another folder's."""
    store = tmp_path / "store"
    shutil.copytree(dataset, store)
    uri, cache = store.as_uri(), tmp_path / "cache"
    names = (f"{uri}@some", cache)
    with pytest.raises(ConfigError, match=f"^{uri}@some: no such selection"):
        open_source(*names)
    assert main(["select", str(store), "--name", "some", "--where", "source = 'video'"]) == 0
    first = len(open_source(*names).pool)
    (store / "selections" / "some.parquet").unlink()
    assert main(["select", str(store), "--name", "some", "--where", "true"]) == 0
    assert len(open_source(*names).pool) > first
    before = open_source(uri, cache).pool.shards.folder
    known = (store / "manifest" / "part-000000.parquet").stat()
    times = (known.st_atime_ns, known.st_mtime_ns)
    (store / "manifest" / "part-000000.parquet").touch()
    assert open_source(uri, cache).pool.shards.folder != before
    assert before.exists()
    (before / "plan.parquet").unlink()  # as folders for temporary files are tidied
    os.utime(store / "manifest" / "part-000000.parquet", ns=times)
    assert len(open_source(uri, cache).pool) == len(twoview.open(dataset))
    assert (before / "plan.parquet").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_from_a_store(dataset: Path, options: str, tmp_path: Path, workers: int) -> None:
    """Also where processes that were forked fetch them; the order goes shard by shard, and does not depend on who does."""
    chosen = open_source(f"s3://bucket/pairs:1{options}" if workers else f"s3://bucket/pairs{options}", tmp_path / "cache")
    config = replace(CONFIG, epochs=2)
    pretrain(replace(config, workers=workers), [chosen], tmp_path / "run", reporter=QUIET)
    shards = RemoteShards(dataset.as_uri(), tmp_path / "other", keep=64)
    near = StoredPairs(twoview.open(shards.folder), shards=shards)
    pretrain(config, [Source(pool=near)], tmp_path / "near", reporter=QUIET)
    assert losses(tmp_path / "run") == losses(tmp_path / "near")


def test_what_a_store_does_not_have_is_one_line(
    dataset: Path, options: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for uri, code, complaint in (
        (f"s3://nowhere/pairs{options}", 2, "s3://nowhere/pairs"),
        (f"s3://bucket/none{options}", 2, "no dataset of twoview there"),
        ("s3://bucket/pairs?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1", 75, "cannot be fetched"),
        ("s3://bucket/pairs?pigeon=1", 2, "Unexpected query parameter"),
        ("pigeon://bucket/pairs", 2, "no store that is known"),
    ):
        words = ["--recipe", "tiny_croco", "--out", str(tmp_path / "run"), "--cache", str(tmp_path / "cache")]
        assert main(["pretrain", uri, *words]) == code
        said = capsys.readouterr().err
        assert complaint in said
        assert said.count("\n") == 1
    gone = tmp_path / "gone"
    shutil.copytree(dataset, gone)
    shards = RemoteShards(gone.as_uri(), tmp_path / "kept", keep=64)
    pool = StoredPairs(twoview.open(shards.folder), shards=shards)
    shutil.rmtree(gone / "shards")
    with pytest.raises(BrokenDatasetError, match=r"part-\d+.tar: cannot be fetched"):
        pretrain(CONFIG, [Source(pool=pool)], tmp_path / "broken", reporter=QUIET)
