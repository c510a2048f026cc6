"""Homographies, patch grids and overlap: what must hold for every size and grid, beside counts done by hand."""

import math
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from twoview.geometry import (
    homography_fault,
    lattice,
    lattice_patches,
    majority,
    overlap_of,
    patch_of,
    product,
    project,
    similarity_of,
    unique_targets,
)
from twoview.schema import NOT_UNIQUE, OUTSIDE

sys.path.insert(0, str(Path(__file__).parent / "reference"))
import oracle

quick = settings(deadline=None, max_examples=60, derandomize=True)

sizes = st.tuples(st.integers(32, 400), st.integers(32, 400))
grids = st.tuples(st.integers(1, 20), st.integers(1, 20))


@st.composite
def homographies(draw: st.DrawFn, size: tuple[int, int] = (224, 224)) -> np.ndarray:
    """What two views of one plane may give: a similarity about the middle, sheared, shifted and tilted."""
    scale, turn = draw(st.floats(0.4, 2.5)), draw(st.floats(-math.pi, math.pi))
    shear, squeeze = draw(st.floats(-0.4, 0.4)), draw(st.floats(0.7, 1.4))
    shift_x, shift_y = draw(st.floats(-0.6, 0.6)) * size[1], draw(st.floats(-0.6, 0.6)) * size[0]
    tilt = [draw(st.floats(-0.7, 0.7)) / side for side in (size[1], size[0])]
    h = np.array([[scale * squeeze, shear, shift_x], [0, scale, shift_y], [0, 0, 1]]) @ rotation(turn)
    h[2, :2] += tilt
    h = about_middle(h, size)
    return h / h[2, 2]


def about_middle(h: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    x, y = (size[1] - 1) / 2, (size[0] - 1) / 2
    return shift(x, y) @ h @ shift(-x, -y)


def rotation(radians: float) -> np.ndarray:
    c, s = math.cos(radians), math.sin(radians)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def shift(x_px: float, y_px: float) -> np.ndarray:
    return np.array([[1, 0, x_px], [0, 1, y_px], [0, 0, 1]], float)


def both_ways(h, size_a, size_b, grid, per_cell=6):
    back = np.linalg.inv(h)
    return (
        lattice_patches(h, size_a, size_b, grid, per_cell),
        lattice_patches(back / back[2, 2], size_b, size_a, grid, per_cell),
    )


# ------------------------------------------------------------------------------------------------ maps that are known


@quick
@given(size=sizes, grid=grids, k=st.tuples(st.integers(-20, 20), st.integers(-20, 20)), per_cell=st.integers(1, 12))
@example(size=(256, 256), grid=(14, 14), k=(3, -5), per_cell=10)
def test_a_shift_by_whole_patches_shifts_the_map(size, grid, k, per_cell) -> None:
    (rows, columns), (down, right) = grid, k
    h = shift(right * size[1] / columns, down * size[0] / rows)
    row, column = np.divmod(np.arange(rows * columns), columns)
    inside = (row + down >= 0) & (row + down < rows) & (column + right >= 0) & (column + right < columns)
    expected = np.where(inside, (row + down) * columns + column + right, OUTSIDE)
    ab, ba = both_ways(h, size, size, grid, per_cell)
    np.testing.assert_array_equal(ab, expected)
    shared = max(0, rows - abs(down)) * max(0, columns - abs(right)) / (rows * columns)
    assert overlap_of(ab) == overlap_of(ba) == pytest.approx(shared, abs=1e-12)
    assert all(ba[ab[i]] == i for i in np.flatnonzero(inside))


@pytest.mark.parametrize("k", range(15))
def test_the_paper_s_grid_loses_a_fourteenth_a_patch(k: int) -> None:
    patches = lattice_patches(shift(16 * k, 0), (224, 224), (224, 224), (14, 14), 10)
    assert overlap_of(patches) == pytest.approx((14 - k) / 14)


@quick
@given(size_a=sizes, size_b=sizes, grid=grids, per_cell=st.integers(1, 12))
def test_the_same_view_in_two_sizes_is_the_identity_map(size_a, size_b, grid, per_cell) -> None:
    """Pixel centres sit at whole numbers: the edge at -0.5 has to stay where it is."""
    scale = np.diag([size_b[1] / size_a[1], size_b[0] / size_a[0], 1.0])
    h = shift(-0.5, -0.5) @ scale @ shift(0.5, 0.5)
    for patches in both_ways(h, size_a, size_b, grid, per_cell):
        np.testing.assert_array_equal(patches, np.arange(grid[0] * grid[1]))
        assert overlap_of(patches) == 1.0


@quick
@given(side=st.integers(32, 300), num=st.integers(1, 20), per_cell=st.integers(1, 12), quarters=st.integers(0, 3))
def test_a_quarter_turn_turns_the_map(side, num, per_cell, quarters) -> None:
    h = about_middle(rotation(quarters * math.pi / 2), (side, side))
    ab, ba = both_ways(h, (side, side), (side, side), (num, num), per_cell)
    numbers = np.arange(num * num).reshape(num, num)
    np.testing.assert_array_equal(ba, np.rot90(numbers, -quarters).ravel())  # b is a, turned clockwise
    np.testing.assert_array_equal(ab, np.rot90(numbers, quarters).ravel())
    assert overlap_of(ab) == 1.0


def test_a_zoom_by_two_sees_a_quarter() -> None:
    """The middle 4 x 4 of 8 x 8 patches fill b: each lies over four patches of b and takes the first of them."""
    size, grid = (256, 256), (8, 8)
    ab, ba = both_ways(about_middle(np.diag([2.0, 2.0, 1.0]), size), size, size, grid, per_cell=4)
    expected = np.full((8, 8), OUTSIDE)
    expected[2:6, 2:6] = np.arange(0, 64, 16)[:, None] + np.arange(0, 8, 2)
    np.testing.assert_array_equal(ab, expected.ravel())
    small = np.full((8, 8), NOT_UNIQUE)  # from b all 64 are inside a, but four share each target
    small[::2, ::2] = (np.arange(2, 6) * 8)[:, None] + np.arange(2, 6)
    np.testing.assert_array_equal(ba, small.ravel())
    assert overlap_of(ab) == overlap_of(ba) == 0.25


@pytest.mark.parametrize("zoom", [1.2, 1.4, 1.6, 2.0, 3.0, 4.0])
def test_a_zoom_reads_about_the_share_that_is_seen(zoom: float) -> None:
    """About: whole patches vote, so the reading goes in steps (a zoom by 1.05 reads 0.98, by 1.1 it reads 0.73)."""
    size = (224, 224)
    ab, ba = both_ways(about_middle(np.diag([zoom, zoom, 1.0]), size), size, size, (14, 14), 10)
    assert min(overlap_of(ab), overlap_of(ba)) == pytest.approx(1 / zoom**2, abs=0.09)


# ------------------------------------------------------------------------------------------- what holds for every map


@quick
@given(h=homographies(), grid=grids, per_cell=st.integers(1, 8))
def test_each_patch_is_given_once(h, grid, per_cell) -> None:
    patches = lattice_patches(h, (224, 224), (200, 240), grid, per_cell)
    assert patches.shape == (grid[0] * grid[1],)
    given_, counts = np.unique(patches[patches >= 0], return_counts=True)
    assert (counts == 1).all()
    assert (given_ < grid[0] * grid[1]).all()
    assert set(patches[patches < 0].tolist()) <= {OUTSIDE, NOT_UNIQUE}
    assert 0 <= overlap_of(patches) <= 1


@quick
@given(h=homographies(), size_b=sizes, grid=st.tuples(st.integers(1, 6), st.integers(1, 6)), per_cell=st.integers(1, 5))
def test_the_vote_is_a_count_by_hand(h, size_b, grid, per_cell) -> None:
    """Point by point, in loops: which patch of b holds it, which patch of a is it of, who comes first."""
    size_a, (rows, columns) = (224, 224), grid
    votes = [Counter() for _ in range(rows * columns)]
    near_an_edge = False
    for i in range(rows * per_cell):
        for j in range(columns * per_cell):
            x = (j + 0.5) * size_a[1] / (columns * per_cell) - 0.5
            y = (i + 0.5) * size_a[0] / (rows * per_cell) - 0.5
            u, v, w = h @ np.array([x, y, 1.0])
            target = rows * columns
            if w > 0:
                column, row = (u / w + 0.5) * columns / size_b[1], (v / w + 0.5) * rows / size_b[0]
                near_an_edge |= min(abs(column - round(column)), abs(row - round(row))) < 1e-9
                if 0 <= column < columns and 0 <= row < rows:
                    target = math.floor(row) * columns + math.floor(column)
            votes[i // per_cell * columns + j // per_cell][target] += 1
    assume(not near_an_edge)  # where rounding decides
    expected, taken = [], set()
    for ballot in votes:
        winner = min(ballot, key=lambda t: (-ballot[t], t))
        expected.append(OUTSIDE if winner == rows * columns else NOT_UNIQUE if winner in taken else winner)
        taken.add(winner)
    np.testing.assert_array_equal(lattice_patches(h, size_a, size_b, grid, per_cell), expected)


@quick
@given(h=homographies(), size_b=sizes)
def test_swapping_the_views_swaps_the_directions(h, size_b) -> None:
    size_a, grid = (224, 224), (14, 14)
    assume(np.linalg.cond(h) < 1e9)
    back = np.linalg.inv(h)
    ab, ba = both_ways(h, size_a, size_b, grid)
    swapped_ba, swapped_ab = both_ways(back / back[2, 2], size_b, size_a, grid)
    np.testing.assert_array_equal(swapped_ba, ba)
    assert np.count_nonzero(swapped_ab != ab) <= 2  # the inverse of the inverse is h but for rounding


@pytest.mark.parametrize("turn_deg", [0, 7, 33])
def test_the_lattice_agrees_with_random_points(turn_deg: float) -> None:
    """The oracle's vote, on a homography where neither meets the horizon."""
    h = shift(21, -13) @ about_middle(rotation(math.radians(turn_deg)), (224, 224))
    patches = lattice_patches(h, (224, 224), (224, 224), (14, 14), 10)
    counts = [len(oracle.matched_patches(h, random.Random(k))) for k in range(2)]
    assert np.count_nonzero(patches >= 0) == pytest.approx(np.mean(counts), abs=9)


# ----------------------------------------------------------------------------------------------------------- the pieces


def test_a_lattice_lies_evenly_within_the_picture() -> None:
    assert lattice(4, 2, 2).tolist() == [0, 1, 2, 3]  # pixel centres
    assert lattice(8, 2, 1).tolist() == [1.5, 5.5]
    points = lattice(100, 7, 3)
    assert points[0] + 0.5 == pytest.approx(99.5 - points[-1])
    assert np.ptp(np.diff(points)) == pytest.approx(0, abs=1e-12)


def test_patches_of_a_picture_that_is_not_square() -> None:
    """Height 100, width 200; 5 rows, 4 columns: patches are 20 px high and 50 px wide."""
    x = np.array([-0.5, 49.4, 49.5, 199.4, 199.5, -0.6, 0.0, 0.0, np.nan, np.inf])
    y = np.array([-0.5, 19.4, 19.5, 99.4, 0.0, 0.0, 99.5, -0.6, 0.0, 0.0])
    assert patch_of(x, y, (100, 200), (5, 4)).tolist() == [0, 0, 5, 19, 20, 20, 20, 20, 20, 20]


def test_what_lies_behind_the_camera_is_outside() -> None:
    """Past x = 100 the third coordinate is negative; the division would put (150, 150) back into the picture."""
    h = np.array([[1.0, 0, -224], [0, 1, -224], [-0.01, 0, 1]])
    u, v, w = h @ (150, 150, 1)
    assert 0 < u / w < 223
    assert 0 < v / w < 223
    x, y = project(h, np.array([150.0, 100.0]), np.array([150.0, 150.0]))
    assert np.isnan(x).all()
    assert np.isnan(y).all()
    assert (lattice_patches(h, (224, 224), (224, 224), (14, 14), 10) == OUTSIDE).all()
    assert (lattice_patches(-np.eye(3), (224, 224), (224, 224), (14, 14), 4) == OUTSIDE).all()


@quick
@given(h=homographies(), x=st.floats(0, 223), y=st.floats(0, 223))
def test_projecting_there_and_back_comes_back(h, x, y) -> None:
    u, v = project(h, np.array(x), np.array(y))
    assume(np.isfinite(u) and (h @ (x, y, 1))[2] > 0.1)
    w = np.linalg.inv(h) @ (u, v, 1)
    np.testing.assert_allclose(w[:2] / w[2], (x, y), atol=1e-6)


def test_the_majority_wins_and_outside_may() -> None:
    own = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    target = np.array([2, 2, 3, 3, 3, 1, 3, 3, 1, 1])
    assert majority(own, target, 3).tolist() == [2, 3, 1]  # 3 is outside; a tie goes to the lower number


def test_the_first_in_row_order_takes_the_target() -> None:
    assert unique_targets(np.array([2, 4, 2, 0])).tolist() == [2, OUTSIDE, NOT_UNIQUE, 0]
    assert unique_targets(np.array([4, 4, 4, 4])).tolist() == [OUTSIDE] * 4


def test_overlap_counts_what_has_a_counterpart() -> None:
    assert overlap_of(np.array([3, OUTSIDE, NOT_UNIQUE, 0], np.int16)) == 0.5


# ---------------------------------------------------------------------------------------------------- faults and figures


@quick
@given(h=homographies())
def test_only_a_view_from_behind_is_flipped(h) -> None:
    """Beside the area of the outline as it is mapped, whose sign says which way round it goes."""
    u, v, w = h @ np.array([[-0.5, 223.5, 223.5, -0.5], [-0.5, -0.5, 223.5, 223.5], [1, 1, 1, 1]])
    assume(w.min() > 0.01)
    x, y = u / w, v / w
    area = x @ np.roll(y, -1) - y @ np.roll(x, -1)
    assume(abs(area) > 1)
    assert homography_fault(h, (224, 224)) == ("" if area > 0 else "flipped_homography")


@pytest.mark.parametrize(
    ("h", "fault"),
    [
        (np.eye(3), ""),
        (np.zeros((3, 3)), "singular_homography"),
        (np.outer([1, 2, 1], [1, 1, 1]), "singular_homography"),  # everything on one point
        (np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]]), "singular_homography"),  # on a line
        (np.full((3, 3), np.nan), "singular_homography"),
        (np.array([[1, 0, 0], [0, 1, 0], [0, np.inf, 1]]), "singular_homography"),
        (np.diag([-1, 1, 1]) + shift(223, 0) - np.eye(3), "flipped_homography"),
        (np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]), "flipped_homography"),  # transposed
        (np.array([[1, 0, 0], [0, 1, 0], [-1 / 200, 0, 1]]), "singular_homography"),  # horizon at x = 200
        (np.array([[1, 0, 0], [0, 1, 0], [-1 / 300, 0, 1]]), ""),  # at x = 300, off the picture
        (-np.eye(3), "singular_homography"),  # all behind the camera
    ],
)
def test_faults_are_named(h: np.ndarray, fault: str) -> None:
    assert homography_fault(h.astype(float), (224, 224)) == fault


def test_the_horizon_is_looked_for_in_the_whole_picture() -> None:
    h = np.array([[1, 0, 0], [0, 1, 0], [-1 / 300, 0, 1]])
    assert homography_fault(h, (400, 224)) == ""
    assert homography_fault(h, (224, 400)) == "singular_homography"


@quick
@given(scale=st.floats(0.1, 10), degrees=st.floats(-179.9, 180), x=st.floats(-500, 500), y=st.floats(-500, 500), size=sizes)
def test_a_similarity_is_read_back(scale, degrees, x, y, size) -> None:
    h = shift(x, y) @ np.diag([scale, scale, 1]) @ rotation(math.radians(degrees))
    found_scale, found_degrees = similarity_of(h, size)
    assert found_scale == pytest.approx(scale)
    assert found_degrees == pytest.approx(degrees, abs=1e-6)


def test_a_half_turn_is_plus_180() -> None:
    assert similarity_of(np.diag([-1.0, -1.0, 1.0]), (10, 10))[1] == 180
    assert similarity_of(np.array([[-1, 0, 20], [-0.0, -1, 20], [0, 0, 1]]), (10, 10))[1] == 180


@quick
@given(h=homographies(size=(120, 200)))
def test_scale_is_the_growth_at_the_middle(h) -> None:
    """By differences: how far points a little beside the middle come to lie apart."""
    middle, step = np.array([99.5, 59.5]), 1e-4
    x, y = (np.array([p, p + d]) for p, d in zip(middle, (step, 0), strict=True))
    assume((h @ (*middle, 1))[2] > 0.2)
    along = np.array(project(h, x, y))
    down = np.array(project(h, middle[0] + np.zeros(2), middle[1] + np.array([0, step])))
    area = np.linalg.det(np.stack([np.diff(along).ravel(), np.diff(down).ravel()])) / step**2
    assert similarity_of(h, (120, 200))[0] == pytest.approx(math.sqrt(abs(area)), rel=1e-3)


def test_a_product_is_a_product() -> None:
    """Whatever the number of rows; and of one row, and none."""
    rng = np.random.default_rng(0)
    for rows in (0, 1, 7, 500):
        a, b = rng.normal(size=(rows, 300)), rng.normal(size=(300, 40))
        assert product(a, b) == pytest.approx(a @ b)


def test_a_product_has_the_same_bits_with_more_threads() -> None:
    """What a worker with one thread gives, and a process with two."""
    code = "import numpy as np, hashlib; from twoview.geometry import product; r = np.random.default_rng(0); "
    code += "p = product(r.normal(size=(784, 44)).astype(np.float32), r.normal(size=(44, 48)).astype(np.float32)); "
    code += "q = product(r.normal(size=(289, 1000)), r.normal(size=(1000, 11))); "
    code += "print(hashlib.sha256(p.tobytes() + q.tobytes()).hexdigest())"
    said = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, env=os.environ | {"OPENBLAS_NUM_THREADS": num}
        )
        for num in ("1", "2")
    ]
    assert said[0].stdout == said[1].stdout
