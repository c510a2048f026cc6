"""Which renderer draws a scene: OpenGL where it can be had, else rays; habitat-sim where it is asked for."""

import logging
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ..errors import ConfigError
from .camera import Renderer
from .gl import Gl
from .habitat import Habitat
from .load import UP_OF, Up
from .mesh import Mesh
from .ray import Ray

Backend = Literal["auto", "gl", "ray", "habitat"]
_log = logging.getLogger("twoview")


def open_renderer(mesh: Mesh, path: Path, up: Up | None, backend: Backend = "auto") -> Renderer:
    """What renders a scene. path and up: what the mesh was read from, as habitat-sim reads it itself.

    `auto` takes gl, and where there is no OpenGL ray, with a note in the log. Raises ConfigError for one that cannot be had.
    """
    if backend == "habitat":
        return Habitat(path, up or UP_OF[path.suffix.lower()])
    if backend != "auto":
        return (Gl if backend == "gl" else Ray)(mesh)
    try:
        return Gl(mesh)
    except ConfigError as missing:
        try:
            renderer = Ray(mesh)
        except ConfigError as also:
            raise ConfigError(f"nothing here can render: {missing}; {also}") from None
        _note(f"rendering by rays, which is slower: {missing}")
        return renderer


@lru_cache(maxsize=8)
def _note(words: str) -> None:
    """Said once a process."""
    _log.warning(words)
