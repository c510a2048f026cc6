"""Fit the network of the estimator `covisibility`, and write src/twoview/curation/covisibility.npz.

Seen in the fit: made flats (ten of the demo's, 32 papered with photos), three scenes, the first half of the kitchen video, warped
photos and unrelated pictures, most of them blurred, brightened, noisy and compressed as footage is. Never seen: the scenes
apartment and gallery, the flats of seeds 101 and 102, and the second half of the video, on which overlap_truth.py reports. Twenty
minutes to gather and as many to fit, on two cores; it needs torch.

    .venv/bin/python benchmarks/fit_covisibility.py [--out FILE] [--samples FOLDER] [--without CASE ...]

--samples: keep what was gathered in this folder, or take it from there. --without: leave cases out of the fit, and say how it does
on them: that is where `max_error` comes from.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # two processes share two cores

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import cv2
import numpy as np
import torch
from footage import DATA
from known import Case, kitchen_case, scene_path, unrelated_case, walk_case, warped_case

from twoview.curation import covisibility
from twoview.curation.covisibility import CLASSES, DILATIONS, LATTICE, NUM_FIGURES, WIDTH, Covisibility, X, Y, gather
from twoview.curation.measure import stored_picture
from twoview.demo import FLAT_M, Panel, box, flat, glb, write_flat
from twoview.geometry import GRID
from twoview.schema import UNKNOWN
from twoview.sources.images import read_image

PHOTOS = (
    *("coco128_semantic/images/train2017/*", "coco_keypoints_mmpose/**/*", "deepv2d_demo_scenes/**/*", "hymenoptera/*/*/*"),
    *("imagenet_samples/*", "kitti_odometry_seq1/**/*", "nerf_fox_posed/**/*", "phototourism_pairs/**/*", "seq_*/**/*"),
    *("superglue_scannet_posed/**/*", "taskonomy_samples/**/rgb/*"),
)
SCENES = ("kitchen", "cube room", "garage")
NUM_FLATS, NUM_PAPERED, NUM_REPEATED, NUM_THINGS, NUM_PAIRS, NUM_PHOTO_PAIRS = 10, 24, 8, 40, 450, 700
EPOCHS, BATCH, RATE = 5, 16, 3e-3
VIDEO, EVERYWHERE = "kitchen video", ("warped photos", "unrelated")
HALF = (
    *(VIDEO, "garage worn", "garage clean"),
    *(f"{kind} {seed}" for kind, first in (("flat", 0), ("papered", 200), ("repeated", 300)) for seed in range(first, first + 5)),
)
"""Of the places: the two halves judge each other. What is of no place is in both."""


def flat_case(seed: int) -> Case:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flat.glb"
        write_flat(path, seed)
        return walk_case(f"flat {seed}", path, NUM_PAIRS)


def papered_case(seed: int, num_papers: int | None = None) -> Case:
    """A flat whose surfaces are photos, plain or faint, unevenly lit, with small things in the air: as rooms look, more or less.

    num_papers: so many surfaces are papered anew, the others by turns as these, as windows and cupboards are all alike.
    """
    rng, panels = np.random.default_rng([seed, *b"papered"]), flat(seed)
    for _ in range(NUM_THINGS):
        x, y, z = rng.uniform((0.1, 0.3, 0.1), (FLAT_M[0] - 0.7, 2.2, FLAT_M[1] - 0.7))
        wide, high, deep = rng.uniform(0.04, 0.5, 3)
        panels += box((x, y, z), (x + wide, y + high, z + deep), rng)
    pictures = [image for _, image in photos()]
    papers = [paper(panel, pictures[int(rng.integers(len(pictures)))], rng) for panel in panels[:num_papers]]
    panels = [replace(panel, texture=papers[k % len(papers)]) for k, panel in enumerate(panels)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flat.glb"
        path.write_bytes(glb(panels))
        return walk_case(f"papered {seed}", path, NUM_PAIRS)


def paper(panel: Panel, photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A texture for a panel: a window of a photo, a plain colour, or its own made fainter; then light and shade."""
    height, width = (int(min(1024, max(48, 160 * np.linalg.norm(side)))) for side in (panel.down, panel.along))
    kind = rng.choice(["photo", "plain", "own"], p=[0.5, 0.3, 0.2])
    if kind == "photo":
        share = rng.uniform(0.4, 1.0)
        fit = share * min(photo.shape[0] / height, photo.shape[1] / width)
        h, w = max(8, int(height * fit)), max(8, int(width * fit))
        y, x = int(rng.integers(photo.shape[0] - h + 1)), int(rng.integers(photo.shape[1] - w + 1))
        way = cv2.INTER_AREA if fit > 1 else cv2.INTER_CUBIC
        image = cv2.resize(photo[y : y + h, x : x + w], (width, height), interpolation=way)
    elif kind == "plain":
        image = rng.uniform(60, 230, 3) + rng.normal(0, rng.uniform(0.5, 5), (height, width, 1))
    else:
        image = cv2.resize(panel.texture, (width, height), interpolation=cv2.INTER_CUBIC)
    light = cv2.resize(rng.uniform(0.6, 1.1, (3, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    middle = np.mean(image, axis=(0, 1))
    return ((middle + (image - middle) * rng.uniform(0.3, 1.0)) * light[..., None]).clip(0, 255).astype(np.uint8)


def room_case(name: str) -> Case:
    return walk_case(name, scene_path(name), NUM_PAIRS)


def photos() -> list[tuple[str, np.ndarray]]:
    """Folder and picture of photos that have something to see, at most twelve of a folder."""
    folders: dict[str, list[Path]] = {}
    for path in sorted({p for pattern in PHOTOS for p in DATA.glob(pattern) if p.suffix.lower() in (".jpg", ".jpeg", ".png")}):
        if "mask" not in str(path) and "label" not in str(path):
            folders.setdefault(str(path.parent), []).append(path)
    some = [(name, read_image(p)) for name, paths in folders.items() for p in paths[:: max(1, len(paths) // 12)]]
    return [(name, image) for name, image in some if min(image.shape[:2]) >= 200 and image.std() > 15]


def warps() -> Case:
    return warped_case(NUM_PHOTO_PAIRS, [image for _, image in photos()])


def strangers() -> Case:
    """Photos, views of the scenes and frames of the video, each with one of another place."""
    pictures = [(name, stored_picture(image, "centre", 256)) for name, image in photos()]
    for case in (flat_case(0), room_case("kitchen"), room_case("cube room"), kitchen_case("first")):
        keys = list(case.pictures)
        pictures += [(case.name, case.pictures[k]) for k in keys[:: max(1, len(keys) // 40)]]
    return unrelated_case(NUM_PHOTO_PAIRS, pictures)


def worn(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture as footage has it: out of focus or shaken, another exposure, noise, compression."""
    picture = image.astype(np.float32)
    if rng.random() < 0.7:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.3))
    if rng.random() < 0.3:
        length, angle = int(rng.integers(2, 7)), rng.uniform(0, np.pi)
        kernel = np.zeros((7, 7), np.float32)
        cv2.line(kernel, (3, 3), (round(3 + length / 2 * np.cos(angle)), round(3 + length / 2 * np.sin(angle))), 1.0)
        picture = cv2.filter2D(picture, -1, kernel / kernel.sum())
    picture = 255 * (picture.clip(0, 255) / 255) ** np.exp(rng.normal(0, 0.15)) * np.exp(rng.normal(0, 0.1)) + rng.normal(0, 4)
    picture += rng.normal(0, rng.uniform(0, 6), picture.shape)
    _, jpeg = cv2.imencode(
        ".jpg", np.rint(picture).clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))]
    )
    decoded = cv2.imdecode(jpeg, cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    return decoded


def samples(job: tuple[str, Callable[[], Case], bool], folder: Path) -> str:
    """Gather a case into folder/NAME.npz: of each pair figures [2, 784, 44], what they ought to give [2, 784, 3] and how much of it
    is known [2, 784], and the true shares."""
    (name, make, wear), path = job, folder / f"{job[0]}.npz"
    if not path.exists():
        cv2.setNumThreads(1)
        case, estimator = make(), Covisibility()
        described = {k: estimator.describe(worn(p, np.random.default_rng([1, k])) if wear else p) for k, p in case.pictures.items()}
        found = [
            (pair, evidence) for pair in case.pairs if not isinstance(evidence := gather(described[pair.i], described[pair.j]), str)
        ]
        fates = [[at_lattice(fate) for fate in (pair.fate_ab, pair.fate_ba)] for pair, _ in found]
        np.savez(
            path,
            figures=np.stack([evidence.figures.astype(np.float16) for _, evidence in found]),
            wanted=np.array([[shares for shares, _ in both] for both in fates], np.float16),
            known=np.array([[known for _, known in both] for both in fates], np.float16),
            shares=np.array([pair.shares for pair, _ in found]),
        )
        print(f"{name}: {len(found)} of {len(case.pairs)} pairs", flush=True)
    return name


def at_lattice(fate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the four points around each lattice point: shares of shared, occluded, outside among the known, and the known share."""
    each = GRID // LATTICE
    fate = fate.reshape(LATTICE, each, LATTICE, each).swapaxes(1, 2).reshape(LATTICE * LATTICE, each * each)
    known = (fate != UNKNOWN).sum(1)
    shares = np.stack([(fate == label).sum(1) for label in CLASSES], axis=1) / np.maximum(known, 1)[:, None]
    return shares.astype(np.float32), (known / each**2).astype(np.float32)


class Network(torch.nn.Module):
    """What covisibility.classify computes: see there."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(NUM_FIGURES, 48), torch.nn.Linear(48, WIDTH)
        self.around = torch.nn.ModuleList(torch.nn.Conv2d(WIDTH, WIDTH, 3, padding=k, dilation=k) for k in DILATIONS)
        self.whole, self.last = torch.nn.Linear(2 * WIDTH, WIDTH), torch.nn.Linear(WIDTH, len(CLASSES))
        self.doubt, self.error = torch.nn.Linear(2 * WIDTH, 16), torch.nn.Linear(16, 1)

    def forward(self, figures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log chances [n, 784, 3], and the error [n] that the mean chance of being shared is likely to have."""
        hidden = torch.relu(self.second(torch.relu(self.first(figures)))).transpose(1, 2).unflatten(2, (LATTICE, LATTICE))
        for convolution in self.around:
            hidden = hidden + torch.relu(convolution(hidden))
        pooled = torch.cat([hidden.mean((2, 3)), hidden.amax((2, 3))], 1)
        hidden = hidden + torch.relu(self.whole(pooled))[:, :, None, None]
        error = self.error(torch.relu(self.doubt(pooled)))[:, 0].exp() + 1e-3
        return torch.log_softmax(self.last(hidden.flatten(2).transpose(1, 2)), -1), error


def turned(maps: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Figures, classes and known shares [n, 784, ...] of pictures that are mirrored or transposed: X and Y with them."""
    maps = [m.reshape(len(m), LATTICE, LATTICE, -1) for m in maps]
    for axis, column in ((2, X), (1, Y)):
        if rng.random() < 0.5:
            maps = [np.flip(m, axis).copy() for m in maps]
            maps[0][..., column] *= -1
    if rng.random() < 0.5:
        maps = [m.swapaxes(1, 2).copy() for m in maps]
        maps[0][..., [X, Y]] = maps[0][..., [Y, X]]
    return [m.reshape(len(m), LATTICE * LATTICE, -1) for m in maps]


def fit(figures: np.ndarray, wanted: np.ndarray, known: np.ndarray, missed: np.ndarray) -> Network:
    """A network fitted to three ends: each point's class, each picture's share, and how far that share is off (Laplace).

    missed: how far off networks were that had not seen the picture; NaN where there are none yet: then how far this one is off.
    """
    torch.manual_seed(0)
    rng, network = np.random.default_rng(0), Network()
    some = figures[::17].astype(np.float32).reshape(-1, NUM_FIGURES)
    mean, spread = torch.tensor(some.mean(0)), torch.tensor(some.std(0) + 1e-6)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * (len(figures) // BATCH), eta_min=1e-5)
    for _ in range(EPOCHS):
        order = rng.permutation(len(figures))
        for start in range(0, len(figures) // BATCH * BATCH, BATCH):
            rows = order[start : start + BATCH]
            x, y, weight = (torch.tensor(m.astype(np.float32)) for m in turned([figures[rows], wanted[rows], known[rows]], rng))
            weight = weight[..., 0] / weight[..., 0].sum(1, keepdim=True).clamp(min=1)
            chances, error = network((x - mean) / spread)
            off = ((chances.exp()[..., 0] - y[..., 0]) * weight).sum(1).abs()
            loss = -((y * chances).sum(-1) * weight).sum(1).mean() + off.mean()
            outside = torch.tensor(missed[rows].astype(np.float32))
            loss = loss + 0.03 * (torch.where(outside.isnan(), off.detach(), outside) / error + error.log()).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():  # figures as they come
        network.first.bias -= network.first.weight @ (mean / spread)
        network.first.weight /= spread
    return network


def layers_of(network: Network) -> dict[str, np.ndarray]:
    """As covisibility.py reads them: matrices for the right of a product; of convolutions the nine places one after another."""
    layers = {}
    for name, value in network.state_dict().items():
        array = value.numpy()
        if array.ndim == 4:
            array = array.transpose(2, 3, 1, 0).reshape(-1, array.shape[0])
        layers[name] = array.T.copy() if array.ndim == 2 and not name.startswith("around") else array
    return layers


Cases = dict[str, dict[str, np.ndarray]]


def fit_to(cases: Cases, missed: dict[str, np.ndarray]) -> Network:
    """A network fitted to cases; of the video to every second pair."""

    def seen(kind: str) -> np.ndarray:
        return np.concatenate([part for name, case in cases.items() for part in case[kind][:: 2 if name == VIDEO else 1]])

    unknown = {name: np.full(case["shares"].shape, np.nan) for name, case in cases.items()}
    cases = {name: case | {"missed": missed.get(name, unknown[name])} for name, case in cases.items()}
    return fit(*(seen(kind) for kind in ("figures", "wanted", "known", "missed")))


def missed_by_others(cases: Cases) -> dict[str, np.ndarray]:
    """How far off the shares of each place's pictures are, read by a network that was fitted to half of the other places.

    What a network says of places it has seen is too good: its doubt is learnt from those it has not.
    """
    missed = {}
    for half in (HALF, [name for name in cases if name not in (*HALF, *EVERYWHERE)]):
        network = fit_to({name: case for name, case in cases.items() if name not in half}, {})
        missed |= {name: np.abs(read(network, cases[name])[0] - cases[name]["shares"]) for name in half if name in cases}
    return missed


def read(network: Network, case: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The share of each picture, and how far it is likely to be off: both [n, 2]."""
    figures = torch.tensor(case["figures"].astype(np.float32)).flatten(0, 1)
    with torch.no_grad():
        parts = [network(some) for some in figures.split(64)]
    shares = torch.cat([chances.exp()[..., 0].mean(1) for chances, _ in parts]).unflatten(0, (-1, 2)).numpy()
    return shares, torch.cat([error for _, error in parts]).unflatten(0, (-1, 2)).numpy()


def report(name: str, network: Network, case: dict[str, np.ndarray]) -> None:
    """How far a network is off on a case that it has not seen, by what it says of its own doubt."""
    shares, errors = read(network, case)
    true, seen = case["shares"].min(1), shares.min(1)
    doubt = np.take_along_axis(errors, shares.argmin(1)[:, None], 1)[:, 0]
    band, wide = (true >= 0.5) & (true <= 0.7), (true >= 0.45) & (true <= 0.75)
    for most in (1.0, 0.1, 0.08, 0.06, 0.05, 0.04):
        found = doubt <= most
        kept, off = found & (seen >= 0.5) & (seen <= 0.7), (seen - true)[found]
        words = f"error {np.abs(off).mean():.3f}, bias {off.mean():+.3f}, kept in 0.45-0.75 {wide[kept].mean():.3f}"
        words += f", recall {kept[band].mean():.2f}"
        print(f"{name}, doubt up to {most}: of {len(true)} found {found.mean():.2f}, {words}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(covisibility.__file__).with_suffix(".npz"))
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--without", nargs="*", default=[])
    given = parser.parse_args()
    jobs: list[tuple[str, Callable[[], Case], bool]] = [(VIDEO, partial(kitchen_case, "first"), False)]
    jobs += [(f"flat {seed}", partial(flat_case, seed), True) for seed in range(NUM_FLATS)]
    jobs += [(f"papered {seed}", partial(papered_case, seed), True) for seed in range(200, 200 + NUM_PAPERED)]
    jobs += [(f"repeated {seed}", partial(papered_case, seed, 11), True) for seed in range(300, 300 + NUM_REPEATED)]
    jobs += [(f"{name} {'worn' if wear else 'clean'}", partial(room_case, name), wear) for name in SCENES for wear in (True, False)]
    jobs += [("warped photos", warps, True), ("unrelated", strangers, True)]
    with tempfile.TemporaryDirectory() as made:
        folder = given.samples or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        with Pool(2) as pool:
            pool.map(partial(samples, folder=folder), jobs, chunksize=1)
        cases = {name: dict(np.load(folder / f"{name}.npz")) for name, *_ in jobs}
    some = {name: case for name, case in cases.items() if name not in given.without}
    network = fit_to(some, missed_by_others(some))
    if not given.without:
        np.savez(given.out, **layers_of(network))  # pyright: ignore
        print(given.out)
    for name in given.without or [VIDEO]:
        report(name, network, cases[name])


if __name__ == "__main__":
    main()
