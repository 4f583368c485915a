// Rotation matrices, axis-angle vectors, quaternions (w, x, y, z) and 6D columns into one another, with any leading
// dimensions. Vectors become matrices in smplx::rodrigues.
//
// Quaternions of any length but zero are normalised. Vectors from matrices and quaternions are the shortest: their
// angle lies in [0, pi] and they depend smoothly on the rotation as long as it is below pi. At exactly pi, where the
// vector and its negative are the same rotation, a matrix gives the vector whose component of largest magnitude is
// positive. Degenerate input (a zero quaternion, 6D columns that are parallel or zero) gives NaN.
#include "composite.h"
#include "rotation.h"

namespace avatorch {

// Scaled exactly, by a power of two, so that squares neither overflow nor vanish. The results do not depend on the
// length of these vectors, so neither do their derivatives of any order: taking the factor for a constant is exact too.
static Tensor scaled(const Tensor& vectors) {
  const Tensor largest = vectors.detach().abs().amax(-1, true);
  return vectors / largest.log2().floor().exp2();
}

static Tensor squared(const Tensor& vectors) { return vectors.square().sum(-1, true); }
static Tensor unit(const Tensor& vectors) { return vectors / squared(vectors).sqrt(); }
static Tensor with_positive_w(const Tensor& q) { return at::where(q.narrow(-1, 0, 1) < 0, -q, q); }

// A multiple of the quaternion: the row of 4 q q^T, which is linear in R, that is farthest from zero.
static Tensor quaternion_of(const Tensor& matrix) {
  const auto r = matrix.flatten(-2).unbind(-1);  // r[3 row + column]
  const Tensor wx = r[7] - r[5], wy = r[2] - r[6], wz = r[3] - r[1];
  const Tensor xy = r[1] + r[3], xz = r[2] + r[6], yz = r[5] + r[7];
  const Tensor plus = 1 + r[0], minus = 1 - r[0], sum = r[4] + r[8], difference = r[4] - r[8];
  const Tensor rows = at::stack({plus + sum, wx, wy, wz,          //
                                 wx, plus - sum, xy, xz,          //
                                 wy, xy, minus + difference, yz,  //
                                 wz, xz, yz, minus - difference},
                                -1)
                          .unflatten(-1, {4, 4});
  const Tensor farthest = rows.diagonal(0, -2, -1).argmax(-1, true).unsqueeze(-1);  // [..., 1, 1]
  const Tensor place = farthest.expand_symint(rows.narrow(-2, 0, 1).sym_sizes());   // [..., 1, 4]
  return with_positive_w(rows.gather(-2, place).squeeze(-2));
}

// The axis-angle vector of a multiple of a quaternion with w >= 0, without branches: |v| / m is the tangent of the half
// angle when m = w, and m + sqrt(m^2 + |v|^2) halves the angle of a tangent. Four halvings take any angle to at most
// pi/32, where the series of the arc tangent is short; so it is smooth at zero, to every order.
static Tensor vector_of(const Tensor& q) {
  constexpr int halvings = 4, terms = 8;
  const Tensor v = q.narrow(-1, 1, 3), x = squared(v);
  Tensor m = q.narrow(-1, 0, 1);
  for (int i = 0; i < halvings; ++i) m = m + (m.square() + x).sqrt();
  const Tensor u = -x / m.square();  // minus the squared tangent
  Tensor series = at::full_like(u, 1.0 / (2 * terms - 1));
  for (int n = terms - 1; n-- > 0;) series = series * u + 1.0 / (2 * n + 1);
  return v * (series * (2 << halvings) / m);
}

// [..., 3, 3] -> [..., 3]
static Tensor matrix_to_rotvec(const Tensor& matrix) {
  const Argument checked{"smplx::matrix_to_rotvec", "matrix", matrix};
  checked.real();
  checked.ends_with({3, 3});
  return vector_of(quaternion_of(matrix));
}

// [..., 3, 3] -> [..., 4], of length 1 and with w >= 0
static Tensor matrix_to_quaternion(const Tensor& matrix) {
  const Argument checked{"smplx::matrix_to_quaternion", "matrix", matrix};
  checked.real();
  checked.ends_with({3, 3});
  return unit(quaternion_of(matrix));
}

// [..., 3] -> [..., 4]: (cos(|r|/2), sin(|r|/2) r / |r|), smooth for every r, so w is negative for angles beyond pi.
static Tensor rotvec_to_quaternion(const Tensor& rotvec) {
  const Argument checked{"smplx::rotvec_to_quaternion", "rotvec", rotvec};
  checked.real();
  checked.ends_with({3});
  const Tensor half = 0.5 * rotvec, x = squared(half);
  return at::cat({stumpff(x, 0), stumpff(x, 1) * half}, -1);
}

// [..., 4] -> [..., 3]
static Tensor quaternion_to_rotvec(const Tensor& quaternion) {
  const Argument checked{"smplx::quaternion_to_rotvec", "quaternion", quaternion};
  checked.real();
  checked.ends_with({4});
  return vector_of(with_positive_w(scaled(quaternion)));
}

// [..., 4] -> [..., 3, 3]
static Tensor quaternion_to_matrix(const Tensor& quaternion) {
  const Argument checked{"smplx::quaternion_to_matrix", "quaternion", quaternion};
  checked.real();
  checked.ends_with({4});
  const auto q = (M_SQRT2 * unit(scaled(quaternion))).unbind(-1);  // so that products come out twice as large
  const Tensor &w = q[0], &x = q[1], &y = q[2], &z = q[3];
  return at::stack({1 - (y * y + z * z), x * y - w * z, x * z + w * y,  //
                    x * y + w * z, 1 - (x * x + z * z), y * z - w * x,  //
                    x * z - w * y, y * z + w * x, 1 - (x * x + y * y)},
                   -1)
      .unflatten(-1, {3, 3});
}

// [..., 6] -> [..., 3, 3]: the first two columns, made orthonormal one after the other, and their cross product
static Tensor sixd_to_matrix(const Tensor& sixd) {
  const Argument checked{"smplx::sixd_to_matrix", "sixd", sixd};
  checked.real();
  checked.ends_with({6});
  const Tensor first = unit(scaled(sixd.narrow(-1, 0, 3))), given = scaled(sixd.narrow(-1, 3, 3));
  const Tensor second = unit(given - (first * given).sum(-1, true) * first);
  return at::stack({first, second, at::linalg_cross(first, second)}, -1);
}

// [..., 3, 3] -> [..., 6]: the first column, then the second
static Tensor matrix_to_sixd(const Tensor& matrix) {
  const Argument checked{"smplx::matrix_to_sixd", "matrix", matrix};
  checked.real();
  checked.ends_with({3, 3});
  return at::cat({matrix.select(-1, 0), matrix.select(-1, 1)}, -1);
}

TORCH_LIBRARY_FRAGMENT(smplx, library) {
  using Conversion = Tensor(const Tensor&);
  composite<Conversion, matrix_to_rotvec>(library, "matrix_to_rotvec(Tensor matrix) -> Tensor");
  composite<Conversion, matrix_to_quaternion>(library, "matrix_to_quaternion(Tensor matrix) -> Tensor");
  composite<Conversion, matrix_to_sixd>(library, "matrix_to_sixd(Tensor matrix) -> Tensor");
  composite<Conversion, rotvec_to_quaternion>(library, "rotvec_to_quaternion(Tensor rotvec) -> Tensor");
  composite<Conversion, quaternion_to_rotvec>(library, "quaternion_to_rotvec(Tensor quaternion) -> Tensor");
  composite<Conversion, quaternion_to_matrix>(library, "quaternion_to_matrix(Tensor quaternion) -> Tensor");
  composite<Conversion, sixd_to_matrix>(library, "sixd_to_matrix(Tensor sixd) -> Tensor");
}

}  // namespace avatorch
