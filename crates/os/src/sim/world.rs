//! What the doubles have in common: machines, processes, time, faults, and what has happened.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use super::disk::{Change, Disk, Errno, Ino, New};
use super::network::Network;
use super::random::{Dice, MILLION};
use crate::attributes::Timestamp;

/// The number of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MachineId(pub(crate) usize);

/// The number of a process. None is ever used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessId(pub(crate) usize);

/// How a process, or all of a machine, comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: what it wrote stays, and its connections end.
    Kill,
    /// The machine has no power any more: what was not synced may be lost, and its connections fall silent.
    PowerLoss,
}

/// How often things go wrong, of a million times each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// A call to the disk fails with EIO.
    pub io_error: u32,
    /// A call that needs room on the disk fails with ENOSPC.
    pub no_space: u32,
    /// A write writes less than it was given.
    pub short_write: u32,
    /// A sync fails.
    pub sync_failure: u32,
    /// A byte that a file is sent from is another one than was read before.
    pub flipped_byte: u32,
    /// What is sent arrives in parts.
    pub split: u32,
    /// What is sent is held back for a long while.
    pub stall: u32,
    /// A connection is cut after some bytes.
    pub cut: u32,
    /// A connection is reset by something on the way.
    pub reset: u32,
    /// One direction of a connection ends too early.
    pub half_close: u32,
    /// Milliseconds that what is sent is on its way, at most.
    pub latency_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) disk: Disk,
    pub(crate) address: IpAddr,
    pub(crate) has_power: bool,
    /// Which run of it this is.
    pub(crate) boot: u128,
    /// How far the clock on the wall is ahead.
    wall_ahead_ns: u64,
    /// Whether its file system has files without names.
    pub(crate) has_unnamed_files: bool,
    pub(crate) faults: Faults,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) machine: MachineId,
    pub(crate) is_alive: bool,
    /// After so many more calls it comes to its end.
    fuse: Option<(u64, Crash)>,
}

/// All there is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) now_ns: u64,
    pub(crate) machines: Vec<Machine>,
    pub(crate) processes: Vec<Process>,
    pub(crate) here: Option<ProcessId>,
    pub(crate) network: Network,
    /// Whether something has happened that others may have to look at.
    pub(crate) has_moved: bool,
    /// When somebody has something to do next.
    pub(crate) alarm_ns: u64,
    pub(crate) descriptions: u64,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) racer: Option<Racer>,
    trace: Trace,
}

/// Somebody who changes what a name stands for.
#[derive(Debug)]
pub(crate) struct Racer {
    machine: MachineId,
    dir: Ino,
    name: OsString,
    /// What it stands for, and what it will stand for.
    turns: [Ino; 2],
    in_a_million: u32,
}

/// What has happened.
#[derive(Debug, Default)]
struct Trace {
    hash: u64,
    last: VecDeque<String>,
    /// A line that is no longer wanted, for its memory.
    spare: String,
}

/// Happenings that are kept to be shown.
const TRACE_LINES: usize = 2000;

/// When the first world began on its walls: 2026-01-01 00:00 UTC.
const WALL_NS: u64 = 1_767_225_600_000_000_000;

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            now_ns: 0,
            machines: Vec::new(),
            processes: Vec::new(),
            here: None,
            network: Network::default(),
            has_moved: false,
            alarm_ns: u64::MAX,
            descriptions: 0,
            counts: BTreeMap::new(),
            racer: None,
            trace: Trace::default(),
        }
    }

    pub(crate) fn add_machine(&mut self, has_unnamed_files: bool) -> MachineId {
        let id = MachineId(self.machines.len());
        let address = Ipv4Addr::new(10, 0, 0, 1 + id.0 as u8).into();
        let boot = self.new_boot();
        let now = timestamp(WALL_NS);
        self.machines.push(Machine {
            disk: Disk::new(now),
            address,
            has_power: true,
            boot,
            wall_ahead_ns: 0,
            has_unnamed_files,
            faults: Faults::default(),
        });
        id
    }

    fn new_boot(&mut self) -> u128 {
        (u128::from(self.dice.number()) << 64) | u128::from(self.dice.number())
    }

    pub(crate) fn start_process(&mut self, machine: MachineId) -> ProcessId {
        let id = ProcessId(self.processes.len());
        self.processes.push(Process { machine, is_alive: true, fuse: None });
        id
    }

    pub(crate) fn process(&self, id: ProcessId) -> &Process {
        &self.processes[id.0]
    }

    pub(crate) fn machine(&mut self, id: MachineId) -> &mut Machine {
        &mut self.machines[id.0]
    }

    pub(crate) fn disk_of(&mut self, id: ProcessId) -> &mut Disk {
        let machine = self.process(id).machine;
        &mut self.machine(machine).disk
    }

    /// The process that runs.
    ///
    /// # Panics
    /// If none does: somebody outside of the world calls a double.
    pub(crate) fn process_here(&self) -> ProcessId {
        self.here.expect("only simulated processes use what is simulated")
    }

    pub(crate) fn machine_here(&self) -> MachineId {
        self.process(self.process_here()).machine
    }

    pub(crate) fn wall_ns(&self, machine: MachineId) -> u64 {
        WALL_NS + self.machines[machine.0].wall_ahead_ns + self.now_ns
    }

    /// What files of `machine` get as their time.
    pub(crate) fn time_of(&self, machine: MachineId) -> Timestamp {
        timestamp(self.wall_ns(machine))
    }

    pub(crate) fn time_for(&self, process: ProcessId) -> Timestamp {
        self.time_of(self.process(process).machine)
    }

    /// The clock on the wall of `machine` is set to any time within a month.
    pub(crate) fn jump(&mut self, machine: MachineId) {
        let ahead = self.dice.below(30 * 24 * 3600 * 1_000_000_000);
        self.machine(machine).wall_ahead_ns = ahead;
        self.count("clock jump");
        self.note(format_args!("{machine:?}: the clock on the wall jumps"));
    }

    /// A process calls the kernel: it may find its end by that, and whatever a dead one calls has no effect.
    pub(crate) fn call(&mut self, process: ProcessId) -> Result<(), Errno> {
        if !self.process(process).is_alive {
            return Err(libc::EIO);
        }
        self.let_race(process);
        // Time passes, so that no two changes of a file have the same time.
        self.now_ns += self.dice.between(1, 1500);
        if let Some((calls, crash)) = &mut self.processes[process.0].fuse {
            match calls.checked_sub(1) {
                Some(left) => *calls = left,
                None => {
                    let crash = *crash;
                    self.crash(process, crash);
                    return Err(libc::EIO);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn race(
        &mut self,
        machine: MachineId,
        path: &str,
        name: &str,
        target: &str,
        in_a_million: u32,
    ) {
        let now = self.time_of(machine);
        let disk = &mut self.machine(machine).disk;
        let Some(dir) = super::find(disk, path) else { return };
        let turns = [New::Directory, New::Symlink(target.into())].map(|new| disk.make(new, 0o755, now));
        // Both stay, though only one has a name.
        turns.iter().for_each(|ino| disk.opened(*ino));
        let name = OsString::from(name);
        if disk.change(Change(vec![(dir, name.clone(), Some(turns[0]))]), now).is_ok() {
            self.racer = Some(Racer { machine, dir, name, turns, in_a_million });
        }
    }

    fn let_race(&mut self, process: ProcessId) {
        let Some(racer) = &mut self.racer else { return };
        if racer.machine == self.processes[process.0].machine && self.dice.chance(racer.in_a_million) {
            racer.turns.swap(0, 1);
            let change = Change(vec![(racer.dir, racer.name.clone(), Some(racer.turns[0]))]);
            let machine = racer.machine;
            let now = self.time_of(machine);
            let _ = self.machine(machine).disk.change(change, now);
            self.count("race for a path");
        }
    }

    /// A call to the disk, which may fail.
    pub(crate) fn disk_call(&mut self, process: ProcessId) -> Result<(), Errno> {
        self.call(process)?;
        let faults = self.faults_of(process);
        if self.dice.chance(faults.io_error) {
            self.count("EIO");
            self.note(format_args!("{process:?}: EIO"));
            return Err(libc::EIO);
        }
        Ok(())
    }

    /// The same of one that changes what is on the disk, and may find no room there.
    pub(crate) fn disk_change(&mut self, process: ProcessId) -> Result<(), Errno> {
        self.disk_call(process)?;
        let faults = self.faults_of(process);
        if self.disk_of(process).has_failed {
            return Err(libc::EROFS);
        }
        if self.dice.chance(faults.no_space) {
            self.count("ENOSPC");
            self.note(format_args!("{process:?}: ENOSPC"));
            return Err(libc::ENOSPC);
        }
        Ok(())
    }

    pub(crate) fn faults_of(&self, process: ProcessId) -> Faults {
        self.machines[self.process(process).machine.0].faults
    }

    pub(crate) fn light_fuse(&mut self, process: ProcessId, calls: u64, crash: Crash) {
        self.processes[process.0].fuse = Some((calls, crash));
    }

    pub(crate) fn crash(&mut self, process: ProcessId, crash: Crash) {
        if !self.process(process).is_alive {
            return;
        }
        self.has_moved = true;
        self.note(format_args!("{process:?}: {crash:?}"));
        match crash {
            Crash::Kill => {
                self.count("kill");
                self.end(process);
            }
            Crash::PowerLoss => {
                let machine = self.process(process).machine;
                self.cut_power(machine);
            }
        }
    }

    pub(crate) fn cut_power(&mut self, machine: MachineId) {
        self.racer = None;
        self.count("power loss");
        for (number, process) in self.processes.iter_mut().enumerate() {
            if process.machine == machine && process.is_alive {
                process.is_alive = false;
                self.network.vanish(ProcessId(number));
            }
        }
        let it = &mut self.machines[machine.0];
        it.has_power = false;
        let lost = it.disk.lose_power(&mut self.dice);
        *self.counts.entry("name lost").or_default() += lost.names;
        *self.counts.entry("page lost").or_default() += lost.pages;
        *self.counts.entry("page torn").or_default() += lost.torn;
        *self.counts.entry("mode or time lost").or_default() += lost.attributes;
    }

    /// A process is gone, killed or not: its connections and locks are, too.
    pub(crate) fn end(&mut self, process: ProcessId) {
        self.processes[process.0].is_alive = false;
        self.network.end_process(process, self.now_ns);
    }

    /// Locks are told apart by descriptions; those of a dead process are as good as free.
    pub(crate) fn new_description(&mut self) -> u64 {
        self.descriptions += 1;
        self.descriptions
    }

    pub(crate) fn restore_power(&mut self, machine: MachineId) {
        let boot = self.new_boot();
        let machine = self.machine(machine);
        if !machine.has_power {
            machine.has_power = true;
            machine.boot = boot;
        }
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn note(&mut self, happening: fmt::Arguments<'_>) {
        let mut line = std::mem::take(&mut self.trace.spare);
        line.clear();
        let _ = write!(line, "{:>12}.{:03} us  {happening}", self.now_ns / 1000, self.now_ns % 1000);
        // FNV-1a, 64 bits (RFC 9923).
        let add = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        self.trace.hash = line.bytes().fold(self.trace.hash ^ 0xcbf2_9ce4_8422_2325, add);
        if self.trace.last.len() == TRACE_LINES {
            self.trace.spare = self.trace.last.pop_front().unwrap_or_default();
        }
        self.trace.last.push_back(line);
    }

    pub(crate) fn trace_hash(&self) -> u64 {
        self.trace.hash
    }

    pub(crate) fn last_happenings(&self) -> impl Iterator<Item = &String> {
        self.trace.last.iter()
    }

    /// Goes on to when something happens next. False if nothing ever will.
    pub(crate) fn advance(&mut self) -> bool {
        let next = self.network.next_ns(self.now_ns).min(self.alarm_ns);
        if next == u64::MAX {
            return false;
        }
        self.now_ns = self.now_ns.max(next);
        true
    }
}

pub(crate) fn timestamp(ns: u64) -> Timestamp {
    Timestamp { seconds: (ns / 1_000_000_000) as i64, nanoseconds: (ns % 1_000_000_000) as u32 }
}

pub(crate) fn error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// A part of a million, for faults that come once in so many times.
pub const fn once_in(times: u32) -> u32 {
    MILLION / times
}
