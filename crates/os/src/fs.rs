//! Paths of this machine that people name: where a root, a source or a destination is.

pub use std::fs::{canonicalize, create_dir_all, metadata};
