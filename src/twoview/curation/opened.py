"""A scene at work: its frames as views, each decoded once and described once."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from ..errors import UnreadableError
from ..schema import Frame, Group, Scene, SceneInfo, View
from .features import Features, sift
from .homography import Paper
from .verdicts import perceptual_hash, sharpness
from .views import PairCrop, Window, small_grey, view_of

if TYPE_CHECKING:
    from .curate import CurateConfig

MAX_KEPT_BYTES = 1 << 28
"""Of whole frames that a window may yet be cut from; older ones are decoded again."""


class OpenScene:
    """A scene and the views made of it lately: each frame is decoded once and described once."""

    def __init__(self, scene: Scene, config: "CurateConfig", known: SceneInfo | None = None) -> None:
        """known: what its source says of it, for a scene that has no `info` of its own."""
        self.scene, self.config, self._known = scene, config, known
        getattr(scene, "load", lambda: None)()
        self.refuses: Callable[[int, int], str] = getattr(scene, "refuses", lambda i, j: "")
        self._num_views = max(64, getattr(config.propose, "num_views", 0))
        self._frame = lru_cache(maxsize=1)(self._read)  # looked at small, it may become a view a moment later
        self._kept: dict[int, Frame] = {}
        self.view = lru_cache(maxsize=self._num_views)(self._view)
        """The view of a frame, None where it cannot be read."""
        self.features = lru_cache(maxsize=self._num_views)(self.describe)
        """What the estimator makes of a view."""
        self.keypoints = lru_cache(maxsize=64)(self._keypoints)
        """SIFT of a view, for its verdicts."""
        self.sharpness = lru_cache(maxsize=64)(lambda view: sharpness(view.image))
        self.phash = lru_cache(maxsize=64)(lambda view: perceptual_hash(view.image))
        self.num_described = 0

    @property
    def info(self) -> SceneInfo:
        """What is known of the scene by now."""
        known = self._known or SceneInfo(source="custom", scene=self.scene.name, uri=self.scene.name, kind="custom")
        return getattr(self.scene, "info", None) or replace(
            known, num_frames=len(self.scene), licence=known.licence or self.scene.licence
        )

    def read_ahead(self, group: Group) -> None:
        """Make the views of a group in the order of the frames: a video that is read back and forth is decoded again and again."""
        wanted = sorted({i for pair in group.pairs for i in pair})
        if 2 < len(wanted) <= self._num_views:
            for i in wanted:
                self.view(i)

    def small(self, index: int, size_px: int) -> UInt8[np.ndarray, "h w"] | None:
        """The picture of a frame small and grey, to follow the camera by; None where it cannot be read."""
        frame = self._frame(index)
        return None if frame is None else small_grey(frame.image, self.config.crop, size_px)

    def _read(self, index: int) -> Frame | None:
        try:
            return self.scene[index]
        except UnreadableError:
            return None

    def _view(self, index: int) -> View | None:
        frame = self._frame(index)
        if frame is not None and self.config.crop == "covisible":
            self._keep(index, frame)
        return None if frame is None else self._cut(index, frame, self.config.crop)

    def cut(self, index: int, window: Window) -> View:
        """A square window of a frame that has a view."""
        frame = self._kept.get(index) or self.scene[index]
        self._keep(index, frame)
        return self._cut(index, frame, window)

    def _cut(self, index: int, frame: Frame, crop: PairCrop | Window) -> View:
        time_s = None if self.scene.times_s is None else float(self.scene.times_s[index])
        return view_of(frame, time_s, crop, self.config.size)

    def _keep(self, index: int, frame: Frame) -> None:
        """Hold a frame until MAX_KEPT_BYTES of later ones are held."""
        self._kept.pop(index, None)
        self._kept[index] = frame
        while len(self._kept) > 2 and sum(f.image.nbytes for f in self._kept.values()) > MAX_KEPT_BYTES:
            del self._kept[next(iter(self._kept))]

    def _keypoints(self, view: View) -> Features:
        return self.features(view) if isinstance(self.config.estimator, Paper) else sift(view.image)

    def describe(self, view: View) -> Any:
        self.num_described += 1
        estimator = self.config.estimator
        of_view = getattr(estimator, "describe_view", None)
        return of_view(view) if of_view else estimator.describe(view.image)
