"""Named runs: plain functions that return a complete configuration. Derive your own with dataclasses.replace.

twoview curate VIDEO --out DIR --recipe my_file:my_recipe
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

from .curation.adaptive import Adaptive
from .curation.covisibility import Covisibility
from .curation.curate import CurateConfig
from .curation.homography import Released
from .curation.propose import AllPairs, AlongWalks, BestOfWindow, Consecutive, Twins
from .curation.truth import Truth
from .curation.verdicts import Refuse
from .errors import ConfigError
from .sources import Stereo
from .sources.rgbd import RgbdFolders
from .sources.scene import Walks


def covisibility() -> CurateConfig:
    """For each frame the one that shares about 60 % with it, by following the camera and by what both really show."""
    return CurateConfig(propose=Adaptive(), estimator=Covisibility(), filters=(Refuse(),))


def paper() -> CurateConfig:
    """Section 3 of the paper: frames a second apart, 50-70 % overlap by homography, 256 px centre crops."""
    return CurateConfig()


def consecutive() -> CurateConfig:
    """As paper, but neighbours in a list of every `--propose.step`-th frame: for sequences and fast footage."""
    return CurateConfig(propose=Consecutive())


def released() -> CurateConfig:
    """The published code's choice: pictures stretched to 224 px, random points, between 50 and 75 % overlap."""
    just_inside = 1e-6  # its band is open: 50 < overlap < 75
    return CurateConfig(estimator=Released(), overlap=(0.5 + just_inside, 0.75 - just_inside), crop="stretch", size=224)


def best_of_window() -> CurateConfig:
    """The published sampling of ScanNet: of 100 candidates in 60 frames the pair in the band that shares least."""
    return CurateConfig(propose=BestOfWindow())


def all_pairs() -> CurateConfig:
    """Every picture with every other of its folder: street photos and other small sets of one place."""
    return CurateConfig(propose=AllPairs())


def photos() -> CurateConfig:
    """As all_pairs, but by what two photos really show in common."""
    return CurateConfig(propose=AllPairs(), estimator=Covisibility(), filters=(Refuse(),))


def stereo() -> CurateConfig:
    """Left and right pictures that belong together by their names, with 50 to 95 % overlap: the cameras stand close."""
    return CurateConfig(source=Stereo(), propose=Twins(), overlap=(0.5, 0.95))


def walk() -> CurateConfig:
    """3D scenes, as published for HM3D, Gibson and Matterport: three stations a walk, of their views the hardest good pair."""
    return CurateConfig(source=Walks(), propose=AlongWalks(), size=224, min_sharpness=1000.0)


def random_walk() -> CurateConfig:
    """3D scenes by longer walks with any turn: of each two neighbouring stations the hardest good pair."""
    return CurateConfig(source=Walks(walk="random", samples=500, stations=8), propose=AlongWalks(), size=224, min_sharpness=1000.0)


def multiview_habitat() -> CurateConfig:
    """3D scenes as CroCo's MultiView-Habitat: two views near each other that see at least half of the same, by exact depth."""
    nearby = Walks(walk="pairs", samples=4000, forward_m=(0.0, 1.5), min_island_radius_m=0.0, hfov_deg=60.0)
    return CurateConfig(source=nearby, propose=AlongWalks(), estimator=Truth(min_depth=0.7), overlap=(0.5, 1.0))


def rgbd() -> CurateConfig:
    """Footage with depth and pose: every 10th frame with the next, by what both really show."""
    return CurateConfig(source=RgbdFolders(), propose=Consecutive(step=10, double=True), estimator=Truth())


CURATE: dict[str, Callable[[], CurateConfig]] = {
    f.__name__: f
    for f in (
        paper,
        covisibility,
        consecutive,
        best_of_window,
        all_pairs,
        photos,
        stereo,
        walk,
        random_walk,
        multiview_habitat,
        rgbd,
        released,
    )
}


def curate_recipe(name: str) -> CurateConfig:
    """The configuration of a recipe: one of CURATE, or `module:function` of the user's own."""
    if name in CURATE:
        return CURATE[name]()
    module_name, _, function_name = name.partition(":")
    if not function_name:
        raise ConfigError(f"--recipe {name}: there is {', '.join(CURATE)}, or my_file:my_recipe for your own")
    sys.path.insert(0, str(Path.cwd()))  # workers get the same path
    try:
        config = getattr(importlib.import_module(module_name.removesuffix(".py")), function_name)()
    except ConfigError:
        raise
    except Exception as error:  # the user's own code: a typing error, a package that is missing
        raise ConfigError(f"--recipe {name}: {type(error).__name__}: {error}") from error
    if not isinstance(config, CurateConfig):
        raise ConfigError(f"--recipe {name} gives a {type(config).__name__}, not a CurateConfig")
    return config
