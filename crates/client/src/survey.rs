//! Finds out what a pull consists of, then has it pulled.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xferd_engine::Failure;
use xferd_os::{HashSet, fs};
use xferd_store::{FileAttributes, Options, Store};
use xferd_wire::{DigestAlgorithm, Entry, EntryKind, ErrorCode, Frame, List, RemotePath};

use crate::ask::LISTED_ENTRIES_MAX;
use crate::dispatcher::Dispatcher;
use crate::job::{Job, Ticket};
use crate::pull::{Copy, Manner, Pull, Unchanged, Wanted, WantedKind};
use crate::same::{Compare, Verdict, has_attributes, is_directory, is_link_to};
use crate::selection::Selection;
use crate::sources::{bad_path, numbered};
use crate::task::{Channel, ClientOutcome, Course, Task, TaskEvent, unexpected};

/// What is to be pulled, and to where.
#[derive(Clone, Debug)]
pub struct PullSpec {
    /// Files and directories on the server.
    pub paths: Vec<RemotePath>,
    /// Where they go: into it, if it is a directory, ends with `/` or there are several; else the one becomes it.
    pub destination: PathBuf,
    /// Which files of trees are meant.
    pub selection: Selection,
    /// Copies, each under its own name.
    pub clients: usize,
    /// Connections that share out one copy's files.
    pub streams: usize,
    /// The digest that checks them.
    pub digest: DigestAlgorithm,
    /// Whether each file is synced before it counts.
    pub durable: bool,
    /// What is there already, and left out.
    pub compare: Compare,
    /// Find out what would be pulled, and pull nothing.
    pub dry_run: bool,
}

/// One path of the specification and what is there.
struct Surveyed {
    path: RemotePath,
    root: Entry,
    /// What a directory contains, by path from it.
    entries: Vec<Entry>,
}

pub(crate) struct Survey {
    ticket: Ticket,
    spec: Arc<PullSpec>,
    dispatcher: Dispatcher,
    unasked: VecDeque<RemotePath>,
    asking: Option<u32>,
    /// The path that is being asked about.
    asked: RemotePath,
    surveyed: Vec<Surveyed>,
    entries: usize,
}

/// What each copy consists of.
pub(crate) type Plan = Vec<Vec<Wanted>>;

impl Task for Survey {
    fn start(&mut self, channel: &mut Channel<'_>) -> Result<Course, Failure> {
        channel.check_digest(self.spec.digest)?;
        self.spec.compare.check(self.spec.digest, channel)?;
        Ok(self.ask_next(channel))
    }

    fn on_frame(&mut self, request: u32, frame: Frame, channel: &mut Channel<'_>) -> Result<Course, Failure> {
        if self.asking != Some(request) {
            return Err(unexpected(&frame));
        }
        match frame {
            Frame::Entry(root) => {
                let path = root.path.clone();
                if root.kind == EntryKind::Directory {
                    self.asking =
                        Some(channel.request(&Frame::List(List { path: path.clone(), recursive: true })));
                    self.surveyed.push(Surveyed { path, root, entries: Vec::new() });
                    return Ok(Course::Running);
                }
                self.surveyed.push(Surveyed { path, root, entries: Vec::new() });
            }
            Frame::Entries(entries) => {
                self.entries += entries.len();
                if self.entries > LISTED_ENTRIES_MAX {
                    let message = format!(
                        "more than {LISTED_ENTRIES_MAX} files in one pull; pull the directories one by one"
                    );
                    return Err(Failure::new(ErrorCode::Limit, message));
                }
                let Some(surveyed) = self.surveyed.last_mut() else { return Err(unexpected(&Frame::Done)) };
                surveyed.entries.extend(entries);
                return Ok(Course::Running);
            }
            Frame::Done => {}
            Frame::Error(reply) => {
                self.ticket.job().file_failed(self.asked.as_str(), reply.into())?;
            }
            other => return Err(unexpected(&other)),
        }
        Ok(self.ask_next(channel))
    }

    fn on_event(&mut self, event: TaskEvent, _: &mut Channel<'_>) -> Result<Course, Failure> {
        let TaskEvent::Worked(_, ClientOutcome::Planned(plan)) = event else { return Ok(Course::Running) };
        let PullSpec { digest, durable, compare, dry_run, .. } = *self.spec;
        let manner = Manner { digest, durable, compare, dry_run };
        for wanted in plan? {
            let copy = Copy::new(wanted, self.spec.streams, manner);
            for _ in 0..self.spec.streams {
                self.dispatcher.assign(Pull::new(self.ticket.job().ticket(), copy.clone()));
            }
        }
        self.ticket.end(Ok(()));
        Ok(Course::Finished)
    }

    fn is_cancelled(&self) -> bool {
        self.ticket.job().is_cancelled()
    }

    fn fail(&mut self, failure: Failure) {
        self.ticket.end(Err(failure));
    }
}

impl Survey {
    pub(crate) fn new(ticket: Ticket, spec: Arc<PullSpec>, dispatcher: Dispatcher) -> Self {
        ticket.job().search();
        let unasked = spec.paths.iter().cloned().collect();
        Self {
            ticket,
            spec,
            dispatcher,
            unasked,
            asking: None,
            asked: RemotePath::ROOT,
            surveyed: Vec::new(),
            entries: 0,
        }
    }

    fn ask_next(&mut self, channel: &mut Channel<'_>) -> Course {
        if let Some(path) = self.unasked.pop_front() {
            self.asking = Some(channel.request(&Frame::Stat(path.clone())));
            self.asked = path;
            return Course::Running;
        }
        let job = self.ticket.job().clone();
        let (spec, surveyed) = (self.spec.clone(), std::mem::take(&mut self.surveyed));
        let key = channel.number();
        channel.effects.work(key, move || {
            let plan = plan(&spec, surveyed, &job);
            job.searched();
            ClientOutcome::Planned(plan)
        });
        Course::Running
    }
}

/// Decides what goes where, and makes the directories everything goes into. Blocks.
fn plan(spec: &PullSpec, surveyed: Vec<Surveyed>, job: &Job) -> Result<Plan, Failure> {
    let ends_with_slash = spec.destination.as_os_str().as_encoded_bytes().ends_with(b"/");
    let into = ends_with_slash || spec.paths.len() > 1 || spec.destination.is_dir();
    let copy_numbers = (0..spec.clients).map(|copy| (spec.clients > 1).then_some(copy));
    copy_numbers
        .map(|copy| {
            let mut wanted = Vec::new();
            for surveyed in &surveyed {
                surveyed.plan(spec, into, copy, job, &mut wanted)?;
            }
            Ok(wanted)
        })
        .collect()
}

impl Surveyed {
    fn plan(
        &self,
        spec: &PullSpec,
        into: bool,
        copy: Option<usize>,
        job: &Job,
        wanted: &mut Vec<Wanted>,
    ) -> Result<(), Failure> {
        let local = self.local(&spec.destination, into, copy)?;
        if self.root.kind != EntryKind::Directory {
            let (parent, name) = split(&local)?;
            let mut target = Target::open(&parent, spec)?;
            // A link that is named is meant for what it points to; links inside a tree are kept as links.
            let file = Entry { kind: EntryKind::File, path: name, ..self.root.clone() };
            let is_link = self.root.kind == EntryKind::Symlink;
            target.plan(&self.path, &file, WantedKind::File, is_link, job, wanted);
            return Ok(());
        }
        let mut target = Target::open(&local, spec)?;
        let first = wanted.len();
        if spec.selection.takes_directory("") {
            let root = Entry { path: RemotePath::ROOT, ..self.root.clone() };
            target.plan(&self.path, &root, directory(&root), false, job, wanted);
        }
        for entry in &self.entries {
            let remote = match self.path.join(entry.path.as_str()) {
                Ok(remote) => remote,
                Err(error) => {
                    job.file_failed(entry.path.as_str(), bad_path(&error))?;
                    continue;
                }
            };
            let Some(kind) = meant(entry, &spec.selection, job, &remote)? else { continue };
            target.plan(&remote, entry, kind, false, job, wanted);
        }
        target.leave_out_finished(wanted, first);
        Ok(())
    }

    fn local(&self, destination: &Path, into: bool, copy: Option<usize>) -> Result<PathBuf, Failure> {
        let mut local = destination.to_owned();
        if into {
            match self.path.file_name() {
                Some(name) => local.push(name),
                None if copy.is_none() => {}
                None => return Err(no_name(destination)),
            }
        }
        let Some(copy) = copy else { return Ok(local) };
        let Some(name) = local.file_name().and_then(|name| name.to_str()) else {
            return Err(no_name(&local));
        };
        let name = RemotePath::parse(name).map_err(|error| bad_path(&error))?;
        let name = numbered(&name, Some(copy))?;
        local.set_file_name(name.as_str());
        Ok(local)
    }
}

/// The local tree that something goes into.
struct Target<'a> {
    spec: &'a PullSpec,
    /// `None` if there is none, and none is to be made.
    store: Option<Arc<Store>>,
    /// Directories that are not there: nor is what belongs into them.
    missing: HashSet<RemotePath>,
    /// Directories that have their attributes, unless something is put into them.
    finished: HashSet<RemotePath>,
    /// Directories that something is put into.
    changed: HashSet<RemotePath>,
}

impl<'a> Target<'a> {
    /// Opens a directory, which is made unless nothing is to be changed.
    fn open(directory: &Path, spec: &'a PullSpec) -> Result<Self, Failure> {
        let is_there = fs::metadata(directory).is_ok_and(|metadata| metadata.is_dir());
        let store = if is_there || !spec.dry_run { Some(make_and_open(directory)?) } else { None };
        let missing = HashSet::from_iter((!is_there).then_some(RemotePath::ROOT));
        Ok(Self { spec, store, missing, finished: HashSet::default(), changed: HashSet::default() })
    }

    /// What is to be done about an entry, whose path is that from here. What is there is left out, or only gets its
    /// attributes.
    fn plan(
        &mut self,
        remote: &RemotePath,
        entry: &Entry,
        kind: WantedKind,
        is_unknown: bool,
        job: &Job,
        wanted: &mut Vec<Wanted>,
    ) {
        let attributes = FileAttributes { mode: entry.mode, mtime: entry.mtime };
        if entry.kind == EntryKind::File {
            job.found(entry.size);
        }
        let there = if is_unknown { None } else { self.there(&entry.path) };
        let there = there.as_ref();
        let has_attributes = there.is_some_and(|there| has_attributes(there, &attributes));
        let unchanged = Unchanged { size: entry.size, attributes, has_attributes };
        let verdict = there.map(|there| self.spec.compare.judge(entry.size, &attributes, there));
        let is_to_be_set = !has_attributes && !self.spec.dry_run;
        let kind = match (kind, verdict) {
            (WantedKind::File, Some(Verdict::Same)) if is_to_be_set => WantedKind::Unchanged(unchanged),
            (WantedKind::File, Some(Verdict::Same)) => return job.unchanged(entry.size),
            (WantedKind::File, Some(Verdict::Doubtful)) => WantedKind::Doubtful(unchanged),
            (WantedKind::Link { target }, _) if there.is_some_and(|there| is_link_to(there, &target)) => {
                return;
            }
            (WantedKind::Directory { attributes, .. }, _) if there.is_some_and(is_directory) => {
                if self.spec.dry_run {
                    return;
                }
                if has_attributes {
                    self.finished.insert(entry.path.clone());
                }
                WantedKind::Directory { attributes, is_there: true }
            }
            (WantedKind::Directory { attributes, .. }, _) => {
                self.missing.insert(entry.path.clone());
                WantedKind::Directory { attributes, is_there: false }
            }
            (kind, _) => kind,
        };
        let changes =
            !matches!(kind, WantedKind::Unchanged(_) | WantedKind::Directory { is_there: true, .. });
        if changes {
            self.changed.extend(entry.path.parent());
        }
        match &self.store {
            Some(store) if !self.spec.dry_run || matches!(kind, WantedKind::Doubtful(_)) => {
                wanted.push(Wanted {
                    remote: remote.clone(),
                    store: store.clone(),
                    local: entry.path.clone(),
                    kind,
                })
            }
            _ => job.rehearsed(entry.kind, entry.size),
        }
    }

    /// What is there already under the name of what is wanted.
    fn there(&self, path: &RemotePath) -> Option<Entry> {
        let is_missing = |path: RemotePath| self.missing.contains(&path);
        if self.spec.compare == Compare::Nothing
            || path.parent().map_or_else(|| is_missing(path.clone()), is_missing)
        {
            return None;
        }
        // If it is anything worse than that nothing is there, the pull will meet it again.
        self.store.as_ref()?.stat(path).ok()
    }

    /// Leaves out the directories that need nothing, of what is wanted from `first` on.
    fn leave_out_finished(&self, wanted: &mut Vec<Wanted>, first: usize) {
        let mut number = 0;
        wanted.retain(|wanted| {
            number += 1;
            let is_finished = matches!(wanted.kind, WantedKind::Directory { .. })
                && self.finished.contains(&wanted.local)
                && !self.changed.contains(&wanted.local);
            number <= first || !is_finished
        });
    }
}

fn directory(entry: &Entry) -> WantedKind {
    let attributes = FileAttributes { mode: entry.mode, mtime: entry.mtime };
    WantedKind::Directory { attributes, is_there: false }
}

fn meant(
    entry: &Entry,
    selection: &Selection,
    job: &Job,
    remote: &RemotePath,
) -> Result<Option<WantedKind>, Failure> {
    let path = entry.path.as_str();
    Ok(match entry.kind {
        EntryKind::Directory => selection.takes_directory(path).then(|| directory(entry)),
        _ if !selection.takes_file(path) => None,
        EntryKind::File => Some(WantedKind::File),
        EntryKind::Symlink => match &entry.link_target {
            Some(target) => Some(WantedKind::Link { target: target.clone() }),
            None => {
                let message = format!("{remote}: the target of the link is not UTF-8");
                job.file_failed(remote.as_str(), Failure::new(ErrorCode::NameNotUtf8, message))?;
                None
            }
        },
        EntryKind::Other => {
            job.skipped();
            None
        }
    })
}

fn no_name(path: &Path) -> Failure {
    let message =
        format!("{} has no name that a copy could be called after; name the destination", path.display());
    Failure::new(ErrorCode::InvalidArgument, message)
}

/// The directory a file goes into, and its name there.
fn split(local: &Path) -> Result<(PathBuf, RemotePath), Failure> {
    let Some(name) = local.file_name() else { return Err(no_name(local)) };
    let Some(name) = name.to_str() else {
        let message = format!("{}: the name is not UTF-8; choose another", local.display());
        return Err(Failure::new(ErrorCode::NameNotUtf8, message));
    };
    let name = RemotePath::parse(name).map_err(|error| bad_path(&error))?;
    let parent = match local.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((parent, name))
}

fn make_and_open(directory: &Path) -> Result<Arc<Store>, Failure> {
    let failed = |error: io::Error| Failure::io(&directory.display().to_string(), &error);
    fs::create_dir_all(directory).map_err(failed)?;
    Ok(Arc::new(Store::open(directory, Options::default())?))
}
