"""Pairs a second of the loader, beside the published way: PIL, ToTensor, Normalize, one file a picture.

Both read the same pairs, 224 px (256 px for crops), shuffled, in one process with one thread; the published way from the folders
that `twoview export --to mimic` writes. twoview reads the shards, and pictures that were decoded before (`--decoded`). Warm: files
are in the page cache. Cold: it is emptied before each round. Rounds alternate. Crops and jitter are those of CroCo, beside
torchvision's ways written out with PIL.

    .venv/bin/python benchmarks/loader.py FOLDER      a folder for the pairs, made on the first run
"""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from footage import DATA, need
from PIL import Image, ImageEnhance

import twoview
from twoview.pretraining.augment import CropsAndJitter, Swapped
from twoview.pretraining.loader import loader
from twoview.pretraining.order import Order, Share
from twoview.pretraining.pools import Decoded, StoredPairs
from twoview.pretraining.vit import IMAGENET_MEAN, IMAGENET_STD

VIDEOS = ("videos_cotracker", "videos_pi3", "rgbd_video_redkitchen", "video_deepv2d_golf", "video_sam2_bedroom")
ROUNDS, BATCH = 5, 32
MEAN, STD = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))


def make(folder: Path, size: int) -> Path:
    out = folder / f"pairs-{size}"
    videos = [str(need(DATA / name)) for name in VIDEOS]
    flags = ["--recipe", "paper", "--propose.seconds", "0.3", "--overlap", "0.3:0.95", "--size", str(size), "--out", str(out)]
    subprocess.run([sys.executable, "-m", "twoview", "curate", *videos, *flags], check=True)
    if not (folder / f"mimic-{size}").exists():
        export = ["export", str(out), str(folder / f"mimic-{size}"), "--to", "mimic"]
        subprocess.run([sys.executable, "-m", "twoview", *export], check=True)
    return out


def as_tensor(image: Image.Image) -> torch.Tensor:
    """ToTensor and Normalize."""
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
    return x.sub_(MEAN).div_(STD)


def published(path: Path) -> torch.Tensor:
    return as_tensor(Image.open(path).convert("RGB"))


def published_croco(path: Path, random: np.random.Generator) -> torch.Tensor:
    image = Image.open(path).convert("RGB")
    x, y = random.integers(image.width - 223), random.integers(image.height - 223)
    image = image.crop((x, y, x + 224, y + 224))
    changes = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for which in random.permutation(3):
        image = changes[which](image).enhance(random.uniform(0.6, 1.4))
    return as_tensor(image)


def listed(folder: Path) -> list[tuple[Path, Path]]:
    lines = (folder / "pairs.csv").read_text().splitlines()[1:]
    return [tuple(folder / name for name in line.split(",")[:2]) for line in lines]


def theirs(pairs: list[tuple[Path, Path]], order: np.ndarray, read) -> None:
    for start in range(0, len(order) - BATCH + 1, BATCH):
        views = [[read(pairs[i][view]) for i in order[start : start + BATCH]] for view in range(2)]
        torch.stack(views[0]), torch.stack(views[1])


def ours(pool: StoredPairs, augment, seed: int) -> None:
    batches = Order(shares=(Share(size=len(pool)),), batch=BATCH, epochs=1, seed=seed).batches(0, BATCH)
    for _ in loader([pool], augment, 16, batches, workers=0):
        pass


def empty_cache() -> bool:
    try:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("1\n")
    except OSError:
        return False
    return True


def seconds(call, cold: bool) -> float:
    if cold and not empty_cache():
        return np.nan
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def rounds(pairs, read, pools, augment, cold: bool) -> np.ndarray:
    """Seconds of each round: the published way, then each pool's."""
    found = []
    for seed in range(ROUNDS):
        order = np.random.default_rng(seed).permutation(len(pairs))
        calls = [partial(theirs, pairs, order, read), *(partial(ours, pool, augment, seed) for pool in pools)]
        found.append([seconds(call, cold) for call in calls])
    return np.array(found)


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    print("| | published, pairs/s | shards, pairs/s | times | decoded, pairs/s | times |\n|---|---|---|---|---|---|")
    for words, size, augment, read in (
        ("as stored", 224, Swapped(), published),
        ("crops and jitter", 256, CropsAndJitter(), partial(published_croco, random=random)),
    ):
        out = make(folder, size)
        pairs, stored = listed(folder / f"mimic-{size}"), StoredPairs(twoview.open(out))
        pools = (stored, Decoded(stored, folder))
        num = len(stored) // BATCH * BATCH
        for cold in (False, True):
            rounds(pairs, read, pools, augment, cold=False)
            times = rounds(pairs, read, pools, augment, cold)
            rates = num / np.median(times, axis=0)
            ratios = [f"{np.median(r):.1f} ({r.min():.1f} to {r.max():.1f})" for r in (times[:, :1] / times[:, 1:]).T]
            state = "cold" if cold else "warm"
            print(f"| {words}, {state} | {rates[0]:.0f} | {rates[1]:.0f} | {ratios[0]} | {rates[2]:.0f} | {ratios[1]} |")


if __name__ == "__main__":
    main()
