//! Which registers this processor has.

use std::fmt;

use crate::{Error, Result};

/// The instructions that the kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor of the architecture has: SSE2 on x86-64, one lane elsewhere.
    Baseline,
    /// Four lanes on 64-bit ARM.
    Neon,
    /// Eight lanes.
    Avx2,
    /// Sixteen lanes.
    Avx512,
}

impl Level {
    pub const ALL: [Self; 4] = [Self::Baseline, Self::Neon, Self::Avx2, Self::Avx512];

    /// The fastest level of this processor.
    pub fn best() -> Self {
        Self::Avx512.or_less()
    }

    /// The fastest level of this processor that is no wider than this one.
    pub(crate) fn or_less(self) -> Self {
        Self::ALL.into_iter().rev().find(|level| *level <= self && level.is_available()).unwrap_or(Self::Baseline)
    }

    pub fn is_available(self) -> bool {
        match self {
            Self::Baseline => true,
            Self::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// This level, or a sentence when the processor lacks it.
    pub fn require(self) -> Result<Self> {
        if self.is_available() {
            return Ok(self);
        }
        Err(Error::Unsupported(format!("this processor has no {self}; the best it has is {}", Self::best())))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Baseline => "baseline",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}
