"""What the joints of the published models are called, in the order of their files."""

from __future__ import annotations

BODY = [
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
]  # fmt: skip
FINGERS = [f"{finger}{knuckle}" for finger in ("index", "middle", "pinky", "ring", "thumb") for knuckle in (1, 2, 3)]
HANDS = [f"{side}_{name}" for side in ("left", "right") for name in FINGERS]

SMPL = [*BODY, "left_hand", "right_hand"]
SMPLH = [*BODY, *HANDS]
SMPLX = [*BODY, "jaw", "left_eye_smplhf", "right_eye_smplhf", *HANDS]
MANO = ["wrist", *FINGERS]
FLAME = ["root", "neck", "jaw", "left_eye", "right_eye"]

OF_FAMILY = {"smpl": SMPL, "smplh": SMPLH, "smplx": SMPLX, "mano": MANO, "flame": FLAME}
