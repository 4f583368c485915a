//! The scalar formulas of rotations on the CPU. `kernels/common/rotation.cuh` is the twin.

use super::Real;

/// A rotation vector seen as an angle about an axis. Near zero there is no axis: there the series are used instead.
struct AngleAxis<T> {
    angle: T,
    axis: [T; 3],
}

impl<T: Real> AngleAxis<T> {
    /// Without overflow for any finite `r`.
    fn of(r: [T; 3]) -> Self {
        let largest = r[0].abs().max(r[1].abs()).max(r[2].abs());
        let scaled = r.map(|component| component / largest);
        let length = dot(scaled, scaled).sqrt();
        Self { angle: (largest * length).min(T::max_value()), axis: scaled.map(|component| component / length) }
    }
}

/// The first `terms` terms of `c_order(x)`, summed from the smallest.
pub(super) fn stumpff_series<T: Real>(x: T, order: usize, terms: usize) -> T {
    let mut sum = T::one();
    for i in (1..terms).rev() {
        let next = ((2 * i + order) * (2 * i + order - 1)) as f64;
        sum = T::one() - x / T::of(next) * sum;
    }
    sum / T::of((1..=order).map(|factor| factor as f64).product())
}

/// `I + a [r] + b [r]^2`, row-major, with `a = sin(angle) / angle` and `b = (1 - cos(angle)) / angle^2`.
pub(super) fn rodrigues<T: Real>(r: [T; 3]) -> [T; 9] {
    let squared = dot(r, r);
    if squared < T::one() {
        let [a, b] = [1, 2].map(|order| stumpff_series(squared, order, T::SERIES_TERMS));
        return rotation_about(r, a, b);
    }
    let AngleAxis { angle, axis } = AngleAxis::of(r);
    let half = (T::of(0.5) * angle).sin();
    rotation_about(axis, angle.sin(), T::of(2.0) * half * half)
}

/// `I + a [v] + b [v]^2`.
fn rotation_about<T: Real>([x, y, z]: [T; 3], a: T, b: T) -> [T; 9] {
    let one = T::one();
    [
        one - b * (y * y + z * z),
        b * x * y - a * z,
        b * x * z + a * y,
        b * x * y + a * z,
        one - b * (x * x + z * z),
        b * y * z - a * x,
        b * x * z - a * y,
        b * y * z + a * x,
        one - b * (x * x + y * y),
    ]
}

/// The gradient of `r` from `g`, the gradient of its matrix: see `docs/gradients.md`, rodrigues.
/// With `s` the skew part of `g` it is `a s + b ((g + g^T) r - 2 tr(g) r) + (da s.r + db (r.g r - x tr(g))) r`,
/// `da = 2 da/dx`, `db = 2 db/dx`, `x = |r|^2`; away from zero the same, written in angle and axis.
pub(super) fn rodrigues_backward<T: Real>(g: [T; 9], r: [T; 3]) -> [T; 3] {
    let two = T::of(2.0);
    let skew = [g[7] - g[5], g[2] - g[6], g[3] - g[1]];
    let trace = g[0] + g[4] + g[8];
    let symmetric = |v: [T; 3]| {
        [
            two * g[0] * v[0] + (g[1] + g[3]) * v[1] + (g[2] + g[6]) * v[2],
            (g[1] + g[3]) * v[0] + two * g[4] * v[1] + (g[5] + g[7]) * v[2],
            (g[2] + g[6]) * v[0] + (g[5] + g[7]) * v[1] + two * g[8] * v[2],
        ]
    };
    // The gradient is a skew + b bend + along v, with v the vector or its axis.
    let (a, b, along, v) = {
        let squared = dot(r, r);
        if squared < T::one() {
            let [c1, c2, c3, c4] = [1, 2, 3, 4].map(|order| stumpff_series(squared, order, T::SERIES_TERMS));
            let bend = T::of(0.5) * dot(symmetric(r), r) - squared * trace;
            (c1, c2, (c3 - c2) * dot(skew, r) + (two * c4 - c3) * bend, r)
        } else {
            let AngleAxis { angle, axis } = AngleAxis::of(r);
            let (sine, cosine) = angle.sin_cos();
            let half = (T::of(0.5) * angle).sin();
            let (a, b) = (sine / angle, two * half * half / angle);
            let bend = T::of(0.5) * dot(symmetric(axis), axis) - trace;
            (a, b, (cosine - a) * dot(skew, axis) + (sine - two * b) * bend, axis)
        }
    };
    let symmetric = symmetric(v);
    std::array::from_fn(|i| a * skew[i] + b * (symmetric[i] - two * trace * v[i]) + along * v[i])
}

fn dot<T: Real>(u: [T; 3], v: [T; 3]) -> T {
    u[0] * v[0] + u[1] * v[1] + u[2] * v[2]
}
