//! Torch's products of halves, with sums in float32.

use std::sync::{Mutex, PoisonError};

unsafe extern "C" {
    /// Whether torch may add products of halves in halves; whether it might before.
    fn avatorch_allow_half_sums(allow: i32) -> i32;
}

/// Runs a product of halves whose result is float32. Where a program set `allow_fp16_accumulation`, torch would ask cuBLAS
/// for sums in halves beside such a result, which do not exist. The setting is all threads', so one goes at a time.
pub(crate) fn with_float_sums<T>(product: impl FnOnce() -> T) -> T {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    struct AsBefore(i32);
    impl Drop for AsBefore {
        fn drop(&mut self) {
            if self.0 != 0 {
                // SAFETY: it takes any number.
                unsafe { avatorch_allow_half_sums(self.0) };
            }
        }
    }
    let _one_at_a_time = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: as above.
    let _as_before = AsBefore(unsafe { avatorch_allow_half_sums(0) });
    product()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_as_before() {
        // SAFETY: it takes any number.
        let set = |allow| unsafe { avatorch_allow_half_sums(allow) };
        let before = set(1);
        assert_eq!(with_float_sums(|| set(0)), 0);
        assert_eq!(set(0), 1);
        assert_eq!(with_float_sums(|| 7), 7);
        assert_eq!(set(before), 0);
    }
}
