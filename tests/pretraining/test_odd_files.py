"""Files that are refused, each in one line: pickles that would run something, tensors that fit nowhere, odd values anywhere."""

import argparse
import json
import os
import pickle
from pathlib import Path, PosixPath

import numpy as np
import pytest
import torch
from models_made import CROCO_NAMES, HEADS, encoder_config, masked_config, renamed
from safetensors import safe_open
from safetensors.torch import save_file

from twoview.cli import main
from twoview.errors import ConfigError, UnreadableError
from twoview.pretraining.checkpoints import read_checkpoint, write_checkpoint
from twoview.pretraining.masked import MaskedModel
from twoview.pretraining.vit import ViT


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


def understood_or_not(tmp_path: Path, content: object, words: str) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UnreadableError, match=words):
        read_checkpoint(tmp_path / "a.pth", **HEADS)


def test_no_two_tensors_become_one(tmp_path: Path) -> None:
    """Stray tensors of another family's names, and two models under two wrappers."""
    bare = ViT(encoder_config()).state_dict()
    for theirs in (
        {f"backbone.{key}": value for key, value in bare.items()} | {"blocks.0.norm1.weight": torch.ones(32)},
        {f"backbone.{key}": value for key, value in bare.items()} | {"cls_token": torch.ones(1, 1, 32)},
        bare | {"encoder.cls_token": torch.ones(1, 1, 32)},
    ):
        understood_or_not(tmp_path, theirs, r"there is no place for|are both|no place")
    twice = {f"{prefix}.{key}": value for prefix in ("module", "model") for key, value in bare.items()}
    understood_or_not(tmp_path, twice, "several models in one")


def test_positions_are_never_guessed(tmp_path: Path) -> None:
    """Without a table a model has rotary positions in CroCo v2 alone; pictures that are not square have no square table."""
    bare = ViT(encoder_config()).state_dict()
    understood_or_not(tmp_path, {key: value for key, value in bare.items() if key != "pos_embed"}, "it lacks positions")
    encoder = encoder_config(class_token=False, positions="rotary")
    tensors = renamed(MaskedModel(masked_config(encoder=encoder)), *CROCO_NAMES)
    understood_or_not(tmp_path, {"model": tensors, "croco_kwargs": {"pos_embed": "cosine"}}, "it lacks positions")
    save_file(bare, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"image_size": [16, 64], "num_attention_heads": 4}))
    with pytest.raises(UnreadableError, match="not square"):
        read_checkpoint(tmp_path)


def test_other_activations_are_refused(tmp_path: Path) -> None:
    save_file(ViT(encoder_config()).state_dict(), tmp_path / "model.safetensors")
    for beside in (
        {"hidden_act": "gelu_new"},
        {"architecture": "vit_base_patch16_siglip_224"},
        {"model_args": {"act_layer": "quick_gelu"}},
    ):
        (tmp_path / "config.json").write_text(json.dumps(beside))
        with pytest.raises(UnreadableError, match="activation"):
            read_checkpoint(tmp_path, heads=4)


def odd_tensors() -> dict[str, tuple[str, torch.Tensor]]:
    return {
        "a number": ("pos_embed", torch.ones(())),
        "a row": ("pos_embed", torch.ones(17)),
        "nothing": ("pos_embed", torch.ones(1, 0, 32)),
        "no width": ("blocks.0.mlp.fc1.weight", torch.ones(())),
        "no pixels": ("patch_embed.proj.weight", torch.ones(32, 3, 0, 0)),
        "whole numbers": ("blocks.0.mlp.fc1.weight", torch.ones(128, 32, dtype=torch.int8)),
        "truths": ("blocks.0.mlp.fc1.weight", torch.ones(128, 32, dtype=torch.bool)),
        "complex": ("blocks.0.mlp.fc1.weight", torch.ones(128, 32, dtype=torch.complex64)),
        "sparse": ("blocks.0.mlp.fc1.weight", torch.ones(128, 32).to_sparse()),
        "far block": ("blocks.999999.norm1.weight", torch.ones(32)),
        "vast width": ("patch_embed.proj.weight", torch.ones(1).expand(2_000_000, 3, 8, 8)),
        "control": ("\x1b[31m\nall is well", torch.ones(1)),
    }


@pytest.mark.parametrize("what", odd_tensors())
def test_odd_tensors_are_one_line(tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    key, value = odd_tensors()[what]
    torch.save(ViT(encoder_config()).state_dict() | {key: value}, tmp_path / "a.pth")
    assert main(["convert", str(tmp_path / "a.pth"), str(tmp_path / "b.pth"), "--to", "timm", "--heads", "4"]) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "\x1b" not in said
    assert not (tmp_path / "b.pth").exists()


ODD_ABOUT = (
    {"seen": 3},
    {"seen": [{}]},
    {"origin": "x"},
    {"model": "vit"},
    {"model": "vit", "config": []},
    {"model": []},
)


@pytest.mark.parametrize("about", [*map(json.dumps, ODD_ABOUT), "[1]", "{", "[" * 100_000, "null"])
def test_odd_headers_are_one_line(tmp_path: Path, about: str) -> None:
    save_file(ViT(encoder_config(width=192, heads=3)).state_dict(), tmp_path / "a.safetensors", {"twoview": about})
    with pytest.raises(UnreadableError) as caught:
        read_checkpoint(tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)


ODD_CONFIGS = {"depth": 10**9}, {"heads": 0}, {"width": -4}, {"patch_px": 0}, {"mean": ["a"]}, {"std": [0, 1, 1]}, {"norm_eps": "x"}


@pytest.mark.parametrize("fields", ODD_CONFIGS)
def test_odd_configurations_are_one_line(tmp_path: Path, fields: dict) -> None:
    model = ViT(encoder_config())
    write_checkpoint(tmp_path / "a.safetensors", model)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        about = json.loads(file.metadata()["twoview"])
    about["config"] |= fields
    save_file(model.state_dict(), tmp_path / "a.safetensors", {"twoview": json.dumps(about)})
    with pytest.raises((UnreadableError, ConfigError)) as caught:
        read_checkpoint(tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)


ODD_JSON = "[1, 2]", "5", "null", '{"pretrained_cfg": null, "num_attention_heads": "many"}', '{"num_attention_heads": 1e999}'


@pytest.mark.parametrize("beside", ODD_JSON)
def test_odd_json_beside_is_one_line(tmp_path: Path, beside: str) -> None:
    save_file(ViT(encoder_config()).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(beside)
    with pytest.raises((UnreadableError, ConfigError)) as caught:
        read_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)
