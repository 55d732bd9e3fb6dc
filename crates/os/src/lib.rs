//! The one place that talks to the kernel: files, directories, mappings and sockets.
//!
//! Everything that needs a system call beyond `std`, and every `unsafe` block that goes with it, lives here. Each
//! Linux mechanism has a portable sibling with the same observable behaviour; `--cfg xferd_portable` selects the
//! siblings on Linux too, so that one machine tests both.

#[cfg(target_os = "linux")]
mod bell;
mod boot;
pub mod dir;
pub mod file;
mod limit;
mod mapping;
pub mod memory;
pub mod net;
mod refusal;
pub mod sink;

#[cfg(target_os = "linux")]
pub use bell::Bell;
pub use boot::boot_id;
pub use dir::{Dir, DirEntries, DirEntry};
pub use file::{Attributes, Kind, Timestamp};
pub use limit::raise_descriptor_limit;
pub use mapping::Mapping;
pub use refusal::Refusal;
pub use sink::Sink;
