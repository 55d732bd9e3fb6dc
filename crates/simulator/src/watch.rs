//! What is to be seen on a simulated disk.

use std::collections::{BTreeMap, BTreeSet};

use xferd_os::Kind;
use xferd_os::sim::{self, MachineId};

/// The names of unfinished files, and of their journals, begin like this.
const HIDDEN: &str = ".xferd-";
const JOURNAL: &str = ".journal";

/// What is beneath a directory.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    /// Files that anybody may see, by their paths.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Paths of those that nobody should.
    pub(crate) hidden: BTreeSet<String>,
}

impl Sight {
    /// Looks at what is beneath `path`, but not at what is beneath `except`.
    pub(crate) fn of(machine: MachineId, path: &str, except: &str) -> Self {
        let mut sight = Self::default();
        sim::look(machine, path, |path, kind, bytes| {
            let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
            if name.starts_with(HIDDEN) {
                sight.hidden.insert(path.to_owned());
            } else if kind == Kind::File && !path.strip_prefix(except).is_some_and(|it| it.starts_with('/')) {
                sight.files.insert(path.to_owned(), bytes.to_vec());
            }
        });
        sight
    }

    /// An unfinished file that has no journal, or a journal that has no file.
    pub(crate) fn left_behind(&self) -> Option<&String> {
        let is_alone = |path: &&String| match path.strip_suffix(JOURNAL) {
            Some(file) => !self.hidden.contains(file),
            None => !self.hidden.contains(&format!("{path}{JOURNAL}")),
        };
        self.hidden.iter().find(is_alone)
    }
}
