//! Paths of a simulated machine that people name.

use std::io;
use std::path::{Path, PathBuf};

use super::dir::Dir;
pub use super::file::Metadata;
use crate::attributes::Kind;

/// The path itself: people in this world name none with links in it.
///
/// # Errors
/// What looking there says.
pub fn canonicalize(path: &Path) -> io::Result<PathBuf> {
    metadata(path).map(|_| path.to_owned())
}

/// What is at `path`.
///
/// # Errors
/// What `stat(2)` says.
pub fn metadata(path: &Path) -> io::Result<Metadata> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(Metadata(Dir::open(parent)?.attributes(name)?.kind)),
        _ => Ok(Metadata(Kind::Directory)),
    }
}

/// Makes the directory `path`, and those above it.
///
/// # Errors
/// What `mkdir(2)` says.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    create_dir_all(parent)?;
    match Dir::open(parent)?.make_dir(name, 0o777) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
