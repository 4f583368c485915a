//! Weights of blend shapes: min |A x - b|^2 with 0 <= x <= u, exactly, for frames that follow one another on tracks.
//!
//! Every variable is free or at one of its bounds. A step solves for the free ones and moves every variable that is on
//! the wrong side: block pivoting, which takes a handful of steps, and mostly one from where the frame before ended, for
//! which the factor is there too. Where it stops making progress the rest is walked: from
//! a point within the bounds towards the free solution, as far as the first bound; the error falls with every step, so
//! no set comes twice. The arithmetic is float64 throughout: the products A^T A square the condition of A, and
//! refinement with A itself takes that back.

use smallvec::smallvec;
use tch::{Device, Kind, Tensor};

use crate::body::{Real, for_real};
use crate::cuda::Program;
use crate::torch::parallel::{elements, elements_mut, int64s, zip_rows};
use crate::torch::{Argument, Arguments, Outputs, entry};
use crate::{Error, Result};

pub(super) static PROGRAM: Program = Program::new("face/solver.cu", &["solve<float>", "solve<double>"]);

/// Of a block at most; one a shape is best, and barriers of few warps are short.
const MOST_THREADS: u32 = 128;
const WARP: u32 = 32;
/// Block steps without progress before the walk.
const PATIENCE: usize = 3;
/// A free variable is outside its bounds if it is by so much, in units of the largest.
const OUTSIDE: f64 = 1e-11;
/// The upper bound of the smaller of a cancel pair.
const CANCELLED: f64 = 1e-10;
const MOST_REFINEMENTS: usize = 4;
/// Far beyond any walk seen; rounding could keep one from ending.
const MOST_STEPS: usize = 10_000;

/// The twin of `SolveParams` in `kernels/face/solver.cu`.
#[repr(C)]
struct Params {
    normal: u64,    // [P or 1, K, K] float64
    squared: u64,   // [P or 1, K, K] float64, A^T A
    rhs: u64,       // [P, F, K]
    previous: u64,  // [P, K]
    temporal: u64,  // [P]
    upper: u64,     // [K]
    pairs: u64,     // [pairs, 2]
    weights: u64,   // [P, F, K]
    workspace: u64, // [P, K (K + 1) / 2] float64, or null: shared memory
    frames: i64,
    size: i64,
    pair_count: i64,
    one_normal: i64,
    rounding_unit: f64, // of a gradient, relative to the sum of its magnitudes
}

entry!(avatorch_solve, "audio2face::solve", solve);
fn solve(args: &Arguments) -> Result<Outputs> {
    let rhs = args.tensor(1, "rhs")?.real()?.rank(3)?;
    let [problems, frames, size] = rhs.tensor.size()[..] else { unreachable!("three dimensions") };
    let normal = args.tensor(0, "normal")?.like(rhs)?.shape(&[-1, size, size])?;
    let matrices = normal.tensor.size()[0];
    if matrices != 1 && matrices != problems {
        return Err(Error::Value(format!(
            "audio2face::solve: normal has shape [{matrices}, {size}, {size}], expected 1 or {problems} matrices as rhs"
        )));
    }
    let previous = args.tensor(2, "previous")?.like(rhs)?.shape(&[problems, size])?.contiguous()?;
    let temporal = args.tensor(3, "temporal")?.like(rhs)?.shape(&[problems])?.contiguous()?;
    let upper = args.tensor(4, "upper")?.like(rhs)?.shape(&[size])?.contiguous()?;
    let pairs = args.tensor(5, "pairs")?.int64()?.same_device(rhs)?.shape(&[-1, 2])?;
    let normal = normal.tensor.f_to_kind(Kind::Double)?.f_contiguous()?;
    let (kind, device) = (rhs.tensor.kind(), rhs.tensor.device());
    let rhs = rhs.contiguous()?;
    let mut weights = Tensor::f_empty([problems, frames, size], (kind, device))?;
    if weights.numel() == 0 {
        return Ok(smallvec![Some(weights)]);
    }
    if let Device::Cuda(index) = device {
        let kernel = PROGRAM.kernel(index, for_real!(rhs, T => T::INDEX), args.stream())?;
        let squared = normal.f_transpose(1, 2)?.f_matmul(&normal)?;
        let pairs = pairs.contiguous()?;
        let triangle = size * (size + 1) / 2;
        let vectors = 8 * 8 * size + 4 * 3 * size; // the arrays of a `Problem`
        let shared_triangle = vectors + 8 * triangle <= i64::from(kernel.shared_limit());
        let workspace =
            (!shared_triangle).then(|| Tensor::f_empty([problems, triangle], (Kind::Double, device))).transpose()?;
        let params = Params {
            normal: address(&normal),
            squared: address(&squared),
            rhs: address(&rhs),
            previous: address(&previous),
            temporal: address(&temporal),
            upper: address(&upper),
            pairs: address(&pairs),
            weights: address(&weights),
            workspace: workspace.as_ref().map_or(0, address),
            frames,
            size,
            pair_count: pairs.size()[0],
            one_normal: i64::from(matrices == 1),
            rounding_unit: rounding_unit(size as usize),
        };
        let shared = vectors + if shared_triangle { 8 * triangle } else { 0 };
        let blocks = u32::try_from(problems).ok().filter(|&blocks| blocks < 1 << 31);
        let blocks =
            blocks.ok_or_else(|| Error::Value(format!("audio2face::solve: {problems} tracks are too many")))?;
        let shared = u32::try_from(shared).map_err(|_| {
            Error::Value(format!("audio2face::solve: rhs has {size} shapes, more than a block of threads can hold"))
        })?;
        let threads = u32::try_from(size).map_or(MOST_THREADS, |size| size.next_multiple_of(WARP).min(MOST_THREADS));
        kernel.launch(blocks, threads, shared, &params, args.stream())?;
    } else {
        let pair_list = checked_pairs(pairs, size)?;
        for_real!(rhs, T => {
            solve_cpu::<T>(&normal, &rhs, &previous, &temporal, &upper, &pair_list, &mut weights);
        });
    }
    Ok(smallvec![Some(weights)])
}

fn address(tensor: &Tensor) -> u64 {
    tensor.data_ptr() as u64
}

/// The cancel pairs, each within the shapes.
fn checked_pairs(pairs: Argument, size: i64) -> Result<Vec<[usize; 2]>> {
    let dense = pairs.contiguous()?;
    let (list, _) = int64s(&dense).as_chunks::<2>();
    let index = |row: usize, column: usize, value: i64| {
        let inside = usize::try_from(value).ok().filter(|_| value < size);
        inside.ok_or_else(|| pairs.wrong_index(&[row, column], value, &format!("0 to {}", size - 1)))
    };
    list.iter().enumerate().map(|(row, &[a, b])| Ok([index(row, 0, a)?, index(row, 1, b)?])).collect()
}

fn solve_cpu<T: Real>(
    normal: &Tensor,
    rhs: &Tensor,
    previous: &Tensor,
    temporal: &Tensor,
    upper: &Tensor,
    pairs: &[[usize; 2]],
    weights: &mut Tensor,
) {
    let [_, frames, size] = rhs.size()[..] else { unreachable!("checked") };
    let (frames, size) = (frames as usize, size as usize);
    let systems: Vec<System> =
        elements::<f64>(normal).chunks_exact(size * size).map(|a| System::new(a, size)).collect();
    let upper: Vec<f64> = widened(elements::<T>(upper));
    let (rhs, previous, temporal) = (elements::<T>(rhs), elements::<T>(previous), elements::<T>(temporal));
    zip_rows([(elements_mut::<T>(weights), frames * size)], 1, |problem, [out]| {
        let system = &systems[if systems.len() == 1 { 0 } else { problem }];
        let strength = widen(temporal[problem]);
        let mut work = Workspace::new(size);
        let mut last = widened(&previous[problem * size..][..size]);
        for (frame, out) in out.chunks_exact_mut(size).enumerate() {
            let b: Vec<f64> = widened(&rhs[(problem * frames + frame) * size..][..size])
                .iter()
                .zip(&last)
                .map(|(b, x)| b + strength * x)
                .collect();
            work.begin_at(&last, &upper);
            system.solve_with_pairs(&b, &upper, pairs, &mut work);
            for (to, from) in out.iter_mut().zip(&work.x) {
                *to = T::of(*from);
            }
            // What the caller sees is what follows from: a later call that starts here gives the same bits.
            last = widened(out);
        }
    });
}

fn widen<T: Real>(value: T) -> f64 {
    value.to_f64().unwrap_or(f64::NAN)
}

fn widened<T: Real>(values: &[T]) -> Vec<f64> {
    values.iter().map(|&value| widen(value)).collect()
}

/// A matrix, its square, and the factor of the square.
struct System<'a> {
    size: usize,
    a: &'a [f64],      // [K, K]
    squared: Vec<f64>, // [K, K], A^T A
    factor: Vec<f64>,  // of the whole square: the first step of every problem
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum At {
    Lower,
    Free,
    Upper,
}

struct Workspace {
    x: Vec<f64>,        // [K], the answer
    gradient: Vec<f64>, // [K], A^T (A x - b)
    rounding: Vec<f64>, // [K], a bound of the gradient's rounding error
    at: Vec<At>,        // [K]
    point: Vec<f64>,    // [K], within the bounds
    barred: Vec<bool>,  // [K], entered without effect
    free: Vec<usize>,
    factored: Vec<usize>, // the variables that the factor is of
    factor: Vec<f64>,     // rows of a lower triangle, packed
    step: Vec<f64>,       // [free]
}

impl Workspace {
    fn new(size: usize) -> Self {
        Self {
            x: vec![0.0; size],
            gradient: vec![0.0; size],
            rounding: vec![0.0; size],
            at: vec![At::Free; size],
            point: vec![0.0; size],
            barred: vec![false; size],
            free: Vec::with_capacity(size),
            factored: Vec::new(),
            factor: Vec::new(),
            step: Vec::new(),
        }
    }
}

impl<'a> System<'a> {
    fn new(a: &'a [f64], size: usize) -> Self {
        let mut squared = vec![0.0; size * size];
        for row in a.chunks_exact(size) {
            for (i, &left) in row.iter().enumerate() {
                for (sum, &right) in squared[i * size..][..size].iter_mut().zip(row) {
                    *sum += left * right;
                }
            }
        }
        let all: Vec<usize> = (0..size).collect();
        let mut factor = Vec::new();
        factorize(&squared, size, &all, &mut factor);
        Self { size, a, squared, factor }
    }

    /// Solves; bounds the smaller of each cancel pair close to zero, and solves again.
    fn solve_with_pairs(&self, b: &[f64], upper: &[f64], pairs: &[[usize; 2]], work: &mut Workspace) {
        self.solve(b, upper, work);
        if pairs.is_empty() {
            return;
        }
        let mut bounds = upper.to_vec();
        for &[i, j] in pairs {
            bounds[if work.x[i] >= work.x[j] { j } else { i }] = CANCELLED;
        }
        self.solve(b, &bounds, work);
    }

    fn solve(&self, b: &[f64], upper: &[f64], work: &mut Workspace) {
        if b.iter().any(|value| !value.is_finite()) || self.a.iter().any(|value| !value.is_finite()) {
            work.x.fill(f64::NAN);
            return;
        }
        if !self.pivot(b, upper, work) {
            self.walk(b, upper, work);
        }
        for ((x, &u), at) in work.x.iter_mut().zip(upper).zip(&work.at) {
            *x = match at {
                At::Lower => 0.0,
                At::Upper => u,
                At::Free => x.clamp(0.0, u.max(0.0)),
            };
        }
    }

    /// Block pivoting; whether it arrived.
    fn pivot(&self, b: &[f64], upper: &[f64], work: &mut Workspace) -> bool {
        let (mut fewest, mut patience) = (usize::MAX, PATIENCE);
        loop {
            self.solve_free(b, upper, work);
            let outside = OUTSIDE * work.largest_free();
            let wrong = (0..self.size).filter(|&i| work.moved(upper, outside, i) != work.at[i]).count();
            if wrong == 0 {
                return true;
            }
            if wrong < fewest {
                (fewest, patience) = (wrong, PATIENCE);
            } else if patience > 0 {
                patience -= 1;
            } else {
                return false;
            }
            for i in 0..self.size {
                work.at[i] = work.moved(upper, outside, i);
            }
        }
    }

    /// From the nearest point within the bounds to the minimum, one variable entering or leaving at a time.
    fn walk(&self, b: &[f64], upper: &[f64], work: &mut Workspace) {
        for (i, &bound) in upper.iter().enumerate() {
            let inside = work.x[i].clamp(0.0, bound.max(0.0));
            work.point[i] = inside;
            work.at[i] = if inside <= 0.0 {
                At::Lower
            } else if inside >= bound {
                At::Upper
            } else {
                At::Free
            };
        }
        work.barred.fill(false);
        let mut entering: Option<(usize, At)> = None;
        for _ in 0..MOST_STEPS {
            self.solve_free(b, upper, work);
            if let Some((i, from)) = entering.take() {
                let inward = if from == At::Lower { work.x[i] > 0.0 } else { work.x[i] < upper[i] };
                if !inward {
                    // Rounding let it in.
                    work.at[i] = from;
                    work.barred[i] = true;
                    continue;
                }
            }
            let (mut reach, mut hit) = (1.0, None);
            for &i in &work.free {
                let (from, to) = (work.point[i], work.x[i]);
                let (ratio, side) = if to < 0.0 {
                    (from / (from - to), At::Lower)
                } else if to > upper[i] {
                    ((upper[i] - from) / (to - from), At::Upper)
                } else {
                    continue;
                };
                if hit.is_none() || ratio < reach {
                    (reach, hit) = (ratio, Some((i, side)));
                }
            }
            for &i in &work.free {
                work.point[i] += reach * (work.x[i] - work.point[i]);
            }
            if let Some((i, side)) = hit {
                work.at[i] = side;
                work.point[i] = if side == At::Lower { 0.0 } else { upper[i] };
                if reach > 0.0 {
                    work.barred.fill(false);
                }
                continue;
            }
            let mut steepest = 0.0;
            for i in 0..self.size {
                if work.at[i] != At::Free && !work.barred[i] && work.moved(upper, 0.0, i) == At::Free {
                    let slope = work.gradient[i].abs();
                    if slope > steepest {
                        (steepest, entering) = (slope, Some((i, work.at[i])));
                    }
                }
            }
            match entering {
                Some((i, _)) => work.at[i] = At::Free,
                None => return,
            }
        }
    }

    /// The free variables that minimise with the others at their bounds, and the gradient there.
    fn solve_free(&self, b: &[f64], upper: &[f64], work: &mut Workspace) {
        let size = self.size;
        work.free.clear();
        for (i, &bound) in upper.iter().enumerate() {
            work.x[i] = match work.at[i] {
                At::Free => {
                    work.free.push(i);
                    0.0
                }
                At::Lower => 0.0,
                At::Upper => bound,
            };
        }
        let whole = work.free.len() == size;
        if !whole && work.factored != work.free {
            factorize(&self.squared, size, &work.free, &mut work.factor);
            work.factored.clone_from(&work.free);
        }
        self.gradient(b, work);
        let mut before = f64::INFINITY;
        for _ in 0..=MOST_REFINEMENTS {
            work.step.clear();
            work.step.extend(work.free.iter().map(|&i| -work.gradient[i]));
            substitute(if whole { &self.factor } else { &work.factor }, &mut work.step);
            let size_of_step = work.step.iter().fold(0.0_f64, |most, step| most.max(step.abs()));
            // A correction that does not shrink is rounding.
            if size_of_step >= 0.5 * before {
                break;
            }
            before = size_of_step;
            for (&i, step) in work.free.iter().zip(&work.step) {
                work.x[i] += step;
            }
            self.gradient(b, work);
            if size_of_step <= 1e-15 * work.largest_free() {
                break;
            }
        }
    }

    /// A^T (A x - b), and what rounding may have added to it.
    fn gradient(&self, b: &[f64], work: &mut Workspace) {
        work.gradient.fill(0.0);
        work.rounding.fill(0.0);
        for (row, &b) in self.a.chunks_exact(self.size).zip(b) {
            let (mut residual, mut magnitude) = (-b, b.abs());
            for (a, x) in row.iter().zip(&work.x) {
                residual += a * x;
                magnitude += (a * x).abs();
            }
            for ((gradient, rounding), a) in work.gradient.iter_mut().zip(&mut work.rounding).zip(row) {
                *gradient += a * residual;
                *rounding += a.abs() * magnitude;
            }
        }
        let unit = rounding_unit(self.size);
        for rounding in &mut work.rounding {
            *rounding *= unit;
        }
    }
}

impl Workspace {
    /// Where the search begins: what was at a bound in the frame before mostly still is. Without a frame before all are
    /// free.
    fn begin_at(&mut self, last: &[f64], upper: &[f64]) {
        for ((at, &x), &bound) in self.at.iter_mut().zip(last).zip(upper) {
            *at = if x <= 0.0 {
                At::Lower
            } else if x >= bound {
                At::Upper
            } else {
                At::Free
            };
        }
        if !self.at.contains(&At::Free) {
            self.at.fill(At::Free);
        }
    }

    fn largest_free(&self) -> f64 {
        self.free.iter().fold(0.0, |most, &i| most.max(self.x[i].abs()))
    }

    /// Where a variable belongs, by its value if it is free, by its gradient if it is not.
    fn moved(&self, upper: &[f64], outside: f64, i: usize) -> At {
        match self.at[i] {
            At::Free if self.x[i] < -outside => At::Lower,
            At::Free if self.x[i] > upper[i] + outside => At::Upper,
            At::Lower if self.gradient[i] < -self.rounding[i] => At::Free,
            At::Upper if self.gradient[i] > self.rounding[i] => At::Free,
            at => at,
        }
    }
}

/// The rounding error of a gradient, relative to the sum of its magnitudes.
fn rounding_unit(size: usize) -> f64 {
    f64::EPSILON * (size as f64).sqrt() * 4.0
}

/// The Cholesky factor of the rows and columns `free` of a matrix. A pivot that rounding made negative is floored:
/// refinement makes up for it.
fn factorize(matrix: &[f64], size: usize, free: &[usize], factor: &mut Vec<f64>) {
    let count = free.len();
    factor.clear();
    factor.resize(count * (count + 1) / 2, 0.0);
    let largest = free.iter().fold(0.0_f64, |most, &i| most.max(matrix[i * size + i]));
    let floor = (largest * f64::EPSILON * count as f64).max(f64::MIN_POSITIVE);
    for i in 0..count {
        let (done, row) = factor.split_at_mut(i * (i + 1) / 2);
        let row = &mut row[..=i];
        for j in 0..=i {
            let other = if j < i { &done[j * (j + 1) / 2..][..=j] } else { &[] };
            let mut sum = matrix[free[i] * size + free[j]];
            for m in 0..j {
                sum -= row[m] * if j < i { other[m] } else { row[m] };
            }
            row[j] = if j < i { sum / other[j] } else { sum.max(floor).sqrt() };
        }
    }
}

/// Solves L L^T x = b in place.
fn substitute(factor: &[f64], b: &mut [f64]) {
    let count = b.len();
    for i in 0..count {
        let row = &factor[i * (i + 1) / 2..][..=i];
        let sum: f64 = row[..i].iter().zip(&*b).map(|(l, x)| l * x).sum();
        b[i] = (b[i] - sum) / row[i];
    }
    for i in (0..count).rev() {
        let row = &factor[i * (i + 1) / 2..][..=i];
        b[i] /= row[i];
        let value = b[i];
        for (x, l) in b[..i].iter_mut().zip(row) {
            *x -= l * value;
        }
    }
}
