"""Checks first and second derivatives of a model file of yours against finite differences.

python examples/gradcheck_your_rig.py [model file] [--vertices 20]
"""

from __future__ import annotations

import argparse
import sys

import torch
from torch import Tensor

import avatorch


def main() -> int:
    """Prints a line for each argument; 1 if a derivative is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a model file; default: the open body")
    parser.add_argument(
        "--vertices", type=int, default=20, help="how many, chosen at random: finite differences are slow"
    )
    given = parser.parse_args()
    torch.manual_seed(0)
    whole = avatorch.Body.load(given.model, dtype=torch.double) if given.model else avatorch.open_body(torch.double)
    body = whole.subset(torch.randperm(len(whole.v_template))[: given.vertices])
    sizes = {"betas": body.num_betas, "expression": body.num_expressions, "pose": 3 * body.num_joints, "transl": 3}
    arguments = {name: 0.3 * torch.randn(1, size, dtype=torch.double) for name, size in sizes.items() if size}
    arguments["pose"][:, :6] = 0  # where formulas with a square root fail

    wrong = 0
    for name in arguments:

        def posed(argument: Tensor, name: str = name) -> tuple[Tensor, Tensor]:
            result = body(**{**arguments, name: argument})
            return result.vertices, result.joints

        value = arguments[name].clone().requires_grad_()
        for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
            right = check(posed, value, fast_mode=True, raise_exception=False)
            print(f"{check.__name__:15} {name:11} {'right' if right else 'WRONG'}")
            wrong += not right
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
