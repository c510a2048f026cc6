"""Converted checkpoints, and models beside those of Hugging Face with the same weights."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from models_made import batch, encoder_config, masked_config, pictures, shaken

from twoview.cli import main
from twoview.errors import ConfigError
from twoview.pretraining.checkpoints import Checkpoint, Origin, Seen, read_checkpoint
from twoview.pretraining.convert import FORMS, convert
from twoview.pretraining.masked import MaskedModel
from twoview.pretraining.vit import ViT

NAMES = {"timm": "a.safetensors", "huggingface": "folder", "multimae": "a.pth", "safetensors": "own.safetensors"}
SEEN = Seen(dataset="pairs@strict", fingerprint="0" * 64, num_pairs=7, licences={"CC-BY-4.0": 7})
ORIGIN = Origin(file="x.pth", sha256="1" * 64, form="mimic")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def test_huggingface_vit(tmp_path: Path) -> None:
    """What transformers makes of a converted model has its features, of pictures of two sizes; and the other way round."""
    for fields in ({}, {"positions": "learned", "norm_eps": 1e-4, "patch_px": 4, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}):
        model = shaken(ViT(encoder_config(**fields)))
        out = tmp_path / f"{len(fields)}"
        convert(Checkpoint(model=model, form="twoview"), "huggingface", out)
        theirs = transformers.ViTModel.from_pretrained(out, add_pooling_layer=False).eval()
        images = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(theirs(images).last_hidden_state, model(images))
        larger = torch.randn(2, 3, 48, 64)
        torch.testing.assert_close(theirs(larger, interpolate_pos_encoding=True).last_hidden_state, model(larger))
        theirs.save_pretrained(tmp_path / f"{len(fields)}-theirs")
        found = read_checkpoint(tmp_path / f"{len(fields)}-theirs")
        torch.testing.assert_close(found.encoder(images), model(images))
        torch.save(theirs.state_dict(), out / "pytorch_model.bin")  # names as in memory, which are others
        (out / "model.safetensors").unlink()
        torch.testing.assert_close(read_checkpoint(out).encoder(images), model(images))


def test_huggingface_preprocessing(tmp_path: Path) -> None:
    """Its reader of pictures, from the converted folder, gives what the model makes of uint8."""
    model = shaken(ViT(encoder_config(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))))
    convert(Checkpoint(model=model, form="twoview"), "huggingface", tmp_path / "out")
    about = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert (about["image_mean"], about["image_std"], about["size"]) == (
        [0.5, 0.4, 0.3],
        [0.2, 0.3, 0.4],
        {"height": 32, "width": 32},
    )
    images = pictures()
    mean, std = (torch.tensor(about[name]).view(1, 3, 1, 1) for name in ("image_mean", "image_std"))
    torch.testing.assert_close(model((images * about["rescale_factor"] - mean) / std), model(images))
    assert read_checkpoint(tmp_path / "out").encoder.config == model.config


@pytest.mark.parametrize("normalised", [True, False])
def test_huggingface_mae(tmp_path: Path, normalised: bool) -> None:
    """ViTMAE's loss and predictions, by its own weights, with the mask that its noise makes."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "image_size": 32}
    decoder = {f"decoder_{key}": value for key, value in sizes.items() if key != "image_size"}
    config = transformers.ViTMAEConfig(**sizes, **decoder, patch_size=8, norm_pix_loss=normalised)
    theirs = transformers.ViTMAEForPreTraining(config).eval()
    theirs.save_pretrained(tmp_path)
    found = read_checkpoint(tmp_path)
    assert isinstance(found.model, MaskedModel)
    assert found.model.config.normalised_targets == normalised
    assert found.encoder.config.norm_eps == config.layer_norm_eps == 1e-12
    images, noise = torch.randn(2, 3, 32, 32), torch.rand(2, 16)
    answer = theirs(images, noise=noise)
    given = batch(a=images, hidden=answer.mask.bool())
    torch.testing.assert_close(found.model(given)["loss"], answer.loss)
    torch.testing.assert_close(found.model.predict(given)[0], answer.logits)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("whole", [True, False], ids=["croco", "encoder"])
def test_there_and_back(tmp_path: Path, form: str, whole: bool) -> None:
    """Features are equal, and what the model has seen is not lost on the way, nor what its tensors do not tell."""
    encoder = encoder_config(positions="learned", heads=8)
    model = shaken(MaskedModel(masked_config(encoder=encoder)) if whole else ViT(encoder))
    done = convert(Checkpoint(model=model, form="x", origin=ORIGIN, seen=(SEEN,)), form, tmp_path / NAMES[form])
    assert done.difference <= 1e-5
    assert done.largest > 0.5
    back = read_checkpoint(tmp_path / NAMES[form])
    assert (back.seen, back.origin, back.left_out) == ((SEEN,), ORIGIN, ())
    assert back.form == ("twoview" if form == "safetensors" else form)
    assert isinstance(back.model, MaskedModel) == (whole and form == "safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAMES[form]]
    for again in FORMS:
        if form == "multimae" and again == "huggingface":
            continue  # no final norm
        other = tmp_path / "again" / NAMES[again]
        other.parent.mkdir(exist_ok=True)
        convert(back, again, other)


def test_multimae_names_and_shapes(tmp_path: Path) -> None:
    model = shaken(ViT(encoder_config(positions="learned", depth=1)))
    done = convert(Checkpoint(model=model, form="x"), "multimae", tmp_path / "a.pth")
    assert any("final norm" in note for note in done.notes)
    tensors = torch.load(tmp_path / "a.pth")["model"]
    block = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    names = ("input_adapters.rgb.proj", *(f"encoder.0.{name}" for name in block))
    expected = {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}
    assert tensors.keys() == expected | {"input_adapters.rgb.pos_emb", "global_tokens"}
    assert tensors["input_adapters.rgb.pos_emb"].shape == (1, 32, 4, 4)
    torch.testing.assert_close(tensors["global_tokens"], model.cls_token + model.pos_embed[:, :1])
    torch.testing.assert_close(tensors["input_adapters.rgb.pos_emb"][0, :, 1, 2], model.pos_embed[0, 1 + 4 + 2])


def test_forms_that_cannot_hold_a_model(tmp_path: Path) -> None:
    rotary = Checkpoint(model=ViT(encoder_config(positions="rotary")), form="x")
    for form in ("timm", "huggingface", "multimae"):
        with pytest.raises(ConfigError, match=r"rotary positions of this model: --to safetensors can hold it"):
            convert(rotary, form, tmp_path / NAMES[form])
    convert(rotary, "safetensors", tmp_path / NAMES["safetensors"])
    bare = Checkpoint(model=ViT(encoder_config(class_token=False)), form="x")
    with pytest.raises(ConfigError, match="always has a class token"):
        convert(bare, "huggingface", tmp_path / "folder")
    for form in ("timm", "multimae"):
        assert any("no class token" in note for note in convert(bare, form, tmp_path / NAMES[form]).notes)
    with pytest.raises(ConfigError, match="there already"):
        convert(bare, "timm", tmp_path / NAMES["timm"])
    for form, name in (("timm", "b.npz"), ("multimae", "b.safetensors"), ("safetensors", "b.pth")):
        with pytest.raises(ConfigError, match="give a name that ends in"):
            convert(bare, form, tmp_path / name)
    with pytest.raises(ConfigError, match="there is no folder"):
        convert(bare, "timm", tmp_path / "nowhere" / "a.pth")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES[form] for form in ("timm", "multimae", "safetensors"))


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    model = ViT(encoder_config()).train()
    convert(Checkpoint(model=model, form="x"), "timm", tmp_path / "a.pth")
    assert model.training
    with torch.no_grad():
        model.norm.weight[0] = torch.nan
    with pytest.raises(ConfigError, match="no numbers"):
        convert(Checkpoint(model=model, form="x"), "timm", tmp_path / "b.pth")
    assert not (tmp_path / "b.pth").exists()


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": ViT(encoder_config()).state_dict(), "epoch": 3}, tmp_path / "a.pth")
    out = tmp_path / "folder"
    assert main(["convert", str(tmp_path / "a.pth"), str(out), "--to", "huggingface"]) == 2
    assert "give --heads" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "a.pth"), str(out), "--to", "huggingface", "--heads", "4"]) == 0
    said = capsys.readouterr().out
    assert "timm: ViT, width 32, depth 2, 4 heads, patches of 8 px, sincos positions, a class token" in said
    assert "left out: epoch" in said
    assert "features differ by 0.0e+00 at most" in said
    assert main(["convert", str(tmp_path / "none.pth"), str(out), "--to", "timm"]) == 3
    assert main(["convert", str(out), str(tmp_path / "b.pth"), "--to", "tim"]) == 2
