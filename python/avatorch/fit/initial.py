"""A first guess from the targets: where a body stands and how it is turned; of a whole mesh, how each part is."""

from __future__ import annotations

import torch
from torch import Tensor

from avatorch.body import Body
from avatorch.fit.cameras import Camera, Keypoints
from avatorch.fit.cloud import PointCloud
from avatorch.fit.jacobian import subtrees
from avatorch.fit.problem import Problem
from avatorch.fit.targets import Joints, Landmarks, Points, Vertices

SQUARINGS = 12  # of a matrix whose largest eigenvector is wanted
UNSURE = 1e-4  # square metres: below it, a part follows its parent


@torch.no_grad()
def first_guess(problem: Problem) -> dict[str, Tensor]:
    """Starts of pose and transl, as far as targets say."""
    problem.bind()
    body, at_rest = problem.body, problem.body()
    for term in problem.terms:
        if not isinstance(term, Vertices) or "pose" not in problem.unknowns.slices:
            continue
        if term.chosen is None and len(term.target) == problem.frames:
            trusted = torch.ones_like(term.target[..., 0]) if term.confidence is None else term.confidence
            return part_by_part(body, term.target, trusted.expand(problem.frames, -1))
    seen, known, confidence = [], [], []
    for term in problem.terms:
        if isinstance(term, (Joints, Landmarks, Vertices)):
            places, target = _at_rest(term.points, at_rest.joints, at_rest.vertices), term.target
            trust = torch.ones_like(target[..., 0]) if term.confidence is None else term.confidence
        elif isinstance(term, Keypoints) and term.views > 1:
            places = _at_rest(term.points, at_rest.joints, at_rest.vertices)
            target, trust = triangulated(term)
        else:
            continue
        seen.append(target.expand(problem.frames, -1, -1))
        known.append(places.expand(problem.frames, -1, -1))
        confidence.append(trust.expand(problem.frames, -1))
    if seen:
        return _rigid(body, torch.cat(known, 1), torch.cat(seen, 1), torch.cat(confidence, 1))
    for term in problem.terms:
        if isinstance(term, PointCloud):
            trust = torch.ones_like(term.target[..., 0]) if term.confidence is None else term.confidence
            total = trust.sum(1, keepdim=True)
            middle = (trust[..., None] * term.target).sum(1) / total.clamp_min(1e-9)
            return {"transl": torch.where(total > 0, middle - at_rest.vertices.mean(1), 0)}
        if isinstance(term, Keypoints):
            return {"transl": _before_camera(term, _at_rest(term.points, at_rest.joints, at_rest.vertices))}
    return {}


def _at_rest(points: Points, joints: Tensor, vertices: Tensor) -> Tensor:
    """[1, N, 3]"""
    if points.joints is not None:
        return joints[:, points.joints]
    assert points.corners is not None and points.shares is not None
    return (vertices[:, points.corners[0]] * points.shares[0, ..., None]).sum(2)


def _rigid(body: Body, known: Tensor, seen: Tensor, confidence: Tensor) -> dict[str, Tensor]:
    """The root's rotation and the translation that bring `known` [B, N, 3] onto `seen`."""
    total = confidence.sum(1).clamp_min(1e-9)[:, None]
    middle = (confidence[..., None] * known).sum(1) / total
    target = (confidence[..., None] * seen).sum(1) / total
    spread = (confidence[..., None] * (known - middle[:, None])).mT @ (seen - target[:, None])
    rotation = best_rotation(spread + 1e-6 * torch.eye(3).to(spread))
    root = body().J_shaped[:, 0]  # the body turns about it
    pose = known.new_zeros(len(known), body.num_joints, 3)
    pose[:, 0] = torch.ops.smplx.matrix_to_rotvec(rotation)
    transl = target - root - (rotation @ (middle - root)[..., None])[..., 0]
    return {"pose": pose.flatten(1), "transl": transl}


def best_rotation(spread: Tensor) -> Tensor:
    """The rotation R that turns a into b best, from the sum of a b^T: [..., 3, 3] -> [..., 3, 3]

    Horn: its quaternion is the largest eigenvector of a symmetric 4 x 4 matrix, here by repeated squaring.
    """
    s = spread / spread.flatten(-2).norm(dim=-1).clamp_min(1e-20)[..., None, None]
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in s.unbind(-2))
    matrix = torch.stack(
        [
            xx + yy + zz, yz - zy, zx - xz, xy - yx,
            yz - zy, xx - yy - zz, xy + yx, zx + xz,
            zx - xz, xy + yx, yy - xx - zz, yz + zy,
            xy - yx, zx + xz, yz + zy, zz - xx - yy,
        ],
        -1,
    ).unflatten(-1, (4, 4))  # fmt: skip
    matrix = matrix + 2 * torch.eye(4).to(matrix)  # its eigenvalues are positive then
    for _ in range(SQUARINGS):
        matrix = matrix @ matrix
        matrix = matrix / matrix.flatten(-2).norm(dim=-1)[..., None, None]
    column = matrix.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None].expand(*matrix.shape[:-1], 1)
    return torch.ops.smplx.quaternion_to_matrix(matrix.gather(-1, column)[..., 0])


def part_by_part(body: Body, target: Tensor, confidence: Tensor) -> dict[str, Tensor]:
    """Turns every joint so that the vertices it moves come to lie best. target [B, V, 3], confidence [B, V]"""
    template, weights, batch = body.v_template, body.lbs_weights, len(target)
    mass = confidence @ weights  # [B, J]
    safe = mass.clamp_min(1e-9)[..., None]
    here = confidence @ (weights[:, :, None] * template[:, None]).flatten(1)
    here = here.unflatten(1, (-1, 3)) / safe  # [B, J, 3]
    there = (weights.T @ (confidence[..., None] * target)) / safe
    pairs = (target[:, :, :, None] * template[None, :, None]).flatten(2) * confidence[..., None]  # [B, V, 9]
    spread = (weights.T @ pairs).unflatten(-1, (3, 3)).mT  # [B, J, a, b]
    spread = spread - mass[..., None, None] * here[..., :, None] * there[..., None, :]
    turned = _by_depth(body, spread)
    before = torch.where(
        (body.parents >= 0)[:, None, None], turned[:, body.parents.clamp_min(0).long()], torch.eye(3).to(turned)
    )
    pose = torch.ops.smplx.matrix_to_rotvec(before.mT @ turned).flatten(1)
    posed = body(pose=pose)
    total = confidence.sum(1).clamp_min(1e-9)[:, None]
    transl = (confidence[..., None] * (target - posed.vertices)).sum(1) / total
    assert len(transl) == batch
    return {"pose": pose, "transl": transl}


def _by_depth(body: Body, spread: Tensor) -> Tensor:
    """Global rotations [B, J, 3, 3]; parts with few vertices follow their parents."""
    parents = body.parents.long()
    depth = subtrees(parents).sum(1) - 1
    turned = best_rotation(spread.sum(1, keepdim=True)).expand(-1, body.num_joints, -1, -1).clone()
    for level in range(int(depth.max()) + 1):
        joints = (depth == level).nonzero().flatten()
        parent = parents[joints]
        like = torch.where((parent >= 0)[:, None, None], turned[:, parent.clamp_min(0)], turned[:, joints])
        turned[:, joints] = best_rotation(spread[:, joints] + UNSURE * like.mT)
    return turned


def triangulated(term: Keypoints) -> tuple[Tensor, Tensor]:
    """Points [B, N, 3] nearest to the rays of all views, without distortion, and how many views saw each [B, N]."""
    camera: Camera = term.camera
    pixels = term.target.unflatten(1, (term.views, -1))  # [B, C, N, 2]
    trust = torch.ones_like(term.target[..., 0]) if term.confidence is None else term.confidence
    trust = trust.expand(len(pixels), -1).unflatten(1, (term.views, -1))
    flat = (pixels - camera.centre[:, None]) / camera.focal[:, None]
    rays = torch.nn.functional.normalize(torch.nn.functional.pad(flat, (0, 1), value=1.0), dim=-1) @ camera.rotation
    eyes = -(camera.rotation.mT @ camera.translation[..., None])[..., 0]  # [C, 3]
    across = torch.eye(3).to(rays) - rays[..., :, None] * rays[..., None, :]  # [B, C, N, 3, 3]
    across = across * trust[..., None, None]
    matrix = across.sum(1) + 1e-6 * torch.eye(3).to(rays)
    right = (across @ eyes[:, None, :, None]).sum(1)
    return torch.linalg.solve(matrix, right)[..., 0], (trust.sum(1) > 1).to(rays)


def _before_camera(term: Keypoints, known: Tensor) -> Tensor:
    """Where a body at rest looks as large as the keypoints of one view, [B, 3]."""
    camera = term.camera
    trust = torch.ones_like(term.target[..., 0]) if term.confidence is None else term.confidence
    trust = (trust / trust.sum(1, keepdim=True).clamp_min(1e-9))[..., None]
    middle = (trust * term.target).sum(1)  # [B, 2]
    size = (trust * (term.target - middle[:, None]).square()).sum((1, 2)).sqrt().clamp_min(1e-6)
    local = known @ camera.rotation.mT
    centre = (trust * local).sum(1)
    extent = (trust * (local - centre[:, None])[..., :2].square()).sum((1, 2)).sqrt()
    depth = camera.focal.mean() * extent / size
    place = torch.cat([(middle - camera.centre) / camera.focal * depth[:, None], depth[:, None]], 1)
    return (place - camera.translation - centre) @ camera.rotation[0]
