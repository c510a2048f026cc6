"""The back end habitat, against a stand-in for habitat-sim: what it is asked, and what becomes of its answers."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from twoview.errors import UnreadableError
from twoview.render.camera import Camera, look
from twoview.render.habitat import Habitat


class Simulator:
    """Remembers its settings and the agent's state."""

    made: "list[Simulator]" = []  # noqa: RUF012

    def __init__(self, configuration: tuple) -> None:
        self.settings, (agent,) = configuration
        self.sensors = {sensor.uuid: sensor for sensor in agent.sensor_specifications}
        self.stage = json.loads(Path(self.settings.scene_id).read_text())
        if "broken" in self.stage["render_asset"]:
            raise RuntimeError("ESP_CHECK failed: no such asset\nmore")
        self.made.append(self)

    def get_agent(self, number: int) -> SimpleNamespace:
        assert number == 0
        return SimpleNamespace(set_state=lambda state: setattr(self, "state", state))

    def get_sensor_observations(self) -> dict[str, np.ndarray]:
        height, width = self.sensors["colour"].resolution
        return {"colour": np.full((height, width, 4), 7, np.uint8), "depth": np.full((height, width), 2.5)}


@pytest.fixture(autouse=True)
def habitat_sim(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("habitat_sim")
    module.__version__ = "0.3.3"
    module.Simulator, module.Configuration = Simulator, lambda settings, agents: (settings, agents)
    module.SimulatorConfiguration = module.CameraSensorSpec = module.AgentState = SimpleNamespace
    module.SensorType = SimpleNamespace(COLOR="colour", DEPTH="depth")
    module.agent = SimpleNamespace(AgentConfiguration=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "habitat_sim", module)
    Simulator.made.clear()


@pytest.mark.parametrize(("up", "axis"), [("y", [0, 1, 0]), ("z", [0, 0, 1])])
def test_what_it_asks_for(up: str, axis: list[int], tmp_path: Path) -> None:
    renderer = Habitat(tmp_path / "scene.glb", up)
    pose = look(np.array([1.0, 2.0, 3.0]), 90.0)
    seen = renderer.render(pose, Camera(width_px=32, height_px=24, hfov_deg=70))
    assert renderer.name == "habitat (0.3.3)"
    assert seen.image.shape == (24, 32, 3)
    assert seen.depth_m.dtype == np.float32
    assert seen.depth_m[0, 0] == 2.5
    (simulator,) = Simulator.made
    assert simulator.stage["up"] == axis
    assert simulator.stage["render_asset"] == str((tmp_path / "scene.glb").resolve())
    assert {(s.sensor_type, *s.resolution, s.hfov) for s in simulator.sensors.values()} == {
        ("colour", 24, 32, 70),
        ("depth", 24, 32, 70),
    }
    np.testing.assert_allclose(simulator.state.position, [1, 2, 3])
    half = np.sqrt(0.5)  # a quarter turn to the left around y
    np.testing.assert_allclose(np.abs(simulator.state.rotation), [0, half, 0, half], atol=1e-9)
    assert simulator.state.rotation[1] * simulator.state.rotation[3] > 0
    renderer.render(look(np.zeros(3), 0.0), Camera(width_px=32, height_px=24, hfov_deg=70))
    assert len(Simulator.made) == 1
    np.testing.assert_allclose(np.abs(simulator.state.rotation), [0, 0, 0, 1], atol=1e-9)


def test_what_it_cannot_open_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"broken.glb: habitat-sim cannot open it \(ESP_CHECK failed: no such asset\)$"):
        Habitat(tmp_path / "broken.glb", "y").render(np.eye(4), Camera())
