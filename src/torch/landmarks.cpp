// smplx::landmarks, points on the surface, each given by its face and its shares of the three corners.
#include "composite.h"

namespace avatorch {

// The three corners of each face: [B|1, V, 3] -> [B|1, L, 3, 3].
static Tensor shared_corners(const Tensor& vertices, const Tensor& corners) {  // corners [L, 3]
  const Tensor points = vertices.index_select(1, corners.flatten());
  return points.view_symint({vertices.sym_size(0), corners.sym_size(0), 3, 3});
}

// The same where each body has its own faces: [B, V, 3] -> [B, L, 3, 3].
static Tensor own_corners(const Tensor& vertices, const Tensor& corners) {  // corners [B, L, 3]
  const auto bodies = corners.sym_size(0), count = corners.sym_size(1);
  const Tensor places = corners.reshape_symint({bodies, 3 * count, 1}).expand_symint({bodies, 3 * count, 3});
  const Tensor all = vertices.expand_symint({bodies, vertices.sym_size(1), 3});
  return all.gather(1, places).view_symint({bodies, count, 3, 3});
}

// vertices [B|1, V, 3], faces [F, 3], face_indices [L] or [B|1, L], barycentric [L, 3] or [B|1, L, 3] -> [B, L, 3].
// An index out of range is an IndexError on the CPU and torch's own failed assertion on a GPU.
static Tensor landmarks(const Tensor& vertices, const Tensor& faces, const Tensor& face_indices,
                        const Tensor& barycentric) {
  const char* op = "smplx::landmarks";
  const Argument checked_vertices{op, "vertices", vertices}, checked_faces{op, "faces", faces},
      checked_indices{op, "face_indices", face_indices}, checked_barycentric{op, "barycentric", barycentric};
  checked_vertices.real();
  checked_vertices.shape({-1, -1, 3});
  checked_faces.int64();
  checked_faces.on_device_of(checked_vertices);
  checked_faces.shape({-1, 3});
  checked_indices.int64();
  checked_indices.on_device_of(checked_vertices);
  checked_indices.rank(1, 2);
  checked_barycentric.like(checked_vertices);
  checked_barycentric.rank(2, 3);
  const bool own_faces = face_indices.dim() == 2, own_shares = barycentric.dim() == 3;
  auto bodies = vertices.sym_size(0);
  if (own_faces) bodies = common_batch(bodies, face_indices.sym_size(0));
  if (own_shares) bodies = common_batch(bodies, barycentric.sym_size(0));
  const auto count = face_indices.sym_size(-1);
  checked_vertices.batched(bodies, {vertices.sym_size(1), 3});
  if (own_faces) checked_indices.batched(bodies, {count});
  if (own_shares) {
    checked_barycentric.batched(bodies, {count, 3});
  } else {
    checked_barycentric.shape({count, 3});
  }
  checked_indices.below(faces.sym_size(0));
  const Tensor corners = faces.index_select(0, face_indices.flatten());
  Argument{op, "faces", corners}.below(vertices.sym_size(1));
  const Tensor points =
      own_faces
          ? own_corners(vertices,
                        corners.view_symint({face_indices.sym_size(0), count, 3}).expand_symint({bodies, count, 3}))
          : shared_corners(vertices, corners);
  return (points * barycentric.unsqueeze(-1)).sum(-2);
}

TORCH_LIBRARY_FRAGMENT(smplx, library) {
  using Landmarks = Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&);
  composite<Landmarks, landmarks>(
      library, "landmarks(Tensor vertices, Tensor faces, Tensor face_indices, Tensor barycentric) -> Tensor");
}

}  // namespace avatorch
