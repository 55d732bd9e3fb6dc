//! A world of its own: machines with disks that lose what was not synced, a network that delays, splits and cuts, clocks
//! that jump; all of it from one seed, so that whatever happens can be repeated.
//!
//! It takes the place of the kernel in builds with `--cfg xferd_sim`, for one thread. Whoever plays the world begins one
//! with [`begin`], adds machines and starts processes, and calls the code under test by [`run_as`] one of them. Nothing
//! waits: what would is told by `WouldBlock` or by an alarm ([`wake_at`]), and [`advance`] goes on to when something
//! happens next.
//!
//! A process that comes to its end in the middle of its code, by a fuse ([`light_fuse`]), goes on for a while: whatever it
//! calls from then on fails and has no effect, and whoever plays the world drops all it had before anybody else moves.

pub mod clock;
mod defect;
pub mod dir;
mod disk;
pub mod file;
pub mod fs;
pub mod heap;
mod mapping;
pub mod net;
mod network;
pub mod random;
mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::time::Instant;

pub use defect::{Defect, is_seeded, seed};
use disk::{Change, Disk, Ino, New, ROOT};
pub use file::{File, FileExt};
pub use mapping::Mapping;
pub use random::{Dice, MILLION};
pub use world::{Crash, Faults, MachineId, ProcessId, once_in};

use crate::attributes::{Attributes, Kind, Timestamp};
use world::World;

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new(0));
}

/// Does something to the world of this thread.
fn world<T>(act: impl FnOnce(&mut World) -> T) -> T {
    heap::charge(None, || WORLD.with_borrow_mut(act))
}

/// Begins a new world, in which everything follows from `seed`. Whatever the last one had must be gone.
pub fn begin(seed: u64) {
    world(|world| *world = World::new(seed));
}

/// Adds a machine. Its file system may be without unnamed files.
pub fn add_machine(has_unnamed_files: bool) -> MachineId {
    world(|world| world.add_machine(has_unnamed_files))
}

/// The address of a machine.
pub fn address(machine: MachineId) -> IpAddr {
    world(|world| world.machine(machine).address)
}

/// Starts a process, on a machine that has power.
pub fn start_process(machine: MachineId) -> ProcessId {
    world(|world| world.start_process(machine))
}

/// Has `run` done by a process.
pub fn run_as<T>(process: ProcessId, run: impl FnOnce() -> T) -> T {
    let before = world(|world| world.here.replace(process));
    let done = heap::charge(Some(process), run);
    world(|world| world.here = before);
    done
}

/// Whether it has not come to its end.
pub fn is_alive(process: ProcessId) -> bool {
    world(|world| world.process(process).is_alive)
}

/// Has a process, or its machine, come to its end after so many more calls.
pub fn light_fuse(process: ProcessId, calls: u64, crash: Crash) {
    world(|world| world.light_fuse(process, calls, crash));
}

/// Ends a process, or its machine, now.
pub fn crash(process: ProcessId, crash: Crash) {
    world(|world| world.crash(process, crash));
}

/// A machine loses its power, whoever runs there.
pub fn cut_power(machine: MachineId) {
    world(|world| world.cut_power(machine));
}

/// A process has ended by itself.
pub fn end_process(process: ProcessId) {
    world(|world| world.end(process));
}

/// Whether a machine has power.
pub fn has_power(machine: MachineId) -> bool {
    world(|world| world.machine(machine).has_power)
}

/// Whether the disk of a machine takes nothing more until it is started anew.
pub fn has_failed(machine: MachineId) -> bool {
    world(|world| world.machine(machine).disk.has_failed)
}

/// Starts a machine again that had lost its power.
pub fn restore_power(machine: MachineId) {
    world(|world| world.restore_power(machine));
}

/// Says how often things go wrong on a machine, and on what connects to or from it.
pub fn set_faults(machine: MachineId, faults: Faults) {
    world(|world| world.machine(machine).faults = faults);
}

/// Has the clock on the wall of a machine jump.
pub fn jump(machine: MachineId) {
    world(|world| world.jump(machine));
}

/// Somebody has something to do at `instant`.
pub fn wake_at(instant: Instant) {
    world(|world| world.alarm_ns = world.alarm_ns.min(clock::ns(instant)));
}

/// Something has happened that others may have to look at.
pub fn moved() {
    world(|world| world.has_moved = true);
}

/// Whether something has since this was last asked.
pub fn has_moved() -> bool {
    world(|world| std::mem::take(&mut world.has_moved))
}

/// Goes on to when something happens next: something arrives, or an alarm that was set since the last time. False if nothing
/// ever will.
pub fn advance() -> bool {
    world(|world| {
        let goes_on = world.advance();
        world.alarm_ns = u64::MAX;
        goes_on
    })
}

/// Lets time pass though nothing happens.
pub fn pass(ns: u64) {
    world(|world| world.now_ns += ns);
}

/// Forgets the alarms that were set.
pub fn forget_alarms() {
    world(|world| world.alarm_ns = u64::MAX);
}

/// Nanoseconds since the world began.
pub fn now_ns() -> u64 {
    world(|world| world.now_ns)
}

/// Asks the dice of the world.
pub fn dice<T>(ask: impl FnOnce(&mut Dice) -> T) -> T {
    world(|world| ask(&mut world.dice))
}

/// Connections that one side still knows of.
pub fn connections() -> usize {
    world(|world| world.network.connections())
}

/// Notes a happening.
pub fn note(happening: std::fmt::Arguments<'_>) {
    world(|world| world.note(happening));
}

/// Counts something.
pub fn count(what: &'static str) {
    world(|world| world.count(what));
}

/// How often what has happened.
pub fn counts() -> BTreeMap<&'static str, u64> {
    world(|world| world.counts.clone())
}

/// A number that follows from all that has happened.
pub fn trace_hash() -> u64 {
    world(|world| world.trace_hash())
}

/// The latest happenings.
pub fn last_happenings() -> Vec<String> {
    world(|world| world.last_happenings().cloned().collect())
}

/// Something on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A file and its bytes.
    File(Vec<u8>),
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(OsString),
}

/// How often a name, or something that has one, has changed on the disk of `machine`.
pub fn changes(machine: MachineId) -> u64 {
    world(|world| world.machine(machine).disk.changes)
}

/// Shows everything beneath the directory `path` to whoever stands outside of the world: its path from there, what it is,
/// what is in it, and a number that is another one whenever that is.
pub fn look(machine: MachineId, path: &str, mut show: impl FnMut(&str, &Attributes, &[u8], u64)) {
    world(|world| {
        let disk = &world.machine(machine).disk;
        let Some(base) = find(disk, path) else { return };
        let mut ahead = vec![(String::new(), base)];
        while let Some((here, dir)) = ahead.pop() {
            for (name, kind) in disk.list(dir).unwrap_or_default() {
                let Ok(ino) = disk.lookup(dir, &name) else { continue };
                let separator = if here.is_empty() { "" } else { "/" };
                let path = format!("{here}{separator}{}", name.to_string_lossy());
                let Ok(attributes) = disk.attributes(ino) else { continue };
                match kind {
                    Kind::Directory => {
                        show(&path, &attributes, &[], 0);
                        ahead.push((path, ino));
                    }
                    Kind::Symlink => {
                        let target = disk.target(ino).unwrap_or(OsStr::new(""));
                        show(&path, &attributes, target.as_encoded_bytes(), 0);
                    }
                    _ => show(&path, &attributes, disk.bytes(ino).unwrap_or_default(), disk.stamp(ino)),
                }
            }
        }
    });
}

/// Puts something at `path`, from outside of the world, and syncs all of the disk. Missing directories are made; what is
/// there is replaced.
pub fn put(machine: MachineId, path: &str, node: Node) {
    world(|world| {
        let now = world.time_of(machine);
        world.now_ns += 1;
        let disk = &mut world.machine(machine).disk;
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut dir = ROOT;
        for component in parent.split('/').filter(|component| !component.is_empty()) {
            let inner = match disk.lookup(dir, OsStr::new(component)) {
                Ok(ino) => ino,
                Err(_) => add(disk, dir, component, New::Directory, now),
            };
            disk.sync_directory(dir);
            dir = inner;
        }
        let ino = match &node {
            Node::File(_) => add(disk, dir, name, New::File, now),
            Node::Directory => add(disk, dir, name, New::Directory, now),
            Node::Symlink(target) => add(disk, dir, name, New::Symlink(target.clone()), now),
        };
        if let Node::File(bytes) = node {
            // An inode that was just made.
            let _ = disk.write(ino, &bytes, 0, now).and_then(|()| disk.sync_file(ino));
        }
        disk.sync_directory(dir);
    });
}

/// Sets mode and modification time of what is at `path`, from outside of the world, and brings them to the disk.
pub fn set_attributes(machine: MachineId, path: &str, mode: u32, mtime: Timestamp) {
    world(|world| {
        let now = world.time_of(machine);
        world.now_ns += 1;
        let disk = &mut world.machine(machine).disk;
        if let Some(ino) = find(disk, path) {
            let set = disk.set_attributes(ino, Some(mode), Some(mtime), now);
            let _ = set.and_then(|()| disk.sync_attributes(ino));
        }
    });
}

/// Writes over the front of the file at `path`, from outside of the world, as an editor might.
pub fn overwrite(machine: MachineId, path: &str, bytes: &[u8]) {
    world(|world| {
        let now = world.time_of(machine);
        world.now_ns += 1;
        let disk = &mut world.machine(machine).disk;
        if let Some(ino) = find(disk, path) {
            let _ = disk.write(ino, bytes, 0, now).and_then(|()| disk.sync_file(ino));
        }
    });
}

/// Lets go of what nobody can come upon any more on the disk of `machine`.
pub fn collect(machine: MachineId) {
    world(|world| world.machine(machine).disk.collect());
}

/// Has `name` in the directory at `path` be a directory and a link to `target` in turns, each time a process of `machine`
/// calls the kernel and the dice say so. From outside of the world, until the next crash or [`settle_race`].
pub fn race(machine: MachineId, path: &str, name: &str, target: &str, in_a_million: u32) {
    world(|world| world.race(machine, path, name, target, in_a_million));
}

/// Ends a [`race`].
pub fn settle_race() {
    world(|world| world.racer = None);
}

/// From now on what happens follows from `seed`.
pub fn reseed(seed: u64) {
    world(|world| world.dice = Dice::new(seed));
}

/// Removes what is at `path`, from outside of the world.
pub fn take_away(machine: MachineId, path: &str) {
    world(|world| {
        let now = world.time_of(machine);
        let disk = &mut world.machine(machine).disk;
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if let Some(dir) = find(disk, parent) {
            let _ = disk.change(Change(vec![(dir, name.into(), None)]), now);
            disk.sync_directory(dir);
        }
    });
}

fn add(disk: &mut Disk, dir: Ino, name: &str, new: New, now: Timestamp) -> Ino {
    let ino = disk.make(new, 0o755, now);
    // A directory that was found.
    let _ = disk.change(Change(vec![(dir, name.into(), Some(ino))]), now);
    ino
}

fn find(disk: &Disk, path: &str) -> Option<Ino> {
    let components = path.split('/').filter(|component| !component.is_empty());
    components.into_iter().try_fold(ROOT, |dir, name| disk.lookup(dir, OsStr::new(name)).ok())
}

/// Which run of the machine this is.
pub(crate) fn boot_id() -> [u8; 16] {
    world(|world| {
        let machine = world.machine_here();
        world.machine(machine).boot.to_be_bytes()
    })
}
