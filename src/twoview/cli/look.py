"""The verbs that look: measure, audit and recipes."""

import errno
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from ..errors import ConfigError, UnreadableError
from ..licences import UNKNOWN
from .terminal import DONE, FAILED, SOME_UNREADABLE, parse, print_summary

if TYPE_CHECKING:
    import numpy as np

    from ..audit import Summary


def measure(args: Sequence[str]) -> int:
    import tyro

    from ..curation.curate import CurateConfig
    from ..curation.measure import as_row_dict, drawing, measure, stored_picture
    from ..curation.views import Crop
    from ..recipes import curate_recipe

    @dataclass(frozen=True, kw_only=True)
    class Measure:
        """Overlap of two pictures: how much of each is seen in the other. The smaller direction counts."""

        pictures: tyro.conf.Positional[tuple[Path, ...]] = ()
        """Two pictures."""
        estimator: Literal["paper", "covisibility", "released"] = "paper"
        """covisibility: what is seen in both, parallax and occlusion included; paper: by one homography; released: the published
        code, on pictures stretched to 224 px."""
        json: bool = False
        """One JSON object, keys as the manifest's columns."""
        picture: Path | None = None
        """Draw inliers and patch map into this file."""
        pairs: Path | None = None
        """A file with two paths a line and a tab between them: a line of JSON for each comes back, in order."""
        crop: Crop | None = None
        """centre: the largest square; stretch: squeezed to a square; none: the whole. Default: as the estimator's recipe."""
        size: int | None = None
        """Side of the measured square in px. Default: as the estimator's recipe."""

    given = parse(Measure, args, "measure")
    recipe = curate_recipe(given.estimator)
    assert isinstance(recipe, CurateConfig)
    recipe = replace(recipe, crop=given.crop or recipe.crop, size=recipe.size if given.size is None else given.size)
    if given.picture is not None:
        check_picture_name(given.picture, "--picture")
    estimator, crop, size = recipe.estimator, cast(Crop, recipe.crop), recipe.size
    if given.pairs is not None:
        if given.pictures:
            raise ConfigError("measure: give two pictures or --pairs FILE, not both")
        if given.picture:
            raise ConfigError("measure: --picture draws one pair, so it does not go with --pairs")
        return _measure_list(given.pairs, lambda a, b: as_row_dict(measure(a, b, estimator, crop=crop, size=size), estimator))
    if len(given.pictures) != 2:
        raise ConfigError(f"measure takes two pictures, not {len(given.pictures)} (or --pairs FILE)")
    a, b = (stored_picture(path, crop, size) for path in given.pictures)
    match = measure(a, b, estimator, crop=crop, size=size)
    if given.picture is not None:
        write_picture(given.picture, drawing(a, b, match), "--picture")
    if given.json:
        print(json.dumps(as_row_dict(match, estimator)))
    elif not match.found:
        known = [f"{num} {what}" for num, what in ((match.num_matches, "matches"), (match.num_inliers, "inliers")) if num]
        print(f"not found: {match.failure}" + (f" ({', '.join(known)})" if known else ""))
    else:
        print(f"overlap {match.overlap:.4f} (a in b {match.overlap_ab:.4f}, b in a {match.overlap_ba:.4f})")
        print(f"{match.num_inliers} inliers of {match.num_matches} matches")
        if match.scale is not None and match.rotation_deg is not None:
            print(f"scale {match.scale:.3f}, rotation {match.rotation_deg:.1f} deg")
    return DONE


def _measure_list(path: Path, measured: Callable[[Path, Path], dict]) -> int:
    """A line of JSON for each line of the file. A pair that cannot be read gives an `error` in place of the figures."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--pairs {path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    pairs = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line.strip()]
    for number, names in pairs:
        if len(names) != 2 or not all(names):
            raise ConfigError(f"--pairs {path}, line {number}: write two paths with a tab between them")
    code = DONE
    for _, (a, b) in pairs:
        answer: dict = {"a": a, "b": b}
        try:
            answer |= measured(Path(a), Path(b))
        except UnreadableError as error:
            answer |= {"found": False, "reasons": ["unreadable"], "error": str(error)}
            code = SOME_UNREADABLE
        print(json.dumps(answer, ensure_ascii=False), flush=True)
    return code


def check_picture_name(path: Path, flag: str) -> None:
    """Before the work that it is to show. flag: of the command line that named the file."""
    import cv2

    if not cv2.haveImageWriter(f"x{path.suffix or '.png'}"):
        raise ConfigError(f"{flag} {path}: give a name that ends in .png or .jpg")
    if not path.parent.is_dir():
        raise ConfigError(f"{flag} {path}: {os.strerror(errno.ENOENT)}")


def write_picture(path: Path, image: "np.ndarray", flag: str) -> None:
    """Writes uint8 RGB."""
    import cv2

    _, data = cv2.imencode(path.suffix or ".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise ConfigError(f"{flag} {path}: {error.strerror}") from None


def audit(args: Sequence[str]) -> int:
    import tyro

    from ..audit import dataset_plan, faults, summarise
    from ..dataset import split_name
    from ..report import write_report

    @dataclass(frozen=True, kw_only=True)
    class Audit:
        """Check every file of a dataset against its manifest, count what it holds, and write DIR/report.html.

        With DIR@NAME, of a selection: DIR/selections/NAME.html.
        """

        dataset: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR[@NAME]")]
        """The folder that curate wrote, or DIR@NAME."""

    out, selection = split_name(parse(Audit, args, "audit").dataset)
    plan = dataset_plan(out)
    wrong = faults(out, plan)
    for fault in wrong:
        print(f"fault: {fault}")
    if wrong:
        print(f"{len(wrong)} faults: {out}")
        return FAILED
    summary = summarise(out, plan, selection=selection)
    print_summary(summary, out if selection is None else f"{out}@{selection}")
    _print_licences(summary)
    _print_overlaps(summary)
    if summary.num_finished < summary.num_parts:
        print(f"{summary.num_finished} of {summary.num_parts} parts are finished: the same command goes on")
    print("every stored picture and sample is as the manifest says")
    print(f"to look at: {write_report(out, selection)}")
    return DONE


def _print_licences(summary: "Summary") -> None:
    """Kept pairs by licence, where any is known."""
    if set(summary.licences) - {UNKNOWN}:
        print("  kept pairs by licence")
        for licence, num in summary.licences.items():
            print(f"  {num:8,} {licence}")


def _print_overlaps(summary: "Summary") -> None:
    """A histogram: kept pairs of the measured ones."""
    most, num_bins = max(summary.overlaps, default=0), len(summary.overlaps)
    if most:
        print("  overlap      kept of measured")
    for i, (kept, num) in enumerate(zip(summary.kept_overlaps, summary.overlaps, strict=True)):
        if num:
            solid, whole = round(40 * kept / most), round(40 * num / most)
            print(f"  {i / num_bins:.2f}-{(i + 1) / num_bins:.2f} {kept:8,} of {num:8,} {'#' * solid}{'-' * (whole - solid)}")


def recipes(args: Sequence[str]) -> int:
    from ..recipes import CURATE

    if args:
        raise ConfigError(f"recipes takes no more words, not {' '.join(args)}")
    _print_recipes(CURATE)
    try:
        from ..pretraining.recipes import PRETRAIN
    except ConfigError:  # no torch here
        return DONE
    print("\nof pretrain:")
    _print_recipes(PRETRAIN)
    return DONE


def _print_recipes(known: Mapping[str, Callable]) -> None:
    for name, recipe in known.items():
        print(f"{name:{max(map(len, known))}} {(recipe.__doc__ or '').strip().splitlines()[0]}")
