//! Catches panics of user code, quietly, with their message and place.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}
static HOOK: Once = Once::new();

/// Runs user code; a panic in it becomes its message and place.
///
/// Nothing that the code had borrowed is used after a panic except to be dropped, so no broken value is seen.
pub(crate) fn catch<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(install_hook);
    let before = GUARDED.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(code));
    GUARDED.set(before);
    outcome.map_err(|payload| PANIC.take().unwrap_or_else(|| text(payload.as_ref())))
}

/// The hook records panics of guarded threads and leaves all others to the hook that was there.
fn install_hook() {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !GUARDED.get() {
            return previous(info);
        }
        let message = text(info.payload());
        let message = match info.location() {
            Some(place) => format!("{message} ({}:{})", place.file(), place.line()),
            None => message,
        };
        PANIC.set(Some(message));
    }));
}

fn text(payload: &dyn Any) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message_and_place() {
        let empty: Vec<u8> = Vec::new();
        let message = catch(|| empty[3]).expect_err("out of bounds");
        assert!(message.contains("index is 3") && message.contains("guard.rs:"), "{message}");
        assert_eq!(catch(|| 5), Ok(5));
    }
}
