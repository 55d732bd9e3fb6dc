//! The directory that a log is in.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use xferd_os::{Dir, File, FileExt, seeded};

use super::lock;
use super::manifest::{BASE, INCREMENT, MANIFEST_BYTES_MAX, Manifest};

/// What names of files begin with: Redis's default of `appendfilename`.
const PREFIX: &str = "appendonly.aof";
const MANIFEST: &str = "appendonly.aof.manifest";
const NEW_MANIFEST: &str = "temp-appendonly.aof.manifest";
/// A base that is being written.
const NEW_BASE: &str = "temp-appendonly.aof.base";
const LOCK: &str = "xferd.lock";
const MODE: u32 = 0o600;

/// Why a log cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Another server writes to it.
    #[error("{0}: is used by another server; stop that one, or choose another directory")]
    InUse(String),
    /// So many keys are in it, and none should be.
    #[error("{0}: there are keys in it already ({1}); choose another directory")]
    NotEmpty(String, u64),
    /// Its list of files is no such list.
    #[error("{0}: {1}; restore it from a copy")]
    Manifest(String, String),
    /// It has something in it that was never written like that.
    #[error(
        "{file} is damaged at offset {offset}: {what}; restore the directory from a copy, or, to lose what is behind, keep a copy \
         and run redis-check-aof --fix"
    )]
    Damaged {
        /// The file.
        file: String,
        /// Where.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// What is to be imported is of no use.
    #[error("{file}, offset {offset}: {what}")]
    Import {
        /// The file.
        file: String,
        /// Where.
        offset: u64,
        /// What is wrong, and what can be done.
        what: String,
    },
    /// The system said no.
    #[error("{file}: {source}")]
    Io {
        /// The file or directory.
        file: String,
        /// What it said.
        source: io::Error,
    },
}

impl LogError {
    /// A name that stays the same.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InUse(_) => "LOG_IN_USE",
            Self::NotEmpty(..) => "LOG_NOT_EMPTY",
            Self::Manifest(..) => "LOG_MANIFEST",
            Self::Damaged { .. } => "LOG_DAMAGED",
            Self::Import { .. } => "IMPORT_REFUSED",
            Self::Io { .. } => "LOG_IO",
        }
    }
}

/// A directory that nobody else writes to.
#[derive(Debug)]
pub(crate) struct Directory {
    dir: Dir,
    path: PathBuf,
    /// Locked for as long as it is there.
    lock: Mutex<Option<File>>,
}

impl Directory {
    /// Makes it if it is not there, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, LogError> {
        let io = |source| LogError::Io { file: path.display().to_string(), source };
        make(path).map_err(io)?;
        let dir = Dir::open(path).map_err(io)?;
        let file = match dir.open_file_for_writing(LOCK) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match dir.create_file(LOCK, MODE) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => dir.open_file_for_writing(LOCK),
                created => created,
            },
            opened => opened,
        };
        let file = file.map_err(io)?;
        if !xferd_os::file::try_lock_exclusive(&file).map_err(io)? {
            return Err(LogError::InUse(path.display().to_string()));
        }
        Ok(Self { dir, path: path.to_owned(), lock: Mutex::new(Some(file)) })
    }

    /// What keeps others out until it is dropped; `None` if it was taken before.
    pub(crate) fn take_lock(&self) -> Option<File> {
        lock(&self.lock).take()
    }

    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The name of a file in it, for messages.
    pub(crate) fn shown(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    pub(crate) fn io(&self, name: &str) -> impl Fn(io::Error) -> LogError + use<> {
        let file = self.shown(name);
        move |source| LogError::Io { file: file.clone(), source }
    }

    /// Which files there are; `None` if there are none.
    pub(crate) fn manifest(&self) -> Result<Option<Manifest>, LogError> {
        let manifest = read_manifest(&self.dir, MANIFEST, &self.shown(MANIFEST))?;
        if manifest.is_none() {
            // Whoever lost the manifest does not want to lose the rest, but for what was never finished.
            for name in self.own_names()? {
                if is_finished(&name) && self.dir.attributes(&name).map_err(self.io(&name))?.size > 0 {
                    let what = format!("is not there, but {name} is");
                    return Err(LogError::Manifest(self.shown(MANIFEST), what));
                }
            }
        }
        Ok(manifest)
    }

    /// Replaces the manifest: after a crash it is the old one or this, and what it lists is there.
    pub(crate) fn set_manifest(&self, manifest: &Manifest) -> Result<(), LogError> {
        let set = || {
            let file = self.create(NEW_MANIFEST)?;
            file.write_all_at(manifest.text().as_bytes(), 0)?;
            file.sync_all()?;
            // Names may come to the disk in any order.
            if !seeded!(ListedUnnamed) {
                self.dir.sync()?;
            }
            self.dir.rename(NEW_MANIFEST, &self.dir, MANIFEST)?;
            self.dir.sync()
        };
        set().map_err(self.io(MANIFEST))
    }

    /// Makes the increment of that number, which is empty.
    pub(crate) fn create_increment(&self, number: u64) -> Result<(String, File), LogError> {
        let name = name(number, INCREMENT);
        let file = self.create(&name).map_err(self.io(&name))?;
        Ok((name, file))
    }

    /// Makes a file to write a base to.
    pub(crate) fn create_base(&self) -> Result<File, LogError> {
        self.create(NEW_BASE).map_err(self.io(NEW_BASE))
    }

    /// Names the base that was written and synced.
    pub(crate) fn name_base(&self, number: u64) -> Result<String, LogError> {
        let name = name(number, BASE);
        let renamed = self.dir.rename(NEW_BASE, &self.dir, &name).and_then(|()| self.dir.sync());
        renamed.map_err(self.io(&name))?;
        Ok(name)
    }

    /// Removes what a log has left behind that is not in its manifest.
    pub(crate) fn sweep(&self, manifest: &Manifest) -> Result<(), LogError> {
        for name in self.own_names()? {
            if !manifest.names().any(|listed| listed == name) {
                // What stays is swept next time.
                let _ = self.dir.remove_file(&name);
            }
        }
        Ok(())
    }

    /// Files whose names are those of a log, but for its manifest.
    fn own_names(&self) -> Result<Vec<String>, LogError> {
        let mut names = Vec::new();
        for entry in self.dir.entries().map_err(self.io(""))? {
            let entry = entry.map_err(self.io(""))?;
            if let Some(name) = entry.name.to_str().filter(|name| is_own(name)) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        match self.dir.create_file(name, MODE) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Left behind by a crash before anything named it.
                self.dir.remove_file(name)?;
                self.dir.create_file(name, MODE)
            }
            created => created,
        }
    }
}

/// Makes a directory and those above it, so that a power loss does not take them.
fn make(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let is_missing = |path: &&Path| xferd_os::fs::metadata(path).is_err();
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    xferd_os::fs::create_dir_all(&path)?;
    missing.into_iter().filter_map(Path::parent).try_for_each(|above| Dir::open(above)?.sync())
}

/// The manifest of that name in a directory.
pub(crate) fn read_manifest(dir: &Dir, name: &str, shown: &str) -> Result<Option<Manifest>, LogError> {
    let io = |source| LogError::Io { file: shown.to_owned(), source };
    let (file, attributes) = match dir.open_file(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(io)?,
    };
    let refused = |what| LogError::Manifest(shown.to_owned(), what);
    if attributes.size > MANIFEST_BYTES_MAX {
        return Err(refused(format!("is larger than {MANIFEST_BYTES_MAX} bytes")));
    }
    let mut text = Vec::new();
    xferd_os::file::append(&file, 0, attributes.size as usize, &mut text).map_err(io)?;
    Manifest::parse(&text).map(Some).map_err(refused)
}

fn name(number: u64, kind: char) -> String {
    let kind = if kind == BASE { "base" } else { "incr" };
    format!("{PREFIX}.{number}.{kind}.aof")
}

/// Whether a file of a log, by its name, is one that a manifest may list.
fn is_finished(name: &str) -> bool {
    name != NEW_MANIFEST && name != NEW_BASE
}

/// Whether a file of that name is one of a log, but for its manifest.
fn is_own(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('.')) else {
        return !is_finished(name);
    };
    let Some((number, kind)) = rest.split_once('.') else { return false };
    number.parse::<u64>().is_ok() && matches!(kind, "base.aof" | "base.rdb" | "incr.aof")
}
