//! Local files, directories and links on their way to a push: found one after the other, opened in handfuls.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use xferd_engine::{Content, Failure, OpenFiles, OpenSource, Opened, Wanted};
use xferd_store::{Listed, Listing, Options, Store};
use xferd_wire::{
    DigestAlgorithm, Entry, EntryKind, ErrorCode, FileHeader, Identity, MakeDir, RemotePath, SetAttributes,
    Symlink,
};

use crate::job::{FileFailure, Job};
use crate::selection::Selection;

/// Sources of one push.
pub const SOURCES_MAX: usize = 65_536;

/// Entries opened at a time: few enough that a second connection finds work left, enough to make a hand-over cheap.
const ENTRIES_AT_A_TIME: usize = 64;

/// Bytes of small files read at a time.
const BYTES_AT_A_TIME: usize = 512 << 10;

/// What is to be pushed, and to where.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Local files and directories.
    pub paths: Vec<PathBuf>,
    /// Where they go.
    pub target: RemotePath,
    /// Each goes into `target` under its own name; otherwise the one source becomes `target`.
    pub into_target: bool,
    /// Which files of trees are meant.
    pub selection: Selection,
    /// The digest to take.
    pub digest: DigestAlgorithm,
    /// Send from a mapping.
    pub mapped: bool,
}

/// Something found.
pub(crate) enum Found {
    File { store: Arc<Store>, local: RemotePath, remote: RemotePath, size: u64, shared: Option<usize> },
    Directory(SetAttributes),
    Link(Symlink),
    Skipped,
}

/// Something ready to be pushed.
pub(crate) enum Supply {
    File { remote: RemotePath, opened: Opened },
    Directory(MakeDir),
    Link(Symlink),
}

/// The next handful.
pub(crate) struct Supplies {
    pub(crate) ready: Vec<Supply>,
    /// Attributes that directories get when everything is in them.
    pub(crate) directories: Vec<SetAttributes>,
    pub(crate) failures: Vec<FileFailure>,
    /// There is nothing more.
    pub(crate) exhausted: bool,
}

/// Files opened for all copies of a push at once, by the number of their source.
pub(crate) type SharedFiles = Arc<Mutex<HashMap<usize, (FileHeader, Identity, Arc<OpenSource>)>>>;

/// Finds what one copy of a push consists of.
pub(crate) struct Walk {
    sources: Arc<Sources>,
    /// The number of this copy, if there are several.
    copy: Option<usize>,
    next_source: usize,
    tree: Option<Tree>,
    shared_files: SharedFiles,
    found_all: bool,
}

struct Tree {
    store: Arc<Store>,
    listing: Listing,
    batch: VecDeque<Listed>,
    /// The listing has nothing more.
    ended: bool,
    remote: RemotePath,
}

impl Walk {
    pub(crate) fn new(sources: Arc<Sources>, copy: Option<usize>, shared_files: SharedFiles) -> Self {
        Self { sources, copy, next_source: 0, tree: None, shared_files, found_all: false }
    }

    /// Finds and opens the next handful. Blocks.
    pub(crate) fn supply(&mut self, job: &Job) -> Supplies {
        let mut supplies =
            Supplies { ready: Vec::new(), directories: Vec::new(), failures: Vec::new(), exhausted: false };
        let mut bytes = 0;
        while supplies.ready.len() < ENTRIES_AT_A_TIME && bytes < BYTES_AT_A_TIME && !job.is_cancelled() {
            match self.next() {
                None => {
                    supplies.exhausted = true;
                    if !std::mem::replace(&mut self.found_all, true) {
                        job.searched();
                    }
                    break;
                }
                Some(Err(failure)) => supplies.failures.push(failure),
                Some(Ok(Found::Skipped)) => job.skipped(),
                Some(Ok(Found::Link(link))) => supplies.ready.push(Supply::Link(link)),
                Some(Ok(Found::Directory(attributes))) => {
                    // Writable for its owner until everything is in it.
                    let (path, mode) = (attributes.path.clone(), attributes.mode | 0o700);
                    supplies.ready.push(Supply::Directory(MakeDir { path, mode, parents: true }));
                    supplies.directories.push(attributes);
                }
                Some(Ok(Found::File { store, local, remote, size, shared })) => {
                    job.found(size);
                    match self.open(&store, &local, shared) {
                        Ok(opened) => {
                            let is_large = match &opened.content {
                                Content::Small(content, _) => {
                                    bytes += content.len();
                                    false
                                }
                                Content::Large(_) => true,
                            };
                            supplies.ready.push(Supply::File { remote, opened });
                            if is_large {
                                break;
                            }
                        }
                        Err(failure) => supplies.failures.push(failure),
                    }
                }
            }
        }
        supplies
    }

    fn open(&self, store: &Store, local: &RemotePath, shared: Option<usize>) -> Result<Opened, FileFailure> {
        let wanted = Wanted { start: 0, end: None, digest: self.sources.digest, mapped: self.sources.mapped };
        let open = || {
            Opened::open(store, local, &wanted, &OpenFiles::default())
                .map_err(|error| FileFailure { path: local.to_string(), failure: error.into() })
        };
        let Some(source) = shared.filter(|_| self.copy.is_some()) else { return open() };
        let mut files = self.shared_files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((header, identity, open)) = files.get(&source) {
            return Ok(Opened {
                header: *header,
                identity: *identity,
                content: Content::Large(open.clone()),
            });
        }
        let opened = open()?;
        if let Content::Large(open) = &opened.content {
            files.insert(source, (opened.header, opened.identity, open.clone()));
        }
        Ok(opened)
    }

    fn begin_source(&mut self, number: usize) -> Result<Option<Found>, FileFailure> {
        let Some(path) = self.sources.paths.get(number) else { return Ok(None) };
        let failed = |failure: Failure| FileFailure { path: path.display().to_string(), failure };
        let what = path.display().to_string();
        // A link that is named is meant for what it points to; links inside a tree are kept as links.
        let full = fs::canonicalize(path).map_err(|error| failed(Failure::io(&what, &error)))?;
        let metadata = fs::metadata(&full).map_err(|error| failed(Failure::io(&what, &error)))?;
        let remote = self.remote_root(path, &full).map_err(failed)?;
        let open_store = |root: &Path| {
            Store::open(root, Options { read_only: true, ..Options::default() })
                .map(Arc::new)
                .map_err(|error| failed(error.into()))
        };
        if metadata.is_dir() {
            let store = open_store(&full)?;
            let attributes = store.stat(&RemotePath::ROOT).map_err(|error| failed(error.into()))?;
            let listing = store.list(&RemotePath::ROOT, true).map_err(|error| failed(error.into()))?;
            self.tree =
                Some(Tree { store, listing, batch: VecDeque::new(), ended: false, remote: remote.clone() });
            if remote.is_root() || !self.sources.selection.takes_directory("") {
                return Ok(None);
            }
            let Entry { mode, mtime, .. } = attributes;
            return Ok(Some(Found::Directory(SetAttributes { path: remote, mode, mtime })));
        }
        if !metadata.is_file() {
            return Err(failed(Failure::new(
                ErrorCode::NotAFile,
                format!("{what} is neither a file nor a directory; only those can be pushed"),
            )));
        }
        let (Some(parent), Some(name)) = (full.parent(), full.file_name().and_then(|name| name.to_str()))
        else {
            return Err(failed(not_utf8(&what)));
        };
        let local = RemotePath::parse(name).map_err(|error| failed(bad_path(&error)))?;
        let store = open_store(parent)?;
        Ok(Some(Found::File { store, local, remote, size: metadata.len(), shared: Some(number) }))
    }

    /// Where a source goes: under its own name or the target's, with the number of the copy.
    fn remote_root(&self, given: &Path, full: &Path) -> Result<RemotePath, Failure> {
        let target = &self.sources.target;
        let remote = if self.sources.into_target {
            let name = given.file_name().or_else(|| full.file_name());
            let Some(name) = name else {
                let message = format!("{} has no name of its own; name the target", given.display());
                return Err(Failure::new(ErrorCode::InvalidArgument, message));
            };
            let name = name.to_str().ok_or_else(|| not_utf8(&given.display().to_string()))?;
            target.join(name).map_err(|error| bad_path(&error))?
        } else {
            target.clone()
        };
        numbered(&remote, self.copy)
    }
}

/// The path of one of several copies: `{n}` in it is its number, otherwise `.N` is appended.
pub(crate) fn numbered(path: &RemotePath, copy: Option<usize>) -> Result<RemotePath, Failure> {
    let Some(copy) = copy else { return Ok(path.clone()) };
    let path = path.as_str();
    let path =
        if path.contains("{n}") { path.replace("{n}", &copy.to_string()) } else { format!("{path}.{copy}") };
    RemotePath::parse(&path).map_err(|error| bad_path(&error))
}

/// A path that cannot be one.
pub(crate) fn bad_path(error: &xferd_wire::PathError) -> Failure {
    Failure::new(ErrorCode::BadPath, error.to_string())
}

fn not_utf8(what: &str) -> Failure {
    let message =
        format!("{what}: the name is not UTF-8; rename it, for xferd keeps names as UTF-8 on every system");
    Failure::new(ErrorCode::NameNotUtf8, message)
}

impl Iterator for Walk {
    type Item = Result<Found, FileFailure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(tree) = &mut self.tree {
                match tree.next(&self.sources.selection) {
                    Some(found) => return Some(found),
                    None => self.tree = None,
                }
            }
            if self.next_source == self.sources.paths.len() {
                return None;
            }
            self.next_source += 1;
            match self.begin_source(self.next_source - 1) {
                Ok(Some(found)) => return Some(Ok(found)),
                Ok(None) => {}
                Err(failure) => return Some(Err(failure)),
            }
        }
    }
}

impl Tree {
    /// The next entry that is meant.
    fn next(&mut self, selection: &Selection) -> Option<Result<Found, FileFailure>> {
        loop {
            if self.batch.is_empty() && !self.ended {
                match self.listing.next_batch() {
                    Ok(batch) => {
                        self.ended = batch.is_empty();
                        self.batch = batch.into();
                    }
                    Err(error) => {
                        self.ended = true;
                        return Some(Err(FileFailure {
                            path: self.remote.to_string(),
                            failure: error.into(),
                        }));
                    }
                }
            }
            match self.batch.pop_front()? {
                Listed::Entry(entry) => {
                    if let Some(found) = self.find(entry, selection) {
                        return Some(found);
                    }
                }
                Listed::Skipped(error) => {
                    return Some(Err(FileFailure { path: self.remote.to_string(), failure: error.into() }));
                }
            }
        }
    }

    fn find(&self, entry: Entry, selection: &Selection) -> Option<Result<Found, FileFailure>> {
        let Entry { path, kind, size, mode, mtime, link_target } = entry;
        let meant = match kind {
            EntryKind::Directory => selection.takes_directory(path.as_str()),
            _ => selection.takes_file(path.as_str()),
        };
        if !meant {
            return None;
        }
        let remote = match self.remote.join(path.as_str()) {
            Ok(remote) => remote,
            Err(error) => {
                return Some(Err(FileFailure { path: path.to_string(), failure: bad_path(&error) }));
            }
        };
        Some(Ok(match kind {
            EntryKind::File => {
                Found::File { store: self.store.clone(), local: path, remote, size, shared: None }
            }
            EntryKind::Directory => Found::Directory(SetAttributes { path: remote, mode, mtime }),
            EntryKind::Symlink => match link_target {
                Some(target) => Found::Link(Symlink { path: remote, target }),
                None => {
                    let failure = not_utf8(&format!("the target of the link {path}"));
                    return Some(Err(FileFailure { path: path.to_string(), failure }));
                }
            },
            EntryKind::Other => Found::Skipped,
        }))
    }
}
