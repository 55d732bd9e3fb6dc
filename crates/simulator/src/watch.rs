//! What is to be seen on a simulated disk.

use std::collections::{BTreeMap, BTreeSet};

use xferd_os::sim::{self, MachineId};
use xferd_os::{Attributes, Kind};

use crate::contents::{Contents, Kept, VersionId};

/// The names of unfinished files, and of their journals, begin like this.
const HIDDEN: &str = ".xferd-";
const JOURNAL: &str = ".journal";

/// What is beneath a directory.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    /// Files that anybody may see, by their paths.
    pub(crate) files: BTreeMap<String, VersionId>,
    /// Paths of those that nobody should.
    pub(crate) hidden: BTreeSet<String>,
}

/// Knows which version a file has whose bytes have not changed since it was last looked at.
#[derive(Debug, Default)]
pub(crate) struct Memory(BTreeMap<Look, VersionId>);

/// Inode, bytes, mode and time of a file.
type Look = (u64, u64, u32, i64, u32);

impl Sight {
    /// Looks at what is beneath `path`, but not at what is beneath those directories that are `others`.
    pub(crate) fn of(
        machine: MachineId,
        path: &str,
        others: &[&str],
        contents: &mut Contents,
        memory: &mut Memory,
    ) -> Self {
        let mut sight = Self::default();
        let mut remembered = BTreeMap::new();
        sim::look(machine, path, |path, attributes, bytes, stamp| {
            let &Attributes { kind, inode, mode, mtime, .. } = attributes;
            let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
            if name.starts_with(HIDDEN) {
                sight.hidden.insert(path.to_owned());
            } else if kind == Kind::File && !others.iter().any(|other| is_within(path, other)) {
                let look = (inode, stamp, mode, mtime.seconds, mtime.nanoseconds);
                let known = memory.0.get(&look).copied();
                let version = known.unwrap_or_else(|| contents.of(bytes, Kept { mode, mtime }));
                remembered.insert(look, version);
                sight.files.insert(path.to_owned(), version);
            }
        });
        memory.0 = remembered;
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

fn is_within(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}
