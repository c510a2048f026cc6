"""Checkpoints of others, known by the names of their tensors: MIMIC, MAE, CroCo, DINO, MultiMAE, timm, Hugging Face.

Every tensor of a file is part of the model, or named among those that were left out, or an error. Checked against the published
names; where the tensors are silent (heads, most of all) the options beside them are asked, then the user.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, UnreadableError
from .decoder import DecoderConfig
from .dino import DINO, DINOConfig
from .masked import MaskedConfig, MaskedModel
from .vit import IMAGENET_MEAN, IMAGENET_STD, SIZES, ViT, ViTConfig, sincos_table

Tensors = dict[str, Tensor]
Model = ViT | MaskedModel | DINO


@dataclass(frozen=True, kw_only=True)
class Hints:
    """What tensors do not tell."""

    heads: int | None = None
    decoder_heads: int | None = None
    mask_ratio: float | None = None
    normalised_targets: bool = True
    rotary_base: float = 100.0
    rotary_image_px: int = 224
    norm_eps: float = 1e-6
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a family names its tensors."""

    name: str
    sign: str
    """Pattern of a key by which it is known."""
    renamed: tuple[tuple[str, str], ...]
    """Patterns of their names and what twoview calls it: all that fit, one after the other."""
    left_out: str = r"$^"
    """Names of what else is kept in such files."""
    reshaped: Callable[[Tensors], Tensors] = dict
    """Of theirs tensors of the shapes that are ours, before they are renamed."""


@dataclass(frozen=True, kw_only=True)
class Understood:
    """A model with the weights of a file."""

    model: Model
    form: str
    left_out: tuple[str, ...]
    """What of the file is no part of it."""


def understand(tensors: Tensors, hints: Hints) -> Understood:
    """The model that tensors make, on the CPU in float32.

    Raises UnreadableError if they are of none that is known, or some of them fit nowhere; ConfigError if more must be said.
    """
    form = next((form for form in FORMS if any(re.search(form.sign, key) for key in tensors)), None)
    if form is None:
        raise UnreadableError(f"not of a model that twoview knows: it has tensors called {_named(tensors)}")
    left_out = tuple(key for key in tensors if re.match(form.left_out, key))
    theirs = {key: value.float() for key, value in tensors.items() if key not in left_out}
    ours, names = {}, {}
    for key, value in form.reshaped(theirs).items():
        name = key
        for pattern, replacement in form.renamed:
            name = re.sub(pattern, replacement, name)
        if name in ours:
            raise UnreadableError(f"{names[name]} and {key} are both {name}")
        ours[name], names[name] = value, key
    model = _masked(ours, hints, form.name) if any(key.startswith("decoder.") for key in ours) else _encoder(ours, hints)
    prefix = "" if isinstance(model, MaskedModel) else "encoder."
    load(model, {key.removeprefix(prefix): value for key, value in ours.items()}, {k.removeprefix(prefix): names[k] for k in names})
    return Understood(model=model, form=form.name, left_out=left_out)


def understand_dino(student: Tensors, teacher: Tensors, centre: Tensor | None, hints: Hints) -> Understood:
    """A whole checkpoint of DINO: both networks with their heads."""
    renamed = {"student": unwrapped(student), "teacher": unwrapped(teacher)}
    tensors = {f"{who}.{key}": value.float() for who, part in renamed.items() for key, value in part.items()}
    encoder = _vit_config({"encoder." + k.removeprefix("backbone."): v for k, v in renamed["teacher"].items()}, hints)
    first, last = (renamed["teacher"].get(f"head.{name}") for name in ("mlp.0.weight", "last_layer.weight_v"))
    if first is None or last is None or "head.mlp.1.running_mean" in renamed["teacher"]:
        raise UnreadableError("a DINO head that is not of three layers without batch norm")
    model = DINO(DINOConfig(encoder=encoder, hidden=len(first), bottleneck=last.shape[1], outputs=len(last)))
    tensors["centre"] = torch.zeros(1, len(last)) if centre is None else centre.float()
    load(model, tensors, {key: key for key in tensors})
    return Understood(model=model, form="dino", left_out=())


def unwrapped(tensors: Tensors) -> Tensors:
    """Names without what wrappers put before all of them: DistributedDataParallel, torch.compile, Lightning."""
    wrapper = r"(module\.|_orig_mod\.|model\.)+"
    return {re.sub(f"^{wrapper}", "", k): v for k, v in tensors.items()} if all(re.match(wrapper, k) for k in tensors) else tensors


def load(model: nn.Module, tensors: Tensors, names: dict[str, str]) -> None:
    """Puts tensors into a model. Raises UnreadableError unless all of both fit. names: what the file calls them."""
    own = model.state_dict()
    faults = []
    if missing := own.keys() - tensors.keys():
        faults.append(f"it lacks {_named(sorted(missing))}")
    if more := tensors.keys() - own.keys():
        faults.append(f"there is no place for {_named(sorted(names[key] for key in more))}")
    if wrong := [key for key in sorted(own.keys() & tensors.keys()) if own[key].shape != tensors[key].shape]:
        key = wrong[0]
        faults.append(f"{names[key]} is {list(tensors[key].shape)}, not {list(own[key].shape)}")
    if faults:
        raise UnreadableError(f"does not fit a {type(model).__name__} of its sizes: {'; '.join(faults)}")
    model.load_state_dict(tensors)


def _named(keys: Iterable[str]) -> str:
    keys = list(keys)
    return ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")


# The shapes of a model


def _encoder(ours: Tensors, hints: Hints) -> ViT:
    return ViT(_vit_config(ours, hints))


def _vit_config(ours: Tensors, hints: Hints) -> ViTConfig:
    projection, mlp = ours.get("encoder.patch_embed.proj.weight"), ours.get("encoder.blocks.0.mlp.fc1.weight")
    if (
        projection is None
        or mlp is None
        or projection.ndim != 4
        or projection.shape[1] != 3
        or projection.shape[2] != projection.shape[3]
    ):
        raise UnreadableError("no vision transformer of square RGB patches")
    width, patch_px = len(projection), projection.shape[2]
    class_token = "encoder.cls_token" in ours
    positions = ours.get("encoder.pos_embed")
    return ViTConfig(
        width=width,
        depth=_depth(ours, "encoder."),
        heads=hints.heads or _heads(width, {config.width: config.heads for config in SIZES.values()}, "--heads"),
        mlp_ratio=len(mlp) / width,
        patch_px=patch_px,
        image_px=hints.rotary_image_px if positions is None else _side(positions, class_token) * patch_px,
        class_token=class_token,
        positions="rotary" if positions is None else _kind(positions, class_token),
        rotary_base=hints.rotary_base,
        final_norm="encoder.norm.weight" in ours,
        norm_eps=hints.norm_eps,
        mean=hints.mean,
        std=hints.std,
    )


def _masked(ours: Tensors, hints: Hints, form: str) -> MaskedModel:
    embed, mlp = ours.get("decoder.embed.weight"), ours.get("decoder.blocks.0.mlp.fc1.weight")
    if embed is None or mlp is None:
        raise UnreadableError("a decoder without its first layers")
    width = len(embed)
    second_view = any(".cross_attn." in key for key in ours)
    config = MaskedConfig(
        encoder=_vit_config(ours, hints),
        decoder=DecoderConfig(
            width=width,
            depth=_depth(ours, "decoder."),
            heads=hints.decoder_heads or _heads(width, {512: 16, 768: 12}, "--decoder-heads"),
            mlp_ratio=len(mlp) / width,
        ),
        second_view=second_view,
        mask_ratio=hints.mask_ratio or (0.9 if second_view else 0.75),
        round_down="hidden" if form == "croco" else "visible",
        normalised_targets=hints.normalised_targets or second_view,
    )
    return MaskedModel(config)


def _depth(ours: Tensors, part: str) -> int:
    return 1 + max(int(found[1]) for key in ours if (found := re.match(rf"{part}blocks\.(\d+)\.", key)))


def _heads(width: int, usual: dict[int, int], flag: str) -> int:
    if width not in usual:
        raise ConfigError(f"tensors do not tell how many heads there are, and a width of {width} is of no usual model: give {flag}")
    return usual[width]


def _side(positions: Tensor, class_token: bool) -> int:
    num = positions.shape[1] - class_token
    side = round(num**0.5)
    if side * side != num:
        raise UnreadableError(f"positions of {num} patches, which make no square")
    return side


def _kind(positions: Tensor, class_token: bool) -> Any:
    """sincos where the table is that one, else learned."""
    side, width = _side(positions, class_token), positions.shape[2]
    table = positions[0, int(class_token) :]
    return "sincos" if width % 4 == 0 and torch.allclose(table, sincos_table((side, side), width), atol=1e-5) else "learned"


# The names of each family


def _croco(tensors: Tensors) -> Tensors:
    """Positions with an axis for the batch."""
    return {key: value[None] if key.endswith("pos_embed") and value.ndim == 2 else value for key, value in tensors.items()}


def _multimae(tensors: Tensors) -> Tensors:
    """Positions in a row; a global token is a class token that has none."""
    tensors = dict(tensors)
    token = tensors.get("global_tokens")
    if token is not None and token.shape[1] != 1:
        raise UnreadableError(f"it has {token.shape[1]} global tokens, a class token is one")
    positions = tensors["input_adapters.rgb.pos_emb"].flatten(2).transpose(1, 2)
    tensors["input_adapters.rgb.pos_emb"] = positions if token is None else F.pad(positions, (0, 0, 1, 0))
    return tensors


def _huggingface(tensors: Tensors) -> Tensors:
    """Queries, keys and values as one layer."""
    joined = dict(tensors)
    for key in tensors:
        for query, others in (("attention.query.", ("attention.key.", "attention.value.")), ("q_proj.", ("k_proj.", "v_proj."))):
            parts = [key, *(key.replace(query, other) for other in others)]
            if query in key and all(part in tensors for part in parts):
                joined[key.replace(query, "qkv.")] = torch.cat([joined.pop(part) for part in parts])
    return joined


_MAE_DECODER = (
    (r"^decoder_(embed|norm|pos_embed|blocks)", r"decoder.\1"),
    (r"^decoder_pred\.", "decoder.head."),
    (r"^mask_token$", "decoder.mask_token"),
)
_REST_IS_ENCODER = (r"^(?!encoder\.|decoder\.)", "encoder.")

FORMS = (
    Form(
        name="huggingface",
        sign=r"embeddings\.patch_embeddings\.projection\.",
        reshaped=_huggingface,
        renamed=(
            (r"^(vit|deit)\.", ""),
            (r"^decoder\.decoder_pred\.", "decoder.head."),
            (r"^decoder\.decoder_(embed|norm|pos_embed)", r"decoder.\1"),
            (r"^decoder\.(decoder_encoder\.layer|decoder_layers)\.", "decoder.blocks."),
            (r"^(encoder\.layer|layers)\.", "encoder.blocks."),
            (r"\.attention\.qkv\.|\.attention\.attention\.qkv\.", ".attn.qkv."),
            (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
            (r"\.intermediate\.dense\.", ".mlp.fc1."),
            (r"(\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
            (r"\.layernorm_before\.", ".norm1."),
            (r"\.layernorm_after\.", ".norm2."),
            (r"^embeddings\.cls_token$", "encoder.cls_token"),
            (r"^embeddings\.position_embeddings$", "encoder.pos_embed"),
            (r"^embeddings\.patch_embeddings\.projection\.", "encoder.patch_embed.proj."),
            (r"^layernorm\.", "encoder.norm."),
        ),
        left_out=r"(.*\.)?(pooler|classifier|cls_classifier)\.",
    ),
    Form(
        name="multimae",
        sign=r"^input_adapters\.rgb\.proj\.",
        reshaped=_multimae,
        renamed=(
            (r"^encoder\.(\d+)\.", r"encoder.blocks.\1."),
            (r"^input_adapters\.rgb\.proj\.", "encoder.patch_embed.proj."),
            (r"^input_adapters\.rgb\.pos_emb$", "encoder.pos_embed"),
            (r"^global_tokens$", "encoder.cls_token"),
        ),
        left_out=r"output_adapters\.|input_adapters\.(?!rgb\.)",
    ),
    Form(
        name="croco",
        sign=r"^enc_blocks\.",
        reshaped=_croco,
        renamed=(
            (r"^enc_", "encoder."),
            (r"^dec_", "decoder."),
            (r"^decoder_embed\.", "decoder.embed."),
            (r"^prediction_head\.", "decoder.head."),
            (r"^mask_token$", "decoder.mask_token"),
            _REST_IS_ENCODER,
        ),
    ),
    Form(
        name="mimic",
        sign=r"^decoder_blocks_croco\.",
        renamed=((r"^decoder_blocks_croco\.", "decoder.blocks."), *_MAE_DECODER, _REST_IS_ENCODER),
    ),
    Form(name="mae", sign=r"^decoder_blocks\.", renamed=(*_MAE_DECODER, _REST_IS_ENCODER)),
    Form(name="dino", sign=r"^backbone\.blocks\.0\.", renamed=((r"^backbone\.", "encoder."),), left_out=r"head\."),
    Form(name="timm", sign=r"^blocks\.0\.", renamed=(_REST_IS_ENCODER,), left_out=r"(head|fc_norm)\."),
)
"""The first whose sign a file has."""
