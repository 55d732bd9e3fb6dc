//! The keys of a server: who speaks of them to it, and what must be there when it was started again.

mod ledger;
mod speaker;
mod state;

use std::net::SocketAddr;

use xferd_kv::{Fsync, Keyspace};
use xferd_os::sim::{self, Dice, MachineId, ProcessId};

use ledger::{Fate, Ledger};
use speaker::{Speaker, Turn};

/// Where the server keeps them.
pub(crate) const DIRECTORY: &str = "/srv/keys";

/// Databases that are spoken of, from the first on. What hostile peers say is of the one before.
const LEDGERS: u8 = 5;

/// Who speaks at a time, at most.
const SPEAKERS_MAX: u64 = 3;

/// What is known of the keys from outside.
pub(crate) struct Keys {
    /// Who speaks of them has a machine of his own.
    pub(crate) machine: MachineId,
    process: ProcessId,
    speakers: Vec<Speaker>,
    ledgers: Vec<Ledger>,
    fate: Fate,
}

impl Keys {
    pub(crate) fn new() -> Self {
        let machine = sim::add_machine(true);
        Self {
            machine,
            process: sim::start_process(machine),
            speakers: Vec::new(),
            ledgers: (1..=LEDGERS).map(Ledger::new).collect(),
            fate: Fate { fsync: Fsync::Always, has_lost_power: false, is_disk_sound: true, ended_ns: 0 },
        }
    }

    /// Has some speak to the server at `address`.
    pub(crate) fn begin(&mut self, address: SocketAddr, dice: &mut Dice) {
        for _ in 0..dice.between(1, SPEAKERS_MAX) {
            let number = dice.below(LEDGERS.into()) as usize;
            let dice = Dice::new(dice.number());
            let is_free = self.speakers.iter().all(|speaker| speaker.ledger != number);
            // What was begun on another connection may still be done.
            let ledger = self.ledgers.get_mut(number).filter(|ledger| is_free && ledger.is_settled());
            let connect = |ledger| Speaker::connect(address, number, ledger, dice);
            self.speakers.extend(ledger.and_then(|ledger| sim::run_as(self.process, || connect(ledger))));
        }
    }

    /// Whether anybody waits for an answer.
    pub(crate) fn are_spoken_of(&self) -> bool {
        !self.speakers.is_empty()
    }

    /// Whoever speaks does so for a moment. How many were not heard to the end.
    ///
    /// # Errors
    /// What is wrong with what somebody was answered.
    pub(crate) fn take_turns(&mut self) -> Result<usize, String> {
        let Self { process, speakers, ledgers, fate, .. } = self;
        let may_refuse = !fate.is_disk_sound;
        let (mut broken, mut wrong) = (0, None);
        sim::run_as(*process, || {
            speakers.retain_mut(|speaker| {
                let Some(ledger) = ledgers.get_mut(speaker.ledger) else { return false };
                match speaker.take_turn(ledger, may_refuse) {
                    Ok(turn) => {
                        broken += usize::from(turn == Turn::IsBroken);
                        turn == Turn::GoesOn
                    }
                    Err(what) => {
                        wrong = Some(format!("database {}: {what}", speaker.ledger + 1));
                        false
                    }
                }
            });
        });
        wrong.map_or(Ok(broken), Err)
    }

    /// Whether somebody has just had the log be written anew.
    pub(crate) fn take_rewritten(&mut self) -> bool {
        // All are asked.
        self.ledgers.iter_mut().filter_map(|ledger| ledger.take_rewritten().then_some(())).count() > 0
    }

    /// The disk that they are on may fail.
    pub(crate) fn doubt_disk(&mut self) {
        self.fate.is_disk_sound = false;
    }

    /// Their server has come to its end. What it had answered that nobody has heard does not count.
    pub(crate) fn end(&mut self) {
        self.fate.ended_ns = sim::now_ns();
        sim::run_as(self.process, || self.speakers.clear());
    }

    /// Their machine has lost its power.
    pub(crate) fn lose_power(&mut self) {
        self.fate.has_lost_power = true;
    }

    /// A server was started that syncs like that: what it has is what was acknowledged, and nothing that nobody has said.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check(&mut self, keyspace: &Keyspace, fsync: Fsync) -> Result<(), String> {
        let found: Vec<_> = self.ledgers.iter().map(|ledger| ledger.look(keyspace)).collect();
        let mut done = Vec::new();
        for (ledger, found) in self.ledgers.iter().zip(&found) {
            done.push(ledger.check(found, self.fate)?);
        }
        // What was lost was the end of all that was done, whoever had it done.
        let certain = self.ledgers.iter().zip(&done);
        let ns = certain.map(|(ledger, done)| ledger.said_ns(*done.start())).max().unwrap_or(0);
        for (number, (ledger, done)) in self.ledgers.iter().zip(&done).enumerate() {
            let least = ledger.done_by(ns);
            if *done.end() < least {
                return Err(format!(
                    "database {}: at most {} things were done, where {least} must have been: something that was said after \
                     they had been answered is there",
                    number + 1,
                    done.end()
                ));
            }
        }
        self.ledgers.iter_mut().zip(&done).for_each(|(ledger, done)| ledger.settle(done));
        sim::count("check of keys");
        self.fate = Fate { fsync, has_lost_power: false, is_disk_sound: true, ended_ns: 0 };
        Ok(())
    }
}
