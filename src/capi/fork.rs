//! A process may fork while other threads are inside the library. The child has none of those threads, so whatever they
//! have locked would stay locked: the tables of handles are held across the fork by the thread that forks.

use std::cell::RefCell;
use std::ffi::c_int;
use std::sync::Once;

use super::mel::{ARRAYS, PLANS, WORKSPACES};
use super::mojo_audio::SPECTROGRAMS;
use super::stream::STREAMS;

unsafe extern "C" {
    fn pthread_atfork(before: extern "C" fn(), in_parent: extern "C" fn(), in_child: extern "C" fn()) -> c_int;
}

/// A lock that ends when it is dropped.
trait Held {}
impl<T> Held for T {}

thread_local! {
    /// What the thread holds while it forks.
    static HELD: RefCell<Vec<Box<dyn Held>>> = const { RefCell::new(Vec::new()) };
}

/// Makes forks safe from now on. Where the system has no room to note that down, they are as before.
pub(super) fn prepare() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        // SAFETY: the functions live as long as the library, and the system forgets them when it is unloaded.
        unsafe { pthread_atfork(hold, release, release) };
    });
}

extern "C" fn hold() {
    // No call holds one table while it waits for another, so the order does not matter.
    let tables: [Box<dyn Held>; 5] = [
        Box::new(PLANS.hold()),
        Box::new(WORKSPACES.hold()),
        Box::new(ARRAYS.hold()),
        Box::new(STREAMS.hold()),
        Box::new(SPECTROGRAMS.hold()),
    ];
    // While the thread ends it cannot keep them; then the fork is as before.
    let _ = HELD.try_with(|held| held.borrow_mut().extend(tables));
}

extern "C" fn release() {
    let _ = HELD.try_with(|held| held.borrow_mut().clear());
}
