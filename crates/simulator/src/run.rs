//! Plays a world: chooses what goes wrong and what is asked for, lets everybody take turns, and looks on.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use xferd_client::{Job, Receipt};
use xferd_engine::{EXTENT_BYTES, Failure, lock};
use xferd_kv::{Fsync, Keyspace};
use xferd_os::sim::{self, Crash, Defect, Dice, Faults, MILLION, MachineId, Node, ProcessId, once_in};
use xferd_server::{Config, KV_DEFAULT_PORT, KvConfig, Listen, Protocol};
use xferd_wire::ErrorCode;

use crate::bound::Bound;
use crate::contents::{Contents, Kept, VersionId};
use crate::host::Host;
use crate::hostile::{HOSTILE, Peer};
use crate::keys::{self, Keys};
use crate::model::{AttemptId, State, Tree};
use crate::plan::{Pushed, Unfinished};
use crate::streams::Stream;
use crate::watch::{Memory, Sight};

/// What is played.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// All follows from it. If it is even, there are keys beside the files.
    pub seed: u64,
    /// Cycles of crash and restart.
    pub steps: u64,
    /// Cycles that are left out.
    pub skipped: BTreeSet<u64>,
    /// A mistake that the code is to make.
    pub defect: Option<Defect>,
}

/// A promise that was broken.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which.
    pub promise: &'static str,
    /// What was found.
    pub message: String,
    /// In which cycle.
    pub step: u64,
    /// What had happened just before.
    pub happenings: Vec<String>,
}

/// How a run went that broke no promise.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// A number that follows from all that happened.
    pub trace_hash: u64,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// How often each promise was looked at in cycles in which a fault happened: faults by their names, promises by their
    /// places in [`PROMISES`].
    pub table: BTreeMap<&'static str, [u64; PROMISES.len()]>,
    /// Nanoseconds that passed in the world.
    pub simulated_ns: u64,
}

/// What is looked at, and the names under which that is counted.
pub const PROMISES: [(&str, &[&str]); 7] = [
    (
        "acknowledged is present, whole and equal; a name is absent, old or complete",
        &["check of a server's tree", "check of a client's tree", "check of what was read", "check of keys"],
    ),
    ("nothing outside is read or changed", &["check of a server's tree"]),
    (
        "memory is bounded, others are served",
        &["check of a server's memory beside hostile peers", "service beside hostile peers"],
    ),
    (
        "whatever is asked for comes to an end",
        &["acknowledgement", "failure with a code", "answer about keys"],
    ),
    ("a restart leaves nothing behind", &["check that nothing is left behind"]),
    ("what was held is gone on with", &["check that a file is gone on with"]),
    ("a failure has a code", &["failure with a code", "refusal about keys"]),
];

/// What happens without being anybody's fault.
const NO_FAULTS: [&str; 2] = ["start of a server", "file left out"];

pub(crate) const PRESENT: &str =
    "1 and 2: what is acknowledged is present, and a name is absent, old or complete";
const DURABLE_KEYS: &str = "1: what was acknowledged of keys is there, and nothing that nobody has said";
const AFTER_POWER_LOSS: &str =
    "1 and 2: what was durable is present after a power loss, and nothing is partial";
const CONFINED: &str = "3: nothing outside the root is read or changed";
const BOUNDED: &str =
    "4: memory is bounded by limits, and a slow, dead or hostile peer keeps nobody from being served";
const SWEPT: &str = "5: a restart finds its journals and cleans what nobody will resume";
const CODED: &str = "6: every failure has a code, and nothing panics";

/// Where the server listens.
const PORT: u16 = 7400;

pub(crate) const ROOT: &str = "/srv/root";
const OUTSIDE: &str = "/srv/outside";
const SECRET: &str = "secret";
pub(crate) const SOURCES: &str = "/src";
pub(crate) const DESTINATIONS: &str = "/dst";

/// A directory of the root that is a link to the outside at times, and one that always is.
pub(crate) const FLIPPING: &str = "flip";
pub(crate) const LEAVING: &str = "out";

/// What is not looked at as the places of clients are: a directory that is not always one, and what hostile peers put.
const OTHERS: [&str; 2] = [FLIPPING, HOSTILE];

const CLIENTS: usize = 2;

/// Hostile peers at a time.
const PEERS_MAX: usize = 12;

/// Simulated time within which everything that was asked for has come to an end: longer than all patience there is, and than ten
/// connections take one after the other that are each held back as often, and for as long, as one is here.
const TASKS_END_NS: u64 = 60 * 60 * 1_000_000_000;

/// Simulated time that a server gets to see what its peers have left.
const CALM_NS: u64 = 3_000_000_000;

/// A world and all that is known of it from outside.
pub(crate) struct Play {
    run: Run,
    pub(crate) step: u64,
    /// For what is planned; what happens is up to the dice of the world.
    pub(crate) dice: Dice,
    server_machine: MachineId,
    server: Option<Host>,
    /// What memory it may have.
    bound: Bound,
    /// Keys that it serves beside files, if it does.
    keys: Option<Keys>,
    /// Who hostile peers belong to.
    hostile_machine: MachineId,
    hostile: ProcessId,
    peers: Vec<Peer>,
    /// Nothing goes wrong by itself in this cycle, and the server comes to no end before it is over.
    pub(crate) is_calm: bool,
    /// The client that pushes what is to be cut off: by its being killed if the cycle is calm, by a power loss of the server's
    /// machine if not.
    pub(crate) is_cut: Option<usize>,
    pub(crate) is_durable: bool,
    pub(crate) clients: Vec<ClientSide>,
    pub(crate) contents: Contents,
    pub(crate) tree: Tree,
    pub(crate) tasks: BTreeMap<u64, Task>,
    pub(crate) answers: Answers,
    pub(crate) next: u64,
    pub(crate) unfinished: Vec<Unfinished>,
    /// What a server may still be removing though nobody waits for it.
    pub(crate) removals: Vec<String>,
    /// What has happened to the server's disk that may have taken away what was not complete.
    pub(crate) upheavals: u64,
    are_disks_sound: bool,
    /// How many changes of each place have begun.
    pub(crate) begun: BTreeMap<String, u64>,
    /// What is written to which source, after so many rounds.
    pub(crate) edits: Vec<(u64, MachineId, String, VersionId)>,
    /// What was pushed, and may be compared with what is there.
    pub(crate) pushed: Vec<Pushed>,
    pub(crate) streams: Vec<Stream>,
    seen: u64,
    memory: Memory,
    outside: VersionId,
}

/// A machine that has clients, and what they have pulled.
pub(crate) struct ClientSide {
    pub(crate) machine: MachineId,
    pub(crate) host: Option<Host>,
    pub(crate) tree: Tree,
    seen: u64,
    memory: Memory,
}

/// Something that a client was asked for.
pub(crate) struct Task {
    pub(crate) client: usize,
    /// What it is to bring about on the server.
    pub(crate) attempts: Vec<AttemptId>,
    /// What it is to bring about on its own machine, from which place of the server.
    pub(crate) pull: Option<(AttemptId, String)>,
    /// What it is to bring about at another place of the server, from which place.
    pub(crate) rename: Option<(AttemptId, String)>,
    /// What it removes with all there is.
    pub(crate) removal: Option<String>,
    /// What may be read, from which place of the server, and which part of it.
    pub(crate) reading: Option<Reading>,
    /// It compares with what is there, and may give that those attributes.
    pub(crate) comparing: Option<Comparing>,
    /// How far it has come.
    pub(crate) job: Option<Arc<Job>>,
    pub(crate) unfinished: Option<Unfinished>,
}

impl Task {
    /// One that brings nothing about.
    pub(crate) fn new(client: usize) -> Self {
        Self {
            client,
            attempts: Vec::new(),
            pull: None,
            rename: None,
            removal: None,
            reading: None,
            comparing: None,
            job: None,
            unfinished: None,
        }
    }
}

/// What somebody reads.
pub(crate) struct Reading {
    pub(crate) from: String,
    pub(crate) range: (u64, Option<u64>),
    /// Any of them.
    pub(crate) states: Vec<State>,
}

/// Files that are pushed if others are there: attempts, their places, and the attributes that they shall have.
pub(crate) type Comparing = Vec<(AttemptId, String, Kept)>;

/// What clients have answered: the number of a task, and whether it is as it was asked for.
pub(crate) type Answers = Arc<Mutex<Vec<(u64, Result<Done, Failure>)>>>;

/// How a task was done.
#[derive(Debug, Clone)]
pub(crate) enum Done {
    Whole {
        resumed_bytes: u64,
        /// Something was there already.
        is_partly_there: bool,
    },
    /// Why the rest could not be done.
    InPart(Vec<Failure>),
    Read(Vec<u8>),
}

impl Done {
    /// As it was asked for.
    pub(crate) fn whole() -> Self {
        Self::Whole { resumed_bytes: 0, is_partly_there: false }
    }
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Plays a world.
///
/// # Errors
/// The first promise that is broken.
pub fn run(run: &Run) -> Result<Outcome, Violation> {
    std::panic::set_hook(Box::new(|panic| PANIC.with_borrow_mut(|it| *it = Some(panic.to_string()))));
    sim::begin(mix(run.seed, u64::MAX));
    sim::seed(run.defect);
    let mut play = Play::new(run.clone());
    let mut table = BTreeMap::new();
    let result: Result<(), Violation> =
        (0..run.steps).filter(|step| !run.skipped.contains(step)).try_for_each(|step| {
            let before = sim::counts();
            play.cycle(step)?;
            tabulate(&mut table, &before, &sim::counts());
            Ok(())
        });
    let happenings = sim::last_happenings();
    let (trace_hash, counts, simulated_ns) = (sim::trace_hash(), sim::counts(), sim::now_ns());
    let outcome = Outcome { trace_hash, counts, table, simulated_ns };
    play.end();
    sim::seed(None);
    let _ = std::panic::take_hook();
    match result {
        Ok(()) => Ok(outcome),
        Err(mut violation) => {
            violation.happenings = happenings;
            Err(violation)
        }
    }
}

/// Counts what was looked at in a cycle for each fault that happened in it.
fn tabulate(
    table: &mut BTreeMap<&'static str, [u64; PROMISES.len()]>,
    before: &BTreeMap<&'static str, u64>,
    after: &BTreeMap<&'static str, u64>,
) {
    let since = |what: &str| after.get(what).unwrap_or(&0) - before.get(what).unwrap_or(&0);
    let looks = PROMISES.map(|(_, counts)| counts.iter().map(|count| since(count)).sum::<u64>());
    let is_fault = |what: &&str| {
        !NO_FAULTS.contains(what)
            && PROMISES.iter().all(|(_, counts)| !counts.contains(what))
            && since(what) > 0
    };
    for fault in after.keys().copied().filter(is_fault) {
        let row = table.entry(fault).or_default();
        row.iter_mut().zip(looks).for_each(|(sum, looks)| *sum += looks);
    }
}

impl Run {
    /// Whether keys are served beside files.
    pub fn has_keys(&self) -> bool {
        self.seed % 2 == 0
    }
}

impl Play {
    fn new(run: Run) -> Self {
        let mut dice = Dice::new(run.seed);
        let server_machine = sim::add_machine(dice.chance(MILLION / 2));
        let secret = b"nobody is to read this, and nobody is to change it".to_vec();
        sim::put(server_machine, &format!("{OUTSIDE}/{SECRET}"), Node::File(secret.clone()));
        sim::put(server_machine, &format!("{ROOT}/{LEAVING}"), Node::Symlink("../outside".into()));
        let client_side = |machine| {
            sim::put(machine, &format!("{DESTINATIONS}/here"), Node::Directory);
            sim::put(machine, &format!("{SOURCES}/here"), Node::Directory);
            ClientSide { machine, host: None, tree: Tree::default(), seen: 0, memory: Memory::default() }
        };
        let clients = (0..CLIENTS).map(|_| client_side(sim::add_machine(dice.chance(MILLION / 2)))).collect();
        let hostile_machine = sim::add_machine(true);
        let keys = run.has_keys().then(Keys::new);
        let mut contents = Contents::default();
        let outside = Sight::of(server_machine, OUTSIDE, &[], &mut contents, &mut Memory::default());
        let outside = outside.files.get(SECRET).copied().expect("it was put there just now");
        Self {
            run,
            step: 0,
            dice,
            server_machine,
            server: None,
            bound: Bound::default(),
            keys,
            hostile_machine,
            hostile: sim::start_process(hostile_machine),
            peers: Vec::new(),
            is_calm: false,
            is_cut: None,
            is_durable: false,
            clients,
            contents,
            tree: Tree::default(),
            tasks: BTreeMap::new(),
            answers: Answers::default(),
            next: 0,
            unfinished: Vec::new(),
            removals: Vec::new(),
            upheavals: 0,
            are_disks_sound: true,
            begun: BTreeMap::new(),
            edits: Vec::new(),
            pushed: Vec::new(),
            streams: Vec::new(),
            seen: 0,
            memory: Memory::default(),
            outside,
        }
    }

    /// One cycle: something is asked for, something goes wrong, and in the end there is a server that was started anew.
    fn cycle(&mut self, step: u64) -> Result<(), Violation> {
        self.step = step;
        self.dice = Dice::new(mix(self.run.seed, step));
        sim::reseed(mix(!self.run.seed, step));
        self.is_calm = self.dice.chance(if self.held().is_some() { MILLION / 4 * 3 } else { MILLION / 4 });
        self.is_cut = None;
        sim::note(format_args!("step {step}{}", if self.is_calm { ", calm" } else { "" }));
        self.start_all()?;
        self.choose_faults();
        self.upheavals += u64::from(!self.are_disks_sound);
        if self.dice.chance(once_in(4)) {
            sim::race(self.server_machine, ROOT, FLIPPING, "../outside", once_in(20));
        }
        self.let_in_hostile_peers();
        self.begin_tasks();
        self.speak_of_keys();
        self.light_fuses();
        let began = sim::now_ns();
        let pause = self.dice.between(10, 20_000) * 1_000_000;
        let comes_back = self.dice.chance(MILLION / 2);
        let sweeps_after = self.dice.below(200);
        let mut died = None;
        let mut rounds = 0;
        while !self.tasks.is_empty() || self.keys.as_ref().is_some_and(Keys::are_spoken_of) {
            self.round()?;
            rounds += 1;
            self.edits.retain(|(after, machine, source, version)| {
                let is_due = *after <= rounds;
                if is_due {
                    let Kept { mode, mtime } = self.contents.kept(*version);
                    sim::overwrite(*machine, source, &self.contents.bytes(*version));
                    sim::set_attributes(*machine, source, mode, mtime);
                    sim::count("edit of a source");
                }
                !is_due
            });
            if rounds == sweeps_after {
                self.sweep()?;
            }
            if self.server.is_none() && comes_back {
                let died = *died.get_or_insert(sim::now_ns());
                if sim::now_ns() >= died + pause {
                    self.start_server()?;
                }
            }
            if sim::now_ns() > began + TASKS_END_NS {
                return self.broken(BOUNDED, format!("{} tasks never end", self.tasks.len()));
            }
        }
        self.edits.clear();
        self.audit()
    }

    /// Starts whatever does not run.
    fn start_all(&mut self) -> Result<(), Violation> {
        for index in 0..self.clients.len() {
            if sim::has_failed(self.clients[index].machine) {
                self.clients[index].host.iter().for_each(|host| sim::crash(host.process, Crash::PowerLoss));
            }
        }
        self.look_on(false)?;
        if self.is_calm {
            // Connections of old may be broken without their knowing.
            for side in &mut self.clients {
                if let Some(host) = side.host.take() {
                    host.bury();
                    side.tree.end_forsaken();
                }
            }
        }
        for machine in self.machines() {
            sim::restore_power(machine);
            sim::collect(machine);
            if !self.is_calm && self.dice.chance(once_in(16)) {
                self.upheavals += 1;
                sim::jump(machine);
            }
        }
        if self.server.is_none() {
            self.is_durable = self.dice.chance(once_in(3));
        }
        self.start_server()?;
        for index in 0..self.clients.len() {
            self.tidy(index);
            if self.clients[index].host.is_none() {
                let address = self.server_address();
                let threads = self.dice.between(1, 2) as usize;
                match Host::open(self.clients[index].machine, address, threads) {
                    Ok(host) => self.clients[index].host = Some(host),
                    Err(failure) => return self.broken(CODED, format!("no client: {failure:?}")),
                }
            }
        }
        Ok(())
    }

    /// Now and then the machine of a client loses all that was pulled, and the sources that nobody goes on with.
    fn tidy(&mut self, index: usize) {
        let side = &mut self.clients[index];
        if !self.dice.chance(once_in(8)) {
            return;
        }
        sim::take_away(side.machine, DESTINATIONS);
        sim::put(side.machine, &format!("{DESTINATIONS}/here"), Node::Directory);
        side.tree = Tree::default();
        sim::take_away(side.machine, SOURCES);
        sim::put(side.machine, &format!("{SOURCES}/here"), Node::Directory);
        self.unfinished.retain(|unfinished| unfinished.client != index);
        self.pushed.retain(|pushed| pushed.client != index);
    }

    fn start_server(&mut self) -> Result<(), Violation> {
        if self.server.is_some() {
            return Ok(());
        }
        sim::restore_power(self.server_machine);
        let mut config = Config {
            listen: vec![Listen::transfer(self.server_address())],
            io_threads: self.dice.between(1, 2) as usize,
            durable: self.is_durable,
            insecure: true,
            ..Config::new(ROOT)
        };
        let mut fsync = Fsync::default();
        if self.keys.is_some() {
            config.listen.push(Listen::kv(self.keys_address()));
            fsync = *self.dice.one_of(&Fsync::ALL);
            config.kv = Some(KvConfig { dir: Some(keys::DIRECTORY.into()), fsync, ..KvConfig::default() });
        }
        if self.keys.is_some() && !self.is_calm && self.dice.chance(once_in(6)) {
            self.start_in_vain(config.clone())?;
        }
        let reactors = config.io_threads;
        match Host::serve(self.server_machine, config, None) {
            Ok(host) => {
                sim::count("start of a server");
                self.bound = Bound::of_started(reactors);
                self.server = Some(host);
                self.check_keys(fsync)
            }
            // A disk that fails at this moment; it is tried again.
            Err(failure) if failure.code == ErrorCode::Io => {
                sim::note(format_args!("no server starts: {failure:?}"));
                Ok(())
            }
            Err(failure) => self.broken(CODED, format!("no server: {failure:?}")),
        }
    }

    /// Starts a server that comes to its end before anybody has spoken to it, while it is loading keys, or soon after that.
    fn start_in_vain(&mut self, config: Config) -> Result<(), Violation> {
        let crash = *self.dice.one_of(&[Crash::Kill, Crash::PowerLoss]);
        let most = 1 << self.dice.between(2, 8);
        if let Ok(host) = Host::serve(self.server_machine, config, Some((self.dice.below(most), crash))) {
            sim::crash(host.process, crash);
            host.bury();
        }
        if !sim::has_power(self.server_machine) {
            self.see_what_is_left()?;
            sim::restore_power(self.server_machine);
        }
        Ok(())
    }

    fn machines(&self) -> Vec<MachineId> {
        let clients = self.clients.iter().map(|it| it.machine);
        std::iter::once(self.server_machine)
            .chain(clients)
            .chain(self.keys.as_ref().map(|it| it.machine))
            .collect()
    }

    /// Has some peers connect that mean no good.
    fn let_in_hostile_peers(&mut self) {
        let latency_ms = *self.dice.one_of(&[0, 1, 20, 200]);
        let split = *self.dice.one_of(&[0, MILLION / 10]);
        sim::set_faults(self.hostile_machine, Faults { latency_ms, split, ..Faults::default() });
        if !self.dice.chance(once_in(3)) {
            return;
        }
        for _ in 0..self.dice.between(1, 3).min((PEERS_MAX - self.peers.len()) as u64) {
            let is_for_keys = self.keys.is_some() && self.dice.chance(MILLION / 2);
            let (protocol, address) = match is_for_keys {
                true => (Protocol::Kv, self.keys_address()),
                false => (Protocol::Transfer, self.server_address()),
            };
            let dice = Dice::new(self.dice.number());
            self.peers.extend(sim::run_as(self.hostile, || Peer::connect(protocol, address, dice)));
        }
    }

    fn server_address(&self) -> SocketAddr {
        SocketAddr::new(sim::address(self.server_machine), PORT)
    }

    fn keys_address(&self) -> SocketAddr {
        SocketAddr::new(sim::address(self.server_machine), KV_DEFAULT_PORT)
    }

    /// Has some speak of the keys, as long as there is somebody to speak to.
    fn speak_of_keys(&mut self) {
        let address = self.keys_address();
        if let Some(keys) = self.keys.as_mut().filter(|_| self.server.is_some()) {
            if !self.are_disks_sound {
                keys.doubt_disk();
            }
            keys.begin(address, &mut self.dice);
        }
    }

    /// What keys are there now that a server was started.
    fn check_keys(&mut self, fsync: Fsync) -> Result<(), Violation> {
        let (Some(keys), Some(server)) = (&mut self.keys, &self.server) else { return Ok(()) };
        match server.look(|keyspace| keys.check(keyspace, fsync)) {
            Some(Err(message)) => self.broken(DURABLE_KEYS, message),
            _ => Ok(()),
        }
    }

    /// Whoever speaks of keys takes a turn.
    fn hear_of_keys(&mut self) -> Result<(), Violation> {
        match self.keys.as_mut().map_or(Ok(0), Keys::take_turns) {
            Ok(broken) if broken > 0 && self.is_calm => {
                self.broken(BOUNDED, format!("{broken} who spoke of keys were not heard to the end"))
            }
            Ok(_) => {
                self.end_rewrite();
                Ok(())
            }
            Err(message) => self.broken(DURABLE_KEYS, message),
        }
    }

    /// Now and then a server comes to its end while it writes its log anew: few calls, and each another step of that.
    fn end_rewrite(&mut self) {
        let is_rewritten = self.keys.as_mut().is_some_and(Keys::take_rewritten);
        if let Some(server) = self.server.as_ref().filter(|_| is_rewritten && !self.is_calm) {
            if sim::dice(|dice| dice.chance(MILLION / 4)) {
                let (calls, crash) =
                    sim::dice(|dice| (dice.below(50), *dice.one_of(&[Crash::Kill, Crash::PowerLoss])));
                sim::light_fuse(server.process, calls, crash);
            }
        }
    }

    /// Chooses what goes wrong, and how often. In half of all cycles nothing does by itself.
    fn choose_faults(&mut self) {
        self.are_disks_sound = true;
        for machine in self.machines() {
            let dice = &mut self.dice;
            let mut faults = Faults { latency_ms: *dice.one_of(&[0, 1, 20, 200]), ..Faults::default() };
            faults.short_write = *dice.one_of(&[0, 0, 0, MILLION / 4]);
            if self.is_calm {
                faults.split = *dice.one_of(&[0, 0, 0, MILLION / 10]);
                sim::set_faults(machine, faults);
                continue;
            }
            if dice.chance(MILLION / 5) {
                faults.split = *dice.one_of(&[0, MILLION / 10, MILLION]);
                faults.stall = *dice.one_of(&[0, once_in(1000), once_in(100)]);
                faults.cut = *dice.one_of(&[0, once_in(10), once_in(2)]);
                faults.half_close = *dice.one_of(&[0, once_in(10)]);
                faults.reset = *dice.one_of(&[0, once_in(200)]);
            }
            match dice.below(16) {
                0 => faults.io_error = *dice.one_of(&[once_in(500), once_in(50)]),
                1 => faults.no_space = *dice.one_of(&[once_in(100), once_in(10), MILLION]),
                2..=4 => faults.sync_failure = *dice.one_of(&[once_in(20), once_in(2)]),
                5 => faults.flipped_byte = once_in(20),
                6 => {
                    faults.io_error = once_in(500);
                    faults.no_space = once_in(200);
                    faults.sync_failure = once_in(20);
                }
                _ => {}
            }
            let is_disk_sound = Faults { io_error: 0, no_space: 0, sync_failure: 0, ..faults } == faults;
            self.are_disks_sound &= is_disk_sound;
            sim::set_faults(machine, faults);
        }
    }

    /// Chooses who comes to an end, and after how many calls.
    fn light_fuses(&mut self) {
        let dice = &mut self.dice;
        if self.is_calm {
            let cut = self.is_cut.and_then(|client| self.clients.get(client)?.host.as_ref());
            if let Some(host) = cut {
                // Most often when some extents are acknowledged and others are not.
                sim::light_fuse(host.process, dice.between(10, 150), Crash::Kill);
            }
            return;
        }
        if let (Some(_), Some(server)) = (self.is_cut, &self.server) {
            return sim::light_fuse(server.process, dice.between(20, 400), Crash::PowerLoss);
        }
        let mut light = |host: &Option<Host>, times: u32| {
            let Some(host) = host else { return };
            if dice.chance(once_in(times)) {
                let crash = *dice.one_of(&[Crash::Kill, Crash::PowerLoss]);
                let most = 1 << dice.between(2, 11);
                let calls = dice.below(most);
                sim::light_fuse(host.process, calls, crash);
            }
        };
        light(&self.server, 2);
        self.clients.iter().for_each(|side| light(&side.host, 6));
    }

    /// Everybody takes a turn, in any order; if nobody had anything to do, time goes on.
    fn round(&mut self) -> Result<(), Violation> {
        sim::has_moved();
        sim::forget_alarms();
        self.stream_on();
        self.hear_of_keys()?;
        self.server.iter().for_each(Host::hear);
        sim::run_as(self.hostile, || self.peers.retain_mut(Peer::take_turn));
        let mut turns: Vec<(usize, usize)> = Vec::new();
        turns.extend((0..self.server.as_ref().map_or(0, Host::stepped)).map(|stepped| (CLIENTS, stepped)));
        for (index, side) in self.clients.iter().enumerate() {
            turns.extend((0..side.host.as_ref().map_or(0, Host::stepped)).map(|stepped| (index, stepped)));
        }
        while !turns.is_empty() {
            let next = sim::dice(|dice| dice.below(turns.len() as u64)) as usize;
            let (index, stepped) = turns.swap_remove(next);
            let Some(host) = self.host_mut(index) else { continue };
            let panicked = catch_unwind(AssertUnwindSafe(|| host.step(stepped))).is_err();
            self.look_on(panicked)?;
        }
        // Without anything to come, a server that is to be started again is what everybody waits for.
        if !sim::has_moved() && !sim::advance() {
            sim::pass(100_000_000);
        }
        Ok(())
    }

    /// Whoever streams gives or takes a piece.
    fn stream_on(&mut self) {
        let Self { streams, tasks, clients, answers, .. } = self;
        streams.retain_mut(|stream| {
            let host = clients.get(stream.client).and_then(|side| side.host.as_ref());
            let Some(host) =
                host.filter(|host| tasks.contains_key(&stream.task) && sim::is_alive(host.process))
            else {
                return false;
            };
            let mut dice = sim::dice(|dice| Dice::new(dice.number()));
            if dice.chance(once_in(4)) {
                return true;
            }
            let done = sim::run_as(host.process, || stream.go_on(&mut dice));
            let goes_on = done.is_none();
            lock(answers).extend(done.map(|done| (stream.task, done)));
            goes_on
        });
    }

    fn host_mut(&mut self, index: usize) -> Option<&mut Host> {
        match self.clients.get_mut(index) {
            Some(side) => side.host.as_mut(),
            None => self.server.as_mut(),
        }
    }

    fn sweep(&mut self) -> Result<(), Violation> {
        let Some(server) = &self.server else { return Ok(()) };
        let panicked = catch_unwind(AssertUnwindSafe(|| server.sweep())).is_err();
        self.look_on(panicked)
    }

    /// Somebody has moved: sees what became of it.
    fn look_on(&mut self, panicked: bool) -> Result<(), Violation> {
        if let Some(panic) = PANIC.take() {
            return self.broken(CODED, format!("panic: {panic}"));
        }
        if panicked {
            return self.broken(CODED, "panic".into());
        }
        self.bury_dead()?;
        if let Some(server) = &self.server {
            let keys_bytes = server.look(Keyspace::memory).unwrap_or(0);
            if let Err(message) = self.bound.check(server.connections(), keys_bytes) {
                return self.broken(BOUNDED, message);
            }
            if !self.peers.is_empty() {
                sim::count("check of a server's memory beside hostile peers");
            }
        }
        let answers = std::mem::take(&mut *lock(&self.answers));
        // Before what is found is compared: what was acknowledged must be there.
        for (task, answer) in answers {
            self.on_answer(task, answer)?;
        }
        self.check(false)
    }

    fn on_answer(&mut self, task: u64, answer: Result<Done, Failure>) -> Result<(), Violation> {
        let Some(task) = self.tasks.remove(&task) else { return Ok(()) };
        let is_done = matches!(answer, Ok(Done::Whole { .. }));
        sim::note(format_args!("answer: {answer:?}"));
        if let (Ok(Done::Read(bytes)), Some(reading)) = (&answer, &task.reading) {
            self.check_read(reading, bytes)?;
        }
        let failures = match &answer {
            Ok(Done::Whole { .. } | Done::Read(_)) => &[],
            Ok(Done::InPart(failures)) => &failures[..],
            Err(failure) => std::slice::from_ref(failure),
        };
        for failure in failures {
            sim::count("failure with a code");
            if matches!(failure.code, ErrorCode::Internal | ErrorCode::Protocol | ErrorCode::Unknown(_)) {
                return self.broken(CODED, format!("{failure:?}"));
            }
            // Nothing has gone wrong but, perhaps, what hostile peers have brought about.
            if self.is_calm && is_unserved(failure) {
                return self.broken(BOUNDED, format!("{failure:?}"));
            }
        }
        if is_done {
            sim::count("acknowledgement");
        }
        if self.is_calm && !self.peers.is_empty() {
            sim::count("service beside hostile peers");
        }
        if matches!(answer, Ok(Done::Whole { is_partly_there: true, .. })) {
            sim::count("file left out");
            task.attempts.iter().for_each(|attempt| self.tree.leave_unsynced(*attempt));
        }
        for attempt in &task.attempts {
            if is_done { self.tree.acknowledge(*attempt) } else { self.tree.forsake(*attempt) }
        }
        if let Some((attempt, _)) = task.pull {
            let tree = &mut self.clients[task.client].tree;
            if is_done { tree.acknowledge(attempt) } else { tree.forsake(attempt) }
        }
        if let (Ok(Done::Whole { resumed_bytes, .. }), Some(unfinished)) = (&answer, &task.unfinished) {
            self.check_resumed(unfinished, *resumed_bytes)?;
        }
        if !is_done {
            self.remember(task);
        }
        // All there is is to be compared with what was just learnt.
        self.seen = 0;
        self.clients.iter_mut().for_each(|side| side.seen = 0);
        Ok(())
    }

    /// Remembers what was cut off, with what the server has acknowledged of it.
    fn remember(&mut self, task: Task) {
        self.removals.extend(task.removal);
        let (Some(mut unfinished), Some(job)) = (task.unfinished, task.job) else { return };
        // A file of one extent is sent as a whole or not at all; one that was held as a whole may have been completed.
        let (bytes, size) = (job.progress().bytes, unfinished.size(&self.contents));
        let is_resumable = size > EXTENT_BYTES && bytes < size;
        unfinished.held.bytes = if is_resumable && self.is_undisturbed(&unfinished) { bytes } else { 0 };
        self.unfinished.push(unfinished);
    }

    /// What was read is what somebody has put there, or a part of it.
    fn check_read(&self, reading: &Reading, bytes: &[u8]) -> Result<(), Violation> {
        let Reading { from, range: (start, end), states } = reading;
        let is_part = |state: &State| {
            let State::File(version) = state else { return false };
            let whole = self.contents.bytes(*version);
            // Of what is past its end, a file has nothing.
            let start = whole.len().min(*start as usize);
            let end = end.map_or(whole.len(), |end| whole.len().min(end as usize));
            whole.get(start..end).unwrap_or_default() == bytes
        };
        if !states.iter().any(is_part) {
            let message = format!("{} bytes were read of {from} that nobody has put there", bytes.len());
            return self.broken(PRESENT, message);
        }
        sim::count("check of what was read");
        Ok(())
    }

    /// What was acknowledged of a file that was cut off is not sent again.
    fn check_resumed(&mut self, push: &Unfinished, resumed_bytes: u64) -> Result<(), Violation> {
        let bytes = push.held.bytes;
        if bytes == 0 || !self.is_undisturbed(push) {
            return Ok(());
        }
        if resumed_bytes < bytes {
            let place = &push.place;
            return self.broken(
                SWEPT,
                format!("{place}: {bytes} bytes were held, but {resumed_bytes} gone on with"),
            );
        }
        sim::count("check that a file is gone on with");
        Ok(())
    }

    /// Drops what is left of processes that have come to their end.
    fn bury_dead(&mut self) -> Result<(), Violation> {
        if let Some(server) = self.server.take_if(|server| !sim::is_alive(server.process)) {
            self.bury_server(server)?;
        }
        for index in 0..self.clients.len() {
            let side = &mut self.clients[index];
            let Some(host) = side.host.take_if(|host| !sim::is_alive(host.process)) else { continue };
            host.bury();
            let dead: Vec<u64> =
                self.tasks.iter().filter(|(_, task)| task.client == index).map(|(id, _)| *id).collect();
            for id in dead {
                let Some(task) = self.tasks.remove(&id) else { continue };
                task.attempts.iter().for_each(|attempt| self.tree.forsake(*attempt));
                if let Some((attempt, _)) = task.pull {
                    self.clients[index].tree.forsake(attempt);
                }
                self.remember(task);
            }
            let side = &mut self.clients[index];
            side.tree.end_forsaken();
            side.seen = 0;
            if !sim::has_power(side.machine) {
                self.check(true)?;
                let sight = self.look_at_client(index);
                self.clients[index].tree.settle(&sight.files);
            }
        }
        Ok(())
    }

    /// It has come to its end, or does so now.
    fn bury_server(&mut self, server: Host) -> Result<(), Violation> {
        self.keys.iter_mut().for_each(Keys::end);
        server.bury();
        self.peers.clear();
        self.tree.end_forsaken();
        self.removals.clear();
        self.seen = 0;
        // Not all of them end where they are told to.
        if sim::has_power(self.server_machine) { Ok(()) } else { self.see_what_is_left() }
    }

    fn look_at_server(&mut self) -> Sight {
        Sight::of(self.server_machine, ROOT, &OTHERS, &mut self.contents, &mut self.memory)
    }

    fn look_at_client(&mut self, index: usize) -> Sight {
        let ClientSide { machine, memory, .. } = &mut self.clients[index];
        Sight::of(*machine, DESTINATIONS, &[], &mut self.contents, memory)
    }

    /// The server's machine has lost its power.
    fn see_what_is_left(&mut self) -> Result<(), Violation> {
        self.upheavals += 1;
        self.keys.iter_mut().for_each(Keys::lose_power);
        self.check(true)?;
        let sight = self.look_at_server();
        self.tree.settle(&sight.files);
        Ok(())
    }

    /// Compares what is on the disks with what may be there, if anything has changed.
    fn check(&mut self, after_power_loss: bool) -> Result<(), Violation> {
        let promise = if after_power_loss { AFTER_POWER_LOSS } else { PRESENT };
        let changes = sim::changes(self.server_machine);
        if std::mem::replace(&mut self.seen, changes) != changes {
            let sight = self.look_at_server();
            let has_lost = after_power_loss && !sim::has_power(self.server_machine);
            if let Err(message) = self.tree.check(&sight.files, &self.contents, has_lost) {
                return self.broken(promise, format!("on the server: {message}"));
            }
            let (machine, contents) = (self.server_machine, &mut self.contents);
            let outside = Sight::of(machine, OUTSIDE, &[], contents, &mut Memory::default());
            let is_untouched = outside.files.len() == 1
                && outside.hidden.is_empty()
                && outside.files.get(SECRET) == Some(&self.outside);
            if !is_untouched {
                return self.broken(CONFINED, format!("outside of the root is now: {outside:?}"));
            }
            sim::count("check of a server's tree");
        }
        for index in 0..self.clients.len() {
            let side = &mut self.clients[index];
            let changes = sim::changes(side.machine);
            if std::mem::replace(&mut side.seen, changes) != changes {
                let sight = self.look_at_client(index);
                let side = &self.clients[index];
                if sight.files.values().any(|version| *version == self.outside) {
                    return self.broken(CONFINED, "a client has what is outside of the root".into());
                }
                let has_lost = after_power_loss && !sim::has_power(side.machine);
                if let Err(message) = side.tree.check(&sight.files, &self.contents, has_lost) {
                    return self.broken(promise, format!("on client {index}: {message}"));
                }
                sim::count("check of a client's tree");
            }
        }
        Ok(())
    }

    /// The server comes to an end, however, and another one is started where nothing goes wrong: nothing is left behind.
    fn audit(&mut self) -> Result<(), Violation> {
        sim::settle_race();
        // What was held, or begun, under faults may be gone.
        self.upheavals += u64::from(!self.are_disks_sound);
        for machine in self.machines() {
            sim::set_faults(machine, Faults::default());
        }
        if let Some(server) = &self.server {
            match self.dice.below(if self.is_calm { 3 } else { 4 }) {
                0 => server.stop(true),
                1 => server.stop(false),
                2 => sim::crash(server.process, Crash::Kill),
                _ => sim::crash(server.process, Crash::PowerLoss),
            }
            if sim::is_alive(server.process) {
                self.calm_down()?;
                if let Some(server) = self.server.take() {
                    self.bury_server(server)?;
                }
            }
            self.look_on(false)?;
        }
        self.is_durable = self.dice.chance(once_in(3));
        if sim::has_failed(self.server_machine) {
            sim::cut_power(self.server_machine);
            self.see_what_is_left()?;
        }
        self.start_server()?;
        if self.server.is_none() && sim::has_power(self.server_machine) {
            return self.broken(SWEPT, "no server starts, though nothing is wrong".into());
        }
        self.calm_down()?;
        self.sweep()?;
        let sight = self.look_at_server();
        if let Some(path) = sight.left_behind() {
            return self.broken(SWEPT, format!("{path} is left behind; hidden are {:?}", sight.hidden));
        }
        sim::count("check that nothing is left behind");
        Ok(())
    }

    /// Lets some time pass.
    fn calm_down(&mut self) -> Result<(), Violation> {
        let until = sim::now_ns() + CALM_NS;
        while sim::now_ns() < until {
            self.round()?;
        }
        Ok(())
    }

    fn broken<T>(&self, promise: &'static str, message: String) -> Result<T, Violation> {
        Err(Violation { promise, message, step: self.step, happenings: Vec::new() })
    }

    /// Everything is let go of.
    fn end(mut self) {
        self.peers.clear();
        let hosts = self.clients.iter_mut().filter_map(|side| side.host.take());
        for host in self.server.take().into_iter().chain(hosts) {
            sim::crash(host.process, Crash::Kill);
            host.bury();
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "promise {}\n  step {}: {}", self.promise, self.step, self.message)
    }
}

/// Another seed for each number.
fn mix(seed: u64, number: u64) -> u64 {
    let mut dice = Dice::new(seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
    dice.number()
}

/// Whether it says that somebody was not served, though nothing was wrong with what was asked for.
fn is_unserved(failure: &Failure) -> bool {
    use ErrorCode::{Busy, ConnectionLost, ConnectionRefused, ShuttingDown, Timeout};
    matches!(failure.code, Busy | ConnectionLost | ConnectionRefused | ShuttingDown | Timeout)
}

/// What a task that is to be done as a whole came to.
pub(crate) fn whole(result: Result<Receipt, Failure>) -> Result<Done, Failure> {
    result.map(|Receipt { failed, failures, resumed_bytes, unchanged, .. }| match failed {
        0 => Done::Whole { resumed_bytes, is_partly_there: unchanged > 0 },
        _ => Done::InPart(failures.into_iter().map(|file| file.failure).collect()),
    })
}

/// What a place may have besides.
pub(crate) fn file_states(states: Vec<State>) -> Vec<State> {
    states.into_iter().filter(|state| *state != State::Absent).collect()
}
