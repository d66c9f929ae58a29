//! A core that stops because of what it was told is a finding, not the end of the campaign.

use std::{
    cell::{Cell, RefCell},
    panic,
    sync::Once,
};

static HOOK: Once = Once::new();

thread_local! {
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Panics of this thread are remembered instead of printed, while `work` is done.
pub(crate) fn remembered<T>(work: impl FnOnce() -> T) -> T {
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if QUIET.get() {
                LAST.set(info.to_string());
            } else {
                before(info);
            }
        }));
    });
    let was = QUIET.replace(true);
    let done = work();
    QUIET.set(was);
    done
}

/// The last panic of this thread.
pub(crate) fn last() -> String {
    LAST.with_borrow(Clone::clone)
}
