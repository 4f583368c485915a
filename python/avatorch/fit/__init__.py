"""Fitting: body parameters from joints, markers, meshes, scans, pictures and expressions.

import avatorch
from avatorch import fit

body = avatorch.open_body()
problem = fit.Problem(body, [fit.Vertices(markers, seen), fit.Values("betas")], frames=len(markers))
found = fit.solve(problem)
posed = body(**found.values)

A problem is a sum of terms over unknowns. `LevenbergMarquardt` solves many frames at once in tens of steps;
`FirstOrder` takes any optimiser of torch.
"""

from __future__ import annotations

from avatorch.fit.cameras import Camera, Keypoints
from avatorch.fit.cloud import PointCloud
from avatorch.fit.first_order import FirstOrder
from avatorch.fit.initial import first_guess
from avatorch.fit.levenberg_marquardt import LevenbergMarquardt
from avatorch.fit.parameter_files import save_parameters
from avatorch.fit.priors import Limits, Smooth, Values, joint_limits, usual_priors
from avatorch.fit.problem import Problem
from avatorch.fit.robust import Kernel, cauchy, geman_mcclure, huber
from avatorch.fit.schedule import Stage, default_schedule
from avatorch.fit.solve import Fit, Solver, solve
from avatorch.fit.targets import Joints, Landmarks, Vertices
from avatorch.fit.terms import Residuals, Term
from avatorch.fit.unknowns import Unknowns

__all__ = [
    "Camera",
    "FirstOrder",
    "Fit",
    "Joints",
    "Kernel",
    "Keypoints",
    "Landmarks",
    "LevenbergMarquardt",
    "Limits",
    "PointCloud",
    "Problem",
    "Residuals",
    "Smooth",
    "Solver",
    "Stage",
    "Term",
    "Unknowns",
    "Values",
    "Vertices",
    "cauchy",
    "default_schedule",
    "first_guess",
    "geman_mcclure",
    "huber",
    "joint_limits",
    "save_parameters",
    "solve",
    "usual_priors",
]
