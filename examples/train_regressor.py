"""Trains a small network from 2D joints to a pose, through the body: no pose is ever shown, only pictures of joints.

python examples/train_regressor.py [--steps 400] [--batch 256] [--compile]
torchrun --nproc-per-node 2 examples/train_regressor.py        (DistributedDataParallel)
"""

from __future__ import annotations

import argparse
import os

import torch
import torch.distributed as dist
from torch import Tensor, nn

import avatorch
from avatorch import fit


class Regressor(nn.Module):
    """Keypoints [B, 2 J] of one view to a pose [B, 3 J], and through the body to keypoints again."""

    def __init__(self, body: avatorch.Body, camera: fit.Camera) -> None:
        super().__init__()
        self.body, self.camera = body, camera
        size = body.num_joints
        self.network = nn.Sequential(nn.Linear(2 * size, 256), nn.GELU(), nn.Linear(256, 3 * size))
        nn.init.zeros_(self.network[-1].weight)

    def forward(self, keypoints: Tensor) -> Tensor:
        pose = 0.3 * self.network(keypoints)
        joints = self.body(pose=pose.float(), intermediates=False).joints
        return normalised(self.camera.project(joints))


def normalised(pixels: Tensor) -> Tensor:
    """[B, 1, J, 2] -> [B, 2 J], about -1 to 1"""
    return (pixels.flatten(1) - 250) / 250


def main() -> None:
    """Prints the error in pixels while it falls."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=256, help="of each process")
    parser.add_argument("--compile", action="store_true")
    given = parser.parse_args()
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    if world > 1:
        dist.init_process_group("nccl" if cuda else "gloo")
    torch.manual_seed(0)  # the same network in every process
    body = avatorch.open_body().subset([0]).to(device)  # a skeleton, and one vertex for the operator
    like = body.v_template
    camera = fit.Camera.looking_at(torch.tensor([[0.0, 0.2, 3.0]]), torch.zeros(3), 600.0, (500, 500)).to(like)
    model: nn.Module = Regressor(body, camera).to(device)
    if world > 1:
        model = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    step = torch.compile(model) if given.compile else model
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    torch.manual_seed(1 + rank)  # other people in every process
    for number in range(given.steps):
        with torch.no_grad():
            poses = (0.2 * torch.randn(given.batch, 3 * body.num_joints)).to(like)
            keypoints = normalised(camera.project(body(pose=poses).joints))
        with torch.autocast(device.type, torch.bfloat16):
            predicted = step(keypoints)
        loss = (predicted.float() - keypoints).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if rank == 0 and (number % 50 == 0 or number == given.steps - 1):
            print(f"step {number:4}   {250 * loss.item():6.2f} pixels", flush=True)
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
