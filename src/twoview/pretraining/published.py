"""Checkpoints of others, known by the names of their tensors: MIMIC, MAE, CroCo, DINO, MultiMAE, timm, Hugging Face.

Every tensor of a file is part of the model, or named among those that were left out, or an error. Checked against the published
names; where the tensors are silent (heads, most of all) the options beside them are asked, then the user.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

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
    rotary: bool = True
    """Whether a CroCo without stored positions has rotary ones."""
    rotary_base: float = 100.0
    rotary_image_px: int | None = None
    norm_eps: float = 1e-6
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    dino: Mapping[str, float] = field(default_factory=dict)
    """Fields of DINOConfig."""


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
        raise UnreadableError(f"not of a model that twoview knows: it has {_named(tensors) or 'no tensors'}")
    left_out = tuple(key for key in tensors if re.match(form.left_out, key))
    theirs = _floats({key: value for key, value in tensors.items() if key not in left_out})
    ours: Tensors = {}
    names: dict[str, str] = {}
    for key, value in form.reshaped(theirs).items():
        name = key
        for pattern, replacement in form.renamed:
            name = re.sub(pattern, replacement, name)
        if name in ours:
            raise UnreadableError(f"{names[name]} and {key} are both {name}")
        ours[name], names[name] = value, key
    if any(key.startswith("decoder.") for key in ours):
        model = built(MaskedModel, _masked_config(ours, hints, form.name), ours, names)
    else:
        config = _vit_config(ours, hints, form.name)
        if strange := [names[key] for key in ours if not key.startswith("encoder.")]:
            raise UnreadableError(f"there is no place for {_named(strange)} in a ViT")
        bare = {key.removeprefix("encoder."): value for key, value in ours.items()}
        model = built(ViT, config, bare, {key.removeprefix("encoder."): name for key, name in names.items()})
    return Understood(model=model, form=form.name, left_out=left_out)


def understand_dino(student: Tensors, teacher: Tensors, centre: Tensor | None, hints: Hints) -> Understood:
    """A whole checkpoint of DINO: both networks with their heads."""
    student, teacher = _floats(unwrapped(student)), _floats(unwrapped(teacher))
    tensors = {f"{who}.{key}": value for who, part in (("student", student), ("teacher", teacher)) for key, value in part.items()}
    encoder = _vit_config({re.sub(r"^backbone\.", "encoder.", key): value for key, value in teacher.items()}, hints, "dino")
    first, last = teacher.get("head.mlp.0.weight"), teacher.get("head.last_layer.weight_v")
    if first is None or last is None or first.ndim != 2 or last.ndim != 2 or "head.mlp.1.running_mean" in teacher:
        raise UnreadableError("its head is none of DINO's three layers without batch norm")
    if not isinstance(centre, Tensor):
        raise UnreadableError("it lacks the centre, dino_loss.center")
    drop_path = hints.dino.get("drop_path", 0.0)
    fields: dict[str, Any] = {key: value for key, value in hints.dino.items() if key != "drop_path"}
    fields |= {"hidden": len(first), "bottleneck": last.shape[1], "outputs": len(last)}
    config = DINOConfig(encoder=replace(encoder, drop_path=drop_path), **fields)
    tensors["centre"] = centre.float()
    return Understood(model=built(DINO, config, tensors, {key: key for key in tensors}), form="dino", left_out=())


def unwrapped(tensors: Tensors) -> Tensors:
    """Names without what wrappers put before all of them: DistributedDataParallel, torch.compile, Lightning."""
    wrapper = r"(module\.|_orig_mod\.|model\.)+"
    if not all(re.match(wrapper, key) for key in tensors):
        return tensors
    bare = {re.sub(f"^{wrapper}", "", key): value for key, value in tensors.items()}
    if len(bare) < len(tensors):
        raise UnreadableError(f"several models in one: {_named(tensors)}")
    return bare


def built(kind: Callable[[Any], Any], config: Any, tensors: Tensors, names: Mapping[str, str]) -> Any:
    """A model with these tensors. names: what the file calls them.

    Raises UnreadableError unless all that it has and all that they are fit; nothing large is made before they do.
    """
    if config_depth(config) > len(tensors):
        raise UnreadableError(f"a model of {config_depth(config)} blocks has more than {len(tensors)} tensors")
    with torch.device("meta"):
        own = kind(config).state_dict()
    faults = []
    if missing := own.keys() - tensors.keys():
        faults.append(f"it lacks {_named(sorted(missing))}")
    if more := tensors.keys() - own.keys():
        faults.append(f"there is no place for {_named(sorted(names[key] for key in more))}")
    if wrong := [key for key in sorted(own.keys() & tensors.keys()) if own[key].shape != tensors[key].shape]:
        key = wrong[0]
        faults.append(f"{names[key]} is {list(tensors[key].shape)}, not {list(own[key].shape)}")
    if faults:
        raise UnreadableError(f"does not fit a {getattr(kind, '__name__', 'model')} of its sizes: {'; '.join(faults)}")
    model = kind(config)
    model.load_state_dict(tensors)
    return model


def config_depth(config: Any) -> int:
    """Blocks of a model."""
    parts = (getattr(config, "encoder", config), getattr(config, "decoder", None))
    return sum(part.depth for part in parts if part is not None)


def _floats(tensors: Tensors) -> Tensors:
    """In float32. Raises UnreadableError for other numbers than floats."""
    for key, value in tensors.items():
        if not value.is_floating_point() or value.is_sparse or value.is_meta:
            raise UnreadableError(f"{_named([key])} is {str(value.dtype).removeprefix('torch.')}, not of plain floats")
    return {key: value.float() for key, value in tensors.items()}


def _named(keys: Iterable[str]) -> str:
    keys = [key if key.isprintable() and len(key) < 100 else ascii(key)[:100] for key in keys]
    return ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")


# The shapes of a model


def _vit_config(ours: Tensors, hints: Hints, form: str) -> ViTConfig:
    projection, mlp = ours.get("encoder.patch_embed.proj.weight"), ours.get("encoder.blocks.0.mlp.fc1.weight")
    shape = () if projection is None else tuple(projection.shape)
    if mlp is None or mlp.ndim != 2 or len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or not min(shape):
        raise UnreadableError("no vision transformer of square RGB patches")
    width, patch_px = shape[0], shape[2]
    class_token = "encoder.cls_token" in ours
    table = ours.get("encoder.pos_embed")
    if table is None and not (form == "croco" and hints.rotary):
        raise UnreadableError("it lacks positions")
    rotary_px = hints.rotary_image_px or 0
    if rotary_px % patch_px or not rotary_px:
        rotary_px = 14 * patch_px
    return ViTConfig(
        width=width,
        depth=_depth(ours, "encoder."),
        heads=hints.heads or _heads(width, USUAL_HEADS, "--heads"),
        mlp_ratio=len(mlp) / width,
        patch_px=patch_px,
        image_px=_side(table, class_token) * patch_px if table is not None else rotary_px,
        class_token=class_token,
        positions="rotary" if table is None else _kind(table, class_token),
        rotary_base=hints.rotary_base,
        final_norm="encoder.norm.weight" in ours,
        norm_eps=hints.norm_eps,
        mean=hints.mean,
        std=hints.std,
    )


def _masked_config(ours: Tensors, hints: Hints, form: str) -> MaskedConfig:
    embed, mlp = ours.get("decoder.embed.weight"), ours.get("decoder.blocks.0.mlp.fc1.weight")
    if embed is None or mlp is None or embed.ndim != 2 or mlp.ndim != 2 or not len(embed):
        raise UnreadableError("a decoder without its first layers")
    width = len(embed)
    second_view = any(".cross_attn." in key for key in ours)
    return MaskedConfig(
        encoder=_vit_config(ours, hints, form),
        decoder=DecoderConfig(
            width=width,
            depth=_depth(ours, "decoder."),
            heads=hints.decoder_heads or _heads(width, USUAL_DECODER_HEADS, "--decoder-heads"),
            mlp_ratio=len(mlp) / width,
        ),
        second_view=second_view,
        mask_ratio=hints.mask_ratio or (0.9 if second_view else 0.75),
        round_down="hidden" if form == "croco" else "visible",
        normalised_targets=hints.normalised_targets,
    )


USUAL_HEADS = {config.width: config.heads for config in SIZES.values()}
USUAL_DECODER_HEADS = {512: 16, 768: 12}
"""By width."""


def _heads(width: int, usual: dict[int, int], flag: str) -> int:
    if width not in usual:
        raise ConfigError(f"tensors do not tell how many heads there are, and a width of {width} is of no usual model: give {flag}")
    return usual[width]


def _depth(ours: Tensors, part: str) -> int:
    """Number of blocks. Raises UnreadableError unless they are counted from 0 on."""
    numbers = {int(found[1]) for key in ours if (found := re.match(rf"{part}blocks\.(\d{{1,6}})\.", key))}
    if numbers != set(range(len(numbers))):
        raise UnreadableError(f"the numbers of its blocks have gaps: {_named(map(str, sorted(numbers)))}")
    return len(numbers)


def _side(table: Tensor, class_token: bool) -> int:
    num = table.shape[1] - class_token if table.ndim == 3 else 0
    side = round(max(num, 0) ** 0.5)
    if not num or side * side != num:
        raise UnreadableError(f"positions {list(table.shape)}, which are not those of a square of patches")
    return side


def _kind(table: Tensor, class_token: bool) -> Any:
    """sincos where the table is that one, else learned."""
    side, width = _side(table, class_token), table.shape[2]
    patches = table[0, int(class_token) :]
    return "sincos" if width % 4 == 0 and torch.allclose(patches, sincos_table((side, side), width), atol=1e-5) else "learned"


# The names of each family


def _croco(tensors: Tensors) -> Tensors:
    """Positions with an axis for the batch."""
    return {key: value[None] if key.endswith("pos_embed") and value.ndim == 2 else value for key, value in tensors.items()}


def _multimae(tensors: Tensors) -> Tensors:
    """Positions in a row; a global token is a class token that has none."""
    tensors = dict(tensors)
    token = tensors.get("global_tokens")
    if token is not None and (token.ndim != 3 or token.shape[1] != 1):
        raise UnreadableError(f"its global tokens are {list(token.shape)}, a class token is one")
    positions = tensors.get("input_adapters.rgb.pos_emb")
    if positions is None or positions.ndim != 4 or positions.shape[2] != positions.shape[3]:
        raise UnreadableError("it lacks positions of a square of patches, input_adapters.rgb.pos_emb")
    positions = positions.flatten(2).transpose(1, 2)
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
