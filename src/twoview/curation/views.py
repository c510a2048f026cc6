"""Frames to pictures as they are stored: cut, resized, compressed, and their geometry with them."""

from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import UInt8

from ..geometry import look_up, share_seen
from ..schema import Frame, Geometry, View

Crop = Literal["centre", "stretch", "none"]
PairCrop = Literal["centre", "stretch", "none", "covisible"]
"""covisible: a window that depends on the other picture of the pair too (windows.py); of one frame alone it means none."""
Window = tuple[int, int, int, int]
"""x0 y0 x1 y1 in px of the frame."""
JPEG_QUALITY = 95


def view_of(frame: Frame, time_s: float | None, crop: PairCrop | Window, size_px: int) -> View:
    """A frame as it is stored: what is measured is what the JPEG decodes to."""
    image, cut = picture(frame.image, crop, size_px)
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    image = cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB)
    assert image is not None  # it was encoded a line above
    geometry = None if frame.geometry is None else stored_geometry(frame.geometry, cut, image.shape[:2])
    return View(time_s=time_s, jpeg=jpeg.tobytes(), image=image, crop=cut, geometry=geometry)


def stored_geometry(geometry: Geometry, crop: Window, size: tuple[int, int]) -> Geometry:
    """A frame's geometry, cut and resized with its picture; depth in whole millimetres, 0 beyond 65 m, as it is stored.

    crop: x0 y0 x1 y1 in px of the frame; size: height and width of the picture.
    """
    x0, y0, x1, y1 = crop
    depth_mm = np.rint(geometry.depth_m[y0:y1, x0:x1] * 1000)
    depth_mm = np.where((depth_mm > 0) & (depth_mm < 65_536), depth_mm, 0).astype(np.uint16)  # False for NaN
    if depth_mm.shape != size:  # no depth is made up between two surfaces
        depth_mm = cv2.resize(depth_mm, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    scale = np.array([size[1] / (x1 - x0), size[0] / (y1 - y0)])
    fx_fy, centre = geometry.intrinsics[:2] * scale, (geometry.intrinsics[2:] - (x0, y0) + 0.5) * scale - 0.5
    return Geometry(depth_m=depth_mm / np.float32(1000), pose=geometry.pose, intrinsics=np.concatenate([fx_fy, centre]))


def picture(
    image: UInt8[np.ndarray, "h w 3"], crop: PairCrop | Window, size_px: int
) -> tuple[UInt8[np.ndarray, "h2 w2 3"], Window]:
    """A frame cropped and resized by the run's rule, or to a square window, and the crop.

    Averaged over areas where it shrinks, linear where it grows; `stretch` is always linear, as published.
    """
    height, width = image.shape[:2]
    x0 = y0 = 0
    x1, y1 = width, height
    target = (size_px, size_px)
    if crop == "centre":
        side = min(height, width)
        x0, y0 = (width - side) // 2, (height - side) // 2
        x1, y1 = x0 + side, y0 + side
    elif isinstance(crop, tuple):
        x0, y0, x1, y1 = crop
    elif crop != "stretch":
        target = (max(size_px, round(width * size_px / height)), max(size_px, round(height * size_px / width)))
    cut = image[y0:y1, x0:x1]
    if cut.shape[:2] != target[::-1]:
        shrinks = crop != "stretch" and min(cut.shape[:2]) > size_px
        cut = cv2.resize(cut, target, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.ascontiguousarray(cut), (x0, y0, x1, y1)


def small_grey(image: UInt8[np.ndarray, "h w 3"], crop: PairCrop, size_px: int) -> UInt8[np.ndarray, "h2 w2"]:
    """What `picture` shows, much smaller and grey: every few pixels are looked at, and averaged two by two."""
    height, width = image.shape[:2]
    step = max(1, min(height, width) // (2 * size_px))
    few = np.ascontiguousarray(image[step // 2 :: step, step // 2 :: step])
    return picture(cv2.cvtColor(few, cv2.COLOR_RGB2GRAY)[..., None], crop, size_px)[0]  # pyright: ignore


def depth_png(view: View) -> bytes | None:
    """Depth in whole millimetres, where it is known."""
    if view.geometry is None:
        return None
    return cv2.imencode(".png", np.rint(view.geometry.depth_m * 1000).astype(np.uint16))[1].tobytes()


def geometry_columns(a: Geometry, b: Geometry) -> dict[str, Any]:
    """Poses, intrinsics, and the overlap that follows from depth and pose alone."""
    return {
        "pose_a": a.pose.ravel().tolist(),
        "pose_b": b.pose.ravel().tolist(),
        "intrinsics_a": a.intrinsics.tolist(),
        "intrinsics_b": b.intrinsics.tolist(),
        "true_overlap_ab": share_seen(look_up(a, b)[0]),
        "true_overlap_ba": share_seen(look_up(b, a)[0]),
    }
