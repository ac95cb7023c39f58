//! Many things that wait for the disk, at once: a disk syncs many files together in little more time than one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Threads at work, the caller's included.
const THREADS: usize = 32;
/// What one thread does faster than others are started.
const ONE_THREAD_ITEMS: usize = 32;

/// Does `work` with every item, in any order, and says what failed first.
///
/// # Errors
/// The first error of `work`; what comes after it is done all the same.
pub(crate) fn try_for_each<T: Sync, E: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let take = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(item) {
                failed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert(error);
            }
        }
    };
    let helpers = (items.len() / ONE_THREAD_ITEMS).min(THREADS - 1);
    thread::scope(|scope| {
        for _ in 0..helpers {
            // Without threads to be had the caller does it alone.
            drop(thread::Builder::new().spawn_scoped(scope, take));
        }
        take();
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once_and_an_error_is_told() {
        for count in [0, 1, 31, 32, 1000] {
            let items: Vec<_> = (0..count).collect();
            let done = Mutex::new(vec![]);
            let result = try_for_each(&items, |item| {
                done.lock().unwrap().push(*item);
                if *item == 700 { Err(*item) } else { Ok(()) }
            });
            let mut done = done.into_inner().unwrap();
            done.sort_unstable();
            assert_eq!(done, items);
            assert_eq!(result, if count > 700 { Err(700) } else { Ok(()) });
        }
    }
}
