//! Sequences of commands from a seed.

use std::collections::BTreeSet;

use super::grammar::{SENTENCES, Speaker};

/// What is said next, on which connection.
pub(crate) struct Generator {
    speaker: Speaker,
    sentences: Vec<(&'static str, char, &'static str)>,
    /// MULTI was said on the connection.
    in_multi: [bool; CONNECTIONS],
}

/// Connections that commands are said on.
pub(crate) const CONNECTIONS: usize = 2;

impl Generator {
    /// Says only commands that are `known`, or that nobody knows.
    pub(crate) fn new(seed: u64, known: &BTreeSet<String>) -> Self {
        const UNKNOWN: &str = "frobnicate";
        let sentences = SENTENCES
            .iter()
            .filter(|(name, ..)| known.contains(*name) || *name == UNKNOWN)
            .flat_map(|(name, often, kind, sentence)| {
                std::iter::repeat_n((*name, *kind, *sentence), *often as usize)
            })
            .collect();
        Self { speaker: Speaker::new(seed), sentences, in_multi: [false; CONNECTIONS] }
    }

    /// Which connection says how many commands at once.
    pub(crate) fn batch(&mut self) -> (usize, usize) {
        let dice = &mut self.speaker.dice;
        let most = dice.pick(&[1, 3, 10, 60]);
        (dice.below(CONNECTIONS), 1 + dice.below(most))
    }

    pub(crate) fn dice(&mut self) -> &mut super::grammar::Dice {
        &mut self.speaker.dice
    }

    pub(crate) fn phrase(&mut self, sentence: &str) -> Vec<Vec<u8>> {
        self.speaker.speak(sentence, '?')
    }

    /// The next command, and what has to be said behind it.
    pub(crate) fn commands(&mut self, connection: usize) -> Vec<Vec<Vec<u8>>> {
        let dice = &mut self.speaker.dice;
        if self.in_multi[connection] && dice.hits(150) {
            self.in_multi[connection] = false;
            let word = if dice.hits(850) { "exec" } else { "discard" };
            return vec![vec![word.into()]];
        }
        let (name, kind, sentence) = dice.pick(&self.sentences);
        let mut args = self.speaker.speak(sentence, kind);
        args.insert(0, name.into());
        let is_determined_only_so = kind == 'y' || ["spop", "srandmember"].contains(&name);
        if !is_determined_only_so && self.speaker.dice.hits(50) {
            self.spoil(&mut args);
        }
        self.change_case(&mut args);
        match name {
            "multi" if args.len() == 1 => self.in_multi[connection] = true,
            "exec" | "discard" | "reset" if args.len() == 1 => self.in_multi[connection] = false,
            // A key may now have a deadline that has passed: it is there until somebody looks.
            "set" | "getex" if args.len() > 3 => {
                let look = vec![b"exists".to_vec(), args[1].clone()];
                return vec![args, look];
            }
            _ => {}
        }
        vec![args]
    }

    /// Takes an argument away, puts one in or changes one, so that it is most likely wrong.
    fn spoil(&mut self, args: &mut Vec<Vec<u8>>) {
        // Nothing here is a deadline that is near.
        const GARBAGE: &[&str] =
            &["", "frob", "-1", "nx", "\r\n", "get", "x", "1.5", "9223372036854775807", "limit"];
        let dice = &mut self.speaker.dice;
        let at = dice.below(args.len());
        let garbage = dice.pick(GARBAGE).into();
        match dice.below(4) {
            _ if at == 0 => args.push(garbage),
            0 => drop(args.remove(at)),
            1 => args.insert(at, garbage),
            2 => args[at] = garbage,
            _ => args.truncate(at),
        }
    }

    fn change_case(&mut self, args: &mut [Vec<u8>]) {
        if self.speaker.dice.hits(200) {
            args[0].make_ascii_uppercase();
        }
        if self.speaker.dice.hits(100) {
            // Keys and values are not words; only what is in capitals may be one.
            for arg in args.iter_mut().skip(2).filter(|arg| arg.iter().all(u8::is_ascii_uppercase)) {
                arg.make_ascii_lowercase();
            }
        }
    }
}
