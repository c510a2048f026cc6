"""report.html: the figures and the gallery of a dataset as one page that needs nothing else."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from ..dataset import selection_path
from ..shards import write_whole
from .figures import NUM_BINS, Figures, Spread, figures_of, selection_notes
from .gallery import Card, kept_cards, refused_cards

REASON_WORDS: Mapping[str, str] = {
    "few_matches": "Too few keypoints of the two pictures match: blank walls, blur, or two different places.",
    "no_homography": "The matches agree on no geometry at all.",
    "singular_homography": "The geometry that was found maps the picture onto a line or past the horizon: a chance agreement.",
    "flipped_homography": "The geometry that was found mirrors the picture, which no camera does: a chance agreement.",
    "few_inliers": "Too few matches agree with one geometry to believe it.",
    "uncertain": "What the two pictures share would be a guess: too little texture, or too far apart.",
    "no_depth": "Too little of a picture has depth, which this estimator measures by.",
    "overlap_low": "The two views share less than the band asks for: the camera moved too far between them.",
    "overlap_high": "The two views share more than the band asks for: the camera moved too little, or stood still.",
    "not_best": "Good, but another pair of its group was better, and one of a group is kept.",
    "low_sharpness": "One of the two pictures is less sharp than was asked for, so nothing was measured.",
    "small_floor": "No floor of the 3D scene is as large as a walk through it asks for.",
    "near_another": "An earlier walk through the scene has nearly the same viewpoints.",
    "degenerate_motion": "The camera stood still, zoomed or only turned: such a pair teaches nothing of depth.",
    "moving": "Too much in it moves by itself.",
    "repeated": "Something repeats, and two geometries explain the pictures nearly equally well.",
    "cut": "A cut lies between the two pictures.",
    "bad_exposure": "One of the two pictures is too dark, too bright, or black and white without detail.",
    "unreadable": "One of the two frames could not be decoded.",
    "user_filter": "A filter of yours refused it.",
    "not_selected": "Kept by curate, and left out by this selection.",
}
"""Every reason in plain words."""
FILTER_WORDS = "A filter of yours refused it, in these words."
NUM_STRIPS, NUM_LINES = 40, 2_000
"""Scenes that are drawn, and that are listed below them."""
NUM_FAULTS = 200


def write_report(folder: Path, selection: str | None = None, *, seconds_for_refused: float = 10.0) -> Path:
    """Write the page of a dataset, or of a selection of it, and say where it lies.

    folder: as curate wrote it; DIR/report.html or DIR/selections/NAME.html is written over. seconds_for_refused: how long
    refused pairs, which are not stored, may be read from their footage again. The same dataset gives the same page, unless
    that time runs out. Raises ConfigError where there is no such dataset or selection.
    """
    figures, rows = figures_of(folder, selection)
    kept = kept_cards(folder, rows)
    refused = refused_cards(folder, rows, figures.config, seconds_for_refused)
    name = "/".join(folder.resolve().parts[-2:]).lstrip("/")
    page = _template().render(
        title=name if selection is None else f"{name}@{selection}",
        selection=None if selection is None else _how(selection_notes(folder, selection)),
        f=figures,
        kept=kept,
        refused=refused,
        data=_data(figures, kept, refused),
        histogram=_histogram(figures),
        reason_words=REASON_WORDS,
        filter_words=FILTER_WORDS,
        num_strips=NUM_STRIPS,
        num_lines=NUM_LINES,
        num_faults=NUM_FAULTS,
        settings=json.dumps(figures.config["config"], indent=2, ensure_ascii=False),
        versions={k: v for k, v in figures.config.items() if k != "config"},
    )
    path = folder / "report.html" if selection is None else selection_path(folder, selection).with_suffix(".html")
    write_whole(path, page.encode("utf-8", "replace"))
    return path


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"count": _count, "share": _share, "duration": duration, "size": size, "strip": _strip}
    return environment.from_string(files("twoview.report").joinpath("page.html").read_text("utf-8"))


def _data(figures: Figures, kept: Sequence[Card], refused: Sequence[Card]) -> dict[str, Any]:
    """What the page's own code reads, and what anybody may read from it: counts, and the patches of each card by its key."""
    return {
        "num_pairs": figures.num_pairs,
        "num_kept": figures.num_kept,
        "num_stored": figures.num_stored,
        "reasons": figures.reasons,
        "kept_bins": figures.kept_bins,
        "refused_bins": figures.refused_bins,
        "sources": {source.source: [source.num_kept, source.num_pairs] for source in figures.sources},
        "licences": figures.licences,
        "cards": {card.row["key"]: {"grid": card.grid, "patches": card.patches} for card in [*kept, *refused] if card.grid},
    }


def _how(notes: Mapping[str, Any]) -> list[str]:
    """The conditions of a selection, a line each; none where its file does not say."""
    lines = []
    if notes.get("overlap"):
        lines.append("overlap {}:{}".format(*notes["overlap"]))
    if notes.get("where"):
        lines.append(f"where {notes['where']}")
    if notes.get("licences"):
        lines.append(f"licences {', '.join(notes['licences'])}")
    for source, num in (notes.get("quota") or {}).items():
        lines.append(f"at most {num:,} pairs of {'each source' if source == '*' else source}")
    if notes.get("drop"):
        lines.append(f"without {len(notes['drop']):,} pairs of a drop list")
    lines += [f"without pairs of which a view is in {path}" for path in notes.get("against") or ()]
    if notes.get("dedup"):
        lines.append("without pairs that repeat an earlier one")
    if notes.get("within"):
        lines.append(f"within {notes['within']}")
    return lines or ["the kept pairs"] * bool(notes)


def _histogram(figures: Figures) -> list[dict[str, Any]]:
    """Bars of the histogram: where each begins, its counts, and their heights in per cent of the tallest."""
    most = max((k + r for k, r in zip(figures.kept_bins, figures.refused_bins, strict=True)), default=0) or 1
    return [
        {"low": n / NUM_BINS, "kept": k, "refused": r, "kept_height": 100 * k / most, "refused_height": 100 * r / most}
        for n, (k, r) in enumerate(zip(figures.kept_bins, figures.refused_bins, strict=True))
    ]


def _strip(spread: Spread) -> list[tuple[int, str, float]]:
    """Cells of a scene's strip that anything was measured in: their number, whether kept, and how dark."""
    most = max(spread.kept_cells, default=0) or 1
    return [
        (n, "k" if kept else "m", round(0.35 + 0.65 * kept / most, 2) if kept else 1)
        for n, (kept, measured) in enumerate(zip(spread.kept_cells, spread.measured_cells, strict=True))
        if measured
    ]


def _count(number: float) -> str:
    return f"{number:,}"


def _share(part: float, whole: float) -> str:
    """Per cent, with a digit more where it is small."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    return f"{percent:.1f} %" if 0 < percent < 10 or 99 < percent < 100 else f"{percent:.0f} %"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    if seconds < 6000:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.1f} h"


def size(num_bytes: float) -> str:
    """Bytes to terabytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.3g} TB"
