"""Pinhole cameras and what a renderer gives: a picture and its depth."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from ..errors import ConfigError

NEAR_M, FAR_M = 0.01, 1000.0
"""Nothing nearer or farther is drawn."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera with square pixels that looks through the middle of its picture."""

    width_px: int = 256
    height_px: int = 256
    hfov_deg: float = 90.0
    """Angle from the left edge of the picture to the right one."""

    def __post_init__(self) -> None:
        if not 1 <= self.width_px <= 8192 or not 1 <= self.height_px <= 8192:
            raise ConfigError(f"a camera of {self.width_px} x {self.height_px} px: give sides from 1 to 8192 px")
        if not 1 <= self.hfov_deg <= 170:
            raise ConfigError(f"a field of view of {self.hfov_deg:g} degrees: give one from 1 to 170")

    @property
    def intrinsics(self) -> Float64[np.ndarray, " 4"]:
        """fx, fy, cx, cy in px; (0, 0) is the centre of the first pixel."""
        focal = self.width_px / 2 / math.tan(math.radians(self.hfov_deg) / 2)
        return np.array([focal, focal, (self.width_px - 1) / 2, (self.height_px - 1) / 2])

    def rays(self) -> Float64[np.ndarray, "h w 3"]:
        """Direction of each pixel's ray in the camera's axes, one metre deep."""
        fx, fy, cx, cy = self.intrinsics
        x, y = np.meshgrid((np.arange(self.width_px) - cx) / fx, (np.arange(self.height_px) - cy) / fy)
        return np.stack([x, y, np.ones_like(x)], axis=-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Rendering:
    """What a camera sees."""

    image: UInt8[np.ndarray, "h w 3"]
    """RGB; black where nothing is."""
    depth_m: Float32[np.ndarray, "h w"]
    """Along the optical axis; 0 where nothing is."""


@runtime_checkable
class Renderer(Protocol):
    """Pictures of one scene."""

    name: str
    """gl, ray or habitat, with the version of what draws."""

    def render(self, pose: Float64[np.ndarray, "4 4"], camera: Camera, /) -> Rendering:
        """pose: camera to world, in metres; the camera's axes are x right, y down, z forward (OpenCV), the world's y is up."""
        ...


def look(
    position_m: Float64[np.ndarray, " 3"], heading_deg: float, tilt_deg: float = 0.0, roll_deg: float = 0.0
) -> Float64[np.ndarray, "4 4"]:
    """A pose, camera to world. Heading 0 looks along -z and grows to the left; tilt is upwards; roll turns the camera clockwise."""
    h, t, r = (math.radians(angle) for angle in (heading_deg, tilt_deg, roll_deg))
    forward = np.array([-math.sin(h) * math.cos(t), math.sin(t), -math.cos(h) * math.cos(t)])
    right = np.array([math.cos(h), 0.0, -math.sin(h)])
    down = np.cross(forward, right)
    pose = np.eye(4)
    pose[:3, 0] = math.cos(r) * right + math.sin(r) * down
    pose[:3, 1] = math.cos(r) * down - math.sin(r) * right
    pose[:3, 2], pose[:3, 3] = forward, position_m
    return pose
