"""Named runs: plain functions that return a complete configuration. Derive your own with dataclasses.replace.

twoview curate VIDEO --out DIR --recipe my_file:my_recipe
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .curation.adaptive import Adaptive
from .curation.composition import Composition
from .curation.covisibility import Covisibility
from .curation.curate import CurateConfig
from .curation.homography import Released
from .curation.propose import AllPairs, AlongWalks, BestOfWindow, Consecutive, EverySeconds, Twins
from .curation.truth import Truth
from .curation.verdicts import Refuse
from .errors import ConfigError
from .sources import Stereo
from .sources.datasets import (
    ArkitScenes,
    Co3d,
    Demon,
    Gibson,
    Hm3d,
    Mannequin,
    Matterport,
    Objectron,
    ScanNet,
    StreetView,
)
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


def mimic_demon() -> CurateConfig:
    """DeMoN as published: all pairs of a scene, and of those in the band the one that shares least."""
    return CurateConfig(source=Demon(), propose=AllPairs(keep="lowest"), size=224)


def mimic_scannet() -> CurateConfig:
    """ScanNet as published: of 100 candidates in each 60 frames the pair in the band that shares least."""
    return CurateConfig(source=ScanNet(), propose=BestOfWindow(), size=224)


def mimic_arkitscenes() -> CurateConfig:
    """ARKitScenes as published: frames a second apart, two where these are too alike; turned as the dataset's table says."""
    return CurateConfig(source=ArkitScenes(), propose=EverySeconds(), size=224)


def mimic_objectron() -> CurateConfig:
    """Objectron: frames a second apart, two where these are too alike. How it was published to be sampled is not known."""
    return CurateConfig(source=Objectron(), propose=EverySeconds(), size=224)


def mimic_co3d() -> CurateConfig:
    """CO3D as published: frame i with frame i + 5, for every tenth i."""
    return CurateConfig(source=Co3d(), propose=Consecutive(step=5, every=2), size=224)


def mimic_mannequin() -> CurateConfig:
    """MannequinChallenge as published: frames a second apart in each clip, the bottom fifth cut off."""
    return CurateConfig(source=Mannequin(), propose=EverySeconds(double=False), size=224)


def mimic_street_view() -> CurateConfig:
    """3DStreetView as published: all pairs of a target that share 50 to 75 %."""
    return CurateConfig(source=StreetView(), propose=AllPairs(), overlap=(0.5, 0.75), size=224)


def mimic_hm3d() -> CurateConfig:
    """HM3D as published: 3,000 walks through each scene of train."""
    return CurateConfig(source=Hm3d(), propose=AlongWalks(), size=224, min_sharpness=1000.0)


def mimic_gibson() -> CurateConfig:
    """Gibson as published: 3,000 walks through each scene, but for those held out for reconstruction."""
    return CurateConfig(source=Gibson(), propose=AlongWalks(), size=224, min_sharpness=1000.0)


def mimic_matterport() -> CurateConfig:
    """Matterport3D as published: 500 walks through each house."""
    return CurateConfig(source=Matterport(), propose=AlongWalks(), size=224, min_sharpness=1000.0)


SYNTHETIC: dict[str, Callable[[], CurateConfig]] = {"hm3d": mimic_hm3d, "gibson": mimic_gibson, "matterport": mimic_matterport}
REAL: dict[str, Callable[[], CurateConfig]] = {
    "demon": mimic_demon,
    "scannet": mimic_scannet,
    "arkitscenes": mimic_arkitscenes,
    "objectron": mimic_objectron,
    "co3d": mimic_co3d,
    "mannequin": mimic_mannequin,
    "street_view": mimic_street_view,
}
PAIRS_3M = {
    "hm3d": 1_462_400,
    "gibson": 657_700,
    "matterport": 29_700,
    "demon": 22_300,
    "scannet": 36_100,
    "arkitscenes": 81_600,
    "objectron": 45_900,
    "co3d": 133_500,
    "mannequin": 114_900,
    "street_view": 579_310,
}
"""Pairs of each source in MIMIC-3M. The paper's sums, 2,149,756 synthetic and 1,013,577 real, 434,267 of these without
3DStreetView, divided as its figure 2 shows: read off the bars to 0.02 % of the whole."""
FIGURE_2 = "read off figure 2 of the paper, to about 600 pairs"


def mimic_3m() -> Composition:
    """MIMIC-3M of section 3, from a folder with the ten sources: 3.16 M pairs, a third of them real."""
    return _mimic("mimic_3m", SYNTHETIC | REAL, PAIRS_3M, FIGURE_2)


def mimic_1m() -> Composition:
    """MIMIC-1M, from a folder with the ten sources: 1.3 M pairs in the same proportions."""
    scale = 1_300_000 / sum(PAIRS_3M.values())
    claimed = "1.3 M in the proportions of figure 2 of the paper, as its own are not published"
    return _mimic("mimic_1m", SYNTHETIC | REAL, {source: round(num * scale) for source, num in PAIRS_3M.items()}, claimed)


def mimic_synthetic() -> Composition:
    """The synthetic half of table 5: HM3D, Gibson and Matterport3D."""
    return _mimic("mimic_synthetic", SYNTHETIC, PAIRS_3M, FIGURE_2)


def mimic_real() -> Composition:
    """The real half of table 5, of the six sources that section 5 names: without 3DStreetView."""
    return _mimic("mimic_real", {source: recipe for source, recipe in REAL.items() if source != "street_view"}, PAIRS_3M, FIGURE_2)


def gibson_reconstruction_500() -> Composition:
    """The held-out set of table 4: 500 pairs of Gibson's scenes that no other mimic_ recipe walks through."""
    held_out = replace(mimic_gibson(), source=Gibson(part="held_out", samples=100))
    quota, claimed = {"gibson": 500}, "table 4 of the paper; which scenes its 500 pictures are of is not published"
    return Composition(name="gibson_reconstruction_500", members={"gibson": held_out}, quota=quota, claimed=claimed)


def _mimic(name: str, members: Mapping[str, Callable[[], CurateConfig]], pairs: Mapping[str, int], claimed: str) -> Composition:
    quota = {source: pairs[source] for source in members}
    return Composition(name=name, members={source: recipe() for source, recipe in members.items()}, quota=quota, claimed=claimed)


CURATE: dict[str, Callable[[], CurateConfig | Composition]] = {
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
        *SYNTHETIC.values(),
        *REAL.values(),
        mimic_3m,
        mimic_1m,
        mimic_synthetic,
        mimic_real,
        gibson_reconstruction_500,
    )
}


def curate_recipe(name: str) -> CurateConfig | Composition:
    """The configuration of a recipe: one of CURATE, or `module:function` of the user's own."""
    config = CURATE[name]() if name in CURATE else own_recipe(name, tuple(CURATE))
    if not isinstance(config, (CurateConfig, Composition)):
        raise ConfigError(f"--recipe {name} gives a {type(config).__name__}, not a CurateConfig or a Composition")
    return config


def own_recipe(name: str, known: tuple[str, ...]) -> Any:
    """What `module:function` of the user's own gives. known: recipes that there are besides, for the error."""
    module_name, _, function_name = name.partition(":")
    if not function_name:
        raise ConfigError(f"--recipe {name}: there is {', '.join(known)}, or my_file:my_recipe for your own")
    sys.path.insert(0, str(Path.cwd()))  # workers get the same path
    try:
        return getattr(importlib.import_module(module_name.removesuffix(".py")), function_name)()
    except ConfigError:
        raise
    except Exception as error:  # the user's own code: a typing error, a package that is missing
        raise ConfigError(f"--recipe {name}: {type(error).__name__}: {error}") from error
