"""Encoders as other programs read them, proved by reading them back and comparing features."""

import json
import math
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save as bytes_of

from ..errors import ConfigError, TwoviewError
from .checkpoints import Checkpoint, history, read_checkpoint, unsaid, write_checkpoint
from .published import Tensors
from .vit import IMAGENET_MEAN, IMAGENET_STD, ViT


@dataclass(frozen=True, kw_only=True)
class Converted:
    difference: float
    """The largest between two features, of random pictures, of the model and of what was written."""
    largest: float
    """Feature, for scale."""
    notes: tuple[str, ...]
    """What the form does not hold, or wants of its reader."""


def convert(checkpoint: Checkpoint, form: str, out: Path) -> Converted:
    """Writes a checkpoint in a form of FORMS: whole, or not at all.

    Raises ConfigError where the form cannot hold the model, or where `out` is there already.
    """
    if out.exists():
        raise ConfigError(f"{out}: there already; give another name")
    if not out.parent.is_dir():
        raise ConfigError(f"{out}: there is no folder {out.parent}")
    encoder = checkpoint.encoder
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as aside:
        written = Path(aside) / out.name
        notes = tuple(filter(None, FORMS[form](checkpoint, written)))
        back = read_checkpoint(written)
        if not back.encoder.config.final_norm:
            encoder = _without_norm(encoder)
        difference, largest = _difference(encoder, back.encoder)
        if not math.isfinite(largest):
            raise ConfigError("the features of this checkpoint are no numbers: its training went wrong, or its file is damaged")
        if not difference <= 1e-4 * max(largest, 1):
            raise TwoviewError(f"{out}: not written, as its features would differ by {difference:.1e}: this is a fault of twoview")
        written.replace(out)
    return Converted(difference=difference, largest=largest, notes=notes)


def _without_norm(encoder: ViT) -> ViT:
    bare = ViT(replace(encoder.config, final_norm=False))
    bare.load_state_dict({key: value for key, value in encoder.state_dict().items() if not key.startswith("norm.")})
    return bare


@torch.inference_mode()
def _difference(one: ViT, other: ViT) -> tuple[float, float]:
    """On pictures that are normalised already: that is left to the reader of most forms."""
    side = one.config.image_px
    pictures = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    training = one.training
    expected, found = one.eval()(pictures), other.eval()(pictures)
    one.train(training)
    return float((expected - found).abs().max()), float(expected.abs().max())


def _safetensors(checkpoint: Checkpoint, path: Path) -> list[str]:
    """twoview's own form, decoder and all."""
    _check_suffix(path, ".safetensors")
    write_checkpoint(path, checkpoint.model, seen=checkpoint.seen, origin=checkpoint.origin)
    return []


def _timm(checkpoint: Checkpoint, path: Path) -> list[str]:
    """The encoder under timm's names, which are twoview's."""
    encoder = checkpoint.encoder
    _check_positions(encoder, "timm")
    _write(path, encoder.state_dict(), checkpoint)
    config = encoder.config
    notes = [_decoder_note(checkpoint), _normalisation_note(encoder)]
    if not config.class_token:
        notes += ["it has no class token: create the timm model with class_token=False, global_pool='avg', fc_norm=False"]
    if not config.final_norm:
        notes += ["it has no final norm: create the timm model with final_norm=False"]
    if config.norm_eps != 1e-6:
        notes += [f"the eps of its norms is {config.norm_eps}, not timm's 1e-6: give the timm model a norm_layer"]
    return notes


def _multimae(checkpoint: Checkpoint, path: Path) -> list[str]:
    """The encoder as one of MultiMAE for RGB: its class token, with its position, is the global token."""
    encoder = checkpoint.encoder
    _check_positions(encoder, "MultiMAE")
    _check_suffix(path, ".pth", ".pt")
    tensors = encoder.state_dict()
    config, num_class = encoder.config, int(encoder.config.class_token)
    side = config.image_px // config.patch_px
    positions = tensors.pop("pos_embed")
    renamed = {
        "input_adapters.rgb.pos_emb": positions[:, num_class:].transpose(1, 2).unflatten(2, (side, side)),
        "input_adapters.rgb.proj.weight": tensors.pop("patch_embed.proj.weight"),
        "input_adapters.rgb.proj.bias": tensors.pop("patch_embed.proj.bias"),
    }
    notes = [_decoder_note(checkpoint), _normalisation_note(encoder)]
    if config.class_token:
        renamed["global_tokens"] = tensors.pop("cls_token") + positions[:, :1]
    else:
        notes += ["it has no class token: create the MultiMAE model with num_global_tokens=0"]
    if config.final_norm:
        notes += ["without the final norm, for which MultiMAE has no place: features are those before it"]
    blocks = {key.replace("blocks.", "encoder.", 1): value for key, value in tensors.items() if key.startswith("blocks.")}
    _write(path, renamed | blocks, checkpoint)
    return notes


def _huggingface(checkpoint: Checkpoint, folder: Path) -> list[str]:
    """A folder that ViTModel.from_pretrained reads."""
    encoder = checkpoint.encoder
    _check_positions(encoder, "ViTModel")
    config = encoder.config
    if not config.class_token or not config.final_norm:
        lacks = "class token" if config.final_norm else "final norm"
        raise ConfigError(f"ViTModel always has a {lacks} and this model has none: --to timm or --to safetensors can hold it")
    folder.mkdir()
    about = {
        "architectures": ["ViTModel"],
        "model_type": "vit",
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": round(config.width * config.mlp_ratio),
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": config.norm_eps,
        "image_size": config.image_px,
        "patch_size": config.patch_px,
        "num_channels": 3,
        "qkv_bias": True,
    }
    reader = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": config.image_px, "width": config.image_px},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": config.mean,
        "image_std": config.std,
    }
    for name, content in (("config.json", about), ("preprocessor_config.json", reader)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    _write(folder / "model.safetensors", dict(_huggingface_tensors(encoder.state_dict())), checkpoint)
    return [_decoder_note(checkpoint), "load it with ViTModel.from_pretrained(OUT, add_pooling_layer=False)"]


def _huggingface_tensors(tensors: Tensors) -> Iterator[tuple[str, torch.Tensor]]:
    for key, value in tensors.items():
        for pattern, replacement in _TO_HUGGINGFACE:
            key = re.sub(pattern, replacement, key)
        if ".qkv." in key:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                yield key.replace("qkv", f"attention.{part}"), third
        else:
            yield key, value


_TO_HUGGINGFACE = (
    (r"^(cls_token)$", r"embeddings.\1"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.", "encoder.layer."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.qkv\.", ".attention.qkv."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)


def _write(path: Path, tensors: Tensors, checkpoint: Checkpoint) -> None:
    tensors = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
    about = json.dumps(history(checkpoint.origin, checkpoint.seen) | unsaid(checkpoint.encoder.config))
    if path.suffix == ".safetensors":
        path.write_bytes(bytes_of(tensors, {"format": "pt", "twoview": about}))
    else:
        _check_suffix(path, ".pth", ".pt", ".safetensors")
        torch.save({"model": tensors, "twoview": about}, path)


def _check_suffix(path: Path, *suffixes: str) -> None:
    if path.suffix not in suffixes:
        raise ConfigError(f"{path.name}: give a name that ends in {' or '.join(suffixes)}")


def _check_positions(encoder: ViT, form: str) -> None:
    if encoder.config.positions == "rotary":
        raise ConfigError(f"{form} has no place for the rotary positions of this model: --to safetensors can hold it")


def _decoder_note(checkpoint: Checkpoint) -> str:
    return "" if isinstance(checkpoint.model, ViT) else "the encoder alone"


def _normalisation_note(encoder: ViT) -> str:
    mean, std = encoder.config.mean, encoder.config.std
    usual = (mean, std) == (IMAGENET_MEAN, IMAGENET_STD)
    return "" if usual else f"its reader has to normalise pictures by mean {mean} and deviation {std}"


FORMS: dict[str, Callable[[Checkpoint, Path], list[str]]] = {
    "timm": _timm,
    "huggingface": _huggingface,
    "multimae": _multimae,
    "safetensors": _safetensors,
}
"""Each writes its form, and gives back notes; empty ones are passed over."""
