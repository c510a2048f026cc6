"""Small models and pictures that several tests share."""

from typing import Any

import torch

from twoview.pretraining.data import Batch
from twoview.pretraining.decoder import DecoderConfig
from twoview.pretraining.masked import MaskedConfig
from twoview.pretraining.vit import ViTConfig


def encoder_config(**fields: Any) -> ViTConfig:
    return ViTConfig(**{"width": 32, "depth": 2, "heads": 4, "patch_px": 8, "image_px": 32} | fields)


def masked_config(**fields: Any) -> MaskedConfig:
    small = {"encoder": encoder_config(), "decoder": DecoderConfig(width=16, depth=2, heads=4), "mask_ratio": 0.75}
    return MaskedConfig(**small | fields)


def pictures(num: int = 2, size: tuple[int, int] = (32, 32), seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (num, 3, *size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def pixels_of(patches: torch.Tensor) -> torch.Tensor:
    """Of a mask of 4 x 4 patches that of their pixels."""
    return patches.view(-1, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)


def batch(num: int = 2, size: tuple[int, int] = (32, 32), **fields: Any) -> Batch:
    return Batch(**{"a": pictures(num, size), "b": pictures(num, size, 1), "seeds": torch.arange(num)} | fields)


def shaken(model: torch.nn.Module) -> Any:
    """With weights that leave nothing at zero or one, so that a tensor in the wrong place shows."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


HEADS = {"heads": 4, "decoder_heads": 4}


def renamed(model, *pairs: tuple[str, str]) -> dict[str, torch.Tensor]:
    """Its tensors, with beginnings of names changed: the first that fits."""
    tensors = {}
    for key, value in model.state_dict().items():
        old, new = next(((old, new) for old, new in pairs if key.startswith(old)), ("", ""))
        tensors[new + key.removeprefix(old)] = value
    return tensors


MAE_NAMES = (
    ("decoder.mask_token", "mask_token"),
    ("decoder.pos_embed", "decoder_pos_embed"),
    ("decoder.embed", "decoder_embed"),
    ("decoder.norm", "decoder_norm"),
    ("decoder.head", "decoder_pred"),
    ("encoder.", ""),
)
CROCO_NAMES = (
    ("decoder.mask_token", "mask_token"),
    ("decoder.pos_embed", "dec_pos_embed"),
    ("decoder.embed", "decoder_embed"),
    ("decoder.norm", "dec_norm"),
    ("decoder.head", "prediction_head"),
    ("decoder.blocks", "dec_blocks"),
    ("encoder.blocks", "enc_blocks"),
    ("encoder.norm", "enc_norm"),
    ("encoder.pos_embed", "enc_pos_embed"),
    ("encoder.", ""),
)
