//! Taking over what Redis has: its append-only directory, one of its append-only files, or a dump.

mod lzf;
mod packed;
mod rdb;

use std::path::Path;

use xferd_os::{Dir, fs};

use crate::keyspace::{Keyspace, STRIPES};
use crate::log::{
    BASE, Base, Directory, Listed, Loading, LogError, Manifest, Replay, load_all, read_manifest,
};
use crate::persistence::Report;

pub(crate) use rdb::{MAGIC, read_dump};

/// Puts into `keyspace` what is in the file or directory at `path`; keys that it has already are replaced. Nothing is changed
/// there, and a torn tail is not read.
///
/// # Errors
/// [`LogError`]. What was read until then is there.
pub fn import(path: &Path, keyspace: &Keyspace, loading: &Loading) -> Result<Report, LogError> {
    let shown = path.display().to_string();
    let io = |source| LogError::Io { file: shown.clone(), source };
    let refused = |what: &str| LogError::Import { file: shown.clone(), offset: 0, what: what.into() };
    let path = fs::canonicalize(path).map_err(io)?;
    let is_dir = fs::metadata(&path).map_err(io)?.is_dir();
    let (folder, name) = match (is_dir, path.parent(), path.file_name().and_then(|name| name.to_str())) {
        (true, ..) => (path.as_path(), None),
        (false, Some(parent), Some(name)) => (parent, Some(name.to_owned())),
        _ => return Err(refused("its name is not UTF-8; rename it")),
    };
    let dir = Dir::open(folder).map_err(io)?;
    let name = match name {
        Some(name) => name,
        None => {
            let mut manifests = Vec::new();
            for entry in dir.entries().map_err(io)? {
                let name = entry.map_err(io)?.name.to_string_lossy().into_owned();
                if name.ends_with(".manifest") && !name.starts_with("temp-") {
                    manifests.push(name);
                }
            }
            let first = manifests.pop().filter(|_| manifests.is_empty());
            first.ok_or_else(|| {
                refused("has not exactly one file *.manifest; name a file that is to be imported")
            })?
        }
    };
    let shown = |name: &str| folder.join(name).display().to_string();
    let manifest = if name.ends_with(".manifest") {
        read_manifest(&dir, &name, &shown(&name))?.unwrap_or_default()
    } else {
        Manifest::of_one(name)
    };
    let mut replay = Replay::new(keyspace);
    load_all(&dir, &shown, &manifest, &mut replay, loading).map(|(report, _)| report)
}

/// Puts what is in the file or directory at `path` into the directory `dir`, where a server finds it when it starts: all of it, or
/// nothing if that fails. The directory is made if it is not there. What was read, and how many keys there are now.
///
/// # Errors
/// [`LogError`]; also if a server uses the directory, or there are keys in it already.
pub fn import_into(path: &Path, dir: &Path, loading: &Loading) -> Result<(Report, u64), LogError> {
    let directory = Directory::open(dir)?;
    let before = directory.manifest()?.unwrap_or_default();
    let (there, shown) = (Keyspace::default(), |name: &str| directory.shown(name));
    load_all(directory.dir(), &shown, &before, &mut Replay::new(&there), &Loading::default())?;
    if keys(&there) > 0 {
        return Err(LogError::NotEmpty(dir.display().to_string(), keys(&there)));
    }
    let keyspace = Keyspace::default();
    let report = import(path, &keyspace, loading)?;
    let base = Base::new(directory.create_base()?, keyspace.now_ms() / 1000);
    keyspace.begin_snapshot(base, || Ok(())).map_err(directory.io(""))?;
    (0..STRIPES).all(|index| keyspace.save_stripe(index));
    if let Some(base) = keyspace.end_snapshot() {
        base.finish().map_err(directory.io("the base"))?;
    }
    let number = before.next(BASE);
    let name = directory.name_base(number)?;
    let manifest = Manifest { base: Some(Listed { name, number }), increments: Vec::new() };
    directory.set_manifest(&manifest)?;
    directory.sweep(&manifest)?;
    Ok((report, keys(&keyspace)))
}

fn keys(keyspace: &Keyspace) -> u64 {
    keyspace.stats().keys.iter().sum()
}
