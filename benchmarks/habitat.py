"""Claim: pictures, depth and floor are habitat-sim's, on two scenes that it rendered.

Both renderers against eight views of each scene: mean difference of RGB where both see a surface, 99th percentile of the
difference of depth over 1 mm + 0.1 %, beyond the reference's rounding to float16 (1 is the bound). The same flat with Basis and
KTX2 textures against the JPEG one. The floor: its area, habitat's random points within 25 cm of it, its radius.

    .venv/bin/python benchmarks/habitat.py [FOLDER for pictures side by side]
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

from twoview.render.camera import Camera
from twoview.render.gl import Gl
from twoview.render.load import load_mesh
from twoview.render.navigation import Navigation
from twoview.render.ray import Ray

SHARED = Path(__file__).parents[2] / "shared"
SCENES = {"apartment": "scene_apartment/apartment.glb", "gallery": "scene_vr_gallery/vr-gallery.glb"}


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    if not (SHARED / "parity" / "habitat").is_dir():
        sys.exit(f"no reference renders at {SHARED / 'parity' / 'habitat'}")
    for scene, path in SCENES.items():
        reference = SHARED / "parity" / "habitat" / scene
        known, mesh = json.loads((reference / "reference.json").read_text()), load_mesh(SHARED / "data" / path)
        poses = [np.array(pose) @ np.diag([1.0, -1.0, -1.0, 1.0]) for pose in known["camera_to_world_opengl"]]
        for renderer in (Gl(mesh), Ray(mesh)):
            seen = [renderer.render(pose, Camera(hfov_deg=known["horizontal_fov_deg"])) for pose in poses]
            images = [cv2.imread(str(reference / f"{i:02d}.png"), cv2.IMREAD_COLOR_RGB) for i in range(len(poses))]
            depths = [np.load(reference / f"{i:02d}_depth.npy") for i in range(len(poses))]
            colours, beyond = [], []
            for view, image, depth in zip(seen, images, depths, strict=True):
                both = (depth > 0) & (view.depth_m > 0)
                colours.append(np.abs(view.image.astype(int) - image)[both].mean())
                off = np.abs(view.depth_m - depth.astype(float)) - np.spacing(depth).astype(float) / 2
                beyond.append(np.percentile((off / (0.001 + 0.001 * depth.astype(float)))[both], 99))
            rgb = f"RGB {np.mean(colours):.3f} (worst view {max(colours):.3f}) of 255"
            print(f"{scene}, {renderer.name}: {rgb}, depth {max(beyond):.2f}")
            if folder:
                rows = [np.hstack([view.image, image]) for view, image in zip(seen, images, strict=True)]
                sheet = np.hstack([np.vstack(rows[:4]), np.vstack(rows[4:])])
                cv2.imwrite(str(folder / f"{scene}_{type(renderer).__name__.lower()}.png"), sheet[:, :, ::-1])
        floor, points = Navigation.of(mesh), np.array(known["random_navigable_points"])
        near = sum(np.linalg.norm(floor.snap(p, 9.0) - p) < 0.25 for p in points)
        area, radius = f"{floor.area_m2:.1f} m2 (habitat {known['navigable_area_m2']:.1f})", np.median(known["island_radius"])
        print(f"  floor {area}, {near} of {len(points)} points within 25 cm, radius {floor.largest_radius_m:.2f} m ({radius:.2f})")
        if scene == "apartment":
            textures(SHARED / "data" / path, poses, folder)


def textures(path: Path, poses: list[np.ndarray], folder: Path | None) -> None:
    plain = [Gl(load_mesh(path)).render(pose, Camera()).image for pose in poses]
    for form in ("basis", "ktx2"):
        renderer = Gl(load_mesh(path.with_name(f"{path.stem}_{form}.glb")))
        images = [renderer.render(pose, Camera()).image for pose in poses]
        off = [np.abs(a.astype(int) - b).mean() for a, b in zip(plain, images, strict=True)]
        print(f"  {form} textures: RGB {np.mean(off):.2f} of 255 from the JPEG ones (worst view {max(off):.2f})")
        if folder:
            cv2.imwrite(str(folder / f"{form}.png"), np.vstack([np.hstack(plain[:4]), np.hstack(images[:4])])[:, :, ::-1])


if __name__ == "__main__":
    main()
