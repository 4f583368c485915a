"""Synthetic models: random numbers in the shapes of a real one, with real trees of joints."""

from __future__ import annotations

import numpy as np
import pytest
import torch

SMPLX_PARENTS = [
    *[-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19],  # body
    *[15, 15, 15],  # jaw and eyes
    *[20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35, 20, 37, 38],  # left hand
    *[21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53],  # right hand
]


def on_grid(array: np.ndarray, step: float) -> np.ndarray:
    """Rounded to multiples of a power of two: sums of such numbers are exact even in float32."""
    return np.round(array / step) * step


def random_model(num_vertices: int, parents: list[int], num_coefficients: int, seed: int) -> dict[str, np.ndarray]:
    """Arrays as in an SMPL-X file; J_regressor and weights have four exact quarters in each row."""
    random = np.random.RandomState(seed)
    num_joints = len(parents)
    J_regressor = np.zeros((num_joints, num_vertices))
    weights = np.zeros((num_vertices, num_joints))
    for matrix in (J_regressor, weights):
        for row in matrix:
            for column in random.randint(len(row), size=4):  # may repeat
                row[column] += 0.25
    return {
        "v_template": on_grid(random.randn(num_vertices, 3), 2**-12),
        "shapedirs": on_grid(0.03 * random.randn(num_vertices, 3, num_coefficients), 2**-14),
        "posedirs": on_grid(0.01 * random.randn(num_vertices, 3, 9 * (num_joints - 1)), 2**-14),
        "J_regressor": J_regressor,
        "weights": weights,
        "kintree_table": np.array([parents, range(num_joints)]),
        "f": random.randint(num_vertices, size=(2 * num_vertices, 3)),
    }


def operands(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The model's tensors as the reference's `forward` names them."""
    posedirs = torch.from_numpy(arrays["posedirs"])  # [V, 3, 9 (J - 1)]
    return {
        "v_template": torch.from_numpy(arrays["v_template"]),
        "shapedirs": torch.from_numpy(arrays["shapedirs"]),
        "posedirs": posedirs.flatten(0, 1).T,
        "J_regressor": torch.from_numpy(arrays["J_regressor"]),
        "parents": torch.from_numpy(arrays["kintree_table"][0]),
        "lbs_weights": torch.from_numpy(arrays["weights"]),
    }


@pytest.fixture(scope="session")
def smplx_arrays() -> dict[str, np.ndarray]:
    """SMPL-X's tree with 300 betas and 100 expression directions, on 137 vertices."""
    arrays = random_model(137, SMPLX_PARENTS, 400, seed=0)
    random = np.random.RandomState(1)
    for side in "lr":
        arrays[f"hands_mean{side}"] = np.zeros(45)
        arrays[f"hands_components{side}"] = random.randn(45, 45)
    return arrays


@pytest.fixture
def small_model() -> dict[str, torch.Tensor]:
    """Four joints, two of them in a chain, three vertices, two coefficients: small enough for gradcheck."""
    return operands(random_model(3, [-1, 0, 1, 0], 2, seed=2))


@pytest.fixture(scope="session")
def smplx_model(smplx_arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return operands(smplx_arrays)
