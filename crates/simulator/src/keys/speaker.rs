//! Somebody who speaks RESP, and says much before he is answered.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use xferd_os::clock;
use xferd_os::net::Socket;
use xferd_os::sim::{self, Dice, MILLION, once_in};
use xferd_wire::resp::ReplyScanner;

use super::ledger::Ledger;

/// How long he waits for anything to happen: longer than a server waits for him.
const PATIENCE: Duration = Duration::from_secs(180);

/// One connection. It is to be [had](Speaker::take_turn) by its own process.
pub(crate) struct Speaker {
    /// Whose database he speaks of.
    pub(crate) ledger: usize,
    socket: Socket,
    dice: Dice,
    /// How much he still wants to say, and how much of it without waiting.
    left: u64,
    depth: usize,
    /// What he is about to say, and has begun to hear.
    words: Vec<u8>,
    heard: Vec<u8>,
    replies: Vec<Vec<u8>>,
    scanner: ReplyScanner,
    patient_until: Instant,
}

/// How a turn has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is more to come.
    GoesOn,
    /// All was said and answered.
    IsDone,
    /// The connection is over, or nothing comes any more.
    IsBroken,
}

impl Speaker {
    /// Connects to a server, to speak of what `ledger` has.
    pub(crate) fn connect(
        address: SocketAddr,
        number: usize,
        ledger: &mut Ledger,
        mut dice: Dice,
    ) -> Option<Self> {
        let socket = Socket::connect(&address.into()).ok()?;
        let mut words = Vec::new();
        ledger.begin(&mut words);
        let (left, depth) = (dice.between(1, 40), *dice.one_of(&[1, 4, 16]));
        sim::note(format_args!("{number} speaks of his keys: {left} times, {depth} at once"));
        Some(Self {
            ledger: number,
            socket,
            dice,
            left,
            depth,
            words,
            heard: Vec::new(),
            replies: Vec::new(),
            scanner: ReplyScanner::new(),
            patient_until: clock::now() + PATIENCE,
        })
    }

    /// Hears and speaks for a moment. The server may refuse what it cannot record.
    ///
    /// # Errors
    /// What is wrong with what he hears.
    pub(crate) fn take_turn(&mut self, ledger: &mut Ledger, may_refuse: bool) -> Result<Turn, String> {
        if clock::now() >= self.patient_until {
            return Ok(Turn::IsBroken);
        }
        sim::wake_at(self.patient_until);
        if !self.socket.can_send() && !self.socket.can_recv() {
            return Ok(Turn::GoesOn);
        }
        if self.dice.chance(once_in(4)) {
            sim::moved();
            return Ok(Turn::GoesOn);
        }
        match self.socket.peer() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(Turn::GoesOn),
            Err(_) => return Ok(Turn::IsBroken),
        }
        if !self.listen(ledger, may_refuse)? || !self.speak(ledger) {
            return Ok(Turn::IsBroken);
        }
        Ok(if self.left == 0 && ledger.waiting() == 0 { Turn::IsDone } else { Turn::GoesOn })
    }

    /// False once nothing more comes.
    fn listen(&mut self, ledger: &mut Ledger, may_refuse: bool) -> Result<bool, String> {
        let mut buffer = [0; 4096];
        while self.socket.can_recv() {
            match self.socket.recv(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(received) => self.heard.extend_from_slice(&buffer[..received]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Ok(false),
            }
            self.patient_until = clock::now() + PATIENCE;
            while let Some(len) = self.scanner.scan(&self.heard).map_err(|error| error.to_string())? {
                self.replies.push(self.heard.drain(..len).collect());
                if self.replies.len() >= ledger.replies() {
                    let is_done = ledger.hear(&std::mem::take(&mut self.replies), may_refuse)?;
                    sim::count(if is_done { "answer about keys" } else { "refusal about keys" });
                    if !is_done && !may_refuse {
                        return Err("something is refused, though no disk has failed".into());
                    }
                }
            }
        }
        Ok(true)
    }

    /// False once nobody hears it any more.
    fn speak(&mut self, ledger: &mut Ledger) -> bool {
        while self.left > 0 && ledger.waiting() < self.depth {
            self.left -= 1;
            ledger.say(&mut self.dice, &mut self.words);
        }
        while !self.words.is_empty() && self.socket.can_send() {
            let is_in_parts = self.dice.chance(MILLION / 4);
            let most = if is_in_parts {
                self.dice.between(1, self.words.len() as u64) as usize
            } else {
                self.words.len()
            };
            match self.socket.send(&self.words[..most], false) {
                Ok(sent) => drop(self.words.drain(..sent.min(most))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
            if is_in_parts {
                sim::moved();
                break;
            }
        }
        true
    }
}
