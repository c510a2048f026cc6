"""Checkpoints of every family, our own, and those that are refused."""

import argparse
import json
from pathlib import Path, PosixPath

import numpy as np
import pytest
import torch
from models_made import CROCO_NAMES, HEADS, MAE_NAMES, batch, encoder_config, masked_config, pictures, renamed, shaken
from safetensors.torch import load_file, save_file

import twoview
from twoview.errors import ConfigError, UnreadableError
from twoview.pretraining.checkpoints import read_checkpoint, seen, write_checkpoint
from twoview.pretraining.dino import DINO, DINOConfig
from twoview.pretraining.masked import MaskedModel
from twoview.pretraining.vit import ViT


def same_loss(found: torch.nn.Module, model: torch.nn.Module) -> None:
    torch.testing.assert_close(found(batch())["loss"], model(batch())["loss"])


def test_mimic_and_mae(tmp_path: Path) -> None:
    for name, config, blocks in (
        ("mimic", masked_config(mask_ratio=0.8), "decoder_blocks_croco"),
        ("mae", masked_config(second_view=False, mask_ratio=0.7), "decoder_blocks"),
    ):
        model = shaken(MaskedModel(config))
        tensors = renamed(model, ("decoder.blocks", blocks), *MAE_NAMES)
        args = argparse.Namespace(mask_ratio=config.mask_ratio, norm_pix_loss=True, output_dir=PosixPath("out"), lr=np.float64(1))
        torch.save({"model": tensors, "optimizer": {}, "epoch": 3, "args": args}, tmp_path / "a.pth")
        found = read_checkpoint(tmp_path / "a.pth", **HEADS)
        assert (found.form, found.left_out) == (name, ("optimizer", "epoch"))
        assert found.model.config == config
        assert found.origin is not None
        assert (found.origin.file, found.origin.form, len(found.origin.sha256)) == ("a.pth", name, 64)
        same_loss(found.model, model)


def test_croco(tmp_path: Path) -> None:
    for positions, words in (("sincos", "cosine"), ("rotary", "RoPE50")):
        encoder = encoder_config(class_token=False, positions=positions, rotary_base=50.0 if positions == "rotary" else 100.0)
        config = masked_config(encoder=encoder, round_down="hidden")
        model = shaken(MaskedModel(config))
        tensors = {key: value[0] if key.endswith("pos_embed") else value for key, value in renamed(model, *CROCO_NAMES).items()}
        kwargs = {"enc_num_heads": 4, "dec_num_heads": 4, "pos_embed": words, "img_size": 32, "mask_ratio": 0.75}
        torch.save({"croco_kwargs": kwargs, "model": tensors}, tmp_path / "a.pth")
        found = read_checkpoint(tmp_path / "a.pth")
        assert (found.form, found.left_out) == ("croco", ())
        assert found.model.config == config
        same_loss(found.model, model)


@pytest.mark.parametrize(("img_size", "image_px"), [(64, 64), ((48, 32), 112), (100, 112), (None, 112)])
def test_a_rotary_croco_of_any_picture(tmp_path: Path, img_size: object, image_px: int) -> None:
    model = MaskedModel(masked_config(encoder=encoder_config(class_token=False, positions="rotary")))
    kwargs = {"pos_embed": "RoPE100", "img_size": img_size}
    torch.save({"croco_kwargs": kwargs, "model": renamed(model, *CROCO_NAMES)}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth", **HEADS).encoder.config.image_px == image_px


def test_timm_and_its_wrappings(tmp_path: Path) -> None:
    """Alone and under what DistributedDataParallel, torch.compile and Lightning put around it; a classifier is left out by name."""
    model = shaken(ViT(encoder_config(positions="learned")))
    for prefix in ("", "module.", "module._orig_mod.", "model."):
        tensors = {prefix + key: value for key, value in model.state_dict().items()}
        tensors |= {f"{prefix}head.weight": torch.zeros(5, 32), f"{prefix}head.bias": torch.zeros(5)}
        for file, content in (("a.pth", tensors), ("b.ckpt", {"state_dict": tensors, "callbacks": {}})):
            torch.save(content, tmp_path / file)
            found = read_checkpoint(tmp_path / file, heads=4)
            assert found.form == "timm"
            assert found.left_out[:2] == ("head.weight", "head.bias")
            torch.testing.assert_close(found.model(pictures()), model(pictures()))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps({"num_attention_heads": 4, "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}})
    )
    found = read_checkpoint(tmp_path)
    assert found.encoder.config == encoder_config(positions="learned", mean=(0.5,) * 3, std=(0.5,) * 3)


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    model = shaken(ViT(encoder_config())).half()
    torch.save(model.state_dict(), tmp_path / "a.pth")
    assert {value.dtype for value in read_checkpoint(tmp_path / "a.pth", heads=4).model.state_dict().values()} == {torch.float32}


def test_dino(tmp_path: Path) -> None:
    """The whole checkpoint as DINO writes it; the teacher's backbone with its head; the backbone alone."""
    encoder = encoder_config(positions="learned")
    model = shaken(DINO(DINOConfig(encoder=encoder, hidden=16, bottleneck=8, outputs=24)))
    model.centre += 0.3
    student = {f"module.{key}": value for key, value in model.student.state_dict().items()}
    teacher = model.teacher.state_dict()
    torch.save({"student": student, "teacher": teacher, "dino_loss": {"center": model.centre}, "epoch": 9}, tmp_path / "whole.pth")
    found = read_checkpoint(tmp_path / "whole.pth", heads=4)
    assert (found.form, found.left_out) == ("dino", ("epoch",))
    same_loss(found.model, model)
    torch.save({"teacher": teacher}, tmp_path / "teacher.pth")
    found = read_checkpoint(tmp_path / "teacher.pth", heads=4)
    assert found.form == "dino"
    assert "head.last_layer.weight_v" in found.left_out
    torch.testing.assert_close(found.encoder(pictures()), model.encoder(pictures()))
    torch.save(model.teacher.backbone.state_dict(), tmp_path / "bare.pth")
    torch.testing.assert_close(read_checkpoint(tmp_path / "bare.pth", heads=4).encoder(pictures()), model.encoder(pictures()))


def test_multimae(tmp_path: Path) -> None:
    """Its other inputs and outputs are left out by name; its global token is the class token."""
    model = shaken(ViT(encoder_config(positions="learned", final_norm=False)))
    with torch.no_grad():
        model.pos_embed[:, 0] = 0
    tensors = renamed(model, ("blocks", "encoder"), ("patch_embed", "input_adapters.rgb"), ("cls_token", "global_tokens"))
    positions = tensors.pop("pos_embed")[:, 1:]
    tensors["input_adapters.rgb.pos_emb"] = positions.transpose(1, 2).reshape(1, 32, 4, 4)
    tensors["input_adapters.depth.proj.weight"] = torch.zeros(1)
    tensors["output_adapters.rgb.mask_token"] = torch.zeros(1)
    torch.save({"model": tensors}, tmp_path / "a.pth")
    found = read_checkpoint(tmp_path / "a.pth", heads=4)
    assert found.form == "multimae"
    assert found.left_out == ("input_adapters.depth.proj.weight", "output_adapters.rgb.mask_token")
    torch.testing.assert_close(found.model(pictures()), model(pictures()))
    tensors["global_tokens"] = torch.zeros(1, 2, 32)
    torch.save({"model": tensors}, tmp_path / "a.pth")
    with pytest.raises(UnreadableError, match=r"global tokens are \[1, 2, 32\]"):
        read_checkpoint(tmp_path / "a.pth", heads=4)


def broken(tensors: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    tensors = dict(tensors)
    if how == "more":
        tensors["blocks.0.ls1.gamma"] = torch.ones(32)
    elif how == "fewer":
        del tensors["blocks.1.mlp.fc2.bias"]
    elif how == "shape":
        tensors["blocks.1.mlp.fc2.bias"] = torch.ones(31)
    elif how == "unsquare":
        tensors["pos_embed"] = torch.ones(1, 16, 32)
    return tensors


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("more", "there is no place for blocks.0.ls1.gamma"),
        ("fewer", "it lacks blocks.1.mlp.fc2.bias"),
        ("shape", r"blocks.1.mlp.fc2.bias is \[31\], not \[32\]"),
        ("unsquare", r"positions \[1, 16, 32\], which are not those of a square"),
    ],
)
def test_no_tensor_is_passed_over(tmp_path: Path, how: str, words: str) -> None:
    torch.save(broken(ViT(encoder_config()).state_dict(), how), tmp_path / "a.pth")
    with pytest.raises(UnreadableError, match=words) as caught:
        read_checkpoint(tmp_path / "a.pth", heads=4)
    assert str(tmp_path / "a.pth") in str(caught.value)


def test_what_is_no_vit(tmp_path: Path) -> None:
    torch.save({"layer1.0.conv1.weight": torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(UnreadableError, match=r"it has layer1\.0\.conv1\.weight"):
        read_checkpoint(tmp_path / "a.pth")
    torch.save({"model": {"blocks.0.x": 3}}, tmp_path / "a.pth")
    with pytest.raises(UnreadableError, match=r"'blocks.0.x' in it is a int"):
        read_checkpoint(tmp_path / "a.pth")
    torch.save([torch.ones(1)], tmp_path / "a.pth")
    with pytest.raises(UnreadableError, match="no tensors by name"):
        read_checkpoint(tmp_path / "a.pth")
    with pytest.raises(UnreadableError, match="No such file"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(UnreadableError, match="no checkpoint there"):
        read_checkpoint(tmp_path)


def test_heads_are_asked_for_where_nobody_knows(tmp_path: Path) -> None:
    torch.save(ViT(encoder_config()).state_dict(), tmp_path / "a.pth")
    with pytest.raises(ConfigError, match="a width of 32 is of no usual model: give --heads"):
        read_checkpoint(tmp_path / "a.pth")
    torch.save(ViT(encoder_config(width=192, heads=3)).state_dict(), tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").encoder.config.heads == 3


def test_raw_pixels_are_said_by_the_file_or_the_user(tmp_path: Path) -> None:
    model = MaskedModel(masked_config(second_view=False, normalised_targets=False))
    tensors = renamed(model, ("decoder.blocks", "decoder_blocks"), *MAE_NAMES)
    said = ({"norm_pix_loss": False}, None, False), ({"norm_pix_loss": 0}, None, False)
    for args, raw, expected in (({}, None, True), ({}, True, False), *said):
        torch.save({"model": tensors, "args": argparse.Namespace(**args)}, tmp_path / "a.pth")
        found = read_checkpoint(tmp_path / "a.pth", **HEADS, raw_pixels=raw).model
        assert isinstance(found, MaskedModel)
        assert found.config.normalised_targets == expected


def test_options_of_dino_are_kept(tmp_path: Path) -> None:
    model = DINO(DINOConfig(encoder=encoder_config(positions="learned"), hidden=16, bottleneck=8, outputs=24))
    args = {
        "teacher_temp": 0.05,
        "warmup_teacher_temp": 0.03,
        "warmup_teacher_temp_epochs": 30,
        "epochs": 100,
        "freeze_last_layer": 1,
    }
    args |= {"momentum_teacher": 0.9995, "drop_path_rate": 0.2}
    whole = {"student": model.student.state_dict(), "teacher": model.teacher.state_dict(), "args": argparse.Namespace(**args)}
    torch.save(whole, tmp_path / "a.pth")
    with pytest.raises(UnreadableError, match="it lacks the centre"):
        read_checkpoint(tmp_path / "a.pth", heads=4)
    torch.save(whole | {"dino_loss": {"center": model.centre}}, tmp_path / "a.pth")
    config = read_checkpoint(tmp_path / "a.pth", heads=4).model.config
    assert isinstance(config, DINOConfig)
    assert (config.teacher_temperature, config.first_teacher_temperature, config.warm_up) == (0.05, 0.03, 0.3)
    assert (config.frozen, config.momentum, config.encoder.drop_path) == (0.01, 0.9995, 0.2)


# Our own


@pytest.mark.parametrize("kind", ["vit", "masked", "dino"])
def test_own_form(tmp_path: Path, kind: str, dataset: Path) -> None:
    """Model, configuration and history come back; the file is read by safetensors alone."""
    encoder = encoder_config(positions="learned", mean=(0.5, 0.4, 0.3), drop_path=0.1)
    model = {
        "vit": lambda: ViT(encoder),
        "masked": lambda: MaskedModel(masked_config(encoder=encoder)),
        "dino": lambda: DINO(DINOConfig(encoder=encoder, hidden=16, bottleneck=8, outputs=24)),
    }[kind]()
    shaken(model)
    pairs = twoview.open(dataset)
    write_checkpoint(tmp_path / "a.safetensors", model, seen=[seen(pairs)])
    found = read_checkpoint(tmp_path / "a.safetensors")
    assert (found.form, found.origin) == ("twoview", None)
    assert found.model.config == model.config
    assert found.seen == (seen(pairs),)
    assert found.seen[0].num_pairs == len(pairs)
    assert found.seen[0].licences == {"unknown": len(pairs)}
    back = found.model.state_dict()
    assert back.keys() == model.state_dict().keys() == load_file(tmp_path / "a.safetensors").keys()
    assert all(torch.equal(value, back[key]) for key, value in model.state_dict().items())


def test_a_fingerprint_is_of_pairs_and_pictures(dataset: Path) -> None:
    pairs = twoview.open(dataset)
    assert seen(pairs).fingerprint == seen(twoview.open(dataset)).fingerprint
    assert seen(pairs[:-1]).fingerprint != seen(pairs).fingerprint


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, by torch
def test_other_modules_have_no_form(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a Linear has no form on disk"):
        write_checkpoint(tmp_path / "a.safetensors", torch.nn.Linear(2, 2))  # pyright: ignore[reportArgumentType]
    write_checkpoint(tmp_path / "a.safetensors", torch.compile(ViT(encoder_config()).half()))  # pyright: ignore[reportArgumentType]
    assert {value.dtype for value in load_file(tmp_path / "a.safetensors").values()} == {torch.float32}


def test_own_form_of_another_version(tmp_path: Path) -> None:
    about = {"twoview": "9.9", "model": "vit", "config": {"width": 32, "colour": "blue"}, "origin": None, "seen": []}
    save_file(ViT(encoder_config()).state_dict(), tmp_path / "a.safetensors", {"twoview": json.dumps(about)})
    with pytest.raises(UnreadableError, match=r"another twoview, '9\.9'"):
        read_checkpoint(tmp_path / "a.safetensors")
