//! Which samples belong to which frame, and what stands in for samples beyond the ends.

use crate::{Error, Result};

use super::options::{Edge, Framing, Options};

/// Where frames lie on the time axis. Sample indices are signed: frames may begin before the clip.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames {
    /// First sample of frame 0.
    pub(super) origin: isize,
    /// Samples per frame.
    pub(super) length: usize,
    pub(super) hop: usize,
    pub(super) beyond: Beyond,
    drop_last: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Beyond {
    /// Frames never reach over the ends.
    Nothing,
    Zero,
    Reflect,
    Mirror,
}

impl Frames {
    pub(super) fn new(options: &Options) -> Self {
        let &Options { n_fft, win_length, hop_length: hop, drop_last, .. } = options;
        let (before, length, beyond) = match options.framing {
            Framing::Center(Edge::Zero) => (n_fft / 2, n_fft, Beyond::Zero),
            Framing::Center(Edge::Reflect) => (n_fft / 2, n_fft, Beyond::Reflect),
            Framing::Same => ((n_fft - hop) / 2, n_fft, Beyond::Reflect),
            Framing::Inside => (0, win_length, Beyond::Nothing),
            Framing::Mirrored => (0, win_length, Beyond::Mirror),
        };
        let origin = match beyond {
            Beyond::Mirror => (hop / 2) as isize - (win_length / 2) as isize,
            _ => -(before as isize),
        };
        Self { origin, length, hop, beyond, drop_last }
    }

    /// Frames of a clip of `n` samples.
    pub(super) fn count(&self, n: usize) -> Result<usize> {
        self.check(n)?;
        Ok(self.count_so_far(n))
    }

    /// As `count`, where the clip may be too short yet.
    fn count_so_far(&self, n: usize) -> usize {
        let frames = match self.beyond {
            Beyond::Mirror => (n + self.hop / 2) / self.hop,
            _ => match (n + 2 * self.reach()).checked_sub(self.length) {
                Some(steps) => steps / self.hop + 1,
                None => 0,
            },
        };
        if self.drop_last { frames.saturating_sub(1) } else { frames }
    }

    /// Frames that can be computed of a clip that has `n` samples and may go on.
    pub(super) fn ready(&self, n: usize) -> usize {
        let left_known = self.beyond != Beyond::Reflect || n > self.reach();
        let last_start = n as isize - self.length as isize - self.origin;
        if !left_known || last_start < 0 {
            return 0;
        }
        (last_start as usize / self.hop + 1).min(self.count_so_far(n))
    }

    /// How many samples before the clip the first frame begins.
    fn reach(&self) -> usize {
        (-self.origin).max(0) as usize
    }

    /// First sample of frame `t`.
    pub(super) fn start(&self, t: usize) -> isize {
        (t * self.hop) as isize + self.origin
    }

    fn check(&self, n: usize) -> Result<()> {
        if n > isize::MAX as usize / 4 {
            return Err(Error::Value(format!("the clip has {n} samples, more than memory can hold")));
        }
        let least = match self.beyond {
            Beyond::Nothing => 0,
            Beyond::Zero | Beyond::Mirror => 1,
            Beyond::Reflect => self.reach() + 1,
        };
        if n >= least {
            return Ok(());
        }
        Err(Error::Value(format!("the clip has {n} samples, expected at least {least} to mirror its edges")))
    }

    /// The sample that stands at index `i` of a clip of `n` samples; none is zero.
    pub(super) fn source(&self, i: isize, n: usize) -> Option<usize> {
        let n = n as isize;
        let inside = (0..n).contains(&i);
        match self.beyond {
            _ if inside => Some(i as usize),
            Beyond::Nothing | Beyond::Zero => None,
            Beyond::Reflect => {
                let i = i.abs();
                let i = if i >= n { 2 * (n - 1) - i } else { i };
                (0..n).contains(&i).then_some(i as usize)
            }
            Beyond::Mirror => {
                let i = i.rem_euclid(2 * n.max(1));
                (n > 0).then(|| (if i < n { i } else { 2 * n - 1 - i }) as usize)
            }
        }
    }
}
