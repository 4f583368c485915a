"""A body inside DistributedDataParallel: two processes on the CPU, or one for each of two GPUs."""

from __future__ import annotations

import os
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import avatorch


class Regressor(torch.nn.Module):
    """From joints to a pose, through the body."""

    def __init__(self) -> None:
        super().__init__()
        self.body = avatorch.open_body()
        self.layer = torch.nn.Linear(6, 3 * self.body.num_joints)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(pose=self.layer(x)).joints


def step(rank: int, port: int, backend: str, results: torch.Tensor) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group(backend, rank=rank, world_size=2)
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    torch.manual_seed(1)
    model = Regressor().to(device)
    wrapped = torch.nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    inputs = torch.linspace(-1, 1, 24).reshape(4, 6)[2 * rank : 2 * rank + 2].to(device)
    wrapped(inputs).square().mean().backward()
    results[rank] = model.layer.weight.grad.cpu()
    dist.destroy_process_group()


@pytest.mark.parametrize(
    "backend",
    [
        "gloo",
        pytest.param(
            "nccl",
            marks=[pytest.mark.cuda, pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")],
        ),
    ],
)
def test_gradients_are_averaged(backend: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = torch.zeros(2, 312, 6).share_memory_()
    mp.spawn(step, (port, backend, results), nprocs=2)
    torch.manual_seed(1)
    model = Regressor()
    model(torch.linspace(-1, 1, 24).reshape(4, 6)).square().mean().backward()
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(results[0], model.layer.weight.grad, rtol=1e-4, atol=1e-6)
