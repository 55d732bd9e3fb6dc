//! The one place that talks to the kernel: files, directories, mappings and sockets.
//!
//! Everything that needs a system call beyond `std`, and every `unsafe` block that goes with it, lives here. Each
//! Linux mechanism has a portable sibling with the same observable behaviour; `--cfg xferd_portable` selects the
//! siblings on Linux too, so that one machine tests both.

mod address;
mod attributes;
#[cfg(target_os = "linux")]
mod bell;
#[cfg(not(xferd_sim))]
mod boot;
#[cfg(not(xferd_sim))]
pub mod clock;
#[cfg(not(xferd_sim))]
pub mod dir;
#[cfg(not(xferd_sim))]
pub mod file;
#[cfg(not(xferd_sim))]
pub mod fs;
mod limit;
#[cfg(not(xferd_sim))]
mod mapping;
pub mod memory;
#[cfg(not(xferd_sim))]
pub mod net;
mod pages;
mod prefetch;
#[cfg(not(xferd_sim))]
pub mod random;
mod refusal;
mod scale;
#[cfg(xferd_sim)]
pub mod sim;
pub mod sink;

#[cfg(not(xferd_sim))]
pub use std::fs::File;
#[cfg(not(xferd_sim))]
pub use std::os::unix::fs::FileExt;

pub use attributes::{Attributes, Kind, Timestamp};
#[cfg(target_os = "linux")]
pub use bell::Bell;
#[cfg(not(xferd_sim))]
pub use boot::boot_id;
pub use dir::{Dir, DirEntries, DirEntry};
pub use limit::raise_descriptor_limit;
#[cfg(not(xferd_sim))]
pub use mapping::Mapping;
pub use pages::Pages;
pub use prefetch::prefetch;
pub use refusal::Refusal;
pub use scale::scaled;
#[cfg(xferd_sim)]
pub use sim::{File, FileExt, Mapping, clock, dir, file, fs, net, random};
pub use sink::Sink;

/// A map whose keys may come from a peer.
pub type HashMap<K, V> = std::collections::HashMap<K, V, random::RandomState>;
/// A set whose members may come from a peer.
pub type HashSet<T> = std::collections::HashSet<T, random::RandomState>;

/// Which run of the machine this is.
#[cfg(xferd_sim)]
pub fn boot_id() -> Option<[u8; 16]> {
    Some(sim::boot_id())
}

/// Marks the place of a [defect](sim::Defect) that the simulator can have the code make, to show that it is found. The
/// product has none: there it is `false`.
#[cfg(xferd_sim)]
#[macro_export]
macro_rules! seeded {
    ($defect:ident) => {
        $crate::sim::is_seeded($crate::sim::Defect::$defect)
    };
}

/// Marks the place of a defect that the simulator can have the code make. Here there is none.
#[cfg(not(xferd_sim))]
#[macro_export]
macro_rules! seeded {
    ($defect:ident) => {
        false
    };
}
