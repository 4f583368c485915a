"""Vertices with a name, for each published mesh: points of the face, the feet, and the finger tips."""

from __future__ import annotations

_FACE = ["nose", "reye", "leye", "rear", "lear"]
_FEET = ["LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel"]
_TIPS = ["thumb", "index", "middle", "ring", "pinky"]
_HANDS = [side + tip for side in "lr" for tip in _TIPS]

vertex_ids: dict[str, dict[str, int]] = {
    "smplh": {
        **dict(zip(_FACE, [332, 6260, 2800, 4071, 583], strict=True)),
        **dict(zip(_FEET, [3216, 3226, 3387, 6617, 6624, 6787], strict=True)),
        **dict(zip(_HANDS, [2746, 2319, 2445, 2556, 2673, 6191, 5782, 5905, 6016, 6133], strict=True)),
    },
    "smplx": {
        **dict(zip(_FACE, [9120, 9929, 9448, 616, 6], strict=True)),
        **dict(zip(_FEET, [5770, 5780, 8846, 8463, 8474, 8635], strict=True)),
        **dict(zip(_HANDS, [5361, 4933, 5058, 5169, 5286, 8079, 7669, 7794, 7905, 8022], strict=True)),
    },
    "mano": dict(zip(_TIPS, [744, 320, 443, 554, 671], strict=True)),
}
