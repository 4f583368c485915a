//! The weights of a frame's samples.

use std::f64::consts::PI;

use super::options::{Framing, Options, Window};

/// The window over one frame, zero where a window shorter than the frame leaves samples out.
pub(super) fn window(options: &Options, frame_length: usize) -> Vec<f64> {
    let length = options.win_length;
    let before =
        if matches!(options.framing, Framing::Inside | Framing::Mirrored) { 0 } else { (frame_length - length) / 2 };
    let mut weights = vec![0.0; frame_length];
    for (i, weight) in weights[before..before + length].iter_mut().enumerate() {
        *weight = weight_at(options.window, i, length);
    }
    weights
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
