//! The log on a simulated disk that loses what was not synced, is full at times, and fails: whatever happens, a start finds a
//! state that there was, with all that was committed.
#![cfg(xferd_sim)]
#![allow(clippy::unwrap_used)]

mod rig;

use std::path::Path;

use rig::{Client, Key, contents};
use xferd_kv::{Fsync, Options, Persistence};
use xferd_os::sim::{self, Crash, Dice, Faults, once_in};

const SEEDS: u64 = 60;

/// What there was after each change, and from which on it is to be there still.
struct Model {
    states: Vec<Vec<Key>>,
    committed: usize,
    synced: usize,
}

#[test]
fn what_a_crash_leaves_is_a_state_that_there_was_with_all_that_was_committed() {
    let mut torn = 0;
    for seed in 0..SEEDS {
        torn += u32::from(play(seed));
    }
    assert!(torn > 0, "no crash ever tore a log: this shows nothing");
}

fn play(seed: u64) -> bool {
    sim::begin(seed);
    let machine = sim::add_machine(true);
    let mut dice = Dice::new(seed);
    let fsync = *dice.one_of(&Fsync::ALL);
    let options = Options { fsync, rewrite_percentage: 0, ..Options::default() };
    let mut model = Model { states: vec![Vec::new()], committed: 0, synced: 0 };
    let mut was_torn = false;
    for _ in 0..6 {
        sim::restore_power(machine);
        sim::set_faults(machine, Faults::default());
        let process = sim::start_process(machine);
        let crash = *dice.one_of(&[Crash::Kill, Crash::PowerLoss]);
        sim::run_as(process, || {
            let opened = Persistence::open(Path::new("/data/kv"), &options);
            let (persistence, report) = opened.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            was_torn |= report.torn.is_some();
            let found = contents(persistence.keyspace());
            let at = model.states.iter().rposition(|state| *state == found);
            let at = at.filter(|at| *at >= model.committed);
            let at = at.unwrap_or_else(|| {
                let any = model.states.iter().rposition(|state| *state == found);
                let (states, least) = (model.states.len(), model.committed);
                panic!("seed {seed}: found {any:?} of {states} states, at least {least} was to be ({fsync:?}, {report:?})")
            });
            model.states.drain(..at);
            model.states.truncate(1);
            (model.committed, model.synced) = (0, 0);
            if dice.below(3) == 0 {
                let faults = Faults {
                    no_space: once_in(100),
                    short_write: once_in(20),
                    sync_failure: once_in(60),
                    ..Faults::default()
                };
                sim::set_faults(machine, faults);
            }
            sim::light_fuse(process, dice.between(1, 400), crash);
            live(&persistence, &mut model, &mut dice);
            sim::crash(process, crash);
        });
        // A power loss takes what was not synced, and a failed sync may have: that was told to who committed.
        if crash == Crash::PowerLoss {
            model.committed = if fsync == Fsync::Always { model.committed } else { model.synced };
        }
        sim::collect(machine);
    }
    was_torn
}

fn live(persistence: &Persistence, model: &mut Model, dice: &mut Dice) {
    let mut client = Client::of(persistence.keyspace().clone());
    for _ in 0..150 {
        client.database = dice.below(3) as u8;
        let (key, other) = (dice.below(8), dice.below(8));
        let line = match dice.below(12) {
            0..4 => format!("SET {key} {}", "v".repeat(dice.below(3000) as usize)),
            4 => format!("APPEND {key} {other}"),
            5 => format!("RPUSH l{key} a{other} {}", "x".repeat(600)),
            6 => format!("HSET h{key} {other} 1"),
            7 => format!("RENAME {key} {other}"),
            8 => format!("DEL {key} l{other}"),
            9 => "FLUSHDB".to_owned(),
            10 => format!("ZADD z{key} {other} member"),
            _ => format!("MSET {key} 1 {other} 2"),
        };
        // Refused for good once a write has failed, and then nothing changes.
        client.say(&line);
        model.states.push(contents(persistence.keyspace()));
        let last = model.states.len() - 1;
        let log = persistence.log();
        match dice.below(20) {
            0..6 if log.commit(log.position()).is_ok() => model.committed = last,
            6 if log.sync().is_ok() => (model.committed, model.synced) = (last, last),
            7 => drop(persistence.rewrite()),
            8..16 => drop(persistence.tick()),
            _ => {}
        }
    }
}
