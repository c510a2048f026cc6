"""Checkpoints: twoview's own, one .safetensors file each, and whatever of others `published` understands.

An own file has its configuration in the header, and what its model has seen: the fingerprint of each dataset and how many pairs
of which licence. A model that was read from elsewhere keeps where it came from.
"""

import hashlib
import json
import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_in
from safetensors.torch import save as bytes_of

from .. import __version__
from ..dataset import Dataset
from ..errors import TwoviewError, UnreadableError
from ..licences import counted
from ..shards import write_whole
from .decoder import DecoderConfig
from .dino import DINO, DINOConfig
from .masked import MaskedConfig, MaskedModel
from .published import Hints, Model, Tensors, Understood, load, understand, understand_dino, unwrapped
from .unpickle import read_pickled
from .vit import IMAGENET_MEAN, IMAGENET_STD, ViT, ViTConfig


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Pairs that a model was trained on."""

    dataset: str
    """DIR or DIR@NAME, as it was called."""
    fingerprint: str
    """sha256 over the keys of the pairs and the sha256 of their pictures, in the manifest's order."""
    num_pairs: int
    licences: dict[str, int]
    """Pairs by licence."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The file that a model was first read from."""

    file: str
    sha256: str
    form: str
    """Whose names its tensors had."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    model: Model
    """On the CPU, float32."""
    form: str
    left_out: tuple[str, ...] = ()
    """Names of what the file has besides."""
    origin: Origin | None = None
    seen: tuple[Seen, ...] = ()

    @property
    def encoder(self) -> ViT:
        return self.model if isinstance(self.model, ViT) else self.model.encoder


def seen(pairs: Dataset) -> Seen:
    """What a checkpoint says of a dataset or selection that its model was trained on."""
    rows = pairs.manifest(["key", "sha256_a", "sha256_b", "licence"])
    digest = hashlib.sha256()
    for values in zip(*(rows[name].to_pylist() for name in ("key", "sha256_a", "sha256_b")), strict=True):
        digest.update(" ".join(map(str, values)).encode() + b"\n")
    return Seen(
        dataset=str(pairs.path) if pairs.selection is None else f"{pairs.path}@{pairs.selection}",
        fingerprint=digest.hexdigest(),
        num_pairs=len(pairs),
        licences=counted(rows["licence"].to_pylist()),
    )


def write_checkpoint(path: Path, model: Model, *, seen: Sequence[Seen] = (), origin: Origin | None = None) -> None:
    """Writes twoview's own form: the whole file or none."""
    kind = next(name for name, (type_, _) in _KINDS.items() if type(model) is type_)
    about = history(origin, seen) | {"model": kind, "config": asdict(model.config)}
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    write_whole(path, bytes_of(tensors, {"format": "pt", "twoview": json.dumps(about)}))


def history(origin: Origin | None, seen: Sequence[Seen]) -> dict[str, Any]:
    """What every file that twoview writes says of where its model comes from."""
    return {"twoview": __version__, "origin": origin and asdict(origin), "seen": [asdict(one) for one in seen]}


def unsaid(config: ViTConfig) -> dict[str, Any]:
    """What the tensors of an encoder do not tell, under the names of Hugging Face's config.json."""
    return {
        "num_attention_heads": config.heads,
        "layer_norm_eps": config.norm_eps,
        "image_mean": config.mean,
        "image_std": config.std,
    }


def read_checkpoint(path: Path | str, *, heads: int | None = None, decoder_heads: int | None = None) -> Checkpoint:
    """The model of any checkpoint that twoview knows: its own, or of MIMIC, MAE, CroCo, DINO, MultiMAE, timm, Hugging Face.

    path: a file, or a folder as Hugging Face's. heads, decoder_heads: where neither the file nor the width tells them. Raises
    UnreadableError for what is no such file or would run code, ConfigError where heads must be said.
    """
    path = Path(path)
    if path.is_dir():
        path = _weights_in(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror}") from None
    origin = {"file": path.name, "sha256": hashlib.sha256(data).hexdigest()}
    given = {"heads": heads, "decoder_heads": decoder_heads}
    try:
        if data[8:9] == b"{":
            about = _about(_metadata(data).get("twoview"))
            tensors = tensors_in(data)
            if "model" in about:
                found = Understood(model=_own(about, tensors), form="twoview", left_out=())
            else:
                found = understand(unwrapped(tensors), _hints(path, about, given))
        else:
            del data
            content = read_pickled(path)
            if not isinstance(content, dict):
                raise UnreadableError("no tensors by name in it")
            about = _about(content.pop("twoview", None))
            found = _of_pickle(content, about, path, given)
        first, trained = _history(about)
    except TwoviewError as error:
        raise (error if str(path) in str(error) else type(error)(f"{path}: {error}")) from None
    except SafetensorError as error:
        raise UnreadableError(f"{path}: a broken .safetensors file ({error})") from None
    return Checkpoint(
        model=found.model,
        form=found.form,
        left_out=found.left_out,
        origin=first or (None if found.form == "twoview" else Origin(**origin, form=found.form)),
        seen=trained,
    )


def _weights_in(folder: Path) -> Path:
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).exists():
            return folder / name
    raise UnreadableError(f"{folder}: no checkpoint there (model.safetensors, or pytorch_model.bin, in one piece)")


def _metadata(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:8], "little")
    try:
        return json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except ValueError:
        raise UnreadableError("a broken .safetensors file (its header)") from None


def _about(text: Any) -> dict[str, Any]:
    """What twoview wrote about a model beside its tensors."""
    try:
        about = json.loads(text or "{}")
    except (TypeError, ValueError):
        about = None
    if not isinstance(about, dict):
        raise UnreadableError("broken: what twoview wrote about it is no JSON")
    return about


def _of_pickle(content: dict[Any, Any], about: dict[str, Any], path: Path, given: Mapping[str, int | None]) -> Understood:
    """Of what torch.save was given: tensors by name, alone or beside other things."""
    options = about
    for part in (content.get("args"), content.get("croco_kwargs")):
        options = options | (vars(part) if isinstance(part, Namespace) else part if isinstance(part, dict) else {})
    hints = _hints(path, options, given)
    if isinstance(content.get("student"), dict) and isinstance(content.get("teacher"), dict):
        loss = content.get("dino_loss")
        centre = loss.get("center") if isinstance(loss, dict) else None
        found = understand_dino(_tensors(content["student"]), _tensors(content["teacher"]), centre, hints)
        used = {"student", "teacher", "dino_loss"}
    else:
        names = ("model", "state_dict", "model_state_dict", "teacher", "module")
        name = next((name for name in names if isinstance(content.get(name), dict)), None)
        found = understand(unwrapped(_tensors(content[name] if name else content)), hints)
        used = {name} if name else set(content)
    besides = [str(key) for key in content if key not in used | {"args", "croco_kwargs"}]
    return replace(found, left_out=(*found.left_out, *besides))


def _tensors(content: Mapping[Any, Any]) -> Tensors:
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise UnreadableError(f"{key} in it is a {type(value).__name__}, not a tensor")
    return dict(content)


def _hints(path: Path, options: Mapping[str, Any], given: Mapping[str, int | None]) -> Hints:
    """What the user says, what the options in a file say, and the config.json beside it (Hugging Face's, timm's)."""
    beside = {}
    for name in ("config.json", "preprocessor_config.json"):
        if path.suffix != ".pth" and (path.parent / name).exists():
            try:
                beside |= json.loads((path.parent / name).read_bytes())
            except (OSError, ValueError) as error:
                raise UnreadableError(f"{path.parent / name}: not JSON ({error})") from None
    if beside.get("hidden_act", "gelu") != "gelu":
        raise UnreadableError(f"hidden_act {beside['hidden_act']}: twoview's encoder has gelu")
    known = {**beside.get("pretrained_cfg", {}), **beside, **options}
    rotary = re.fullmatch(r"RoPE([\d.]+)", str(known.get("pos_embed")))
    return Hints(
        heads=given["heads"] or _number(int, known, "enc_num_heads", "num_attention_heads"),
        decoder_heads=given["decoder_heads"] or _number(int, known, "dec_num_heads", "decoder_num_attention_heads"),
        mask_ratio=_number(float, known, "mask_ratio"),
        normalised_targets=known.get("norm_pix_loss") is not False,
        rotary_base=float(rotary[1]) if rotary else 100.0,
        rotary_image_px=_number(int, known, "img_size") or 224,
        norm_eps=_number(float, known, "layer_norm_eps") or 1e-6,
        mean=_colour(known, "image_mean", "mean") or IMAGENET_MEAN,
        std=_colour(known, "image_std", "std") or IMAGENET_STD,
    )


def _number(kind: type, known: Mapping[str, Any], *names: str) -> Any:
    return next((kind(known[name]) for name in names if type(known.get(name)) in (int, float)), None)


def _colour(known: Mapping[str, Any], *names: str) -> tuple[float, float, float] | None:
    for name in names:
        value = known.get(name)
        if isinstance(value, list | tuple) and len(value) == 3 and all(type(part) in (int, float) for part in value):
            return float(value[0]), float(value[1]), float(value[2])
    return None


# twoview's own


def _vit_config(fields: dict[str, Any]) -> ViTConfig:
    fields["mean"], fields["std"] = tuple(fields["mean"]), tuple(fields["std"])  # JSON has lists
    return ViTConfig(**fields)


def _masked_config(fields: dict[str, Any]) -> MaskedConfig:
    fields["encoder"], fields["decoder"] = _vit_config(fields["encoder"]), DecoderConfig(**fields["decoder"])
    return MaskedConfig(**fields)


def _dino_config(fields: dict[str, Any]) -> DINOConfig:
    fields["encoder"] = _vit_config(fields["encoder"])
    return DINOConfig(**fields)


_KINDS: dict[str, tuple[Any, Any]] = {
    "vit": (ViT, _vit_config),
    "masked": (MaskedModel, _masked_config),
    "dino": (DINO, _dino_config),
}


def _own(about: dict[str, Any], tensors: Tensors) -> Model:
    try:
        kind, config = _KINDS[about["model"]]
        model = kind(config(about["config"]))
    except (KeyError, TypeError) as error:
        raise UnreadableError(f"written by another twoview, {about.get('twoview')}, which has {error}") from None
    load(model, tensors, {key: key for key in tensors})
    return model


def _history(about: dict[str, Any]) -> tuple[Origin | None, tuple[Seen, ...]]:
    try:
        return about.get("origin") and Origin(**about["origin"]), tuple(Seen(**one) for one in about.get("seen", ()))
    except TypeError as error:
        raise UnreadableError(f"written by another twoview, {about.get('twoview')}: {error}") from None
