"""Renders with habitat-sim, where somebody has installed it: the published pictures came from it."""

import json
import shutil
import tempfile
import weakref
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from ..errors import ConfigError, UnreadableError
from .camera import Camera, Rendering


class Habitat:
    """Pictures of a scene file as habitat-sim draws them. It reads the file itself; a .ply works as it does there."""

    def __init__(self, path: Path, up: Literal["y", "z"]) -> None:
        """Raises ConfigError where habitat-sim is not installed."""
        try:
            import habitat_sim
        except ImportError:
            raise ConfigError(
                "the back end habitat needs habitat-sim, which is not on PyPI: conda install -c aihabitat -c conda-forge "
                "habitat-sim headless, or leave the choice of the back end to twoview"
            ) from None
        self._sim: Any = habitat_sim
        self.name = f"habitat ({habitat_sim.__version__})"
        folder = tempfile.mkdtemp(prefix="twoview-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        front = {"y": [0, 0, -1], "z": [0, 1, 0]}[up]
        stage = {"render_asset": str(path.resolve()), "up": {"y": [0, 1, 0], "z": [0, 0, 1]}[up], "front": front}
        self._stage = Path(folder, "scene.stage_config.json")
        self._stage.write_text(json.dumps(stage))
        self._path = path
        self._simulator = lru_cache(maxsize=1)(self._make_simulator)

    def render(self, pose: Float64[np.ndarray, "4 4"], camera: Camera, /) -> Rendering:
        """See camera.Renderer."""
        from scipy.spatial.transform import Rotation

        simulator = self._simulator(camera)
        state = self._sim.AgentState()
        state.position = pose[:3, 3].astype(np.float32)
        state.rotation = Rotation.from_matrix(pose[:3, :3] * [1, -1, -1]).as_quat()  # x y z w, of OpenGL's axes
        simulator.get_agent(0).set_state(state)
        seen = simulator.get_sensor_observations()
        return Rendering(image=np.ascontiguousarray(seen["colour"][..., :3]), depth_m=np.asarray(seen["depth"], np.float32))

    def _make_simulator(self, camera: Camera) -> Any:
        sim = self._sim
        settings = sim.SimulatorConfiguration()
        settings.scene_id, settings.enable_physics = str(self._stage), False
        settings.gpu_device_id = 0 if Path("/dev/nvidia0").exists() else -1  # asked for one that is not there it ends the process
        sensors = []
        for name, kind in (("colour", sim.SensorType.COLOR), ("depth", sim.SensorType.DEPTH)):
            sensor = sim.CameraSensorSpec()
            sensor.uuid, sensor.sensor_type, sensor.hfov = name, kind, camera.hfov_deg
            sensor.resolution, sensor.position = [camera.height_px, camera.width_px], [0.0, 0.0, 0.0]
            sensors.append(sensor)
        agent = sim.agent.AgentConfiguration(sensor_specifications=sensors)
        try:
            return sim.Simulator(sim.Configuration(settings, [agent]))
        except Exception as error:
            raise UnreadableError(f"{self._path}: habitat-sim cannot open it ({str(error).splitlines()[0]})") from None
