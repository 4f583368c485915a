"""A folder of small synthetic models as smplx expects them, and random arguments for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model import synthetic

VERTICES, FACES = 120, 90
FAMILIES = ["smpl", "smplh", "smplx", "mano", "flame"]
PARTS = {
    "smpl": {"global_orient": 1, "body_pose": 23},
    "smplh": {"global_orient": 1, "body_pose": 21, "left_hand_pose": 15, "right_hand_pose": 15},
    "smplx": {
        "global_orient": 1, "body_pose": 21, "jaw_pose": 1, "leye_pose": 1, "reye_pose": 1,
        "left_hand_pose": 15, "right_hand_pose": 15,
    },
    "mano": {"global_orient": 1, "hand_pose": 15},
    "flame": {"global_orient": 1, "neck_pose": 1, "jaw_pose": 1, "leye_pose": 1, "reye_pose": 1},
}  # fmt: skip


def write(folder: Path) -> Path:
    """All five families, a kid's template, and both endings where there are two."""
    sizes = {"vertices": VERTICES, "faces": FACES}
    for family in FAMILIES:
        (folder / family).mkdir()
    synthetic.save_pkl(folder / "smpl/SMPL_NEUTRAL.pkl", synthetic.smpl(**sizes, columns=300))
    synthetic.save_pkl(folder / "smpl/SMPL_MALE.pkl", synthetic.smpl(**sizes, columns=10, seed=5))
    synthetic.save_pkl(folder / "smplh/SMPLH_NEUTRAL.pkl", synthetic.smplh(**sizes))
    synthetic.save_npz(folder / "smplx/SMPLX_NEUTRAL.npz", synthetic.smplx(**sizes))
    synthetic.save_npz(folder / "smplx/SMPLX_MALE.npz", synthetic.smplx(**sizes, columns=20, seed=5))
    synthetic.save_pkl(folder / "mano/MANO_RIGHT.pkl", synthetic.mano(**sizes))
    synthetic.save_pkl(folder / "mano/MANO_LEFT.pkl", synthetic.mano(**sizes, seed=5))
    synthetic.save_pkl(folder / "flame/FLAME_NEUTRAL.pkl", synthetic.flame(**sizes))
    static, dynamic = synthetic.flame_landmarks(FACES)
    synthetic.save_pkl(folder / "flame/flame_static_embedding.pkl", static)
    np.save(folder / "flame/flame_dynamic_embedding.npy", np.array(dynamic, dtype=object), allow_pickle=True)
    np.save(folder / "kid.npy", synthetic.smpl(vertices=VERTICES, faces=1, seed=9)["v_template"])
    return folder


def shrink(vertex_ids: dict[str, dict[str, int]]) -> None:
    """Lets the named vertices be some of the few that these models have."""
    for family, ids in vertex_ids.items():
        vertex_ids[family].update({name: (7 * i + 3) % VERTICES for i, name in enumerate(sorted(ids))})


def arguments(
    family: str,
    batch: int = 3,
    *,
    dtype: torch.dtype = torch.double,
    hand: int = 6,
    betas: int = 10,
    matrices: bool = False,
    seed: int = 2,
    size: float = 0.25,
) -> dict[str, Tensor]:
    """One of every argument; hand poses of `hand` numbers."""
    g = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.double)

    given = {"betas": random(batch, betas), "transl": random(batch, 3)}
    if family in ("smplx", "flame"):
        given["expression"] = random(batch, 10)
    for name, joints in PARTS[family].items():
        if matrices:
            given[name] = torch.linalg.qr(random(batch, joints, 3, 3))[0]
        else:
            is_hand = name.endswith("hand_pose")  # whose components are large
            given[name] = size / (5 if is_hand else 1) * random(batch, hand if is_hand else 3 * joints)
    return {name: value.to(dtype) for name, value in given.items()}
