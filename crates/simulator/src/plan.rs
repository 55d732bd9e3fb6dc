//! What clients are asked for.

use std::path::PathBuf;
use std::sync::Arc;

use xferd_client::{Client, Compare, Job, PullSpec, PushSpec, Selection, Sources, WriteSpec};
use xferd_engine::{EXTENT_BYTES, Failure, lock};
use xferd_os::sim::{self, MILLION, Node, once_in};
use xferd_wire::{DigestAlgorithm, Frame, MakeDir, Mtime, RemotePath, Remove, Rename};

use crate::contents::{Contents, Kept, VersionId};
use crate::model::{AttemptId, State};
use crate::run::{DESTINATIONS, Done, FLIPPING, LEAVING, Play, Reading, SOURCES, Task, file_states, whole};
use crate::streams::Stream;

/// Places that files go to: few, so that clients meet there.
const PLACES: [&str; 6] = ["a", "b", "d/a", "d/b", "d/e/a", "f/a"];

/// Files of a tree.
const TREE_FILES: u64 = 6;

/// A push that was cut off and may be gone on with.
#[derive(Debug, Clone)]
pub(crate) struct Unfinished {
    pub(crate) client: usize,
    source: String,
    pub(crate) place: String,
    version: VersionId,
    /// What must still be there of it, and as of when.
    pub(crate) held: Held,
}

/// Bytes of a file that a server has acknowledged and not completed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) bytes: u64,
    /// How much had happened by then that could take them away.
    pub(crate) upheavals: u64,
    /// How many changes of the place had begun by then.
    pub(crate) begun: u64,
    /// No other was under way by then: two pushes to one place take what is held from each other.
    pub(crate) is_alone: bool,
}

impl Unfinished {
    /// Bytes of the file.
    pub(crate) fn size(&self, contents: &Contents) -> u64 {
        contents.bytes(self.version).len() as u64
    }
}

/// Those that are remembered.
const UNFINISHED_MAX: usize = 4;

/// A file or a tree that was pushed.
#[derive(Debug, Clone)]
pub(crate) struct Pushed {
    pub(crate) client: usize,
    source: String,
    place: String,
    /// What is at which path beneath the source; at the empty one, if it is a file.
    files: Vec<(String, VersionId)>,
    /// When that was.
    step: u64,
}

/// Those that are remembered.
const PUSHED_MAX: usize = 6;

impl Play {
    /// Asks for a few things at once.
    pub(crate) fn begin_tasks(&mut self) {
        match self.held() {
            // Alone, so that nothing takes away what is held.
            Some(held) if self.is_calm || self.dice.chance(MILLION * 3 / 4) => {
                let push = self.unfinished.remove(held);
                return self.push_from(push);
            }
            None if self.dice.chance(once_in(if self.is_calm { 2 } else { 8 })) => {
                return self.push_to_be_cut();
            }
            _ if !self.unfinished.is_empty() && self.dice.chance(MILLION / 2) => self.go_on(0),
            _ => {}
        }
        for _ in 0..self.dice.between(1, 4) {
            let client = self.dice.below(self.clients.len() as u64) as usize;
            match self.dice.below(22) {
                0..=5 => self.push_file(client),
                6..=7 => self.push_tree(client),
                8..=9 => self.go_on(client),
                10..=11 => self.pull(client),
                12 => self.remove(client),
                13 => self.rename(client),
                14 => self.push_out(client),
                15 => self.pull_out(client),
                16..=18 => self.push_again(),
                19..=20 => self.write(client),
                _ => self.read(client),
            }
        }
    }

    /// A push that was cut off and whose bytes must still be there.
    pub(crate) fn held(&self) -> Option<usize> {
        self.unfinished.iter().position(|push| push.held.bytes > 0 && self.is_undisturbed(push))
    }

    /// Pushes a file that can be resumed, and nothing else; it will be cut off meanwhile.
    fn push_to_be_cut(&mut self) {
        let client = self.dice.below(self.clients.len() as u64) as usize;
        self.is_cut = Some(client);
        let size = self.dice.between(3 * EXTENT_BYTES, 17 * EXTENT_BYTES);
        let source = format!("{SOURCES}/{}", self.number());
        let version = self.make_version(size as usize);
        self.put_source(client, &source, version);
        let place = (*self.dice.one_of(&PLACES)).to_owned();
        self.push_from(Unfinished { client, source, place, version, held: Held::default() });
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn size(&mut self) -> usize {
        let (least, most) = *self.dice.one_of(&[
            (0, 0),
            (1, 256),
            (257, 9000),
            (8192, 8193),
            (9000, 40_000),
            (65_000, 140_000),
        ]);
        self.dice.between(least, most) as usize
    }

    fn make_version(&mut self, size: usize) -> VersionId {
        let seed = self.dice.number();
        self.contents.make(size, seed)
    }

    /// Puts a new version of a file where a client can push it from.
    fn make_source(&mut self, client: usize, path: &str) -> VersionId {
        let size = self.size();
        let version = self.make_version(size);
        self.put_source(client, path, version);
        version
    }

    fn put_source(&self, client: usize, path: &str, version: VersionId) {
        let (machine, Kept { mode, mtime }) = (self.clients[client].machine, self.contents.kept(version));
        sim::put(machine, path, Node::File(self.contents.bytes(version).to_vec()));
        sim::set_attributes(machine, path, mode, mtime);
    }

    fn remember_pushed(&mut self, client: usize, source: &str, place: &str, files: Vec<(String, VersionId)>) {
        // What it was before is nowhere any more.
        self.pushed.retain(|pushed| pushed.client != client || pushed.source != source);
        self.pushed.truncate(PUSHED_MAX - 1);
        let (source, place) = (source.to_owned(), place.to_owned());
        self.pushed.insert(0, Pushed { client, source, place, files, step: self.step });
    }

    fn push_file(&mut self, client: usize) {
        let source = format!("{SOURCES}/{}", self.number());
        let version = self.make_source(client, &source);
        let place = (*self.dice.one_of(&PLACES)).to_owned();
        self.push_from(Unfinished { client, source, place, version, held: Held::default() });
    }

    /// Goes on with a push that was cut off; from the same client, with the same source.
    fn go_on(&mut self, client: usize) {
        match self.unfinished.pop() {
            Some(unfinished) => self.push_from(unfinished),
            None => self.push_file(client),
        }
    }

    fn push_from(&mut self, mut push: Unfinished) {
        let Unfinished { client, source, place, version, .. } = push.clone();
        if !self.is_undisturbed(&push) {
            push.held.bytes = 0;
        }
        let durable = self.dice.chance(MILLION / 2);
        let is_certain = push.held.bytes > 0 || self.is_cut.is_some();
        let resume = is_certain || self.dice.chance(MILLION / 2);
        let is_durable = durable || self.is_durable;
        push.held.is_alone = self.tree.is_still(&place);
        let attempt = self.begin(&place, vec![State::File(version)], is_durable);
        (push.held.upheavals, push.held.begun) = (self.upheavals, self.begun(&place));
        let is_edited = !is_certain && self.dice.chance(once_in(16));
        if is_edited {
            self.edit(client, &source, attempt, &place, version);
        } else {
            self.remember_pushed(client, &source, &place, vec![(String::new(), version)]);
        }
        let digest = self.digest(resume);
        let mut spec = push_spec(&source, &place, digest, resume, durable);
        spec.sources.mapped = self.dice.chance(once_in(4));
        spec.streams = self.dice.between(1, 3) as usize;
        self.unfinished.truncate(UNFINISHED_MAX - 1);
        let unfinished = (resume && !is_edited).then_some(push);
        sim::note(format_args!(
            "client {client} pushes {source} ({version:?}) to {place}, durable {is_durable}, resume {resume}, {} streams",
            spec.streams
        ));
        self.ask(Task { attempts: vec![attempt], unfinished, ..Task::new(client) }, |client, answer| {
            client.push(spec, |result| answer(whole(result))).map(Some)
        });
    }

    /// Somebody writes to a source, some time before it is opened, while it is sent, or after that.
    fn edit(&mut self, client: usize, source: &str, attempt: AttemptId, place: &str, version: VersionId) {
        let size = self.contents.bytes(version).len();
        let fresh = self.make_version(size);
        let kept = Kept { mode: self.contents.kept(version).mode, ..self.contents.kept(fresh) };
        let edited = self.contents.with(fresh, kept);
        self.pushed.retain(|pushed| pushed.source != source);
        self.tree.widen(attempt, State::File(edited));
        self.widen(place, State::File(edited));
        self.edits.push((self.dice.below(300), self.clients[client].machine, source.to_owned(), edited));
    }

    fn push_tree(&mut self, client: usize) {
        let number = self.number();
        let source = format!("{SOURCES}/{number}");
        let place = format!("t{}", self.dice.below(3));
        let durable = self.dice.chance(MILLION / 2);
        let is_durable = durable || self.is_durable;
        let mut attempts = Vec::new();
        let mut files = Vec::new();
        for file in 0..self.dice.between(1, TREE_FILES) {
            let inner = if file % 3 == 2 { format!("in/{file}") } else { file.to_string() };
            let version = self.make_source(client, &format!("{source}/{inner}"));
            attempts.push(self.begin(&format!("{place}/{inner}"), vec![State::File(version)], is_durable));
            files.push((format!("/{inner}"), version));
        }
        self.remember_pushed(client, &source, &place, files);
        let resume = self.dice.chance(once_in(4));
        let mut spec = push_spec(&source, &place, self.digest(resume), resume, durable);
        spec.streams = self.dice.between(1, 3) as usize;
        sim::note(format_args!("client {client} pushes the tree {source} to {place}, durable {is_durable}"));
        self.ask(Task { attempts, ..Task::new(client) }, |client, answer| {
            client.push(spec, |result| answer(whole(result))).map(Some)
        });
    }

    /// Pushes once more what was pushed, as it was, with other attributes, or with some of it changed; what is there already is
    /// left out, or is only told of.
    fn push_again(&mut self) {
        let before: Vec<_> = self.pushed.iter().filter(|pushed| pushed.step < self.step).cloned().collect();
        if before.is_empty() {
            return;
        }
        let Pushed { client, source, place, mut files, .. } = self.dice.one_of(&before).clone();
        for (inner, version) in &mut files {
            let seed = self.dice.number();
            *version = match self.dice.below(8) {
                0 => self.make_version(self.contents.bytes(*version).len()),
                1 => self.contents.touch(*version, seed),
                _ => continue,
            };
            self.put_source(client, &format!("{source}{inner}"), *version);
        }
        // Nobody goes on with what is another version by now.
        self.unfinished.retain(|push| push.client != client || push.source != source);
        let durable = self.dice.chance(MILLION / 2);
        let digest = self.digest(false);
        let mut spec = push_spec(&source, &place, digest, false, durable);
        spec.compare = *self.dice.one_of(&[Compare::Times, Compare::Contents]);
        spec.dry_run = self.dice.chance(once_in(6));
        spec.streams = self.dice.between(1, 3) as usize;
        sim::note(format_args!(
            "client {client} pushes {source} to {place} again, by {:?}, dry run {}: {files:?}",
            spec.compare, spec.dry_run
        ));
        let mut task = Task::new(client);
        if !spec.dry_run {
            let mut comparing = Vec::new();
            for (inner, version) in &files {
                let (place, kept) = (format!("{place}{inner}"), self.contents.kept(*version));
                let mut states = vec![State::File(*version)];
                for state in file_states(self.tree.acceptable(&place, false)) {
                    states.extend(self.with(state, kept));
                }
                let attempt = self.begin(&place, states, durable || self.is_durable);
                task.attempts.push(attempt);
                comparing.push((attempt, place, kept));
            }
            task.comparing = Some(comparing);
        }
        self.remember_pushed(client, &source, &place, files);
        self.ask(task, |client, answer| client.push(spec, |result| answer(whole(result))).map(Some));
    }

    /// What is in a place, with other attributes.
    fn with(&mut self, state: State, kept: Kept) -> Option<State> {
        match state {
            State::Absent => None,
            State::File(version) => Some(State::File(self.contents.with(version, kept))),
        }
    }

    /// Writes a file piece by piece.
    fn write(&mut self, client: usize) {
        let place = (*self.dice.one_of(&PLACES)).to_owned();
        let size = self.size();
        let version = self.make_version(size);
        let durable = self.dice.chance(MILLION / 2);
        let attempt = self.begin(&place, vec![State::File(version)], durable || self.is_durable);
        let Kept { mode, mtime } = self.contents.kept(version);
        let mtime = Mtime { seconds: mtime.seconds, nanoseconds: mtime.nanoseconds };
        let spec = WriteSpec { path: path(&place), mode, mtime, digest: self.digest(false), durable };
        let bytes = self.contents.bytes(version);
        sim::note(format_args!("client {client} writes {version:?} to {place}, durable {durable}"));
        let mut dice = self.dice.clone();
        self.stream(Task { attempts: vec![attempt], ..Task::new(client) }, |id, it| {
            Stream::write(id, client, (it, spec), &bytes, &mut dice)
        });
        self.dice = dice;
    }

    /// Reads a file, or a part of it, piece by piece.
    fn read(&mut self, client: usize) {
        let paths: Vec<String> = self.tree.paths().cloned().collect();
        if paths.is_empty() {
            return;
        }
        let from = self.dice.one_of(&paths).clone();
        let states = file_states(self.tree.acceptable(&from, false));
        let range = match self.dice.below(3) {
            0 => (self.dice.below(200), Some(self.dice.between(200, 20_000))),
            _ => (0, None),
        };
        sim::note(format_args!("client {client} reads {range:?} of {from}"));
        let remote = path(&from);
        let reading = Some(Reading { from, range, states });
        self.stream(Task { reading, ..Task::new(client) }, |id, it| {
            Stream::read(id, client, it, remote, range)
        });
    }

    /// Has a client begin a stream.
    fn stream(&mut self, task: Task, begin: impl FnOnce(u64, &Client) -> Stream) {
        let id = self.number();
        let host =
            self.clients[task.client].host.as_ref().expect("clients were started before they are asked");
        if let Some(stream) = host.ask(|client| begin(id, client)) {
            self.streams.push(stream);
            self.tasks.insert(id, task);
        }
    }

    fn pull(&mut self, client: usize) {
        let paths: Vec<String> = self.tree.paths().cloned().collect();
        if paths.is_empty() {
            return;
        }
        let from = self.dice.one_of(&paths).clone();
        let states = file_states(self.tree.acceptable(&from, false));
        let is_durable = self.dice.chance(MILLION / 2);
        let name = self.number().to_string();
        let attempt = self.clients[client].tree.begin(&name, states, is_durable);
        let pull = Some((attempt, from.clone()));
        sim::note(format_args!("client {client} pulls {from} to {name}, durable {is_durable}"));
        let spec = pull_spec(&from, &name, is_durable);
        self.ask(Task { pull, ..Task::new(client) }, |client, answer| {
            client.pull(spec, |result| answer(whole(result))).map(Some)
        });
    }

    fn remove(&mut self, client: usize) {
        let paths: Vec<String> = self.tree.paths().cloned().collect();
        if paths.is_empty() {
            return;
        }
        let removed = self.dice.one_of(&paths).clone();
        let recursive = self.dice.chance(MILLION / 4);
        let removed = match removed.rsplit_once('/') {
            Some((directory, _)) if recursive => directory.to_owned(),
            _ => removed,
        };
        let within = format!("{removed}/");
        let gone: Vec<String> =
            paths.into_iter().filter(|it| *it == removed || it.starts_with(&within)).collect();
        let is_durable = self.is_durable;
        let attempts = gone.iter().map(|it| self.begin(it, vec![State::Absent], is_durable)).collect();
        sim::note(format_args!("client {client} removes {removed}"));
        let question = Frame::Remove(Remove { path: path(&removed), recursive });
        self.ask_frame(client, attempts, None, Some(within), question);
    }

    fn rename(&mut self, client: usize) {
        let paths: Vec<String> = self.tree.paths().cloned().collect();
        if paths.len() < 2 {
            return;
        }
        let (from, to) = (self.dice.one_of(&paths).clone(), self.dice.one_of(&paths).clone());
        let Some(state @ State::File(_)) = self.tree.certain(&from) else { return };
        if from == to {
            return;
        }
        // Its name is durable, but its bytes are only if they were before.
        let is_durable = self.is_durable && self.tree.is_durable(&from);
        let attempts = vec![
            self.begin(&from, vec![State::Absent], is_durable),
            self.begin(&to, vec![state], is_durable),
        ];
        sim::note(format_args!("client {client} renames {from} to {to}"));
        let rename = Some((attempts[1], from.clone()));
        let question = Frame::Rename(Rename { from: path(&from), to: path(&to) });
        self.ask_frame(client, attempts, rename, None, question);
    }

    /// Tries to get something out of the root, or to where it leads out at times.
    fn push_out(&mut self, client: usize) {
        let source = format!("{SOURCES}/{}", self.number());
        self.make_source(client, &source);
        let way = *self.dice.one_of(&[LEAVING, FLIPPING]);
        // What is pulled out is called like that: inside there is none.
        let targets = if way == LEAVING { &["secret", "in/new"] } else { &["new", "in/new"] };
        let target = *self.dice.one_of(targets);
        sim::note(format_args!("client {client} pushes to {way}/{target}"));
        if self.dice.chance(once_in(4)) {
            let question = match self.dice.below(2) {
                0 => Frame::Remove(Remove { path: path(&format!("{way}/{target}")), recursive: true }),
                _ => Frame::MakeDir(MakeDir {
                    path: path(&format!("{way}/{target}")),
                    mode: 0o755,
                    parents: true,
                }),
            };
            return self.ask_frame(client, Vec::new(), None, None, question);
        }
        let resume = self.dice.chance(MILLION / 2);
        let digest = self.digest(resume);
        let durable = self.dice.chance(MILLION / 2);
        let spec = push_spec(&source, &format!("{way}/{target}"), digest, resume, durable);
        self.ask(Task::new(client), |client, answer| {
            client.push(spec, |result| answer(whole(result))).map(Some)
        });
    }

    /// Tries to read what is outside of the root.
    fn pull_out(&mut self, client: usize) {
        let from = format!("{}/secret", *self.dice.one_of(&[LEAVING, FLIPPING]));
        let name = self.number().to_string();
        // Whatever comes of it, nothing is to be there.
        let attempt = self.clients[client].tree.begin(&name, vec![State::Absent], false);
        let spec = pull_spec(&from, &name, false);
        let pull = Some((attempt, from));
        self.ask(Task { pull, ..Task::new(client) }, |client, answer| {
            client.pull(spec, |result| answer(whole(result))).map(Some)
        });
    }

    fn digest(&mut self, resume: bool) -> DigestAlgorithm {
        let is_blake3 = !resume && self.dice.chance(once_in(8));
        if is_blake3 { DigestAlgorithm::Blake3 } else { DigestAlgorithm::Crc64Nvme }
    }

    /// Whether nothing has happened since that could take away what was held of it.
    pub(crate) fn is_undisturbed(&self, push: &Unfinished) -> bool {
        push.held.is_alone
            && push.held.upheavals == self.upheavals
            && push.held.begun == self.begun(&push.place)
    }

    /// How many changes of a place have begun.
    pub(crate) fn begun(&self, place: &str) -> u64 {
        self.begun.get(place).copied().unwrap_or_default()
    }

    /// A change of a place of the server begins.
    fn begin(&mut self, place: &str, states: Vec<State>, is_durable: bool) -> AttemptId {
        *self.begun.entry(place.to_owned()).or_default() += 1;
        for state in &states {
            self.widen(place, *state);
        }
        let attempt = self.tree.begin(place, states, is_durable);
        self.let_remove(place);
        attempt
    }

    /// What is only just put into a directory that is being removed may go with it.
    fn let_remove(&mut self, place: &str) {
        let is_within = |removed: &String| place.starts_with(&**removed);
        for task in self.tasks.values_mut().filter(|task| task.removal.as_ref().is_some_and(is_within)) {
            task.attempts.push(self.tree.begin(place, vec![State::Absent], false));
        }
        for _ in self.removals.iter().filter(|removed| is_within(removed)) {
            let attempt = self.tree.begin(place, vec![State::Absent], false);
            self.tree.forsake(attempt);
        }
    }

    /// What is being taken from a place may be what has only just begun to get there, and may get other attributes there.
    fn widen(&mut self, place: &str, state: State) {
        let State::File(version) = state else { return };
        let contents = &mut self.contents;
        let comparing = self.tasks.values().filter_map(|task| task.comparing.as_ref()).flatten();
        let given: Vec<(AttemptId, State)> = comparing
            .filter(|(_, to, _)| to == place)
            .map(|(attempt, _, kept)| (*attempt, State::File(contents.with(version, *kept))))
            .collect();
        self.let_take(place, state);
        for (attempt, state) in given {
            self.tree.widen(attempt, state);
            self.let_take(place, state);
        }
    }

    fn let_take(&mut self, place: &str, state: State) {
        for task in self.tasks.values_mut() {
            if let Some(reading) = task.reading.as_mut().filter(|reading| reading.from == place) {
                reading.states.push(state);
            }
            if let Some((attempt, _)) = task.pull.as_ref().filter(|(_, from)| from == place) {
                self.clients[task.client].tree.widen(*attempt, state);
            }
            if let Some((attempt, _)) = task.rename.as_ref().filter(|(_, from)| from == place) {
                self.tree.widen(*attempt, state);
            }
        }
    }

    fn ask_frame(
        &mut self,
        client: usize,
        attempts: Vec<AttemptId>,
        rename: Option<(AttemptId, String)>,
        removal: Option<String>,
        question: Frame,
    ) {
        self.ask(Task { attempts, rename, removal, ..Task::new(client) }, |client, answer| {
            client.ask(question, |result| answer(result.map(|_| Done::whole())));
            Ok(None)
        });
    }

    /// Has a client begin a task. One that it does not take on has no effect.
    fn ask(
        &mut self,
        mut task: Task,
        ask: impl FnOnce(&Client, Answer) -> Result<Option<Arc<Job>>, Failure>,
    ) {
        let id = self.number();
        let host =
            self.clients[task.client].host.as_ref().expect("clients were started before they are asked");
        let (process, answers) = (host.process, self.answers.clone());
        // Who is dead by now says nothing.
        let answer = move |result| {
            if sim::is_alive(process) {
                lock(&answers).push((id, result));
            }
        };
        match host.ask(|client| ask(client, Box::new(answer))) {
            Some(Ok(job)) => {
                task.job = job;
                self.tasks.insert(id, task);
            }
            _ => task.attempts.iter().for_each(|attempt| self.tree.forsake(*attempt)),
        }
    }
}

/// Takes down what a task came to.
type Answer = Box<dyn FnOnce(Result<Done, Failure>) + Send>;

/// Over one connection, everything, and not from a mapping.
fn push_spec(source: &str, target: &str, digest: DigestAlgorithm, resume: bool, durable: bool) -> PushSpec {
    PushSpec {
        sources: Sources {
            paths: vec![PathBuf::from(source)],
            target: path(target),
            into_target: false,
            selection: Selection::default(),
            digest,
            mapped: false,
        },
        clients: 1,
        streams: 1,
        resume,
        durable,
        compare: Compare::Nothing,
        dry_run: false,
    }
}

fn pull_spec(from: &str, name: &str, durable: bool) -> PullSpec {
    PullSpec {
        paths: vec![path(from)],
        destination: PathBuf::from(format!("{DESTINATIONS}/{name}")),
        selection: Selection::default(),
        clients: 1,
        streams: 1,
        digest: DigestAlgorithm::Crc64Nvme,
        durable,
        compare: Compare::Nothing,
        dry_run: false,
    }
}

fn path(path: &str) -> RemotePath {
    RemotePath::parse(path).expect("places have paths")
}
