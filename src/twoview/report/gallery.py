"""Pairs to look at: which ones, and their pictures. Stored ones come from their tars, refused ones from the footage."""

import base64
import contextlib
import io
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from ..curation.recorded import config_of
from ..curation.views import picture
from ..dataset import decode
from ..errors import ConfigError, TwoviewError
from ..plan import read_plan
from ..shards import read_sample, read_scenes
from ..sources import datasets
from .figures import codes_of, spread_evenly

NUM_KEPT, NUM_REFUSED = 24, 24
LONGER_SIDE_PX = 320
"""Larger pictures are shrunk to this."""
ROOTS_ABOVE = 7
"""A dataset is read from a folder that is at most so far above its scene."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A pair to look at."""

    row: dict[str, Any]
    """Some of the manifest's columns."""
    a: str = ""
    """A data URI, or '' where there is nothing to show."""
    b: str = ""
    grid: tuple[int, int] | None = None
    """Rows and columns of patches."""
    patches: list[list[int]] = field(default_factory=list)
    """[2][P] as in patches.npy: row 0, the patch of b for each of a; row 1, of a for each of b."""
    why: str = ""
    """Why there are no pictures."""


def kept_cards(folder: Path, rows: pa.Table) -> list[Card]:
    """Some kept pairs, from as many scenes as there may be, those that share most first. The same rows give the same cards."""
    kept = np.flatnonzero(rows["kept"].to_numpy())
    chosen = spread_evenly(_by_key(rows, kept, "source", "scene"), NUM_KEPT)
    found = [_stored_card(folder, row) for row in rows.take(chosen).to_pylist()]
    return sorted(found, key=lambda card: (-(card.row["overlap"] or 0), card.row["key"]))


def refused_cards(folder: Path, rows: pa.Table, config: dict[str, Any], seconds: float) -> list[Card]:
    """Some refused pairs, of each reason about as many; those that are stored come first.

    The others are read from the footage again, which may be gone, changed, or slow: after so many seconds the rest has none.
    """
    first = np.array([reasons[0] if reasons else "" for reasons in rows["reasons"].to_pylist()], object)
    stored, kept = rows["stored"].to_numpy(), rows["kept"].to_numpy()
    groups = []
    for reason, _ in sorted(Counter(first[~kept]).items(), key=lambda item: (-item[1], item[0])):
        own = [np.flatnonzero(~kept & (first == reason) & which) for which in (stored, ~stored)]
        ordered = [spread_evenly(_by_key(rows, part, "source", "scene"), NUM_REFUSED) for part in own]
        groups.append(np.concatenate(ordered))
    chosen = rows.take(spread_evenly(groups, NUM_REFUSED)).to_pylist()
    rank = {row["key"]: n for n, row in enumerate(chosen)}
    by_reason = {reason: n for n, reason in enumerate(dict.fromkeys(row["reasons"][0] for row in chosen))}
    again = FootageAgain(folder, config, seconds)
    # Footage is read scene by scene, frame by frame: each jump back in a video costs.
    in_order = sorted(chosen, key=lambda row: (row["source"], row["scene"], row["frame_index_a"]))
    found = [_stored_card(folder, row) if row["stored"] else again.card(row) for row in in_order]
    return sorted(found, key=lambda card: (by_reason[card.row["reasons"][0]], rank[card.row["key"]]))


def _by_key(rows: pa.Table, chosen: np.ndarray, *columns: str) -> list[np.ndarray]:
    """The chosen rows by the values of some columns, each group in the order of its keys, which are hashes, and so the groups."""
    if not len(chosen):
        return []
    part = rows.take(chosen)
    code, _ = codes_of(*(part[name] for name in columns))
    order = np.argsort(part["key"].to_numpy(), kind="stable")
    groups: dict[int, list[int]] = {}
    for n in order:
        groups.setdefault(int(code[n]), []).append(int(chosen[n]))
    return [np.array(group) for group in groups.values()]


def _stored_card(folder: Path, row: dict[str, Any]) -> Card:
    files = read_sample(folder, row["shard"], row["offset"], row["size"])
    patches = np.load(io.BytesIO(files["patches.npy"]), allow_pickle=False)
    grid = json.loads(files["json"])["patch_grid"]
    known = patches.size > 0 and grid[0] * grid[1] == patches.shape[1]
    return Card(
        row=row,
        a=_encoded(decode(files["a.jpg"])),
        b=_encoded(decode(files["b.jpg"])),
        grid=(grid[0], grid[1]) if known else None,
        patches=patches.tolist() if known else [],
    )


def _encoded(image: UInt8[np.ndarray, "h w 3"]) -> str:
    height, width = image.shape[:2]
    shrink = min(1.0, LONGER_SIDE_PX / max(height, width))
    if shrink < 1:
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return _data_uri(jpeg.tobytes())


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


class FootageAgain:
    """Frames of refused pairs, cut as they were measured, from the footage a dataset was made of."""

    def __init__(self, folder: Path, config: dict[str, Any], seconds: float) -> None:
        plan = read_plan(folder)
        self._fingerprints = plan.fingerprints if plan else {}
        self._inputs = {(s["source"], s["scene"]): s for s in read_scenes(folder).to_pylist()}
        self._settings, self._where = config["config"], folder / "config.json"
        self._seconds, self._end = seconds, time.monotonic() + seconds
        self._open: dict[tuple[str, str], Callable[[int], UInt8[np.ndarray, "h w 3"]] | str] = {}

    def card(self, row: dict[str, Any]) -> Card:
        """A refused pair with its pictures, or with the reason why it has none."""
        name = (row["source"], row["scene"])
        if time.monotonic() > self._end:
            return Card(row=row, why=f"left out: reading refused pairs again took more than {self._seconds:g} s")
        if name not in self._open:
            self._open[name] = self._found(*name)
        scene = self._open[name]
        if isinstance(scene, str):
            return Card(row=row, why=scene)
        try:
            a, b = (scene(row[f"frame_index_{view}"]) for view in "ab")
        except (TwoviewError, IndexError) as error:
            return Card(row=row, why=str(error))
        return Card(row=row, a=_encoded(a), b=_encoded(b))

    def _found(self, source: str, scene: str) -> Callable[[int], UInt8[np.ndarray, "h w 3"]] | str:
        """What gives the scene's pictures, if its footage is where it was, with the bytes that it had; else what to do."""
        info, known = self._inputs.get((source, scene)), self._settings.get("members", {}).get(source, self._settings)
        again = "" if "members" in self._settings else " To look at refused pairs, curate with --store 0:1"
        if info is None or "source" not in known:  # imported
            return f"its pictures are not stored.{again}"
        path = Path(info["uri"])
        changed = f"what is at {path} is not, or not just, what was curated.{again}"
        if not path.exists() and not any(p.is_file() for p in path.parents):  # in a file, as an HDF5's groups are
            return f"its footage is not at {path} from here. Run audit where curate ran.{again}"
        try:
            config, _ = config_of(known, self._where)
        except ConfigError as error:
            return f"{error}.{again}"
        above, seen = ROOTS_ABOVE if type(config.source).__module__.startswith(datasets.__name__) else 0, set()
        for root in (path, *path.parents[:above]):
            with contextlib.suppress(TwoviewError):
                footage: Any = config.source([root], None)
                for name in (n for n in footage.names() if footage.about(n).uri == info["uri"]):
                    now = footage.fingerprint(name)[0]
                    if now == self._fingerprints.get(scene):
                        own = replace(footage.inputs[name], name=scene, source=source)
                        opened = replace(footage, inputs={scene: own}).open(scene)
                        return lambda index: picture(opened[index].image, config.crop, config.size)[0]
                    if now in seen:  # whole from here on, and another
                        return changed
                    seen.add(now)
        return changed
