//! How much memory a simulated process has: whatever its code allocates, wherever that is.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::world::ProcessId;

/// Allocates as the system does, and counts what the [watched](watch) process of each thread has. To be the global
/// allocator of whoever plays worlds.
///
/// What belongs to the world, such as what is on a disk or on its way, is not the process's, though it comes about in its
/// turn. Who owns an allocation stands in front of it, so that it is counted right wherever it is given back.
#[derive(Debug)]
pub struct Accounts;

/// What one thread counts.
struct Account {
    process: Cell<Option<ProcessId>>,
    /// Stands in front of what the watched process has. None is ever used twice, by any thread.
    owner: Cell<u64>,
    /// Whether that process allocates now.
    is_open: Cell<bool>,
    held: Cell<u64>,
    peak: Cell<u64>,
}

/// In front of what nobody watched.
const NOBODY: u64 = 0;

static OWNERS: AtomicU64 = AtomicU64::new(NOBODY + 1);

thread_local! {
    // Neither initialized nor destroyed by code of its own: the allocator may come here at any time.
    static ACCOUNT: Account = const {
        Account {
            process: Cell::new(None),
            owner: Cell::new(NOBODY),
            is_open: Cell::new(false),
            held: Cell::new(0),
            peak: Cell::new(0),
        }
    };
}

/// From now on counts what `process` has, which is nothing so far.
pub fn watch(process: ProcessId) {
    ACCOUNT.with(|account| {
        account.process.set(Some(process));
        account.owner.set(OWNERS.fetch_add(1, Ordering::Relaxed));
        account.held.set(0);
        account.peak.set(0);
    });
}

/// Bytes that the watched process has.
pub fn held() -> u64 {
    ACCOUNT.with(|account| account.held.get())
}

/// The most that it had since this was last asked.
pub fn peak() -> u64 {
    ACCOUNT.with(|account| account.peak.replace(account.held.get()))
}

/// Has `run` done for `process`, or for the world.
pub(super) fn charge<T>(process: Option<ProcessId>, run: impl FnOnce() -> T) -> T {
    /// As it was before, also after a panic.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            ACCOUNT.with(|account| account.is_open.set(self.0));
        }
    }
    let _before = ACCOUNT.with(|account| {
        let is_open = process.is_some() && account.process.get() == process;
        Before(account.is_open.replace(is_open))
    });
    run()
}

impl Account {
    /// Counts what is allocated now; returns its owner.
    fn add(&self, bytes: usize) -> u64 {
        if !self.is_open.get() {
            return NOBODY;
        }
        self.held.set(self.held.get() + bytes as u64);
        self.peak.set(self.peak.get().max(self.held.get()));
        self.owner.get()
    }

    /// It is given back.
    fn remove(&self, owner: u64, bytes: usize) {
        if owner != NOBODY && owner == self.owner.get() {
            self.held.set(self.held.get() - bytes as u64);
        }
    }
}

/// What is asked of the system for `layout`, and how far behind its beginning that lies: behind the owner, and aligned.
fn with_owner(layout: Layout) -> Option<(Layout, usize)> {
    Layout::new::<u64>().extend(layout).ok()
}

// SAFETY: blocks are the system's, each with `layout` of it at an offset that follows from `layout` alone, and an owner in
// front of that which nobody else sees. Nothing here panics or allocates.
unsafe impl GlobalAlloc for Accounts {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((block, offset)) = with_owner(layout) else { return ptr::null_mut() };
        // SAFETY: it has room for an owner at least.
        let base = unsafe { System.alloc(block) };
        if base.is_null() {
            return base;
        }
        let owner = ACCOUNT.with(|account| account.add(layout.size()));
        // SAFETY: the block begins with room for the owner, for which it is aligned; `layout` begins behind that.
        unsafe {
            base.cast::<u64>().write(owner);
            base.add(offset)
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let Some((block, offset)) = with_owner(layout) else { return };
        // SAFETY: `alloc` returned `at` for `layout`, so the block begins that far in front of it, with its owner.
        let (base, owner) = unsafe {
            let base = at.sub(offset);
            (base, base.cast::<u64>().read())
        };
        ACCOUNT.with(|account| account.remove(owner, layout.size()));
        // SAFETY: that is what the system gave for that.
        unsafe { System.dealloc(base, block) }
    }
}
