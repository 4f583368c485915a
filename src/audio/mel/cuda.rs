//! The operators on a GPU: parameters, launch shapes, launches.

use tch::{Kind, Tensor};

use super::call::Call;
use super::convention::Convention;
use crate::body::{Real, for_real};
use crate::cuda::{Program, blocks_of, multiprocessors};
use crate::{Error, Result};

pub(crate) static FORWARD: Program = Program::new(
    "audio/mel.cu",
    &[
        "log_mel<float>",
        "log_mel<double>",
        "loudest<float>",
        "loudest<double>",
        "loudest_of_batch<float>",
        "loudest_of_batch<double>",
        "finish<float>",
        "finish<double>",
        "normalize<float>",
        "normalize<double>",
        "log_mel_coprime<16>",
        "log_mel_lanes<16, 16>",
    ],
);
/// Frames of a tile of the last two kernels, which have a frame for each lane.
const LANES_FRAMES: usize = 16;
const COPRIME: usize = 10;
const LANES: usize = 11;
const LOUDEST: usize = 2;
const LOUDEST_OF_BATCH: usize = 4;
const FINISH: usize = 6;
const NORMALIZE: usize = 8;

pub(crate) static BACKWARD: Program = Program::new(
    "audio/mel_backward.cu",
    &[
        "log_mel_backward<float>",
        "log_mel_backward<double>",
        "normalize_backward<float>",
        "normalize_backward<double>",
        "range_backward<float>",
        "range_backward<double>",
        "loudest_backward<float>",
        "loudest_backward<double>",
        "fold<float>",
        "fold<double>",
    ],
);
const NORMALIZE_BACKWARD: usize = 2;
const RANGE_BACKWARD: usize = 4;
const LOUDEST_BACKWARD: usize = 6;
const FOLD: usize = 8;

/// `kThreads` and `kValuesAThread` of the kernels.
const THREADS: u32 = 128;
const VALUES_A_THREAD: u32 = 16;
/// Blocks of the tile kernels that a multiprocessor runs at once.
const RESIDENT_BLOCKS: u32 = 4;
/// Samples of a clip, padded, and values of one: what the kernels index with 32 bits.
const MOST_SAMPLES: usize = 1 << 30;
const MOST_VALUES: usize = 1 << 31;
/// Frames of a tile, at most; a power of two.
const MOST_FRAMES_LOG2: u32 = 3;
/// Gradients of frames are held for so many bytes of clips at a time.
const MOST_GRADIENT_BYTES: usize = 1 << 28;

/// The twin of `MelParams` in `kernels/audio/mel.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Params {
    waveform: u64,      // [clip, sample]
    window: u64,        // [win_length]
    filters: u64,       // [n_mels, bin]
    bands: u64,         // [n_mels, 2]
    lengths: u64,       // [clip]
    grad: u64,          // of the values
    values: u64,        // the values; backward: gradients of the logarithms
    logs: u64,          // backward
    peaks: u64,         // [clip, frame]
    loudest: u64,       // [clip + 1], or [clip, frame]
    totals: u64,        // [clip, 2]
    of_frames: u64,     // [clip, frame]
    grad_frames: u64,   // [clip, frame, frame sample]
    grad_waveform: u64, // [clip, sample]
    clips: i64,
    samples: i64,
    n_frames: i64,
    tiles: i64,
    padding_length: i64,
    input_scale: f64,
    preemphasis_coefficient: f64,
    magnitude_epsilon: f64,
    guard_value: f64,
    range_below: f64,
    range_constant: f64,
    scale: f64,
    offset: f64,
    n_fft: i32,
    frame_length: i32,
    first_weight: i32,
    win_length: i32,
    n_mels: i32,
    hop_length: i32,
    origin: i32,
    beyond: i32,
    drop_last: i32,
    padding: i32,
    remove_dc: i32,
    preemphasis: i32,
    log: i32,
    guard: i32,
    loudest_of: i32,
    normalize_bands: i32,
    frame_major: i32,
    is_scaled: i32,
    frames_log2: i32,
    points: i32,
    row_stride: i32,
    radix_count: i32,
    radices: [i32; 16],
}
const _: () = assert!(size_of::<Params>() == 19 * 8 + 8 * 8 + 38 * 4);

const OF_BATCH: i32 = 2;
const SO_FAR: i32 = 3;

impl Params {
    fn new<T: Real>(call: &Call) -> Result<Self> {
        let convention = Convention::from(&call.clips.options);
        let padded = call.clips.length.saturating_add(convention.padding_length as usize);
        if padded >= MOST_SAMPLES || call.clips.row() >= MOST_VALUES {
            return Err(Error::Value(format!(
                "mel::log_mel: a clip of {padded} samples with its padding, and {} values, is too long for one call; \
                 expected less than {MOST_SAMPLES} samples and {MOST_VALUES} values",
                call.clips.row()
            )));
        }
        let (points, radices) = transform::<T>(convention.n_fft as usize);
        let mut all = [0; 16];
        all[..radices.len()].copy_from_slice(&radices);
        Ok(Self {
            waveform: address(&call.waveform),
            window: address(&call.window),
            filters: address(&call.filters),
            bands: address(&call.bands),
            lengths: call.lengths.as_ref().map_or(0, address),
            clips: call.clips.count as i64,
            samples: call.clips.length as i64,
            n_frames: call.clips.n_frames as i64,
            padding_length: convention.padding_length,
            input_scale: convention.input_scale,
            preemphasis_coefficient: convention.preemphasis_coefficient,
            magnitude_epsilon: convention.magnitude_epsilon,
            guard_value: convention.guard_value,
            range_below: convention.range_below,
            range_constant: convention.range_constant,
            scale: convention.scale,
            offset: convention.offset,
            n_fft: convention.n_fft as i32,
            frame_length: convention.frame_length as i32,
            first_weight: convention.first_weight as i32,
            win_length: convention.win_length as i32,
            n_mels: convention.n_mels as i32,
            hop_length: convention.hop_length as i32,
            origin: convention.origin as i32,
            beyond: convention.beyond as i32,
            drop_last: convention.drop_last as i32,
            padding: convention.padding as i32,
            remove_dc: convention.remove_dc as i32,
            preemphasis: convention.preemphasis as i32,
            log: convention.log as i32,
            guard: convention.guard as i32,
            loudest_of: convention.loudest as i32,
            normalize_bands: convention.normalize_bands as i32,
            frame_major: convention.frame_major as i32,
            points: points as i32,
            row_stride: row_stride(points) as i32,
            radix_count: radices.len() as i32,
            radices: all,
            ..Self::default()
        })
    }

    /// A clip's range hangs on values that are known only when all of it is.
    fn waits(&self) -> bool {
        (1..=SO_FAR).contains(&self.loudest_of)
    }

    /// Bytes of shared memory for tiles of `1 << log2` frames: what `Tile` of mel.cuh lays out.
    fn shared<T: Real>(&self, log2: u32) -> u32 {
        let [n_fft, length, n_mels, hop, stride] =
            [self.n_fft, self.frame_length, self.n_mels, self.hop_length, self.row_stride].map(|n| n as usize);
        let (frames, bins, is_backward) = (1 << log2, n_fft / 2 + 1, usize::from(self.grad_frames != 0));
        let span = (frames - 1) * hop + length;
        let reals = 2 * n_fft + 2 * length + 2 * bins + span + 4 * frames * stride + frames + THREADS as usize;
        let integers = 2 * n_mels + 1 + is_backward * 2 * bins;
        (size_of::<T>() * (reals + is_backward * n_mels * frames) + size_of::<i32>() * integers) as u32
    }

    /// Launches a kernel that goes through tiles of frames.
    fn launch_tiles<T: Real>(mut self, program: &Program, device: usize, stream: *mut std::ffi::c_void) -> Result<()> {
        let kernel = program.kernel(device, T::INDEX, stream)?;
        let limit = kernel.shared_limit();
        // Half of the memory is left to another block where that is possible.
        let log2 = (0..=MOST_FRAMES_LOG2)
            .rev()
            .find(|&log2| self.shared::<T>(log2) <= limit / 2)
            .or_else(|| (0..=MOST_FRAMES_LOG2).rev().find(|&log2| self.shared::<T>(log2) <= limit))
            .ok_or_else(|| {
                Error::Value(format!(
                    "mel::log_mel: n_fft is {}, too large for the GPU: a frame needs {} bytes of shared memory, a block \
                     has {limit}",
                    self.n_fft,
                    self.shared::<T>(0)
                ))
            })?;
        self.frames_log2 = log2 as i32;
        self.tiles = (self.n_frames as u64).div_ceil(1 << log2) as i64;
        let blocks = (RESIDENT_BLOCKS * multiprocessors(device)?).min(blocks_of(self.clips, self.tiles, 1)?);
        kernel.launch(blocks, THREADS, self.shared::<T>(log2), &self, stream)
    }

    /// How to launch the kernel with a frame for each lane, where there is one.
    fn lanes<T: Real>(mut self) -> Option<LanesLaunch> {
        let is_plain = size_of::<T>() == 4 && self.remove_dc == 0 && self.preemphasis != 1;
        let [n_fft, hop, n_mels] = [self.n_fft, self.hop_length, self.n_mels].map(|n| n as usize);
        // Two more than a multiple of 32: lanes that read neighbours meet different banks. Frames of an odd length have
        // a pair behind a row.
        let pair = 2 * (self.frame_length as usize % 2);
        let stride = (hop + pair + 29) / 32 * 32 + 2;
        let span = (LANES_FRAMES - 1 + n_fft.div_ceil(hop)) * stride;
        self.row_stride = stride as i32;
        self.tiles = (self.n_frames as u64).div_ceil(LANES_FRAMES as u64) as i64;
        let (kernel, threads, blocks, words) = match n_fft {
            // What `Coprime` of mel_coprime.cuh lays out: points, taps, bins, range, samples, bands, weights.
            400 if is_plain => {
                let (columns, parts, bins) = (13, 16, 201);
                let tables = 2 * parts * 26 + columns * parts / 2 + 8;
                let filters = 4 * n_mels + 2 * bins + 2 + 4 * n_mels;
                (COPRIME, 256, 4, 2 * columns * parts * LANES_FRAMES + tables + span.next_multiple_of(4) + filters)
            }
            // What `Lanes` of mel_lanes.cuh lays out.
            512 if is_plain && hop.is_multiple_of(2) => {
                let points = n_fft / 2;
                let samples_and_points = 2 * LANES_FRAMES * (points + 2) + span.next_multiple_of(4);
                let weights = 2 * (points + 1) + 4 * n_mels;
                let tables = 8 * points + THREADS as usize + 8;
                (LANES, THREADS, 4, tables + samples_and_points + 2 * weights + 2 * n_mels + 1)
            }
            _ => return None,
        };
        Some(LanesLaunch { kernel, params: self, threads, blocks, shared: (4 * words) as u32 })
    }

    /// Samples to logarithms.
    fn launch_logarithms<T: Real>(self, device: usize, stream: *mut std::ffi::c_void) -> Result<()> {
        if let Some(LanesLaunch { kernel, params, threads, blocks, shared }) = self.lanes::<T>() {
            let kernel = FORWARD.kernel(device, kernel, stream)?;
            if shared <= kernel.shared_limit() {
                let most = blocks * multiprocessors(device)?;
                let blocks = most.min(blocks_of(params.clips, params.tiles, 1)?);
                return kernel.launch(blocks, threads, shared, &params, stream);
            }
        }
        self.launch_tiles::<T>(&FORWARD, device, stream)
    }

    /// Launches another kernel of this part with a block for each of `count` rows of `items`.
    fn launch_rows<T: Real>(
        &self,
        program: &Program,
        kernel: usize,
        (count, items, per_block): (i64, i64, u32),
        device: usize,
        stream: *mut std::ffi::c_void,
    ) -> Result<()> {
        let kernel = program.kernel(device, kernel + T::INDEX, stream)?;
        kernel.launch(blocks_of(count, items, per_block)?, THREADS, 0, self, stream)
    }

    /// Finds what the floors hang on, from the peaks of the frames.
    fn find_loudest<T: Real>(&self, device: usize, stream: *mut std::ffi::c_void) -> Result<()> {
        self.launch_rows::<T>(&FORWARD, LOUDEST, (self.clips, 1, 1), device, stream)?;
        if self.loudest_of == OF_BATCH {
            self.launch_rows::<T>(&FORWARD, LOUDEST_OF_BATCH, (1, 1, 1), device, stream)?;
        }
        Ok(())
    }
}

/// A kernel with a frame for each lane.
struct LanesLaunch {
    kernel: usize,
    params: Params,
    threads: u32,
    /// That a multiprocessor has room for.
    blocks: u32,
    shared: u32,
}

/// Room for the peaks of frames and for what the floors hang on, which live until the kernels are launched.
fn peaks(call: &Call, params: &mut Params) -> Result<[Tensor; 2]> {
    let options = (call.waveform.kind(), call.waveform.device());
    let peaks = Tensor::f_empty([params.clips, params.n_frames], options)?;
    let loudest = match params.loudest_of {
        SO_FAR => peaks.f_empty_like()?,
        _ => Tensor::f_empty([params.clips + 1], options)?,
    };
    (params.peaks, params.loudest) = (address(&peaks), address(&loudest));
    Ok([peaks, loudest])
}

/// Writes the values of a call that has any.
pub(super) fn forward(call: &Call, values: &Tensor, device: usize, stream: *mut std::ffi::c_void) -> Result<()> {
    for_real!(call.waveform, T => {
        let mut params = Params::new::<T>(call)?;
        params.values = address(values);
        params.is_scaled = 1;
        if params.waits() {
            let _room = peaks(call, &mut params)?;
            params.launch_logarithms::<T>(device, stream)?;
            params.find_loudest::<T>(device, stream)?;
            let row = params.n_frames * i64::from(params.n_mels);
            let rows = (params.clips, row, THREADS * VALUES_A_THREAD);
            params.launch_rows::<T>(&FORWARD, FINISH, rows, device, stream)?;
        } else {
            params.launch_logarithms::<T>(device, stream)?;
        }
        if params.normalize_bands != 0 {
            let bands = (params.clips, params.n_mels.into(), 1);
            params.launch_rows::<T>(&FORWARD, NORMALIZE, bands, device, stream)?;
        }
        Ok(())
    })
}

/// Writes the gradient of the waveform of a call that has any values.
pub(super) fn backward(
    call: &Call,
    grad: &Tensor,
    grad_waveform: &Tensor,
    device: usize,
    stream: *mut std::ffi::c_void,
) -> Result<()> {
    for_real!(call.waveform, T => {
        let mut params = Params::new::<T>(call)?;
        let (logs, grad_logs) = (grad.f_empty_like()?, grad.f_empty_like()?);
        let doubles = (Kind::Double, call.waveform.device());
        let totals = Tensor::f_empty([params.clips, 2], doubles)?;
        let of_frames = Tensor::f_empty([params.clips, params.n_frames], doubles)?;
        let room = peaks(call, &mut params)?;
        params.values = address(&logs);
        params.launch_logarithms::<T>(device, stream)?;
        if params.waits() {
            params.find_loudest::<T>(device, stream)?;
        }
        (params.values, params.logs, params.grad) = (address(&grad_logs), address(&logs), address(grad));
        params.totals = address(&totals);
        params.of_frames = if params.loudest_of == SO_FAR { address(&of_frames) } else { 0 };
        if params.normalize_bands != 0 {
            let bands = (params.clips, params.n_mels.into(), 1);
            params.launch_rows::<T>(&BACKWARD, NORMALIZE_BACKWARD, bands, device, stream)?;
        }
        params.launch_rows::<T>(&BACKWARD, RANGE_BACKWARD, (params.clips, 1, 1), device, stream)?;
        if params.waits() {
            params.launch_rows::<T>(&BACKWARD, LOUDEST_BACKWARD, (params.clips, 1, 1), device, stream)?;
        }
        drop(room);
        through_frames::<T>(call, &params, grad_waveform, device, stream)
    })
}

/// Gradients of logarithms to those of samples, some clips at a time.
fn through_frames<T: Real>(
    call: &Call,
    params: &Params,
    grad_waveform: &Tensor,
    device: usize,
    stream: *mut std::ffi::c_void,
) -> Result<()> {
    let (frames, length, n_mels) = (params.n_frames, i64::from(params.frame_length), i64::from(params.n_mels));
    let clip_bytes = frames as usize * length as usize * size_of::<T>();
    let at_once = (MOST_GRADIENT_BYTES / clip_bytes).clamp(1, call.clips.count);
    let options = (call.waveform.kind(), call.waveform.device());
    let grad_frames = Tensor::f_empty([at_once as i64, frames, length], options)?;
    for first in (0..call.clips.count).step_by(at_once) {
        let clips = at_once.min(call.clips.count - first);
        let skipped = |values: i64| (first as i64 * values) as u64 * size_of::<T>() as u64;
        let part = Params {
            waveform: params.waveform + skipped(params.samples),
            lengths: if params.lengths == 0 { 0 } else { params.lengths + 8 * first as u64 },
            values: params.values + skipped(frames * n_mels),
            grad_frames: address(&grad_frames),
            grad_waveform: address(grad_waveform) + skipped(params.samples),
            clips: clips as i64,
            ..*params
        };
        part.launch_tiles::<T>(&BACKWARD, device, stream)?;
        part.launch_rows::<T>(&BACKWARD, FOLD, (part.clips, part.samples, THREADS), device, stream)?;
    }
    Ok(())
}

fn address(tensor: &Tensor) -> u64 {
    tensor.data_ptr() as u64
}

/// Points of the complex transform, and its passes: pairs of samples are one point where that is possible.
fn transform<T: Real>(n_fft: usize) -> (usize, Vec<i32>) {
    let points = if n_fft.is_multiple_of(2) { n_fft / 2 } else { n_fft };
    let known: &[usize] = if size_of::<T>() == 4 { &[25, 5, 3, 8, 4, 2] } else { &[5, 3, 8, 4, 2] };
    let (mut rest, mut radices) = (points, Vec::new());
    for &radix in known {
        while rest.is_multiple_of(radix) {
            rest /= radix;
            radices.push(radix as i32);
        }
    }
    let mut prime = 7;
    while rest > 1 {
        if rest.is_multiple_of(prime) {
            rest /= prime;
            radices.push(prime as i32);
        } else {
            prime += 2;
        }
    }
    (points, radices)
}

/// Places of a row with one in 33 left out, such that eight rows begin at banks 0, 4, ... 28.
fn row_stride(points: usize) -> usize {
    let places = points + points / 32 + 1;
    places + (36 - places % 32) % 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_passes_of_a_transform_make_its_points() {
        for n_fft in (4..3000).chain([1 << 16, 65_535]) {
            for (points, radices) in [transform::<f32>(n_fft), transform::<f64>(n_fft)] {
                assert_eq!(radices.iter().map(|&radix| radix as usize).product::<usize>(), points);
                assert!(radices.len() <= 16);
            }
        }
        assert_eq!(transform::<f32>(400), (200, vec![25, 8]));
    }

    #[test]
    fn rows_begin_at_different_banks_and_hold_their_points() {
        for points in 1..3000 {
            assert_eq!(row_stride(points) % 32, 4);
            assert!(row_stride(points) > points - 1 + (points - 1) / 32);
        }
    }
}
