"""Files that are written, as other programs read them."""

from __future__ import annotations

import dataclasses
import errno
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import avatorch
from avatorch import export, motion
from model import synthetic

trimesh = pytest.importorskip("trimesh")
pygltflib = pytest.importorskip("pygltflib")

TYPES = {5126: np.float32, 5125: np.uint32, 5123: np.uint16}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Scene:
    """A .glb as pygltflib reads it, posed by the rules of glTF."""

    def __init__(self, path: Path) -> None:
        self.gltf = pygltflib.GLTF2().load(str(path))
        self.blob = self.gltf.binary_blob()
        data = path.read_bytes()
        assert struct.unpack("<4sII", data[:12]) == (b"glTF", 2, len(data)) and len(data) % 4 == 0
        json.loads(data[20 : 20 + struct.unpack("<I", data[12:16])[0]])

    def array(self, index: int) -> np.ndarray:
        accessor = self.gltf.accessors[index]
        view = self.gltf.bufferViews[accessor.bufferView]
        assert view.byteOffset % 4 == 0 and view.byteOffset + view.byteLength <= len(self.blob)
        width = WIDTHS[accessor.type]
        flat = np.frombuffer(self.blob, TYPES[accessor.componentType], accessor.count * width, view.byteOffset)
        array = flat.reshape(accessor.count, width) if width > 1 else flat
        if accessor.min:
            np.testing.assert_allclose(np.atleast_2d(array.T).T.min(0), accessor.min)
            np.testing.assert_allclose(np.atleast_2d(array.T).T.max(0), accessor.max)
        return array

    def posed(self, frame: int) -> np.ndarray:
        """[V, 3], from the file alone."""
        nodes = [vars(node).copy() for node in self.gltf.nodes]
        mesh = self.gltf.meshes[0]
        weights = mesh.weights or []
        for animation in self.gltf.animations:
            for channel in animation.channels:
                sampler = animation.samplers[channel.sampler]
                times, values = self.array(sampler.input), self.array(sampler.output)
                assert (np.diff(times) > 0).all() and len(values) % len(times) == 0
                value = values.reshape(len(times), -1)[frame]
                if channel.target.path == "weights":
                    weights = value
                else:
                    nodes[channel.target.node][channel.target.path] = value
        world: dict[int, np.ndarray] = {}

        def visit(index: int, parent: np.ndarray) -> None:
            from scipy.spatial.transform import Rotation

            local = np.eye(4)
            rotation, translation = nodes[index]["rotation"], nodes[index]["translation"]
            local[:3, :3] = np.eye(3) if rotation is None else Rotation.from_quat(rotation).as_matrix()
            local[:3, 3] = 0 if translation is None else translation
            world[index] = parent @ local
            for child in nodes[index]["children"] or []:
                visit(child, world[index])

        for root in self.gltf.scenes[0].nodes:
            visit(root, np.eye(4))
        primitive = mesh.primitives[0]
        points = self.array(primitive.attributes.POSITION).astype(np.float64)
        for weight, target in zip(weights, primitive.targets or [], strict=True):
            points = points + weight * self.array(target["POSITION"])
        skin = self.gltf.skins[0]
        inverse = self.array(skin.inverseBindMatrices).reshape(-1, 4, 4).swapaxes(1, 2)
        transforms = np.stack([world[joint] for joint in skin.joints]) @ inverse  # [J, 4, 4]
        moved, number = np.zeros((len(points), 4)), 0
        homogeneous = np.concatenate([points, np.ones((len(points), 1))], 1)
        while (joints := getattr(primitive.attributes, f"JOINTS_{number}", None)) is not None:
            share = self.array(getattr(primitive.attributes, f"WEIGHTS_{number}"))
            moved += np.einsum("vk,vkxy,vy->vx", share, transforms[self.array(joints)], homogeneous)
            number += 1
        return moved[:, :3]


@pytest.fixture(scope="module")
def body() -> avatorch.Body:
    return avatorch.open_body()


def arguments(body: avatorch.Body, frames: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    return {
        "betas": torch.randn(1, body.num_betas, generator=g),
        "expression": torch.rand(1, body.num_expressions, generator=g),
        "pose": 0.3 * torch.randn(frames, body.num_joints, 3, generator=g),
        "transl": torch.randn(frames, 3, generator=g),
    }


@pytest.mark.parametrize("frames", [1, 4])
def test_glb_moves_as_the_body(body: avatorch.Body, tmp_path: Path, frames: int) -> None:
    given = arguments(body, frames)
    export.save_glb(tmp_path / "a.glb", body, **given, frame_rate=25)
    scene = Scene(tmp_path / "a.glb")
    wanted = body(**given).vertices
    for frame in range(frames):
        np.testing.assert_allclose(scene.posed(frame), wanted[frame].numpy(), rtol=0, atol=2e-5)
    assert len(scene.gltf.animations) == (frames > 1)
    if frames > 1:
        times = scene.array(scene.gltf.animations[0].samplers[0].input)
        np.testing.assert_allclose(times, [0, 0.04, 0.08, 0.12], atol=1e-7)
    names = [node.name for node in scene.gltf.nodes]
    assert names[:-1] == body.joint_names and names[-1] == "body"
    np.testing.assert_array_equal(
        scene.array(scene.gltf.meshes[0].primitives[0].indices).reshape(-1, 3), body.faces.numpy()
    )


def test_shape_keys(body: avatorch.Body, tmp_path: Path) -> None:
    blink = torch.tensor([0.0, 0.5, 1.0])
    export.save_glb(tmp_path / "a.glb", body, expression={"eyeBlinkLeft": blink, "jawOpen": 0.3}, shape_keys=True)
    scene = Scene(tmp_path / "a.glb")
    mesh = scene.gltf.meshes[0]
    assert mesh.extras["targetNames"] == body.expression_names and len(mesh.primitives[0].targets) == 52
    rest = body(expression={"eyeBlinkLeft": blink, "jawOpen": 0.3}).vertices
    for frame in range(3):
        np.testing.assert_allclose(scene.posed(frame), rest[frame].numpy(), rtol=0, atol=2e-5)
    export.save_glb(tmp_path / "b.glb", body, expression={"jawOpen": 0.3}, shape_keys=True)
    np.testing.assert_allclose(
        Scene(tmp_path / "b.glb").posed(0), body(expression={"jawOpen": 0.3}).vertices.numpy(), atol=2e-5
    )


def test_glb_of_an_unnamed_rig_with_few_joints(tmp_path: Path) -> None:
    file = synthetic.save_npz(tmp_path / "rig.npz", synthetic.generic(vertices=12, joints=3, influences=3))
    rig = avatorch.Body.load(file)
    pose = 0.4 * torch.randn(3, 3)
    export.save_glb(tmp_path / "a.glb", rig, pose=pose)
    scene = Scene(tmp_path / "a.glb")
    assert scene.gltf.nodes[1].name == "joint1"
    np.testing.assert_allclose(scene.posed(0), rig(pose=pose).vertices.numpy(), atol=2e-5)
    loaded = trimesh.load(tmp_path / "a.glb", process=False)
    assert loaded.geometry["body"].vertices.shape == (12, 3)


def test_what_glb_cannot_hold(body: avatorch.Body, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="betas and expression are for 2 bodies, expected one"):
        export.save_glb(tmp_path / "a.glb", body, betas=torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"the motion has the dimensions \[2, 3\], expected one, N"):
        export.save_glb(tmp_path / "a.glb", body, pose=torch.zeros(2, 3, 104, 3))
    assert not (tmp_path / "a.glb").exists()


@pytest.mark.parametrize("suffix", ["obj", "ply"])
def test_meshes(body: avatorch.Body, tmp_path: Path, suffix: str) -> None:
    vertices = body(pose=0.2 * torch.randn(104, 3)).vertices
    save: Any = getattr(export, f"save_{suffix}")
    save(tmp_path / f"a.{suffix}", vertices, body.faces)
    mesh = trimesh.load(tmp_path / f"a.{suffix}", process=False, maintain_order=True)
    np.testing.assert_allclose(mesh.vertices, vertices.numpy(), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(mesh.faces, body.faces.numpy())
    with pytest.raises(ValueError, match=r"a mesh file has one mesh: vertices has shape \[1, 13718, 3\]"):
        save(tmp_path / "b", vertices[None], body.faces)


def test_colours(body: avatorch.Body, tmp_path: Path) -> None:
    colours = torch.rand(13718, 3)
    export.save_ply(tmp_path / "a.ply", body().vertices[0], body.faces, colours)
    mesh = trimesh.load(tmp_path / "a.ply", process=False)
    np.testing.assert_allclose(mesh.visual.vertex_colors[:, :3] / 255, colours.numpy(), atol=0.003)
    with pytest.raises(ValueError, match=r"colours has shape \[3, 3\]"):
        export.save_ply(tmp_path / "a.ply", body().vertices[0], body.faces, colours[:3])


def test_motions(tmp_path: Path) -> None:
    walk = motion.Motion(avatorch.joint_names.SMPLH, torch.randn(7, 52, 3), torch.randn(7, 3), 60.0, torch.randn(16))
    export.save_motion(tmp_path / "a.npz", walk)
    again = motion.load(tmp_path / "a.npz")
    assert again.joint_names == walk.joint_names and again.frame_rate == 60 and again.gender == "neutral"
    for name in ("pose", "transl", "betas"):
        torch.testing.assert_close(getattr(again, name), getattr(walk, name), rtol=0, atol=0)
    walk.joint_names = walk.joint_names[::-1]
    with pytest.raises(ValueError, match="joints that are not those of SMPL"):
        export.save_motion(tmp_path / "a.npz", walk)


NAN = float("nan")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pose": torch.full((104, 3), NAN)}, "numbers that are not finite"),
        ({"pose": torch.full((4, 104, 3), NAN)}, "numbers that are not finite"),
        ({"betas": torch.full((20,), NAN)}, "numbers that are not finite"),
        ({"expression": torch.full((3, 52), NAN), "shape_keys": True}, "numbers that are not finite"),
        ({"pose": torch.zeros(4, 104, 3), "frame_rate": 0}, "frame_rate is 0, expected frames a second, more than 0"),
        ({"pose": torch.zeros(4, 104, 3), "frame_rate": -1.0}, "frame_rate is -1.0"),
        ({"pose": torch.zeros(4, 104, 3), "frame_rate": float("inf")}, "frame_rate is inf"),
        ({"pose": torch.zeros(0, 104, 3)}, "104 joints and 0 frames, expected some of each"),
        ({"transl": torch.zeros(0, 3)}, "104 joints and 0 frames, expected some of each"),
        ({"expression": torch.zeros(0, 52), "shape_keys": True}, r"expression has shape \[0, 52\]"),
        ({"expression": torch.zeros(2, 3, 52), "shape_keys": True}, r"expression has shape \[2, 3, 52\]"),
        (
            {"expression": torch.zeros(3, 52), "pose": torch.zeros(5, 104, 3), "shape_keys": True},
            "expression has 3 frames, expected 5, as others have, or 1",
        ),
    ],
)
def test_motions_that_are_refused(body: avatorch.Body, tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        export.save_glb(tmp_path / "a.glb", body, **given)
    assert not (tmp_path / "a.glb").exists()


def test_bodies_that_are_refused(body: avatorch.Body, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are 0 vertices"):
        export.save_glb(tmp_path / "a.glb", body.subset([]))
    with pytest.raises(TypeError, match="body is of type int, expected an avatorch"):
        export.save_glb(tmp_path / "a.glb", 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["obj", "ply"])
def test_meshes_that_are_refused(tmp_path: Path, suffix: str) -> None:
    save: Any = getattr(export, f"save_{suffix}")
    points, faces = torch.rand(4, 3), torch.tensor([[0, 1, 2]])
    for wrong, error, message in (
        ((points.numpy(), faces), TypeError, "vertices is of type ndarray, expected a tensor"),
        ((points, faces.float()), TypeError, "faces is torch.float32, expected whole numbers"),
        ((points, faces + 2), ValueError, "faces has vertices 2 to 4, expected 0 to 3"),
        ((points, -faces), ValueError, "faces has vertices -2 to 0, expected 0 to 3"),
        ((points * NAN, faces), ValueError, "vertices holds numbers that are not finite"),
    ):
        with pytest.raises(error, match=message):
            save(tmp_path / "a", *wrong)
    assert not (tmp_path / "a").exists()


def test_colours_that_are_refused(tmp_path: Path) -> None:
    points, faces = torch.rand(4, 3), torch.tensor([[0, 1, 2]])
    for colours in (torch.full((4, 3), NAN), torch.full((4, 3), 255, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="expected finite numbers from 0 to 1"):
            export.save_ply(tmp_path / "a.ply", points, faces, colours)
    export.save_ply(tmp_path / "a.ply", points, faces, torch.ones(4, 3, dtype=torch.bfloat16))


def test_motions_that_cannot_be_saved(tmp_path: Path) -> None:
    walk = motion.Motion(avatorch.joint_names.SMPL, torch.randn(7, 24, 3).requires_grad_(), torch.randn(7, 3), 60.0)
    export.save_motion(tmp_path / "a.npz", walk)
    for change, message in (
        ({"transl": torch.zeros(2, 3)}, r"transl has shape \[2, 3\], expected finite numbers \[7, 3\]"),
        ({"pose": torch.full((7, 24, 3), NAN)}, "pose has shape .*, expected finite numbers"),
        ({"frame_rate": 0.0}, "frame_rate is 0.0, expected"),
    ):
        with pytest.raises(ValueError, match=message):
            export.save_motion(tmp_path / "b.npz", dataclasses.replace(walk, **change))


def test_a_file_that_cannot_be_written_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mesh.obj"
    export.save_obj(path, torch.zeros(3, 3), torch.tensor([[0, 1, 2]]))
    before = path.read_bytes()

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:7])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        export.save_obj(path, torch.ones(4, 3), torch.tensor([[0, 1, 3]]))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
