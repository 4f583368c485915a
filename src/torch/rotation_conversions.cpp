// Rotation matrices, axis-angle vectors, quaternions (w, x, y, z) and 6D columns into one another, with any leading
// dimensions. Vectors become matrices in smplx::rodrigues.
//
// Quaternions of any length but zero are normalised. Vectors from matrices and quaternions are the shortest: their angle
// lies in [0, pi] and they depend smoothly on the rotation as long as it is below pi. At exactly pi, where the vector and
// its negative are the same rotation, a matrix gives the vector whose component of largest magnitude is positive.
// Degenerate input (a zero quaternion, 6D columns that are parallel or zero) gives NaN.
#include "composite.h"
#include "rotation.h"

namespace avatorch {

// The results do not depend on the length of these vectors, so their derivatives do not depend on the factor either:
// taking it for a constant is exact, and squares neither overflow nor vanish.
static Tensor scaled(const Tensor& vectors) { return vectors / vectors.abs().amax(-1, true).detach(); }

static Tensor squared(const Tensor& vectors) { return vectors.square().sum(-1, true); }
static Tensor unit(const Tensor& vectors) { return vectors / squared(vectors).sqrt(); }
static Tensor with_positive_w(const Tensor& q) { return at::where(q.narrow(-1, 0, 1) < 0, -q, q); }

// A multiple of the quaternion: the row of 4 q q^T, which is linear in R, that is farthest from zero.
static Tensor quaternion_of(const Tensor& matrix) {
  const Tensor skew = skew_part(matrix);                                            // [..., 3]
  const Tensor trace = matrix.diagonal(0, -2, -1).sum(-1, true);                    // [..., 1]
  const Tensor identity = at::eye(3, matrix.options());
  const Tensor block = matrix + matrix.mT() + (1 - trace).unsqueeze(-1) * identity;  // [..., 3, 3]
  const Tensor top = at::cat({1 + trace, skew}, -1).unsqueeze(-2);                  // [..., 1, 4]
  const Tensor rows = at::cat({top, at::cat({skew.unsqueeze(-1), block}, -1)}, -2);  // [..., 4, 4]
  const Tensor farthest = rows.diagonal(0, -2, -1).argmax(-1, true).unsqueeze(-1);  // [..., 1, 1]
  return with_positive_w(rows.gather(-2, farthest.expand_symint(top.sym_sizes())).squeeze(-2));
}

// The axis-angle vector of a multiple of a quaternion with w >= 0, without branches: |v| / m is the tangent of the half
// angle when m = w, and m + sqrt(m^2 + |v|^2) halves the angle of a tangent. Four halvings take any angle to at most pi/32,
// where the series of the arc tangent is short; so it is smooth at zero, to every order.
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

// [..., 4] -> [..., 3, 3]: ((w^2 - |v|^2) I + 2 v v^T + 2 w [v]) / |q|^2
static Tensor quaternion_to_matrix(const Tensor& quaternion) {
  const Argument checked{"smplx::quaternion_to_matrix", "quaternion", quaternion};
  checked.real();
  checked.ends_with({4});
  const Tensor q = unit(scaled(quaternion));
  const Tensor w = q.narrow(-1, 0, 1), v = q.narrow(-1, 1, 3);
  const Tensor diagonal = (w.square() - squared(v)).unsqueeze(-1) * at::eye(3, q.options());
  return diagonal + 2 * (v.unsqueeze(-1) * v.unsqueeze(-2) + w.unsqueeze(-1) * cross_matrix(v));
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
