"""Which of a user's own footage a manifest speaks of: scenes by their bytes or names, frames by their times, all by their looks."""

import hashlib
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Bool, Float64

from ..curation.opened import OpenScene
from ..curation.views import Window
from ..duplicates import NEAR_BITS, PLAIN
from ..errors import UnreadableError
from ..plan import Slice
from ..schema import Row, View
from ..sources import Footage

SURE_BITS, CLEARLY_BITS = 2, 4
"""Up to the first the frame that is shown at the time is taken without a look at the ones next to it, and above it unless one of
them is nearer by the second. Of frames that were compressed again at least 92 in 100 are within the first, of the next ones a
quarter."""
NEAR_S = 0.25
"""Where the frame at its time is another picture, one is looked for so far from it: cutters and containers shift videos."""
NEAR_FRAMES = 256
"""A photo is looked for among so many before and after its number."""
MOST_CANDIDATES = 8
FORMS = ({"sens", "images"}, {"h5", "views", "images"})
"""Kinds of which one may be what was extracted from the other."""


def candidates(scene: Slice, footage: Footage, prints: Mapping[str, str], taken: frozenset[str]) -> list[str]:
    """Names of the footage that may be a scene of the manifest, the likeliest first.

    Those whose bytes are the same (prints: fingerprints by name); else those that are called alike; else those of the same kind and
    size. taken: names of what is another scene by its bytes.
    """
    same = [name for name, known in prints.items() if known == scene.fingerprint]
    if same:
        return sorted(same, key=lambda name: -alike(scene.scene, name))[:1]
    kinds = next((forms for forms in FORMS if scene.kind in forms), {scene.kind})
    free = [name for name, item in footage.inputs.items() if name not in taken and (item.kind in kinds or not scene.kind)]
    called = sorted((name for name in free if alike(scene.scene, name)), key=lambda name: -alike(scene.scene, name))
    if not called and scene.size_bytes:
        called = [name for name in free if footage.fingerprint(name)[1] == scene.size_bytes]
    return called[:MOST_CANDIDATES]


def fingerprints(footage: Footage) -> dict[str, str]:
    """Of every scene in the footage, by its name."""
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(footage.inputs, pool.map(lambda name: footage.fingerprint(name)[0], footage.inputs), strict=True))


def alike(one: str, other: str) -> int:
    """How many folders and files two names have in common from their ends on; the last without its extension, and ~2."""
    num = 0
    for a, b in zip(reversed(_parts(one)), reversed(_parts(other)), strict=False):
        if a != b:
            break
        num += 1
    return num


def _parts(name: str) -> list[str]:
    path = PurePosixPath(re.sub(r"~\d+$", "", name).casefold())
    return [*path.parts[:-1], path.stem] if os.path.splitext(path.name)[1] else list(path.parts)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A picture, as the manifest has it."""

    index: int
    time_s: float | None
    crop: list[int] | None
    phash: str | None
    sha256: str | None
    sharpness: float | None

    @classmethod
    def of(cls, row: Row, view: str) -> "Wanted":
        named = {name: getattr(row, f"{name}_{view}") for name in ("crop", "phash", "sha256", "sharpness")}
        return cls(index=getattr(row, f"frame_index_{view}"), time_s=getattr(row, f"time_{view}_s"), **named)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A frame of the user's as that picture."""

    index: int = -1
    """-1 where there is none."""
    bits: int | None = None
    """In which its hash differs from the manifest's; None where there is no picture."""
    exact: bool = False
    """Its bytes are those of the manifest."""
    why: str = ""
    """There is no picture."""

    @property
    def near(self) -> bool:
        return self.exact or (self.bits is not None and self.bits <= NEAR_BITS)


class OwnScene:
    """A scene of the manifest, in the user's own footage."""

    def __init__(self, scene: OpenScene, size_px: tuple[int, int] | None, *, same: bool) -> None:
        """size_px: width and height of the frames that the manifest speaks of, where they are known; same: its bytes are those that
        the manifest was made from."""
        self.scene, self._size_px, self._same = scene, size_px, same
        self._is_walk = scene.info.kind == "scene"  # another frame of it is another walk
        self._known: dict[tuple[int, Window | None], tuple[str, str, float]] = {}

    def find(self, wanted: Wanted) -> Seen:
        """The frame that is a picture of the manifest: the one that is shown at its time, or has its number, else one near that."""
        times = self.scene.scene.times_s
        if times is not None and wanted.time_s is not None and not self._same:
            return self._find_by_time(times, wanted.time_s, wanted)
        num = len(self.scene.scene)
        first = (
            self._look(wanted.index, wanted)
            if 0 <= wanted.index < num
            else Seen(why=f"no frame {wanted.index}: the copy has {num}")
        )
        if first.exact or self._same or self._is_walk:
            return first
        away = np.abs(np.arange(num) - wanted.index)
        return self._nearest(first, away, away <= NEAR_FRAMES, wanted)

    def _find_by_time(self, times: Float64[np.ndarray, " n"], time_s: float, wanted: Wanted) -> Seen:
        """In a copy that may have been encoded again, at another rate."""
        away, frame_s = np.abs(times - time_s), (times[-1] - times[0]) / max(1, len(times) - 1)
        index = int(away.argmin())
        if away[index] > NEAR_S or time_s - times[-1] > 0.75 * frame_s:
            return Seen(why=f"no frame at {time_s:.2f} s: the copy ends at {times[-1]:.2f} s")
        first = self._look(index, wanted)
        if first.exact or first.bits is None or first.bits <= SURE_BITS:
            return first
        if not first.near:
            return self._nearest(first, away, away <= NEAR_S, wanted)
        best = self._nearest(first, away, np.abs(times - times[index]) <= 1.5 * frame_s, wanted)
        return best if best.exact or (best.bits or 0) <= first.bits - CLEARLY_BITS else first

    def _nearest(self, first: Seen, away: np.ndarray, among: Bool[np.ndarray, " n"], wanted: Wanted) -> Seen:
        """Of some frames the one that is nearest to a picture, of equals the one least away; the first where none is near."""
        looked = (self._look(int(i), wanted) for i in np.flatnonzero(among) if i != first.index)
        near = [seen for seen in (first, *looked) if seen.near]
        return min(near, key=lambda seen: (not seen.exact, seen.bits, away[seen.index]), default=first)

    def _look(self, index: int, wanted: Wanted) -> Seen:
        try:
            window = self._window(index, wanted)
            if (index, window) not in self._known:
                view = self._cut(index, window)
                known = (hashlib.sha256(view.jpeg).hexdigest(), self.scene.phash(view), self.scene.sharpness(view))
                self._known[index, window] = known
        except UnreadableError as error:
            return Seen(index=index, why=str(error))
        sha256, phash, sharpness = self._known[index, window]
        plain = wanted.sharpness is not None and max(wanted.sharpness, sharpness) < PLAIN  # their hashes are noise
        bits = 0 if plain else _bits_apart(wanted.phash, phash)
        return Seen(index=index, bits=bits, exact=sha256 == wanted.sha256)

    def view(self, seen: Seen, wanted: Wanted) -> View:
        """The picture of a frame that was found."""
        return self._cut(seen.index, self._window(seen.index, wanted))

    def _whole(self, index: int) -> View:
        view = self.scene.view(index)
        if view is None:
            self.scene.scene[index]  # says why
            raise UnreadableError(f"{self.scene.scene.name}: frame {index} cannot be read")
        return view

    def _cut(self, index: int, window: Window | None) -> View:
        return self._whole(index) if window is None else self.scene.cut(index, window)

    def _window(self, index: int, wanted: Wanted) -> Window | None:
        """Where a picture is cut that depends on the other one of its pair; None where the run's rule says it.

        In a copy of another size it grows or shrinks with it.
        """
        if self.scene.config.crop != "covisible":
            return None
        width, height = self._whole(index).crop[2:]
        was = self._size_px or (width, height)
        if (was[0] > was[1]) != (width > height):  # sizes of videos are those before they are turned upright
            was = was[::-1]
        x0, y0, x1, y1 = wanted.crop or (0, 0, 0, 0)
        sx, sy = width / was[0], height / was[1]
        x0, y0, x1, y1 = round(x0 * sx), round(y0 * sy), round(x1 * sx), round(y1 * sy)
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise UnreadableError(f"frame {index} is {width} x {height} px, and {wanted.crop} is to be cut from it")
        return x0, y0, x1, y1


def _bits_apart(one: str | None, other: str) -> int:
    try:
        return (int(one or "", 16) ^ int(other, 16)).bit_count()
    except ValueError:
        return 64
