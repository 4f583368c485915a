//! Many clips at once, each on one thread.

use std::sync::Mutex;

use crate::{Error, Result};

use super::float::Float;
use super::plan::{Plan, Workspace, louder};
use super::samples::Sample;

/// One clip's samples and the room for its features.
pub struct Clip<'a, S, F> {
    pub samples: &'a [S],
    pub values: &'a mut [F],
}

impl<F: Float> Plan<F> {
    /// The features of every clip, as `compute` gives them, on as many threads as there are workspaces.
    ///
    /// Clips may differ in length. With a dynamic range below the batch's maximum, clips that hold values that are not
    /// finite become NaN and do not count.
    pub fn compute_batch<S: Sample>(
        &self,
        clips: &mut [Clip<'_, S, F>],
        workspaces: &mut [Workspace<F>],
    ) -> Result<()> {
        if workspaces.is_empty() {
            return Err(Error::Value("there are 0 workspaces, expected one per thread".into()));
        }
        if !self.finish.spans_the_batch() {
            return on_threads(clips, workspaces, |clip, workspace| self.compute(clip.samples, clip.values, workspace));
        }
        let loudest = Mutex::new(F::rounded(f64::NEG_INFINITY));
        on_threads(clips, workspaces, |clip, workspace| {
            let own = self.raw(clip.samples, clip.values, workspace)?;
            if own.widened().is_nan() {
                clip.values.fill(F::NAN);
            }
            let mut loudest = loudest.lock().expect("no holder panics");
            *loudest = louder(*loudest, own);
            Ok(())
        })?;
        let loudest = loudest.into_inner().expect("no holder panics");
        on_threads(clips, workspaces, |clip, _| {
            self.complete(loudest, clip.values);
            Ok(())
        })
    }
}

/// Hands the clips to the threads one by one; gives the first clip's error, if any.
fn on_threads<S: Sample, F: Float>(
    clips: &mut [Clip<'_, S, F>],
    workspaces: &mut [Workspace<F>],
    work: impl Fn(&mut Clip<'_, S, F>, &mut Workspace<F>) -> Result<()> + Sync,
) -> Result<()> {
    let named = |index: usize, error: Error| match error {
        Error::Value(text) => Error::Value(format!("clip {index}: {text}")),
        other => other,
    };
    if let [workspace] = workspaces {
        return clips
            .iter_mut()
            .enumerate()
            .try_for_each(|(index, clip)| work(clip, workspace).map_err(|error| named(index, error)));
    }
    let queue = Mutex::new(clips.iter_mut().enumerate());
    let failure = Mutex::new(None::<(usize, Error)>);
    let run = |workspace: &mut Workspace<F>| {
        loop {
            let next = queue.lock().expect("no holder panics").next();
            let Some((index, clip)) = next else { break };
            if let Err(error) = work(clip, workspace) {
                let mut failure = failure.lock().expect("no holder panics");
                if failure.as_ref().is_none_or(|(first, _)| index < *first) {
                    *failure = Some((index, named(index, error)));
                }
            }
        }
    };
    let (own, others) = workspaces.split_first_mut().expect("there are at least two");
    std::thread::scope(|scope| {
        for workspace in others {
            // Where the system refuses a thread, the others do its share.
            let _ = std::thread::Builder::new().spawn_scoped(scope, || run(workspace));
        }
        run(own);
    });
    failure.into_inner().expect("no holder panics").map_or(Ok(()), |(_, error)| Err(error))
}
