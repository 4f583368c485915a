"""What pages that show a mesh have in common."""

from importlib.resources import files


def mesh_view() -> str:
    """The class MeshView in JavaScript, to be put into a page: it needs nothing but WebGL."""
    return files("avatorch.export").joinpath("mesh_view.js").read_text(encoding="utf-8")
