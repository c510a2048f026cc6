"""What flows through twoview: frames, matches, pairs and rows; and the shapes of the objects a user may bring."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, Int16, UInt8

OUTSIDE, OCCLUDED, UNKNOWN, NOT_UNIQUE = -1, -2, -3, -4
"""What stands in `Match.patches` where a patch has no counterpart."""

REASONS = (
    "few_matches",  # too few matches for a homography
    "no_homography",  # RANSAC found none
    "singular_homography",  # it maps the picture onto a line, or past infinity
    "flipped_homography",  # it mirrors the picture, which no camera does
    "few_inliers",  # fewer matches agree with it than the estimator's floor
    "uncertain",  # what the pictures share is a guess: too little texture, or too far apart
    "no_depth",  # too little of a picture has depth, for an estimator that needs it
    "overlap_low",  # below the band of --overlap
    "overlap_high",  # above it
    "not_best",  # another pair of its group was kept
    "low_sharpness",  # one of the two pictures is below --min-sharpness, and nothing was measured
    "small_floor",  # no floor of a 3D scene is as large as its walk asks for
    "near_another",  # an earlier walk through the scene has nearly the same viewpoints
    "degenerate_motion",  # the camera stood still, zoomed or only turned: nothing to learn of depth
    "moving",  # too much moves by itself
    "repeated",  # two geometries explain the pictures nearly equally well
    "cut",  # the two pictures belong to different shots
    "bad_exposure",  # too dark, too bright, or too much black and white without detail
    "unreadable",  # one of the two frames could not be decoded
    "user_filter",  # a filter of the user refused it with a word of its own
)
"""Every reason a pair can be refused for. The first seven are also `Match.failure`: why nothing was measured."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Geometry:
    """Where a picture was taken and how far is what it shows: known of rendered views and of RGB-D footage."""

    depth_m: Float32[np.ndarray, "h w"]
    """Along the optical axis, one value a pixel of the picture; 0 where it is unknown."""
    pose: Float64[np.ndarray, "4 4"]
    """Camera to world, in metres; the camera's axes are x right, y down, z forward (OpenCV)."""
    intrinsics: Float64[np.ndarray, " 4"]
    """fx, fy, cx, cy in px of the picture; (0, 0) is the centre of the first pixel."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One decoded picture of a scene: RGB, upright, square pixels."""

    id: str
    """source/scene/000123"""
    image: UInt8[np.ndarray, "h w 3"]
    geometry: Geometry | None = None


@dataclass(frozen=True, kw_only=True)
class SceneInfo:
    """What is known of an input besides its pixels: one line of scenes/."""

    source: str
    scene: str
    uri: str
    kind: str
    """video or images, or what a user's own source calls itself"""
    status: str = "ok"
    """ok, partial (some frames cannot be read), unreadable, or skipped (by a rule of its dataset, see sources/skipped.py)"""
    error: str = ""
    """What is wrong, or why it is skipped."""
    codec: str | None = None
    fps: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    num_frames: int = 0
    licence: str | None = None
    split: str | None = None


@runtime_checkable
class Scene(Protocol):
    """A sequence of frames that may show the same place. `scene[i]` raises UnreadableError for a frame that is damaged.

    Three more are used where they are there: `info: SceneInfo`; `load()`, called once before the first frame is asked for and not
    while a run is planned (UnreadableError if the scene is none after all); and `refuses(i, j) -> str`, why a pair is not worth
    a look, one of REASONS, or ''.
    """

    name: str
    licence: str | None

    @property
    def times_s(self) -> Float64[np.ndarray, " n"] | None:
        """Seconds from the first frame, or None where there is no clock (a photo folder)."""
        ...

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Frame: ...


@runtime_checkable
class Source(Protocol):
    """Where scenes come from. `open` raises UnreadableError for a scene that cannot be read at all.

    Two methods more are used where they are there: `about(name) -> SceneInfo` (source, uri, kind and licence without opening
    it) and `fingerprint(name) -> (str, int)` (what its bytes are known by, and their number), so that changed footage is
    noticed.
    """

    def names(self) -> Sequence[str]: ...
    def open(self, name: str, /) -> Scene: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Match:
    """What an estimator says of two pictures a and b. P = number of patches of a picture."""

    found: bool
    failure: str = ""
    """Where not found: which of REASONS."""
    overlap_ab: float | None = None
    """Share of a's patches that have a counterpart in b, in [0, 1]."""
    overlap_ba: float | None = None
    patches: Int16[np.ndarray, "2 p"] | None = None
    """Row 0: the patch of b for each patch of a; row 1: of a for each of b; negative: see OUTSIDE and its neighbours."""
    patch_grid: tuple[int, int] | None = None
    """Rows and columns of patches."""
    points: Float32[np.ndarray, "n 4"] | None = None
    """Matched x, y in a and x, y in b, in [0, 1] from the left and top edge: the inliers."""
    num_keypoints_a: int | None = None
    num_keypoints_b: int | None = None
    num_matches: int | None = None
    num_inliers: int | None = None
    homography: Float64[np.ndarray, "3 3"] | None = None
    """Pixels of a to pixels of b; last entry 1."""
    scale: float | None = None
    """Linear magnification from a to b at the centre of a."""
    rotation_deg: float | None = None
    """In-plane rotation from a to b, in (-180, 180]."""

    @property
    def overlap(self) -> float | None:
        """The smaller direction."""
        if self.overlap_ab is None or self.overlap_ba is None:
            return None
        return min(self.overlap_ab, self.overlap_ba)


@runtime_checkable
class Estimator(Protocol):
    """Measures two pictures. `describe` is called once a picture, `measure` once a pair; both are pure functions.

    One that needs more than pixels has `describe_view(View)`, called in place of `describe`.
    """

    name: str
    """As `paper@1`: the number grows when its answers change."""

    def describe(self, image: UInt8[np.ndarray, "h w 3"], /) -> Any: ...
    def measure(self, a: Any, b: Any, /) -> Match: ...


@dataclass(frozen=True)
class Group:
    """Pairs of frame indices that compete: at most one is kept."""

    pairs: Sequence[tuple[int, int]]
    first_fit: bool = False
    """True: measured in order, and a later one only if all before it overlap too much. False: the lowest overlap wins."""


@runtime_checkable
class Proposer(Protocol):
    """Which pairs of a scene are worth measuring: groups, in the order of their first index, decided without pixels.

    One that wants to look has `follow(Look) -> Generator[Group, Sequence[Pair], None]` besides (curation/propose.py): it yields the
    groups of a slice in the order it likes, and what `yield` gives back is what was measured of the last one. Groups that begin
    with the same frame are one group. The call without pixels then only tells the plan where groups may begin, and the most
    pairs there may be.
    """

    def __call__(self, scene: Scene, /) -> Iterable[Group | Sequence[tuple[int, int]]]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """A picture as it is stored: what is measured is what these bytes decode to."""

    time_s: float | None
    jpeg: bytes
    image: UInt8[np.ndarray, "h w 3"]
    crop: tuple[int, int, int, int]
    """x0 y0 x1 y1 in px of the upright frame."""
    geometry: Geometry | None = None
    """Of the stored picture."""


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What two pictures say of themselves, whatever the estimator: columns of Row by their names. None: not to be told."""

    motion: str
    """general, planar, rotation, zoom, still or unknown; see curation.motion.Relation."""
    parallax_px: float | None
    """How far a tenth of the epipolar matches leaves the dominant homography at least, in px of the stored pictures."""
    scale: float | None
    """Of the dominant homography at the centre of a."""
    rotation_deg: float | None
    epipolar_inliers: int
    """Matches that agree with the geometry of the verdict."""
    moving: float | None
    """Share of the good matches that break the geometry together with their neighbours."""
    repeated: bool
    """Another shift explains the same keypoints nearly as well."""
    cut: bool
    """They do not belong to one shot."""
    exposure_a: float
    """Mean brightness, in [0, 1]."""
    exposure_b: float
    clipped_a: float
    """Share of pixels that are black or white without detail."""
    clipped_b: float
    excluded_a: float
    """Share of the picture that is bars or overlay."""
    excluded_b: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """Two views and what was measured of them. Kept if there is no reason against it."""

    source: str
    scene: str
    group: str
    index_a: int
    index_b: int
    a: View | None
    """None where the frame could not be read."""
    b: View | None
    match: Match | None
    reasons: tuple[str, ...] = ()
    store: bool = False
    """Whether its pixels go to the shard: kept, or refused only for an overlap inside --store."""
    verdicts: Verdicts | None = None
    """None where nobody asked for them yet."""

    @property
    def id(self) -> str:
        return f"{self.source}/{self.scene}/{self.index_a:06d}-{self.index_b:06d}"

    @property
    def kept(self) -> bool:
        return not self.reasons


@runtime_checkable
class Filter(Protocol):
    """A verdict on one pair from that pair alone: a reason against it, or ''."""

    def __call__(self, pair: Pair, /) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Row:
    """A pair without pixels: one line of the manifest. None means unmeasured, never 0."""

    key: str
    """First 16 hex digits of sha256(pair_id)."""
    pair_id: str
    source: str
    scene: str
    group: str
    frame_index_a: int
    frame_index_b: int
    time_a_s: float | None = None
    time_b_s: float | None = None
    kept: bool
    stored: bool
    reasons: list[str] = field(default_factory=list)
    found: bool | None = None
    estimator: str
    overlap: float | None = None
    """The smaller direction."""
    overlap_ab: float | None = None
    overlap_ba: float | None = None
    num_keypoints_a: int | None = None
    num_keypoints_b: int | None = None
    num_matches: int | None = None
    num_inliers: int | None = None
    homography: list[float] | None = None
    """Stored a px to stored b px, row by row, last entry 1."""
    scale: float | None = None
    rotation_deg: float | None = None
    parallax_px: float | None = None
    motion: str | None = None
    sharpness_a: float | None = None
    sharpness_b: float | None = None
    crop_a: list[int] | None = None
    """x0 y0 x1 y1 in px of the upright frame."""
    crop_b: list[int] | None = None
    patch_grid: list[int] | None = None
    """Rows and columns."""
    phash_a: str | None = None
    """64-bit perceptual hash, 16 hex digits."""
    phash_b: str | None = None
    licence: str | None = None
    split: str | None = None
    sha256_a: str | None = None
    """Of the stored JPEG bytes."""
    sha256_b: str | None = None
    pose_a: list[float] | None = None
    """Camera to world, 4 x 4 row by row, in metres; the camera's axes are x right, y down, z forward."""
    pose_b: list[float] | None = None
    intrinsics_a: list[float] | None = None
    """fx, fy, cx, cy in px of the stored picture."""
    intrinsics_b: list[float] | None = None
    true_overlap_ab: float | None = None
    """Share of what a shows that b shows too, by depth and pose."""
    true_overlap_ba: float | None = None
    epipolar_inliers: int | None = None
    """Matches that agree with the geometry of `motion`."""
    moving: float | None = None
    """Share of the good matches that move by themselves."""
    repeated: bool | None = None
    """Another shift explains the same keypoints nearly as well."""
    cut: bool | None = None
    """The pictures belong to different shots."""
    exposure_a: float | None = None
    """Mean brightness, in [0, 1]."""
    exposure_b: float | None = None
    clipped_a: float | None = None
    """Share of pixels that are black or white without detail."""
    clipped_b: float | None = None
    excluded_a: float | None = None
    """Share of the picture that is bars or overlay."""
    excluded_b: float | None = None
    shard: str | None = None
    """Path inside OUT."""
    offset: int | None = None
    size: int | None = None
    """Offset and length in bytes of the whole sample in the tar, headers and padding included: one read."""


def iter_groups(proposed: Iterable[Group | Sequence[tuple[int, int]]]) -> Iterator[Group]:
    """Groups, whether the proposer gave `Group`s or plain lists of pairs."""
    for group in proposed:
        yield group if isinstance(group, Group) else Group(tuple(group))
