"""Checkpoints of every family, our own, and those that are refused."""

import argparse
import json
import os
import pickle
from pathlib import Path, PosixPath

import numpy as np
import pytest
import torch
from made import batch, encoder_config, masked_config, pictures, shaken
from safetensors.torch import load_file, save_file

import twoview
from twoview.errors import ConfigError, UnreadableError
from twoview.pretraining.checkpoints import read_checkpoint, seen, write_checkpoint
from twoview.pretraining.dino import DINO, DINOConfig
from twoview.pretraining.masked import MaskedModel
from twoview.pretraining.vit import ViT

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
    save_file(model.state_dict(), tmp_path / "c.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps({"num_attention_heads": 4, "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}})
    )
    found = read_checkpoint(tmp_path / "c.safetensors")
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
    with pytest.raises(UnreadableError, match="2 global tokens"):
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
        ("unsquare", "positions of 15 patches, which make no square"),
    ],
)
def test_no_tensor_is_passed_over(tmp_path: Path, how: str, words: str) -> None:
    torch.save(broken(ViT(encoder_config()).state_dict(), how), tmp_path / "a.pth")
    with pytest.raises(UnreadableError, match=words) as caught:
        read_checkpoint(tmp_path / "a.pth", heads=4)
    assert str(tmp_path / "a.pth") in str(caught.value)


def test_what_is_no_vit(tmp_path: Path) -> None:
    torch.save({"layer1.0.conv1.weight": torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(UnreadableError, match=r"tensors called layer1\.0\.conv1\.weight"):
        read_checkpoint(tmp_path / "a.pth")
    torch.save({"model": {"blocks.0.x": 3}}, tmp_path / "a.pth")
    with pytest.raises(UnreadableError, match=r"blocks.0.x in it is a int, not a tensor"):
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


# Pickles


class Touches:
    """What a hostile file holds: it makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", ["beside", "within", "alone"])
def test_a_hostile_pickle_is_refused_before_anything_runs(tmp_path: Path, zipped: bool, place: str) -> None:
    mark = tmp_path / "ran"
    tensors = dict(ViT(encoder_config()).state_dict())
    content = {
        "beside": {"model": tensors, "args": Touches(mark)},
        "within": {"model": {**tensors, "x": Touches(mark)}},
        "alone": Touches(mark),
    }[place]
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnreadableError, match=r"asks for (posix|nt).system, which could run any code: nothing of it is run"):
        read_checkpoint(tmp_path / "a.pth", heads=4)
    assert not mark.exists()
    torch.load(tmp_path / "a.pth", weights_only=False)  # it is hostile indeed
    assert mark.exists()


def test_other_hostile_and_broken_files(tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "a.pth"
    for content in (pickle.dumps({"a": Touches(mark)}), b"", b"nothing of the kind", b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(40)):
        path.write_bytes(content)
        with pytest.raises(UnreadableError, match=r"not a file of torch.save|asks for"):
            read_checkpoint(path)
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(UnreadableError, match=r"asks for torch.nn.modules.linear.Linear"):
        read_checkpoint(path)
    for content in (b"\x08" + bytes(7) + b"{broken}", b"\xff" * 8 + b"{}", (16).to_bytes(8, "little") + b'{"a":{"dtype":1}'):
        path.write_bytes(content)
        with pytest.raises(UnreadableError, match=r"broken \.safetensors file"):
            read_checkpoint(path)
    assert not mark.exists()


def test_what_stands_beside_weights_is_inert(tmp_path: Path) -> None:
    content = {"model": ViT(encoder_config()).state_dict(), "numpy": np.random.RandomState(0).get_state(), "best": np.float64(3)}
    torch.save(content | {"args": argparse.Namespace(path=PosixPath("x"), mask_ratio="much")}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth", heads=4).left_out == ("numpy", "best")


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


def test_own_form_of_another_version(tmp_path: Path) -> None:
    about = {"twoview": "9.9", "model": "vit", "config": {"width": 32, "colour": "blue"}, "origin": None, "seen": []}
    save_file(ViT(encoder_config()).state_dict(), tmp_path / "a.safetensors", {"twoview": json.dumps(about)})
    with pytest.raises(UnreadableError, match=r"another twoview, 9\.9"):
        read_checkpoint(tmp_path / "a.safetensors")
