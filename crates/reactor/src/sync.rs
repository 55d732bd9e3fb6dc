//! What threads share. With `--cfg loom` it comes from loom, which tries every order in which they can take their turns
//! and every value that each of them may still see (`npm run loom`).

#[cfg(loom)]
pub use self::model::*;
#[cfg(not(loom))]
pub use self::real::*;

#[cfg(not(loom))]
mod real {
    pub use std::sync::{Condvar, Mutex, MutexGuard, atomic};

    pub use crossbeam_queue::{ArrayQueue, SegQueue};

    /// What a driver hears while it waits.
    #[cfg(not(xferd_sim))]
    #[derive(Debug)]
    pub(crate) enum Bell {
        Mio(mio::Waker),
        #[cfg(target_os = "linux")]
        Event(std::sync::Arc<xferd_os::Bell>),
    }

    #[cfg(not(xferd_sim))]
    impl Bell {
        pub(crate) fn wake(&self) -> std::io::Result<()> {
            match self {
                Self::Mio(waker) => waker.wake(),
                #[cfg(target_os = "linux")]
                Self::Event(bell) => bell.ring(),
            }
        }
    }
}

#[cfg(loom)]
mod model {
    use std::io;
    use std::sync::PoisonError;

    use self::atomic::{AtomicUsize, Ordering};
    pub use loom::sync::{Condvar, Mutex, MutexGuard, atomic};

    /// More than any model queues at a time.
    const SLOTS: usize = 3;

    /// What a bell is to a driver that waits for nothing else: rings until it is heard.
    #[derive(Debug, Default)]
    pub struct Bell {
        rings: Mutex<bool>,
        changed: Condvar,
    }

    impl Bell {
        pub(crate) fn wake(&self) -> io::Result<()> {
            *self.rings.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.changed.notify_one();
            Ok(())
        }

        pub(crate) fn wait(&self) {
            let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
            while !std::mem::take(&mut *rings) {
                rings = self.changed.wait(rings).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// A queue that promises less than crossbeam's: who takes something sees what its giver did before, and nothing else
    /// is ordered by it. Nor does it keep the order of what it holds.
    #[derive(Debug)]
    pub struct ArrayQueue<T>(Vec<Slot<T>>);

    /// The same without a limit that anybody asked for.
    #[derive(Debug)]
    pub struct SegQueue<T>(ArrayQueue<T>);

    #[derive(Debug)]
    struct Slot<T> {
        state: AtomicUsize,
        /// Whoever has made the slot busy is alone with it.
        value: std::sync::Mutex<Option<T>>,
    }

    const EMPTY: usize = 0;
    const BUSY: usize = 1;
    const FULL: usize = 2;

    impl<T> ArrayQueue<T> {
        pub fn new(max: usize) -> Self {
            let slot = || Slot { state: AtomicUsize::new(EMPTY), value: std::sync::Mutex::new(None) };
            Self((0..max.min(SLOTS)).map(|_| slot()).collect())
        }

        pub fn push(&self, value: T) -> Result<(), T> {
            for slot in &self.0 {
                if slot.claims(EMPTY) {
                    *slot.value() = Some(value);
                    slot.state.store(FULL, Ordering::Release);
                    return Ok(());
                }
            }
            Err(value)
        }

        pub fn pop(&self) -> Option<T> {
            self.0.iter().find_map(|slot| {
                if slot.state.load(Ordering::Acquire) != FULL || !slot.claims(FULL) {
                    return None;
                }
                let value = slot.value().take();
                slot.state.store(EMPTY, Ordering::Release);
                value
            })
        }
    }

    impl<T> Slot<T> {
        fn claims(&self, from: usize) -> bool {
            self.state.compare_exchange(from, BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok()
        }

        fn value(&self) -> std::sync::MutexGuard<'_, Option<T>> {
            self.value.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl<T> SegQueue<T> {
        pub fn new() -> Self {
            Self(ArrayQueue::new(SLOTS))
        }

        pub fn push(&self, value: T) {
            assert!(self.0.push(value).is_ok(), "a model queues more than {SLOTS}");
        }

        pub fn pop(&self) -> Option<T> {
            self.0.pop()
        }
    }
}
