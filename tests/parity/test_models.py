"""The models beside answers of the published ones: loss, predictions, gradient norms, the encoder's tokens."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from twoview.pretraining.checkpoints import read_checkpoint
from twoview.pretraining.data import Batch
from twoview.pretraining.masked import MaskedModel
from twoview.pretraining.published import Hints, understand

FOLDER = Path(__file__).parents[3] / "shared" / "parity" / "models"
FIXTURES = {"mimic_croco": "mimic", "mae": "mae", "croco_v1": "croco", "croco_v2": "croco"}
"""And the form that its tensors' names are of."""

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason=f"{FOLDER} is absent: answers of the published models")


def fixture(name: str) -> tuple[dict[str, torch.Tensor], MaskedModel, Batch]:
    known = load_file(FOLDER / f"{name}.safetensors")
    sizes = json.loads((FOLDER / "config.json").read_text())
    hints = Hints(heads=sizes["encoder_heads"], decoder_heads=sizes["decoder_heads"], rotary_image_px=sizes["img_size"])
    found = understand({key.removeprefix("state."): v for key, v in known.items() if key.startswith("state.")}, hints)
    assert found.form == FIXTURES[name]
    assert not found.left_out
    assert isinstance(found.model, MaskedModel)
    hidden = known["in.mask"].bool()
    batch = Batch(a=known["in.view1"], b=known.get("in.view2"), hidden=hidden, seeds=torch.arange(len(hidden)))
    return known, found.model, batch


@pytest.mark.parametrize("name", FIXTURES)
def test_fixture(name: str) -> None:
    """Loss, all predictions and the encoder's tokens to 1e-5; gradient norms, where the fixture has them, to 1e-4 of themselves."""
    known, model, batch = fixture(name)
    model.train()
    loss = model(batch)["loss"]
    loss.backward()
    torch.testing.assert_close(loss.detach().reshape(1), known["out.loss"], rtol=0, atol=1e-5)
    torch.testing.assert_close(model.predict(batch)[0].detach(), known["out.pred"], rtol=0, atol=1e-5)
    if "out.encoder_view2" in known:
        torch.testing.assert_close(model.encoder(batch.b).detach(), known["out.encoder_view2"], rtol=0, atol=1e-5)
    expected = {key.removeprefix("grad_norm."): float(value) for key, value in known.items() if key.startswith("grad_norm.")}
    assert bool(expected) == (name == "mimic_croco")
    if expected:
        norms = {key: float(parameter.grad.norm()) for key, parameter in by_published_name(model).items()}
        assert norms == pytest.approx(expected, rel=1e-4, abs=1e-8)  # keys' biases have a gradient of zero, but for rounding


def by_published_name(model: MaskedModel) -> dict[str, torch.nn.Parameter]:
    decoder = {"embed.": "decoder_embed.", "blocks.": "decoder_blocks_croco.", "norm.": "decoder_norm.", "head.": "decoder_pred."}
    names = {}
    for key, parameter in model.decoder.named_parameters():
        part = next((part for part in decoder if key.startswith(part)), "")
        names[decoder.get(part, "") + key.removeprefix(part)] = parameter
    return dict(model.encoder.named_parameters()) | names


@pytest.mark.parametrize("name", FIXTURES)
def test_number_of_hidden_patches_is_the_published_one(name: str) -> None:
    _, model, batch = fixture(name)
    assert batch.hidden is not None
    drawn = Batch(a=batch.a, b=batch.b, seeds=batch.seeds)
    assert model.split(drawn)[1].shape[1] == int(batch.hidden[0].sum())


def test_published_checkpoint_form() -> None:
    """model, optimizer, epoch, scaler and a Namespace of options in one pickle, whose options lie about the model's size."""
    found = read_checkpoint(FOLDER / "mimic_croco_checkpoint.pth", heads=4, decoder_heads=4)
    _, model, batch = fixture("mimic_croco")
    assert found.form == "mimic"
    assert found.left_out == ("optimizer", "epoch", "scaler")
    assert isinstance(found.model, MaskedModel)
    assert found.model.config == model.config
    torch.testing.assert_close(found.model(batch)["loss"], model(batch)["loss"])
