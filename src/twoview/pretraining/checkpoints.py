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
from torch import nn

from .. import __version__
from ..dataset import Dataset
from ..errors import ConfigError, TwoviewError, UnreadableError
from ..licences import counted
from ..shards import write_whole
from .decoder import DecoderConfig
from .dino import DINO, DINOConfig
from .masked import MaskedConfig, MaskedModel
from .published import Hints, Model, Tensors, Understood, built, understand, understand_dino, unwrapped
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
    model = getattr(model, "_orig_mod", model)  # of torch.compile
    kind = next((name for name, (type_, _) in _KINDS.items() if type(model) is type_), None)
    if kind is None:
        raise ConfigError(f"a {type(model).__name__} has no form on disk: write its .encoder")
    about = history(origin, seen) | {"model": kind, "config": asdict(model.config)}
    tensors = {key: value.detach().float().cpu().contiguous() for key, value in model.state_dict().items()}
    write_whole(path, bytes_of(tensors, {"format": "pt", "twoview": json.dumps(about)}))


def checkpoints_of(run: Path) -> list[Path]:
    """The folders of a run's checkpoints, in the order of their steps."""
    return sorted((p for p in (run / "checkpoints").glob("step-*") if p.name[5:].isdecimal()), key=lambda p: int(p.name[5:]))


def has_form(model: nn.Module) -> bool:
    """Whether write_checkpoint writes such a model whole; of others it writes the encoder."""
    return any(type(model) is kind for kind, _ in _KINDS.values())


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


def read_checkpoint(
    path: Path | str, *, heads: int | None = None, decoder_heads: int | None = None, raw_pixels: bool | None = None
) -> Checkpoint:
    """The model of a checkpoint: twoview's own, or a plain ViT, MAE or CroCo as MIMIC, MAE, CroCo, DINO, MultiMAE, timm and Hugging
    Face write them.

    path: a file, or a folder as Hugging Face's. heads, decoder_heads: where neither the file nor the width tells them. raw_pixels:
    that a decoder predicts pixels as they are, where the file does not say so. Raises UnreadableError for what is no such file, or
    would run code; ConfigError where more must be said.
    """
    path = Path(path)
    given = {"num_attention_heads": heads, "decoder_num_attention_heads": decoder_heads}
    if any(number is not None and number < 1 for number in given.values()):
        raise ConfigError("--heads and --decoder-heads are 1 or more")
    if raw_pixels is not None:
        given["norm_pix_loss"] = not raw_pixels
    given: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if path.is_dir():
        path = _weights_in(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror}") from None
    file = {"file": path.name, "sha256": hashlib.sha256(data).hexdigest()}
    try:
        if data[8:9] == b"{":
            about = _about(_metadata(data).get("twoview"))
            tensors = tensors_in(data)
            if "model" in about:
                if given:
                    raise ConfigError("a checkpoint of twoview says itself what its model is like: leave out --heads and the like")
                found = Understood(model=_own(about, tensors), form="twoview", left_out=())
            else:
                found = understand(unwrapped(tensors), _hints(_beside(path) | about | given))
        else:
            del data
            content = read_pickled(path)
            if not isinstance(content, dict):
                raise UnreadableError("no tensors by name in it")
            about = _about(content.pop("twoview", None))
            found = _of_pickle(content, _beside(path) | about, given)
        origin, trained = _history(about)
    except TwoviewError as error:
        raise (error if str(path) in str(error) else type(error)(f"{path}: {error}")) from None
    except SafetensorError as error:
        raise UnreadableError(f"{path}: a broken .safetensors file ({error})") from None
    except (ArithmeticError, AttributeError, LookupError, RecursionError, RuntimeError, TypeError, ValueError) as error:
        why = (str(error).splitlines() or [""])[0][:200]
        raise UnreadableError(f"{path}: damaged, or not what its names say ({type(error).__name__}: {why})") from error
    if origin is None and found.form != "twoview":
        origin = Origin(**file, form=found.form)
    return Checkpoint(model=found.model, form=found.form, left_out=found.left_out, origin=origin, seen=trained)


_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Files that Hugging Face and timm put a config.json beside."""


def _weights_in(folder: Path) -> Path:
    """Of a folder as Hugging Face's, or of the last checkpoint of a run."""
    found = checkpoints_of(folder)
    folder = found[-1] if found else folder
    for name in _WEIGHTS:
        if (folder / name).exists():
            return folder / name
    raise UnreadableError(f"{folder}: no checkpoint there ({' or '.join(_WEIGHTS)}, in one piece)")


def _beside(path: Path) -> dict[str, Any]:
    """What config.json and preprocessor_config.json say, which Hugging Face and timm put beside the weights."""
    known: dict[str, Any] = {}
    for name in ("config.json", "preprocessor_config.json") if path.name in _WEIGHTS else ():
        file = path.parent / name
        if file.exists():
            try:
                known |= json.loads(file.read_bytes())
            except (OSError, TypeError, ValueError) as error:
                raise UnreadableError(f"{file}: not a JSON object ({error})") from None
    for part in ("pretrained_cfg", "model_args"):  # timm's
        known |= known[part] if isinstance(known.get(part), dict) else {}
    return known


def _metadata(data: bytes) -> dict[str, Any]:
    """Of a .safetensors file."""
    length = int.from_bytes(data[:8], "little")
    try:
        known = json.loads(data[8 : 8 + length]).get("__metadata__")
    except (AttributeError, ValueError):
        raise UnreadableError("a broken .safetensors file (its header)") from None
    return known if isinstance(known, dict) else {}


def _about(text: Any) -> dict[str, Any]:
    """What twoview wrote about a model beside its tensors."""
    try:
        about = json.loads(text or "{}")
    except (TypeError, ValueError):
        about = None
    if not isinstance(about, dict):
        raise UnreadableError("broken: what twoview wrote about it is no JSON")
    return about


def _of_pickle(content: dict[Any, Any], known: dict[str, Any], given: dict[str, Any]) -> Understood:
    """Of what torch.save was given: tensors by name, alone or beside other things."""
    for part in (content.get("args"), content.get("croco_kwargs")):
        known = known | (vars(part) if isinstance(part, Namespace) else part if isinstance(part, dict) else {})
    hints = _hints(known | given)
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
            raise UnreadableError(f"{key!a:.100} in it is a {type(value).__name__}, where there should be tensors by name")
    return dict(content)


def _hints(known: Mapping[str, Any]) -> Hints:
    """What options say of a model: those of the published programs, Hugging Face's config.json, timm's, twoview's own."""
    if known.get("hidden_act", "gelu") != "gelu" or known.get("act_layer", "gelu") != "gelu":
        raise UnreadableError("its activation is not gelu, which twoview's encoder has")
    if re.search(r"siglip|quickgelu", str(known.get("architecture"))):
        raise UnreadableError(f"{known['architecture']!a}: its activation is not twoview's gelu")
    rotary = re.fullmatch(r"RoPE(\d+(\.\d+)?)", str(known.get("pos_embed", "RoPE100")))
    for name in ("image_size", "img_size", "input_size"):
        sides = known.get(name)
        stored = "pos_embed" not in known or rotary is None
        if stored and isinstance(sides, list | tuple) and len(set(sides[-2:])) > 1:
            raise UnreadableError(f"its positions are of pictures that are not square ({name} {list(sides)})")
    plain = known.get("do_normalize") is False
    return Hints(
        heads=_number(int, known, "enc_num_heads", "num_attention_heads", "num_heads"),
        decoder_heads=_number(int, known, "dec_num_heads", "decoder_num_attention_heads"),
        mask_ratio=_number(float, known, "mask_ratio"),
        normalised_targets=bool(known.get("norm_pix_loss", True)),
        rotary=rotary is not None,
        rotary_base=float(rotary[1]) if rotary else 100.0,
        rotary_image_px=_number(int, known, "img_size"),
        norm_eps=_number(float, known, "layer_norm_eps") or 1e-6,
        mean=(0.0, 0.0, 0.0) if plain else _colour(known, "image_mean", "mean") or IMAGENET_MEAN,
        std=(1.0, 1.0, 1.0) if plain else _colour(known, "image_std", "std") or IMAGENET_STD,
        dino=_dino_fields(known),
    )


def _dino_fields(known: Mapping[str, Any]) -> dict[str, float]:
    """Of DINO's options, where epochs are shares of all."""
    fields = {
        "teacher_temperature": _number(float, known, "teacher_temp"),
        "first_teacher_temperature": _number(float, known, "warmup_teacher_temp"),
        "momentum": _number(float, known, "momentum_teacher"),
        "drop_path": _number(float, known, "drop_path_rate"),
    }
    if epochs := _number(float, known, "epochs"):
        for name, theirs in (("warm_up", "warmup_teacher_temp_epochs"), ("frozen", "freeze_last_layer")):
            number = _number(float, known, theirs)
            fields[name] = None if number is None else number / epochs
    return {name: value for name, value in fields.items() if value is not None}


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
        kind, config_of = _KINDS[about["model"]]
        config = config_of(about["config"])
    except (KeyError, TypeError) as error:
        raise UnreadableError(f"written by another twoview, {about.get('twoview')!a}, which has {error}") from None
    return built(kind, config, tensors, {key: key for key in tensors})


def _history(about: dict[str, Any]) -> tuple[Origin | None, tuple[Seen, ...]]:
    try:
        origin = about.get("origin") and Origin(**about["origin"])
        trained = tuple(Seen(**one) for one in about.get("seen", ()))
    except TypeError as error:
        raise UnreadableError(f"written by another twoview, {about.get('twoview')!a}: {error}") from None
    if not all(isinstance(one.licences, dict) and isinstance(one.num_pairs, int) for one in trained):
        raise UnreadableError("broken: what twoview wrote of its training data")
    return origin or None, trained
