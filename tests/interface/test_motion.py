"""Motion files: what comes out of them, and what is said of damaged ones."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import avatorch
from avatorch import motion
from model import synthetic

BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 1.0 2.0 3.0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Spine
  {
    OFFSET 0.0 10.0 0.0
    CHANNELS 3 Zrotation Xrotation Yrotation
    JOINT Head
    {
      OFFSET 0.0 20.0 1.0
      CHANNELS 3 Yrotation Xrotation Zrotation
      End Site
      {
        OFFSET 0.0 5.0 0.0
      }
    }
  }
  JOINT LeftLeg
  {
    OFFSET 4.0 -1.0 0.0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0.0 -30.0 0.0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.0083333
1 2 3 0 0 0 0 0 0 0 0 0 0 0 0
11 22 33 10 20 30 -40 50 60 170 15 -25 5 6 7
"""


def amass(frames: int = 5, width: int = 165) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    return {
        "poses": 0.3 * random.standard_normal((frames, width)),
        "trans": random.standard_normal((frames, 3)),
        "betas": random.standard_normal(16),
        "gender": np.array("female"),
        "mocap_framerate": np.array(120.0),
    }


def body(tmp_path: Path, family: str = "smplx") -> avatorch.Body:
    arrays = getattr(synthetic, family)(vertices=30, faces=20)
    return avatorch.Body.load(synthetic.save_npz(tmp_path / f"{family}.npz", arrays))


@pytest.mark.parametrize(
    ("width", "family"), [(165, "smplx"), (156, "smplh"), (72, "smpl"), (156, "smplx"), (66, "smpl")]
)
def test_amass(tmp_path: Path, width: int, family: str) -> None:
    arrays = amass(width=width)
    np.savez(tmp_path / "walk.npz", **arrays)
    walk = motion.load(tmp_path / "walk.npz")
    assert (len(walk), walk.frame_rate, walk.gender, walk.pose.shape[1]) == (5, 120.0, "female", width // 3)
    model = body(tmp_path, family)
    given = walk.arguments(model)
    assert given["betas"].shape == (min(16, model.num_betas),)
    posed = model(**given)
    by_name = {name: torch.from_numpy(arrays["poses"][:, 3 * i : 3 * i + 3]).float()
               for i, name in enumerate(walk.joint_names) if name in model.joint_names}  # fmt: skip
    wanted = model(
        betas=torch.from_numpy(arrays["betas"]).float()[: model.num_betas],
        pose=by_name,
        transl=torch.from_numpy(arrays["trans"]).float(),
    )
    torch.testing.assert_close(posed.vertices, wanted.vertices)


def test_variants_of_amass(tmp_path: Path) -> None:
    arrays = amass()
    del arrays["betas"], arrays["trans"]
    arrays["gender"] = np.array(b"male")
    arrays["mocap_frame_rate"] = arrays.pop("mocap_framerate")
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    walk = motion.load(tmp_path / "a.npz")
    assert walk.gender == "male" and walk.frame_rate == 120 and not walk.transl.any() and walk.betas.numel() == 0
    arrays["gender"] = np.array({"a": 1}, dtype=object)  # not looked into
    np.savez(tmp_path / "b.npz", **arrays, allow_pickle=True)
    assert motion.load(tmp_path / "b.npz").gender is None
    arrays["poses"] = np.asfortranarray(arrays["poses"].astype(">f4"))
    np.savez(tmp_path / "c.npz", **arrays)
    torch.testing.assert_close(motion.load(tmp_path / "c.npz").pose, walk.pose)


def smpl(frames: int | None = 4) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    n = () if frames is None else (frames,)
    made = {name: random.standard_normal((*n, *shape)).astype(np.float32) for name, shape in {
        "bodyTranslation": (3,), "bodyPose": (22, 3), "headPose": (3, 3), "leftHandPose": (15, 3),
        "rightHandPose": (15, 3), "expressionParameters": (10,)}.items()}  # fmt: skip
    numbers = {"codecVersion": 2, "smplVersion": 2, "gender": 2, "frameCount": frames or 1}
    shape = random.standard_normal(10).astype(np.float32)
    return made | {k: np.array(v, np.int32) for k, v in numbers.items()} | {
        "shapeParameters": shape, "frameRate": np.array(25.0, np.float32)
    }  # fmt: skip


@pytest.mark.parametrize("frames", [4, None])
def test_smpl_files(tmp_path: Path, frames: int | None) -> None:
    arrays = smpl(frames)
    with (tmp_path / "dance.smpl").open("wb") as file:
        np.savez(file, **arrays)
    dance = motion.load(tmp_path / "dance.smpl")
    assert (dance.gender, dance.frame_rate, len(dance)) == ("female", 25.0, frames or 1)
    model = body(tmp_path)
    assert dance.joint_names == model.joint_names
    given = dance.arguments(model)
    left = arrays["leftHandPose"].reshape(-1, 15, 3)
    torch.testing.assert_close(given["pose"][:, 25:40], torch.from_numpy(left))
    assert given["expression"].shape == (frames or 1, 10)
    assert model(**given).vertices.shape == (frames or 1, 30, 3)


def test_smpl_files_of_another_program(tmp_path: Path) -> None:
    codec = pytest.importorskip("smplcodec")
    arrays = smpl()
    names = {"bodyTranslation": "body_translation", "bodyPose": "body_pose", "headPose": "head_pose",
             "leftHandPose": "left_hand_pose", "rightHandPose": "right_hand_pose",
             "expressionParameters": "expression_parameters", "shapeParameters": "shape_parameters"}  # fmt: skip
    codec.SMPLCodec(
        smpl_version=codec.SMPLVersion.SMPLX, gender=codec.SMPLGender.MALE, frame_count=4, frame_rate=25.0,
        **{other: arrays[name] for name, other in names.items()},
    ).write(str(tmp_path / "a.smpl"))  # fmt: skip
    found = motion.load(tmp_path / "a.smpl")
    assert found.gender == "male" and found.frame_rate == 25
    torch.testing.assert_close(found.pose[:, :22], torch.from_numpy(arrays["bodyPose"]))


def test_bvh(tmp_path: Path) -> None:
    rotation = pytest.importorskip("scipy.spatial.transform").Rotation
    (tmp_path / "a.bvh").write_text(BVH)
    found = motion.load(tmp_path / "a.bvh", scale=0.01)
    assert found.joint_names == ["Hips", "Spine", "Head", "LeftLeg"] and found.parents == [-1, 0, 1, 0]
    assert abs(found.frame_rate - 120) < 0.01
    torch.testing.assert_close(found.transl, torch.tensor([[0.0, 0, 0], [0.1, 0.2, 0.3]]))
    torch.testing.assert_close(found.offsets[2], torch.tensor([0.0, 0.2, 0.01]))
    angles = {0: ("ZXY", [10, 20, 30]), 1: ("ZXY", [-40, 50, 60]), 2: ("YXZ", [170, 15, -25]), 3: ("ZXY", [5, 6, 7])}
    for joint, (order, values) in angles.items():
        wanted = rotation.from_euler(order, values, degrees=True).as_rotvec()
        torch.testing.assert_close(found.pose[1, joint].double(), torch.from_numpy(wanted), rtol=0, atol=1e-6)
    assert not found.pose[0].any()
    model = body(tmp_path, "smpl")
    given = found.arguments(model, {"Hips": "pelvis", "Head": "head", "LeftLeg": "left_hip"})
    torch.testing.assert_close(given["pose"][:, model.joint("head")], found.pose[:, 2])
    with pytest.raises(ValueError, match=r"no joint of the file is one of the body's: Hips, Spine.*Say in `names`"):
        found.arguments(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("MOTION", "MOTIO"), "there is no MOTION"),
        (("Frames: 2", "Frames: 3"), "has 30 numbers, expected 3 frames of 15 channels"),
        (("Frames: 2", "Frames: 99999999999999999"), "expected 99999999999999999 frames"),
        (("Frames: 2", "Frames: -2"), "expected positive numbers"),
        (("170 15", "nan 15"), "not finite"),
        (("170 15", "x 15"), "not a number"),
        (("CHANNELS 6", "CHANNELS 600"), "CHANNELS is followed by '600'"),
        (("Yposition", "Wposition"), "'Wposition' is no channel"),
        (("OFFSET 1.0", "OFFSET inf"), "finite number"),
        (("JOINT LeftLeg", "ROOT LeftLeg"), "more than one ROOT"),
        (("End Site", "End"), "'{' stands where 'Site'"),
        (("HIERARCHY\nROOT", "HIERARCHY\nJOINT"), "outside of the ROOT"),
        (("0.0 5.0 0.0\n      }", "0.0 5.0 0.0\n }}}}}}"), "closes nothing|not expected"),
        (("Frame Time: 0.0083333", "Frame Time: 0"), "expected positive"),
        (("Frame Time: 0.0083333", "Frame Time: 1e-320"), "expected positive"),
        (("Frames: 2", "Frames: " + 5000 * "9"), "expected positive"),
        (("CHANNELS 6", "CHANNELS ²"), "CHANNELS is followed by '²'"),
        (("OFFSET 1.0", "OFFSET 1e300"), "finite number"),
        (("170 15", "1e300 15"), "not finite"),
    ],
)
def test_damaged_bvh(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    (tmp_path / "a.bvh").write_text(BVH.replace(*change, 1))
    with pytest.raises(ValueError, match=message) as error:
        motion.load(tmp_path / "a.bvh")
    assert str(error.value).startswith(str(tmp_path / "a.bvh"))
    for length in range(0, len(BVH) - 20, 37):
        (tmp_path / "short.bvh").write_text(BVH[:length])
        with pytest.raises(ValueError, match=r"short\.bvh: "):
            motion.load(tmp_path / "short.bvh")


def test_what_programs_write_into_bvh(tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_bytes(
        b"\xef\xbb\xbf" + BVH.replace("Spine", "MOTION_Spine").replace("\n", "\r\n").encode()
    )
    assert motion.load(tmp_path / "a.bvh").joint_names[1] == "MOTION_Spine"
    for scale in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"scale is .*, expected metres in a unit of length, more than 0"):
            motion.load(tmp_path / "a.bvh", scale=scale)


@pytest.mark.parametrize("channels", [0, 1])
def test_few_numbers_that_would_be_many_rotations(tmp_path: Path, channels: int) -> None:
    moving = f"CHANNELS {channels} " + channels * "Xrotation "
    joints = "".join(f"JOINT j{i} {{ OFFSET 0 0 0 CHANNELS 0 }} " for i in range(10_000))
    frames = 10**15 if channels == 0 else 100_000
    text = f"HIERARCHY ROOT a {{ OFFSET 0 0 0 {moving} {joints} }} MOTION Frames: {frames} Frame Time: 0.1 "
    (tmp_path / "a.bvh").write_text(text + channels * frames * "0 ")
    with pytest.raises(ValueError, match=r"a\.bvh: .*more rotations than|has no channels"):
        motion.load(tmp_path / "a.bvh")


def test_damaged_archives(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"

    def refused(message: str, **arrays: np.ndarray) -> None:
        np.savez(file, **{**amass(), **arrays})
        with pytest.raises(ValueError, match=message):
            motion.load(file)

    refused(r"poses has shape \[5, 100\], expected \[N, one of 66, 72, 156, 165\]", poses=np.zeros((5, 100)))
    refused("poses holds numbers that are not finite", poses=np.full((5, 165), np.nan))
    refused(r"trans is float64 \[4, 3\], expected numbers \[5, 3\]", trans=np.zeros((4, 3)))
    refused("betas is <U1", betas=np.array("x"))
    refused(r"betas has shape \[5, 16\], expected \[n\]: one shape for all frames", betas=np.zeros((5, 16)))
    refused("poses holds numbers that are not finite", poses=np.full((5, 165), 1e300))
    refused("mocap_framerate is 0.0, expected more than 0", mocap_framerate=np.array(0.0))
    refused("poses holds object, expected numbers", poses=np.array({}, dtype=object))
    np.savez(file, other=np.zeros(3))
    with pytest.raises(ValueError, match="it has neither poses nor smplVersion, but other"):
        motion.load(file)
    with file.open("wb") as out:
        np.savez(out, **{**smpl(), "smplVersion": np.array(7)})
    with pytest.raises(ValueError, match="smplVersion is 7, expected 0 to 2"):
        motion.load(file)
    (tmp_path / "b").write_bytes(b"what is this")
    with pytest.raises(ValueError, match=r"neither an \.npz or \.smpl archive nor a BVH file"):
        motion.load(tmp_path / "b")
    np.savez(file, **amass())
    whole = file.read_bytes()
    for length in range(2, len(whole), 997):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a\.npz: "):
            motion.load(file)


def test_archives_that_lie(tmp_path: Path) -> None:
    """A header with a huge shape, and an archive that unpacks to too much, allocate nothing."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50, 165)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("poses.npy", header.getvalue())
    with pytest.raises(ValueError, match=r"poses says that it has .* bytes, and has at most"):
        motion.load(tmp_path / "a.npz")
    for text in (b"(" * 9000, b"{'descr': [", b"{1: 2, b'a': 3, 'b': 4}", b"{'descr': '<f8', 'shape': x()}"):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("poses.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
        with pytest.raises(ValueError, match=r"a\.npz: the header of poses is no npy header$"):
            motion.load(tmp_path / "a.npz")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (-1, 165)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("poses.npy", header.getvalue())
    with pytest.raises(ValueError, match=r"poses says that it has -1320 bytes"):
        motion.load(tmp_path / "a.npz")
    with (
        zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("poses.npy", "w") as member,
    ):
        for _ in range(520):
            member.write(bytes(1 << 20))
    with pytest.raises(ValueError, match="it would unpack to more than 536870912 bytes"):
        motion.load(tmp_path / "b.npz")
