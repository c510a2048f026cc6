"""The verbs for checkpoints: convert and reconstruct."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ..errors import ConfigError
from .look import check_picture_name, write_picture
from .terminal import DONE, parse, printable

if TYPE_CHECKING:
    from ..pretraining.checkpoints import Checkpoint


def convert(args: Sequence[str]) -> int:
    import tyro

    from ..pretraining.convert import FORMS, convert

    @dataclass(frozen=True, kw_only=True)
    class Convert:
        """Write a checkpoint as other programs read it, and prove it: what was written is read again and its features compared.

        Reads twoview's own files and those of MIMIC, MAE, CroCo v1 and v2, DINO, MultiMAE, timm and Hugging Face, known by the
        names of their tensors. Pickles are read without running anything in them.

        timm: the encoder, .safetensors or .pth. huggingface: a folder for ViTModel. multimae: the encoder, .pth. safetensors:
        twoview's own form, decoder and all.
        """

        checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
        """A file, or a folder as Hugging Face's."""
        out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
        """The new file; with --to huggingface the new folder."""
        to: Literal[tuple(FORMS)]  # pyright: ignore
        """The form."""
        heads: int | None = None
        """Attention heads of the encoder, where neither the file nor a usual width tells them."""
        decoder_heads: int | None = None
        """Of the decoder."""
        raw_pixels: bool | None = None
        """Say so of a decoder that predicts pixels as they are, as MAE's visualize files do, where the file has no options."""

    given = parse(Convert, args, "convert")
    checkpoint = _read(given)
    done = convert(checkpoint, given.to, given.out)
    print_checkpoint(checkpoint)
    for note in done.notes:
        print(f"  {note}")
    print(f"features differ by {done.difference:.1e} at most, of up to {done.largest:.1f}: {given.out}")
    return DONE


def reconstruct(args: Sequence[str]) -> int:
    import tyro

    from ..curation.measure import stored_picture
    from ..pretraining.masked import MaskedModel
    from ..pretraining.reconstruct import reconstruct
    from ..report.panels import panel, row

    @dataclass(frozen=True, kw_only=True)
    class Reconstruct:
        """Draw what a model predicts of the hidden patches of a picture: the picture, what is shown of it, what is given away, the
        prediction, and the second view. A row for each pair.

        Models predict each patch less its own mean and by its own deviation; to make pixels of that, both are taken from the
        true picture. So judge a prediction against the picture beside it (`given`), which has the means alone.
        """

        checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
        """Of MAE or CroCo, with its decoder."""
        pictures: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="A B [A B ...]")]
        """Two pictures of one place, or more such pairs."""
        out: Path
        """The picture to write, .png or .jpg."""
        mask_ratio: float | None = None
        """Share of a's patches that are hidden. Default: as the model was trained."""
        seed: int = 0
        """Other seeds hide other patches."""
        size: int | None = None
        """Side of the pictures in px. Default: as the model was trained."""
        crop: Literal["centre", "stretch"] = "centre"
        """centre: the largest square; stretch: squeezed to a square."""
        heads: int | None = None
        """Attention heads of the encoder, where neither the file nor a usual width tells them."""
        decoder_heads: int | None = None
        """Of the decoder."""
        raw_pixels: bool | None = None
        """Say so of a decoder that predicts pixels as they are, as MAE's visualize files do, where the file has no options."""

    given = parse(Reconstruct, args, "reconstruct")
    if not given.pictures or len(given.pictures) % 2:
        raise ConfigError(f"reconstruct takes pairs of pictures, A B [A B ...], not {len(given.pictures)}")
    check_picture_name(given.out, "--out")
    if given.size is not None and not 16 <= given.size <= 4096:
        raise ConfigError(f"--size is {given.size}: give a side from 16 to 4096 px")
    if not 0 <= given.seed < 1 << 63:
        raise ConfigError(f"--seed {given.seed}: give 0 or more, below 2**63")
    checkpoint = _read(given)
    model = checkpoint.model
    if not isinstance(model, MaskedModel):
        raise ConfigError(f"{given.checkpoint}: an encoder without a decoder predicts no patches")
    if given.mask_ratio is not None:
        model.config = replace(model.config, mask_ratio=given.mask_ratio)
    size = model.encoder.config.image_px if given.size is None else given.size
    print_checkpoint(checkpoint)
    rows = []
    for a, b in zip(given.pictures[::2], given.pictures[1::2], strict=True):
        views = [stored_picture(path, given.crop, size) for path in (a, b)]
        done = reconstruct(model, views[0], views[1], seed=given.seed)
        print(f"loss {done.loss:.3f}: {a}, {b}")
        rows.append(row(views[0], done, views[1]))
    write_picture(given.out, panel(rows), "--out")
    print(given.out)
    return DONE


def _read(given: Any) -> "Checkpoint":
    from ..pretraining.checkpoints import read_checkpoint

    flags = {"heads": given.heads, "decoder_heads": given.decoder_heads, "raw_pixels": given.raw_pixels}
    return read_checkpoint(given.checkpoint, **flags)


def print_checkpoint(checkpoint: "Checkpoint") -> None:
    """What a file was, in a few lines."""
    from ..pretraining.masked import MaskedModel

    config = checkpoint.encoder.config
    size = f"width {config.width}, depth {config.depth}, {config.heads} heads, patches of {config.patch_px} px"
    token = "a class token" if config.class_token else "no class token"
    print(f"{checkpoint.form}: {type(checkpoint.model).__name__}, {size}, {config.positions} positions, {token}")
    if isinstance(checkpoint.model, MaskedModel):
        masked = checkpoint.model.config
        targets = "each less its mean and by its deviation" if masked.normalised_targets else "as they are"
        print(f"  {masked.mask_ratio:.0%} hidden, patches predicted {targets}")
    if checkpoint.left_out:
        named = ", ".join(checkpoint.left_out[:6]) + (" ..." if len(checkpoint.left_out) > 6 else "")
        print(f"  left out: {printable(named)}")
    if checkpoint.origin is not None and checkpoint.form == "twoview":
        print(f"  first read from {printable(checkpoint.origin.file)}, of {checkpoint.origin.form}")
    for one in checkpoint.seen:
        licences = ", ".join(f"{num:,} {licence}" for licence, num in one.licences.items())
        print(printable(f"  trained on {one.num_pairs:,} pairs of {one.dataset}: {licences}"))
