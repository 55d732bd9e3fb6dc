//! `--name value`, and nothing else.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;

use crate::Outcome;

pub(crate) struct Flags(HashMap<String, String>);

impl Flags {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut flags = HashMap::new();
        while let Some(argument) = arguments.next() {
            let name = argument.strip_prefix("--").ok_or_else(|| format!("{argument:?} is no --flag"))?;
            let value = arguments.next().ok_or_else(|| format!("--{name} needs a value"))?;
            flags.insert(name.to_owned(), value);
        }
        Ok(Self(flags))
    }

    /// The value of a flag that has to be given.
    pub(crate) fn required<T: FromStr<Err: Display>>(&self, name: &str) -> Outcome<T> {
        let value = self.0.get(name).ok_or_else(|| format!("--{name} is missing"))?;
        value.parse().map_err(|error| format!("--{name} {value}: {error}").into())
    }

    /// The value of a flag, or what it is unless given.
    pub(crate) fn get<T: FromStr<Err: Display>>(&self, name: &str, otherwise: T) -> Outcome<T> {
        if self.0.contains_key(name) { self.required(name) } else { Ok(otherwise) }
    }
}
