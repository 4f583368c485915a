"""SMPL-X as a careful expert writes it in plain PyTorch: what the operator must beat, and readable.

The joint regressor is folded into the shape directions, the chain runs level by level, each vertex has its few weights,
and the pose directions are padded to sizes that matrix products like. Meant for `torch.compile`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ALIGNMENT = 64


class ExpertBody(nn.Module):
    """From the tensors of one model."""

    levels: list[tuple[Tensor, Tensor]]  # joints and their parents, from the root's children outwards

    def __init__(
        self,
        v_template: Tensor,  # [V, 3]
        shapedirs: Tensor,  # [V, 3, C]
        posedirs: Tensor,  # [9 (J - 1), 3 V]
        J_regressor: Tensor,  # [J, V]
        parents: Tensor,  # [J]
        lbs_weights: Tensor,  # [V, J]
    ) -> None:
        super().__init__()
        self.vertices, self.joints = lbs_weights.shape
        self.features = len(posedirs)
        directions = shapedirs.flatten(0, 1).T  # [C, 3 V]
        joint_dirs = torch.einsum("jv,vxc->cjx", J_regressor.double(), shapedirs.double()).flatten(1)  # [C, 3 J]
        self.shape_base = nn.Buffer(torch.cat([v_template.flatten(), (J_regressor @ v_template).flatten()]))
        self.shape_dirs = nn.Buffer(torch.cat([directions, joint_dirs.to(v_template.dtype)], 1))  # [C, 3 (V + J)]
        rows, columns = (-(-size // ALIGNMENT) * ALIGNMENT for size in posedirs.shape)
        self.pose_dirs = nn.Buffer(posedirs.new_zeros(rows, columns))
        self.pose_dirs[: self.features, : 3 * self.vertices] = posedirs
        influences = int((lbs_weights != 0).sum(1).max())
        weights, order = lbs_weights.topk(influences, 1)
        self.weights, self.influences = nn.Buffer(weights), nn.Buffer(order)  # [V, K]
        depth = [0] * self.joints
        for joint in range(1, self.joints):
            depth[joint] = depth[int(parents[joint])] + 1
        self.levels = []
        for level in range(1, max(depth) + 1):
            of_level = torch.tensor([j for j in range(self.joints) if depth[j] == level], device=parents.device)
            self.levels.append((of_level, parents[of_level]))
        by_level = torch.cat([parents.new_zeros(1), *(of_level for of_level, _ in self.levels)])
        self.place = nn.Buffer(by_level.argsort())  # of each joint among the levels
        self.parent_place = [self.place[of_parents] for _, of_parents in self.levels]

    def forward(self, shape_coefficients: Tensor, pose: Tensor, transl: Tensor) -> Tensor:
        """[B, C], [B, 3 J], [B, 3] -> vertices [B, V, 3]"""
        batch = len(pose)
        shaped = torch.addmm(self.shape_base, shape_coefficients, self.shape_dirs).view(batch, -1, 3)
        v_shaped, at_rest = shaped[:, : self.vertices], shaped[:, self.vertices :]
        rotations = rodrigues(pose.view(batch, self.joints, 3))  # [B, J, 3, 3]
        features = (rotations[:, 1:] - torch.eye(3, device=pose.device, dtype=pose.dtype)).flatten(1)
        features = nn.functional.pad(features, (0, len(self.pose_dirs) - self.features))
        correctives = (features @ self.pose_dirs)[:, : 3 * self.vertices].view(batch, -1, 3)
        turns, places = [rotations[:, :1]], [at_rest[:, :1]]  # of the chain, level after level
        for (joints, parents), found in zip(self.levels, self.parent_place, strict=True):
            turned, placed = torch.cat(turns, 1)[:, found], torch.cat(places, 1)[:, found]
            bones = (at_rest[:, joints] - at_rest[:, parents]).unsqueeze(-1)
            turns.append(turned @ rotations[:, joints])
            places.append(placed + (turned @ bones).squeeze(-1))
        turned, placed = torch.cat(turns, 1)[:, self.place], torch.cat(places, 1)[:, self.place]
        shift = placed - (turned @ at_rest.unsqueeze(-1)).squeeze(-1)
        moves = torch.cat([turned, shift.unsqueeze(-1)], -1).flatten(2)  # [B, J, 12]
        blended = (moves[:, self.influences] * self.weights.unsqueeze(-1)).sum(2).unflatten(-1, (3, 4))  # [B, V, 3, 4]
        posed = (v_shaped + correctives).unsqueeze(-2)
        # Not as a product of small matrices: this way a compiler fuses it with the sum over the weights.
        return (blended[..., :3] * posed).sum(-1) + blended[..., 3] + transl.unsqueeze(1)


def rodrigues(rotvecs: Tensor) -> Tensor:
    """[..., 3] -> [..., 3, 3]"""
    angle = (rotvecs.square().sum(-1, keepdim=True) + 1e-16).sqrt()
    x, y, z = (rotvecs / angle).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    sine, cosine = angle.sin().unsqueeze(-1), angle.cos().unsqueeze(-1)
    identity = torch.eye(3, device=rotvecs.device, dtype=rotvecs.dtype)
    return identity + sine * cross + (1 - cosine) * (cross @ cross)
