"""Engine `basic`: a classical swap with freely licensed models. Importing this loads OpenCV."""

from eacps.faces.basic.engine import BasicEngine

__all__ = ["BasicEngine"]
