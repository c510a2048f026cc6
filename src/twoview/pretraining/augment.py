"""What happens to a sample between a shard and a model: crops, flips, colours. Patch map and points follow.

Every draw is of a generator made from the sample's seed, so a sample is the same in whatever process, and after any restart.
Colours are changed to the bit as PIL and torchvision change them (hue aside), pictures resized as torchvision does.
"""

import math
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int16
from torch import Tensor

from ..errors import ConfigError
from ..schema import OUTSIDE
from .pools import Picture, Sample


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """What a model is given of a sample."""

    a: Picture
    b: Picture | None = None
    crops: tuple[Picture, ...] = ()
    patches: Int16[np.ndarray, "2 p"] | None = None
    points: Float32[np.ndarray, "n 4"] | None = None


@runtime_checkable
class Augment(Protocol):
    """A frozen dataclass, so that its fields are flags."""

    def __call__(self, sample: Sample, random: np.random.Generator, patch_px: int) -> Views: ...


@dataclass(frozen=True, kw_only=True)
class Swapped:
    """MIMIC's: nothing but that either view may be a. Pictures stored at another size are resized."""

    size: int = 224

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, sample: Sample, random: np.random.Generator, patch_px: int) -> Views:
        sample = _maybe_swapped(sample, random)
        cuts = tuple(_whole(view) for view in _views(sample))
        return _cut_out(sample, cuts, self.size, patch_px)


@dataclass(frozen=True, kw_only=True)
class CropsAndJitter:
    """CroCo's: of each view a crop of its own, seven eighths wide, and its own brightness, contrast and saturation."""

    size: int = 224
    share: float = 224 / 256
    """Side of a crop, of the picture's."""
    jitter: float = 0.4
    swap: bool = False

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, sample: Sample, random: np.random.Generator, patch_px: int) -> Views:
        sample = _maybe_swapped(sample, random) if self.swap else sample
        cuts = []
        for view in _views(sample):
            height, width = (round(side * self.share) for side in view.shape[:2])
            x, y = random.integers(view.shape[1] - width + 1), random.integers(view.shape[0] - height + 1)
            cuts.append(Cut(x=int(x), y=int(y), width=width, height=height))
        cut = _cut_out(sample, tuple(cuts), self.size, patch_px)
        a = self._jittered(cut.a, random)
        return replace(cut, a=a, b=None if cut.b is None else self._jittered(cut.b, random))

    def _jittered(self, picture: Picture, random: np.random.Generator) -> Picture:
        return as_picture(jittered(planes(picture), random, self.jitter, self.jitter, self.jitter))


@dataclass(frozen=True, kw_only=True)
class ResizedCrop:
    """MAE's: a crop of any place, size and aspect, resized; mirrored half of the time. Of two views each its own."""

    size: int = 224
    least: float = 0.2
    """Share of the area, at least."""

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, sample: Sample, random: np.random.Generator, patch_px: int) -> Views:
        cuts = tuple(resized_crop(view, random, self.least, 1.0) for view in _views(sample))
        return _cut_out(sample, cuts, self.size, patch_px)


@dataclass(frozen=True, kw_only=True)
class MultiCrop:
    """DINO's: two large crops, and small ones that the student alone sees. Of a pair the large ones are of one view each, the
    small ones of either."""

    size: int = 224
    local_size: int = 96
    num_small: int = 10
    least_global: float = 0.25
    """Share of the area, at least; and that of a small crop, at most."""
    least_local: float = 0.05

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, sample: Sample, random: np.random.Generator, patch_px: int) -> Views:
        views = _views(sample)
        large = [
            _coloured(cut_out(view, resized_crop(view, random, self.least_global, 1.0), self.size), random, blur, solarise)
            for view, blur, solarise in ((views[0], 1.0, 0.0), (views[-1], 0.1, 0.2))
        ]
        small = []
        for _ in range(self.num_small):
            view = views[random.integers(len(views))]
            crop = cut_out(view, resized_crop(view, random, self.least_local, self.least_global), self.local_size)
            small.append(_coloured(crop, random, 0.5, 0.0))
        return Views(a=large[0], b=large[1], crops=tuple(small))


def _check(augment: Augment) -> None:
    """Raises ConfigError for sizes of no px, shares outside of (0, 1] and other numbers below 0."""
    for name, value in vars(augment).items():
        least, most = (1, math.inf) if "size" in name else (1e-6, 1) if name.startswith(("share", "least")) else (0, math.inf)
        if not least <= value <= most:
            raise ConfigError(f"--augment.{name.replace('_', '-')} {value:g} is not in [{least:g}, {most:g}]")


# Cuts, and what follows them


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A part of a picture in px, perhaps mirrored."""

    x: int
    y: int
    width: int
    height: int
    flip: bool = False


def resized_crop(picture: Picture, random: np.random.Generator, least: float, most: float) -> Cut:
    """Of so much of the area and an aspect from 3:4 to 4:3, as torchvision's RandomResizedCrop; mirrored half of the time."""
    height, width = picture.shape[:2]
    for _ in range(10):
        area = height * width * random.uniform(least, most)
        aspect = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
        wide, high = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < wide <= width and 0 < high <= height:
            x, y = random.integers(width - wide + 1), random.integers(height - high + 1)
            return Cut(x=int(x), y=int(y), width=wide, height=high, flip=bool(random.random() < 0.5))
    side = min(height, width)
    return Cut(x=(width - side) // 2, y=(height - side) // 2, width=side, height=side, flip=bool(random.random() < 0.5))


def cut_out(picture: Picture, cut: Cut, size: int) -> Picture:
    """A square of `size` px."""
    part = picture[cut.y : cut.y + cut.height, cut.x : cut.x + cut.width]
    if part.shape[:2] != (size, size):
        tensor = torch.from_numpy(np.ascontiguousarray(part)).permute(2, 0, 1)[None]
        part = F.interpolate(tensor, (size, size), mode="bicubic", antialias=True)[0].permute(1, 2, 0).numpy()
    return np.ascontiguousarray(part[:, ::-1] if cut.flip else part)


def _views(sample: Sample) -> tuple[Picture, ...]:
    return (sample.a,) if sample.b is None else (sample.a, sample.b)


def _whole(picture: Picture) -> Cut:
    return Cut(x=0, y=0, width=picture.shape[1], height=picture.shape[0])


def _maybe_swapped(sample: Sample, random: np.random.Generator) -> Sample:
    """With a and b changed places half of the time."""
    if random.random() < 0.5 or sample.b is None:
        return sample
    patches, points = sample.patches, sample.points
    return replace(
        sample,
        a=sample.b,
        b=sample.a,
        patches=None if patches is None else patches[::-1],
        points=None if points is None else points[:, [2, 3, 0, 1]],
    )


def _cut_out(sample: Sample, cuts: tuple[Cut, ...], size: int, patch_px: int) -> Views:
    views = _views(sample)
    pictures = [cut_out(view, cut, size) for view, cut in zip(views, cuts, strict=True)]
    found = Views(a=pictures[0], b=pictures[1] if len(pictures) == 2 else None)
    if sample.patches is None or sample.points is None or len(pictures) < 2:
        return found
    sides = tuple((view.shape[1], view.shape[0]) for view in views)
    return replace(
        found,
        points=follow_points(sample.points, sides, cuts),
        patches=follow_patches(sample.patches, sample.grid, sides, cuts, size // patch_px),
    )


def follow_points(
    points: Float32[np.ndarray, "n 4"], sides: tuple[tuple[int, int], ...], cuts: tuple[Cut, ...]
) -> Float32[np.ndarray, "m 4"]:
    """Matched points in the cuts, in [0, 1]: those that lie in both. sides: width and height of the pictures in px."""
    moved = np.concatenate([_forth(points[:, 2 * i : 2 * i + 2] * sides[i], cuts[i]) for i in range(2)], axis=1)
    return moved[((moved >= 0) & (moved <= 1)).all(axis=1)].astype(np.float32)


def follow_patches(
    patches: Int16[np.ndarray, "2 p"],
    grid: tuple[int, int],
    sides: tuple[tuple[int, int], ...],
    cuts: tuple[Cut, ...],
    num: int,
) -> Int16[np.ndarray, "2 q"]:
    """The patch map of the cuts, num x num patches each: that of the old patch a new one's centre lies in.

    Where its counterpart's centre lies in no patch of the other cut, it is outside. Several patches may have one target.
    """
    rows, columns = grid
    centres = (np.stack(np.meshgrid(np.arange(num), np.arange(num)), axis=-1).reshape(-1, 2) + 0.5) / num
    found = np.empty((2, num * num), np.int16)
    for i in range(2):
        x, y = (_back(centres, cuts[i]) / sides[i]).T
        old = np.minimum(y * rows, rows - 1).astype(int) * columns + np.minimum(x * columns, columns - 1).astype(int)
        target = patches[i][old]
        there = np.stack([target % columns + 0.5, target // columns + 0.5], axis=1) / (columns, rows) * sides[1 - i]
        x, y = _forth(there, cuts[1 - i]).T
        inside = (x >= 0) & (x < 1) & (y >= 0) & (y < 1)
        new = np.where(inside, np.floor(y * num) * num + np.floor(x * num), OUTSIDE)
        found[i] = np.where(target < 0, target, new)
    return found


def _forth(xy_px: np.ndarray, cut: Cut) -> np.ndarray:
    """From px of a picture, counted from its edge, to [0, 1] in a cut of it."""
    xy = (xy_px - (cut.x, cut.y)) / (cut.width, cut.height)
    return np.stack([1 - xy[:, 0] if cut.flip else xy[:, 0], xy[:, 1]], axis=1)


def _back(xy: np.ndarray, cut: Cut) -> np.ndarray:
    """From [0, 1] in a cut to px of the picture."""
    x = 1 - xy[:, 0] if cut.flip else xy[:, 0]
    return np.stack([x, xy[:, 1]], axis=1) * (cut.width, cut.height) + (cut.x, cut.y)


# Colours


Planes = Float[Tensor, "3 h w"]
"""RGB from 0 to 255 as whole numbers: three planes of floats are changed several times as fast as pixels of bytes."""


def planes(picture: Picture) -> Planes:
    return torch.from_numpy(picture).permute(2, 0, 1).float().contiguous()


def as_picture(values: Planes) -> Picture:
    return values.to(torch.uint8).permute(1, 2, 0).numpy()


def grey(values: Planes) -> Float[Tensor, "h w"]:
    """As PIL converts to L. Its sums are below 2**24, so exact."""
    red, green, blue = values
    return (red * 19595).add_(green, alpha=38470).add_(blue, alpha=7471).add_(0x8000).mul_(2.0**-16).floor_()


def brightened(values: Planes, factor: float) -> Planes:
    return (values * _single(factor)).clamp_(0, 255).floor_()


def contrasted(values: Planes, factor: float) -> Planes:
    level = int(float(grey(values).mean(dtype=torch.float64)) + 0.5)
    return (values - level).mul_(_single(factor)).add_(level).clamp_(0, 255).floor_()


def saturated(values: Planes, factor: float) -> Planes:
    level = grey(values)
    return (values - level).mul_(_single(factor)).add_(level).clamp_(0, 255).floor_()


def hue_shifted(values: Planes, share: float) -> Planes:
    """share: of the whole circle of hues."""
    most, least = values.amax(dim=0), values.amin(dim=0)
    spread = most - least
    safe = torch.where(spread > 0, spread, 1)
    red, green, blue = values
    by_green = torch.where(most == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    sixths = torch.where(most == red, (green - blue) / safe, by_green)
    wave = (torch.tensor([5.0, 3.0, 1.0])[:, None, None] + sixths + 6 * share) % 6
    return (most - spread * torch.minimum(wave, 4 - wave).clamp_(0, 1)).round_()


def _single(factor: float) -> float:
    """As PIL has it, which takes factors as floats of 32 bits."""
    return float(np.float32(factor))


def jittered(
    values: Planes, random: np.random.Generator, brightness: float, contrast: float, saturation: float, hue: float = 0.0
) -> Planes:
    """As torchvision's ColorJitter: each change by a factor of its own, in any order."""
    factors = [random.uniform(max(0.0, 1 - spread), 1 + spread) for spread in (brightness, contrast, saturation)]
    factors.append(random.uniform(-hue, hue) if hue else 0.0)
    for which in random.permutation(4 if hue else 3):
        values = (brightened, contrasted, saturated, hue_shifted)[which](values, factors[which])
    return values


def blurred(values: Planes, radius: float) -> Planes:
    """By a Gaussian of this deviation in px."""
    reach = max(1, round(3 * radius))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / radius) ** 2)
    weights = (weights / weights.sum()).view(1, 1, 1, -1)
    x = F.conv2d(F.pad(values[:, None], (reach, reach, 0, 0), mode="replicate"), weights)
    return F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), weights.transpose(2, 3))[:, 0].round_()


def _coloured(picture: Picture, random: np.random.Generator, blur: float, solarise: float) -> Picture:
    """DINO's changes of colour; blur, solarise: how often."""
    values = planes(picture)
    if random.random() < 0.8:
        values = jittered(values, random, 0.4, 0.4, 0.2, 0.1)
    if random.random() < 0.2:
        values = grey(values).expand(3, -1, -1)
    if random.random() < blur:
        values = blurred(values, random.uniform(0.1, 2.0))
    if random.random() < solarise:
        values = torch.where(values >= 128, 255 - values, values)
    return as_picture(values)
