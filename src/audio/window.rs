//! The weights of a frame's samples.

use std::f64::consts::PI;

use super::options::{Framing, Options, Window};

/// The weights of the samples under the window, [win_length].
pub(super) fn window(options: &Options) -> Vec<f64> {
    (0..options.win_length).map(|i| weight_at(options.window, i, options.win_length)).collect()
}

/// The same over a whole frame, zero where a window shorter than the frame leaves samples out.
pub(super) fn placed(weights: &[f64], options: &Options, frame_length: usize) -> Vec<f64> {
    let before = first_weight(options, frame_length);
    let mut frame = vec![0.0; frame_length];
    frame[before..before + weights.len()].copy_from_slice(weights);
    frame
}

/// The sample of a frame at which the window begins.
pub(super) fn first_weight(options: &Options, frame_length: usize) -> usize {
    match options.framing {
        Framing::Inside | Framing::Mirrored => 0,
        Framing::Center(_) | Framing::Same => (frame_length - options.win_length) / 2,
    }
}

fn weight_at(window: Window, i: usize, length: usize) -> f64 {
    let steps = if matches!(window, Window::Hann) { length } else { length - 1 };
    let angle = if steps == 0 { PI } else { 2.0 * PI * i as f64 / steps as f64 };
    let hann = 0.5 - 0.5 * angle.cos();
    match window {
        Window::Hann | Window::HannSymmetric => hann,
        Window::Povey => hann.powf(0.85),
        Window::Hamming => 0.54 - 0.46 * angle.cos(),
        Window::Blackman => 0.42 - 0.5 * angle.cos() + 0.08 * (2.0 * angle).cos(),
        Window::Rectangular => 1.0,
    }
}
