//! Local files, directories and links on their way to a push: found one after the other, opened in handfuls.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xferd_engine::{Failure, GATHERED_BYTES_MAX, OpenFiles, Opened, Wanted};
use xferd_os::{fs, scaled};
use xferd_store::{FileAttributes, Listed, Listing, Options, Store};
use xferd_wire::{DigestAlgorithm, Entry, EntryKind, ErrorCode, MakeDir, RemotePath, SetAttributes, Symlink};

use crate::job::{FileFailure, Job};
use crate::same::Comparison;
use crate::selection::Selection;
use crate::task::Channel;

/// Sources of one push.
pub const SOURCES_MAX: usize = 65_536;

/// Entries opened at a time: few enough that a second connection finds work left, enough to make a hand-over cheap.
const ENTRIES_AT_A_TIME: usize = 64;

/// Bytes of small files read at a time.
const BYTES_AT_A_TIME: u64 = scaled(512 << 10);

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
    File(LocalFile),
    Directory(SetAttributes),
    Link(Symlink),
}

impl Found {
    /// Where it goes.
    pub(crate) fn remote(&self) -> &RemotePath {
        match self {
            Self::File(file) => &file.remote,
            Self::Directory(attributes) => &attributes.path,
            Self::Link(link) => &link.path,
        }
    }

    /// Counts it as what would be pushed.
    pub(crate) fn rehearse(&self, job: &Job) {
        match self {
            Self::File(file) => job.rehearsed(EntryKind::File, file.size),
            Self::Directory(_) => job.rehearsed(EntryKind::Directory, 0),
            Self::Link(_) => job.rehearsed(EntryKind::Symlink, 0),
        }
    }
}

/// A file that was found, and not opened yet.
pub(crate) struct LocalFile {
    pub(crate) remote: RemotePath,
    pub(crate) size: u64,
    pub(crate) attributes: FileAttributes,
    store: Arc<Store>,
    local: RemotePath,
}

impl LocalFile {
    /// Has its content compared with that of the file that is where it goes.
    pub(crate) fn compare(&self, digest: DigestAlgorithm, channel: &mut Channel<'_>) -> (u32, Comparison) {
        Comparison::begin(&self.remote, &self.store, &self.local, digest, channel)
    }
}

/// Something ready to be pushed.
pub(crate) enum Supply {
    File { remote: RemotePath, opened: Opened },
    Directory(MakeDir),
    Link(Symlink),
}

impl Supply {
    /// A directory, writable for its owner until everything is in it.
    pub(crate) fn directory(attributes: &SetAttributes) -> Self {
        let (path, mode) = (attributes.path.clone(), attributes.mode | 0o700);
        Self::Directory(MakeDir { path, mode, parents: true })
    }
}

/// What was found at a time.
#[derive(Default)]
pub(crate) struct Handful {
    /// What is certain not to be there yet.
    pub(crate) new: Vec<Found>,
    /// What may be there already.
    pub(crate) doubtful: Vec<Found>,
    /// The last of that is a directory; if it is not there, nothing of what comes next is.
    pub(crate) doubtful_root: Option<RemotePath>,
    /// Attributes that directories get when everything is in them.
    pub(crate) directories: Vec<SetAttributes>,
    pub(crate) failures: Vec<FileFailure>,
    /// There is nothing more.
    pub(crate) exhausted: bool,
}

/// How much is opened at a time.
#[derive(Default)]
pub(crate) struct Portion {
    entries: usize,
    bytes: u64,
}

impl Portion {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.entries += 1;
        // A large one is the last: the others wait for it anyway.
        self.bytes += if bytes > GATHERED_BYTES_MAX { BYTES_AT_A_TIME } else { bytes };
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries >= ENTRIES_AT_A_TIME || self.bytes >= BYTES_AT_A_TIME
    }
}

/// Opens what was found.
#[derive(Clone)]
pub(crate) struct Opener {
    digest: DigestAlgorithm,
    mapped: bool,
    files: Arc<OpenFiles>,
}

impl Opener {
    pub(crate) fn new(sources: &Sources) -> Self {
        Self { digest: sources.digest, mapped: sources.mapped, files: Arc::default() }
    }

    /// Opens a file, and reads it if it is small. Blocks.
    pub(crate) fn open(&self, file: &LocalFile) -> Result<Opened, FileFailure> {
        let wanted = Wanted {
            start: 0,
            end: None,
            digest: self.digest,
            mapped: self.mapped,
            small_bytes_max: GATHERED_BYTES_MAX,
        };
        Opened::open(&file.store, &file.local, &wanted, &self.files)
            .map_err(|error| FileFailure { path: file.local.to_string(), failure: error.into() })
    }
}

/// Finds what one copy of a push consists of.
pub(crate) struct Walk {
    sources: Arc<Sources>,
    /// The number of this copy, if there are several.
    copy: Option<usize>,
    next_source: usize,
    tree: Option<Tree>,
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
    pub(crate) fn new(sources: Arc<Sources>, copy: Option<usize>) -> Self {
        Self { sources, copy, next_source: 0, tree: None, found_all: false }
    }

    /// Finds the next handful; `is_new` knows what is certain not to be there yet. Blocks.
    pub(crate) fn search(&mut self, job: &Job, is_new: impl Fn(&Found) -> bool) -> Handful {
        let mut handful = Handful::default();
        let mut portion = Portion::default();
        while !portion.is_full() && !job.is_cancelled() {
            let source = self.next_source;
            let found = match self.next() {
                None => {
                    handful.exhausted = true;
                    if !std::mem::replace(&mut self.found_all, true) {
                        job.searched();
                    }
                    break;
                }
                Some(Err(failure)) => {
                    handful.failures.push(failure);
                    continue;
                }
                Some(Ok(None)) => {
                    job.skipped();
                    continue;
                }
                Some(Ok(Some(found))) => found,
            };
            let is_new = is_new(&found);
            let mut bytes = 0;
            match &found {
                Found::Link(_) => {}
                Found::Directory(attributes) => {
                    handful.directories.push(attributes.clone());
                    if !is_new && source != self.next_source {
                        handful.doubtful_root = Some(attributes.path.clone());
                    }
                }
                Found::File(file) => {
                    job.found(file.size);
                    bytes = if is_new { file.size } else { 0 };
                }
            }
            portion.add(bytes);
            if is_new {
                handful.new.push(found)
            } else {
                handful.doubtful.push(found)
            }
            if handful.doubtful_root.is_some() {
                break;
            }
        }
        handful
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
        let Entry { size, mode, mtime, .. } = store.stat(&local).map_err(|error| failed(error.into()))?;
        let attributes = FileAttributes { mode, mtime };
        Ok(Some(Found::File(LocalFile { remote, size, attributes, store, local })))
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
    /// `None` for what is nothing to be pushed.
    type Item = Result<Option<Found>, FileFailure>;

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
                Ok(Some(found)) => return Some(Ok(Some(found))),
                Ok(None) => {}
                Err(failure) => return Some(Err(failure)),
            }
        }
    }
}

impl Tree {
    /// The next entry that is meant.
    fn next(&mut self, selection: &Selection) -> Option<Result<Option<Found>, FileFailure>> {
        loop {
            if self.batch.is_empty() && !self.ended {
                match self.listing.next_batch(usize::MAX) {
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

    fn find(&self, entry: Entry, selection: &Selection) -> Option<Result<Option<Found>, FileFailure>> {
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
        Some(Ok(Some(match kind {
            EntryKind::File => {
                let (store, attributes) = (self.store.clone(), FileAttributes { mode, mtime });
                Found::File(LocalFile { remote, size, attributes, store, local: path })
            }
            EntryKind::Directory => Found::Directory(SetAttributes { path: remote, mode, mtime }),
            EntryKind::Symlink => match link_target {
                Some(target) => Found::Link(Symlink { path: remote, target }),
                None => {
                    let failure = not_utf8(&format!("the target of the link {path}"));
                    return Some(Err(FileFailure { path: path.to_string(), failure }));
                }
            },
            EntryKind::Other => return Some(Ok(None)),
        })))
    }
}
