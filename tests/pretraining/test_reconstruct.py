"""Reconstructions: pixels of a prediction, and the panel."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from models_made import encoder_config, masked_config, pictures, shaken

from twoview.cli import main
from twoview.errors import ConfigError
from twoview.pretraining.checkpoints import write_checkpoint
from twoview.pretraining.masked import MaskedModel
from twoview.pretraining.reconstruct import reconstruct
from twoview.pretraining.vit import ViT, patchify


def photo(seed: int, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    return pictures(1, size, seed)[0].permute(1, 2, 0).numpy()


class Knowing(MaskedModel):
    """Predicts the truth."""

    def predict(self, batch):
        _, mask = super().predict(batch)
        return self.targets(patchify(batch.a, 8))[0], mask


@pytest.mark.parametrize("normalised", [True, False])
def test_a_true_prediction_is_the_picture(normalised: bool) -> None:
    model = Knowing(masked_config(encoder=encoder_config(mean=(0.5, 0.4, 0.3)), normalised_targets=normalised))
    a = photo(0, (32, 48))
    done = reconstruct(model, a, photo(1, (32, 48)))
    np.testing.assert_array_equal(done.predicted, a)
    assert done.loss == 0


@pytest.mark.parametrize("second_view", [True, False])
def test_visible_patches_stay_and_hidden_ones_do_not_show(second_view: bool) -> None:
    model = shaken(MaskedModel(masked_config(second_view=second_view)))
    hidden = np.zeros(16, bool)
    hidden[[0, 5, 6]] = True
    a = photo(0)
    done = reconstruct(model, a, photo(1), hidden=hidden)
    pixels = np.repeat(np.repeat(hidden.reshape(4, 4), 8, 0), 8, 1)
    for picture in (done.hidden, done.given, done.predicted):
        np.testing.assert_array_equal(picture[~pixels], a[~pixels])
    grey = np.round(255 * np.array(model.config.encoder.mean))
    assert np.abs(done.hidden[pixels] - grey).max() <= 1
    assert len(np.unique(done.given[:8, :8].reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(done.predicted[:8, :8].reshape(-1, 3), axis=0)) > 1
    assert done.loss > 0


def test_sizes_must_agree() -> None:
    model = MaskedModel(masked_config())
    with pytest.raises(ConfigError, match="two pictures of one size, not 32 x 32 and 16 x 32 px"):
        reconstruct(model, photo(0), photo(1, (32, 16)))


def test_command(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = tmp_path / "a.safetensors", tmp_path / "panel.png"
    write_checkpoint(model, shaken(MaskedModel(masked_config())))
    names = [photos / f"{n}.jpg" for n in (1, 2, 3, 4)]

    def run(*words: object, of: Path = model, to: Path = out) -> int:
        return main(["reconstruct", str(of), *map(str, words), "--out", str(to)])

    assert run(*names) == 0
    assert capsys.readouterr().out.count("loss ") == 2
    assert cv2.imread(str(out)).shape[1] > 5 * 224
    assert run(*names[:2], "--size", 64, "--mask-ratio", 0.5) == 0
    assert cv2.imread(str(out)).shape[1] > 5 * 224
    for words, code, complaint in (
        (names[:3], 2, "takes pairs of pictures"),
        ((*names[:2], "--size", 60), 2, "60 x 60 px do not divide into patches of 8 px"),
        ((*names[:2], "--size", 0), 2, "from 16 to 4096 px"),
        ((*names[:2], "--seed", -1), 2, "--seed -1"),
        ((*names[:2], "--heads", 4), 2, "leave out --heads"),
        ((*names[:2], "--mask-ratio", 0.99), 2, "some must be hidden, some shown"),
        ((names[0], tmp_path / "none.jpg"), 3, "none.jpg"),
    ):
        assert run(*words) == code
        assert complaint in capsys.readouterr().err
    assert run(*names[:2], to=tmp_path / "panel.txt") == 2
    assert "--out" in capsys.readouterr().err
    torch.save(ViT(encoder_config()).state_dict(), tmp_path / "b.pth")
    assert run(*names[:2], "--heads", 4, of=tmp_path / "b.pth") == 2
    assert "without a decoder" in capsys.readouterr().err
