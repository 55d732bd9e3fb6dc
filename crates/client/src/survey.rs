//! Finds out what a pull consists of, then has it pulled.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xferd_engine::Failure;
use xferd_store::{Options, Store};
use xferd_wire::{DigestAlgorithm, Entry, EntryKind, ErrorCode, Frame, List, RemotePath};

use crate::ask::LISTED_ENTRIES_MAX;
use crate::dispatcher::Dispatcher;
use crate::job::{Job, Ticket};
use crate::pull::{Copy, Pull, Wanted, WantedKind};
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
        for wanted in plan? {
            let copy = Copy::new(wanted, self.spec.streams, self.spec.digest, self.spec.durable);
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
    if spec.dry_run {
        for _ in 0..spec.clients {
            surveyed.iter().for_each(|surveyed| surveyed.rehearse(&spec.selection, job));
        }
        return Ok(Plan::new());
    }
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
            let store = make_and_open(&parent)?;
            // A link that is named is meant for what it points to; links inside a tree are kept as links.
            job.found(self.root.size);
            wanted.push(Wanted { remote: self.path.clone(), store, local: name, kind: WantedKind::File });
            return Ok(());
        }
        let store = make_and_open(&local)?;
        if spec.selection.takes_directory("") {
            let Entry { mode, mtime, .. } = self.root;
            wanted.push(Wanted {
                remote: self.path.clone(),
                store: store.clone(),
                local: RemotePath::ROOT,
                kind: WantedKind::Directory { mode, mtime },
            });
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
            if matches!(kind, WantedKind::File) {
                job.found(entry.size);
            }
            wanted.push(Wanted { remote, store: store.clone(), local: entry.path.clone(), kind });
        }
        Ok(())
    }

    /// Counts what would be pulled.
    fn rehearse(&self, selection: &Selection, job: &Job) {
        if self.root.kind != EntryKind::Directory {
            return job.rehearsed(EntryKind::File, self.root.size);
        }
        for entry in &self.entries {
            let is_meant = match entry.kind {
                EntryKind::Directory => selection.takes_directory(entry.path.as_str()),
                _ => selection.takes_file(entry.path.as_str()),
            };
            if is_meant {
                job.rehearsed(entry.kind, entry.size);
            }
        }
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

fn meant(
    entry: &Entry,
    selection: &Selection,
    job: &Job,
    remote: &RemotePath,
) -> Result<Option<WantedKind>, Failure> {
    let path = entry.path.as_str();
    Ok(match entry.kind {
        EntryKind::Directory => selection
            .takes_directory(path)
            .then_some(WantedKind::Directory { mode: entry.mode, mtime: entry.mtime }),
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
