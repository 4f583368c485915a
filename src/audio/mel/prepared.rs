//! Plans of the conventions in use, made once for each set of tables.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::Result;
use crate::audio::filter_bank::Filter;
use crate::audio::float::Float;
use crate::audio::gradient::Adjoint;
use crate::audio::options::Options;
use crate::audio::plan::Plan;
use crate::audio::samples::Sample;
use crate::body::Real;
use crate::simd::Level;

/// Conventions in use at a time, for which plans are kept.
const RECENT_PLANS: usize = 16;

/// A convention with the tables of a call, and its plans.
pub(super) struct Prepared {
    text: String,
    options: Options,
    window: Vec<f64>,
    filters: Vec<Filter<f64>>,
    single: Plans<f32>,
    double: Plans<f64>,
}

pub(super) struct Plans<F: Float> {
    forward: OnceLock<Plan<F>>,
    backward: OnceLock<Adjoint<F>>,
}

impl<F: Float> Default for Plans<F> {
    fn default() -> Self {
        Self { forward: OnceLock::new(), backward: OnceLock::new() }
    }
}

impl Prepared {
    /// The plans of these tables: those of an earlier call if nothing changed.
    pub(super) fn of(text: &str, options: Options, window: &[f64], filters: Vec<Filter<f64>>) -> Arc<Self> {
        static RECENT: Mutex<Vec<Arc<Prepared>>> = Mutex::new(Vec::new());
        let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
        let found = recent.iter().position(|known| known.is_of(text, window, &filters));
        let prepared = match found {
            Some(at) => recent.remove(at),
            None => Arc::new(Self {
                text: text.into(),
                options,
                window: window.to_vec(),
                filters,
                single: Plans::default(),
                double: Plans::default(),
            }),
        };
        if recent.len() == RECENT_PLANS {
            recent.remove(0);
        }
        recent.push(Arc::clone(&prepared));
        prepared
    }

    fn is_of(&self, text: &str, window: &[f64], filters: &[Filter<f64>]) -> bool {
        self.text == text && self.window == window && self.filters == filters
    }
}

/// A precision with its plans.
pub(super) trait Scalar: Real + Float + Sample {
    fn plans(prepared: &Prepared) -> &Plans<Self>;

    fn plan(prepared: &Prepared) -> Result<&Plan<Self>> {
        let plans = Self::plans(prepared);
        if plans.forward.get().is_none() {
            let Prepared { options, window, filters, .. } = prepared;
            let _ = plans.forward.set(Plan::with_tables(*options, Level::best(), window, filters)?);
        }
        Ok(plans.forward.get().expect("it was set, here or by another thread"))
    }

    fn adjoint(prepared: &Prepared) -> Result<&Adjoint<Self>> {
        let plans = Self::plans(prepared);
        if plans.backward.get().is_none() {
            let Prepared { options, window, filters, .. } = prepared;
            let _ = plans.backward.set(Adjoint::new(*options, Level::best(), window, filters)?);
        }
        Ok(plans.backward.get().expect("it was set, here or by another thread"))
    }
}

impl Scalar for f32 {
    fn plans(prepared: &Prepared) -> &Plans<Self> {
        &prepared.single
    }
}

impl Scalar for f64 {
    fn plans(prepared: &Prepared) -> &Plans<Self> {
        &prepared.double
    }
}
