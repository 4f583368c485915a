"""Speech in, the weights of a face out."""

from avatorch.face.bundle import Bundle, read_bundle
from avatorch.face.errors import FaceError

__all__ = ["Bundle", "FaceError", "read_bundle"]
