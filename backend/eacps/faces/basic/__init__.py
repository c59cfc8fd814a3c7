"""Engine `basic`: a classical swap with freely licensed models. Importing it loads OpenCV."""

from eacps.faces.basic.engine import BasicEngine

__all__ = ["BasicEngine"]
