//! A disk that keeps apart what is to be seen and what would survive a power loss.
//!
//! A file has pages that were synced and pages that were not, and so has its size; a directory has the names that were
//! synced, and changes of names that were not. A power loss loses any subset of what was not: each page alone, or half of
//! it; the size alone; each change of names alone, unless it builds on one that is lost. A rename is lost as a whole, as
//! journaling file systems have it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use super::random::{Dice, MILLION};
use crate::attributes::{Attributes, Kind, Timestamp};

/// The number of an inode. None is ever used twice.
pub(crate) type Ino = u64;

pub(crate) const ROOT: Ino = 1;

const PAGE_BYTES: usize = 4096;
/// The largest file of this world, as everything in it is kept in memory: more than a thousandth of what peers announce.
const FILE_BYTES_MAX: usize = 32 << 20;
/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// Why a disk does not do something, as errno(3) has it.
pub(crate) type Errno = i32;

#[derive(Debug)]
pub(crate) struct Disk {
    inodes: BTreeMap<Ino, Inode>,
    next: Ino,
    /// Changes of names that are not on disk, the oldest first.
    unsynced: Vec<Change>,
    /// Grows with each change of a name, and of what has a name.
    pub(crate) changes: u64,
    stamps: u64,
    /// It failed to write names: it takes nothing more until the machine is started anew, as ext4 and XFS do.
    pub(crate) has_failed: bool,
}

#[derive(Debug)]
struct Inode {
    node: Node,
    mode: u32,
    mtime: Timestamp,
    /// Both as they would be after a power loss.
    stable: (u32, Timestamp),
    ctime: Timestamp,
    links: u64,
    opened: u64,
    /// The open description that has it locked.
    locked: Option<u64>,
}

#[derive(Debug)]
enum Node {
    File(Content),
    Directory(Names),
    Symlink(OsString),
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    /// What would be there after a power loss.
    stable: Vec<u8>,
    /// Pages that were written and not synced since. One whose sync has failed is not among them, and not stable either.
    dirty: BTreeSet<usize>,
    is_resized: bool,
    /// Another one whenever the bytes are.
    stamp: u64,
}

#[derive(Debug, Default)]
struct Names {
    current: BTreeMap<OsString, Ino>,
    stable: BTreeMap<OsString, Ino>,
}

/// Names that change together, or not at all.
#[derive(Debug)]
pub(crate) struct Change(pub(crate) Vec<(Ino, OsString, Option<Ino>)>);

/// What a new inode is.
pub(crate) enum New {
    File,
    Directory,
    Symlink(OsString),
}

impl Disk {
    pub(crate) fn new(now: Timestamp) -> Self {
        let mut disk = Self {
            inodes: BTreeMap::new(),
            next: ROOT,
            unsynced: Vec::new(),
            changes: 0,
            stamps: 0,
            has_failed: false,
        };
        let root = disk.make(New::Directory, 0o755, now);
        disk.inodes.entry(root).and_modify(|inode| inode.links = 1);
        disk
    }

    pub(crate) fn make(&mut self, new: New, mode: u32, now: Timestamp) -> Ino {
        let node = match new {
            New::File => Node::File(Content::default()),
            New::Directory => Node::Directory(Names::default()),
            New::Symlink(target) => Node::Symlink(target),
        };
        let ino = self.next;
        self.next += 1;
        let stable = (mode, now);
        let inode = Inode { node, mode, mtime: now, stable, ctime: now, links: 0, opened: 0, locked: None };
        self.inodes.insert(ino, inode);
        ino
    }

    fn inode(&self, ino: Ino) -> Result<&Inode, Errno> {
        self.inodes.get(&ino).ok_or(libc::ESTALE)
    }

    fn inode_mut(&mut self, ino: Ino) -> Result<&mut Inode, Errno> {
        self.inodes.get_mut(&ino).ok_or(libc::ESTALE)
    }

    fn content(&mut self, ino: Ino) -> Result<&mut Content, Errno> {
        match &mut self.inode_mut(ino)?.node {
            Node::File(content) => Ok(content),
            Node::Directory(_) => Err(libc::EISDIR),
            Node::Symlink(_) => Err(libc::ELOOP),
        }
    }

    fn names(&self, dir: Ino) -> Result<&BTreeMap<OsString, Ino>, Errno> {
        match &self.inode(dir)?.node {
            Node::Directory(names) => Ok(&names.current),
            _ => Err(libc::ENOTDIR),
        }
    }

    pub(crate) fn lookup(&self, dir: Ino, name: &OsStr) -> Result<Ino, Errno> {
        self.names(dir)?.get(name).copied().ok_or(libc::ENOENT)
    }

    pub(crate) fn list(&self, dir: Ino) -> Result<Vec<(OsString, Kind)>, Errno> {
        let names = self.names(dir)?.iter();
        names.map(|(name, &ino)| Ok((name.clone(), self.kind(ino)?))).collect()
    }

    /// The directory that has `dir` in it.
    pub(crate) fn parent(&self, dir: Ino) -> Ino {
        let has_it = |ino: &&Ino| self.names(**ino).is_ok_and(|names| names.values().any(|it| *it == dir));
        self.inodes.keys().find(has_it).copied().unwrap_or(ROOT)
    }

    pub(crate) fn kind(&self, ino: Ino) -> Result<Kind, Errno> {
        Ok(match self.inode(ino)?.node {
            Node::File(_) => Kind::File,
            Node::Directory(_) => Kind::Directory,
            Node::Symlink(_) => Kind::Symlink,
        })
    }

    pub(crate) fn target(&self, ino: Ino) -> Result<&OsStr, Errno> {
        match &self.inode(ino)?.node {
            Node::Symlink(target) => Ok(target),
            _ => Err(libc::EINVAL),
        }
    }

    pub(crate) fn attributes(&self, ino: Ino) -> Result<Attributes, Errno> {
        let inode = self.inode(ino)?;
        let size = match &inode.node {
            Node::File(content) => content.bytes.len(),
            Node::Directory(names) => names.current.len(),
            Node::Symlink(target) => target.len(),
        } as u64;
        let Inode { mode, mtime, ctime, links, .. } = *inode;
        Ok(Attributes { kind: self.kind(ino)?, size, mode, mtime, ctime, inode: ino, device: 1, links })
    }

    pub(crate) fn set_attributes(
        &mut self,
        ino: Ino,
        mode: Option<u32>,
        mtime: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), Errno> {
        let inode = self.inode_mut(ino)?;
        inode.mode = mode.unwrap_or(inode.mode);
        inode.mtime = mtime.unwrap_or(inode.mtime);
        inode.ctime = now;
        let has_a_name = inode.links > 0;
        self.changes += u64::from(has_a_name);
        Ok(())
    }

    pub(crate) fn bytes(&self, ino: Ino) -> Result<&[u8], Errno> {
        match &self.inode(ino)?.node {
            Node::File(content) => Ok(&content.bytes),
            Node::Directory(_) => Err(libc::EISDIR),
            Node::Symlink(_) => Err(libc::ELOOP),
        }
    }

    pub(crate) fn write(&mut self, ino: Ino, bytes: &[u8], at: usize, now: Timestamp) -> Result<(), Errno> {
        let end = at.checked_add(bytes.len()).filter(|end| *end <= FILE_BYTES_MAX).ok_or(libc::EFBIG)?;
        let inode = self.inode_mut(ino)?;
        (inode.mtime, inode.ctime) = (now, now);
        let has_a_name = inode.links > 0;
        let stamp = self.new_stamp();
        let content = self.content(ino)?;
        content.stamp = stamp;
        if content.bytes.len() < end {
            content.bytes.resize(end, 0);
            content.is_resized = true;
        }
        content.bytes[at..end].copy_from_slice(bytes);
        content.dirty.extend(at / PAGE_BYTES..end.div_ceil(PAGE_BYTES));
        self.changes += u64::from(has_a_name);
        Ok(())
    }

    pub(crate) fn set_len(&mut self, ino: Ino, len: usize, now: Timestamp) -> Result<(), Errno> {
        if len > FILE_BYTES_MAX {
            return Err(libc::EFBIG);
        }
        let inode = self.inode_mut(ino)?;
        (inode.mtime, inode.ctime) = (now, now);
        let has_a_name = inode.links > 0;
        let stamp = self.new_stamp();
        let content = self.content(ino)?;
        content.stamp = stamp;
        content.bytes.resize(len, 0);
        content.dirty.extend(len / PAGE_BYTES..(len / PAGE_BYTES + usize::from(len % PAGE_BYTES > 0)));
        content.is_resized = true;
        self.changes += u64::from(has_a_name);
        Ok(())
    }

    fn new_stamp(&mut self) -> u64 {
        self.stamps += 1;
        self.stamps
    }

    /// A number that is another one whenever the bytes of a file are.
    pub(crate) fn stamp(&self, ino: Ino) -> u64 {
        match self.inodes.get(&ino) {
            Some(Inode { node: Node::File(content), .. }) => content.stamp,
            _ => 0,
        }
    }

    /// Does what `change` says to names that are to be seen; a sync is to bring it to the disk.
    pub(crate) fn change(&mut self, change: Change, now: Timestamp) -> Result<(), Errno> {
        for (dir, name, ino) in &change.0 {
            let inode = self.inode_mut(*dir)?;
            (inode.mtime, inode.ctime) = (now, now);
            let Node::Directory(names) = &mut inode.node else { return Err(libc::ENOTDIR) };
            let before = match ino {
                Some(ino) => names.current.insert(name.clone(), *ino),
                None => names.current.remove(name),
            };
            if let Some(ino) = ino {
                let inode = self.inode_mut(*ino)?;
                inode.links += 1;
                inode.ctime = now;
            }
            if let Some(before) = before {
                let inode = self.inode_mut(before)?;
                inode.links -= 1;
                inode.ctime = now;
            }
        }
        self.unsynced.push(change);
        self.changes += 1;
        Ok(())
    }

    pub(crate) fn opened(&mut self, ino: Ino) {
        self.inodes.entry(ino).and_modify(|inode| inode.opened += 1);
    }

    /// An open description is gone, and with it its lock; a file that has no name either is gone then.
    pub(crate) fn closed(&mut self, ino: Ino, description: u64) {
        let Some(inode) = self.inodes.get_mut(&ino) else { return };
        inode.opened = inode.opened.saturating_sub(1);
        inode.locked = inode.locked.filter(|locked| *locked != description);
        if inode.opened == 0
            && inode.links == 0
            && matches!(inode.node, Node::File(_))
            && !self.is_stable(ino)
        {
            self.inodes.remove(&ino);
        }
    }

    /// Whether a power loss could bring a name of it back.
    fn is_stable(&self, ino: Ino) -> bool {
        let is_named = |inode: &Inode| match &inode.node {
            Node::Directory(names) => names.stable.values().any(|it| *it == ino),
            _ => false,
        };
        self.unsynced.iter().any(|change| change.0.iter().any(|(.., it)| *it == Some(ino)))
            || self.inodes.values().any(is_named)
    }

    pub(crate) fn try_lock(&mut self, ino: Ino, description: u64) -> Result<bool, Errno> {
        let inode = self.inode_mut(ino)?;
        Ok(*inode.locked.get_or_insert(description) == description)
    }

    /// Brings a file to the disk.
    pub(crate) fn sync_file(&mut self, ino: Ino) -> Result<(), Errno> {
        let content = self.content(ino)?;
        let Content { bytes, stable, dirty, is_resized, .. } = content;
        if std::mem::take(is_resized) {
            stable.resize(bytes.len(), 0);
        }
        for page in std::mem::take(dirty) {
            let end = (page + 1) * PAGE_BYTES;
            // After a sync that failed the disk may know of a smaller size.
            stable.resize(stable.len().max(end.min(bytes.len())), 0);
            copy(bytes, stable, page * PAGE_BYTES, end);
        }
        Ok(())
    }

    /// Brings its mode and its time to the disk.
    pub(crate) fn sync_attributes(&mut self, ino: Ino) -> Result<(), Errno> {
        let inode = self.inode_mut(ino)?;
        inode.stable = (inode.mode, inode.mtime);
        Ok(())
    }

    /// Fails to: some of it may be on the disk, and the rest is not tried again, whoever asks (fsync(2), "fsyncgate").
    pub(crate) fn fail_to_sync_file(&mut self, ino: Ino, dice: &mut Dice) -> Result<(), Errno> {
        let Content { bytes, stable, dirty, is_resized, .. } = self.content(ino)?;
        let was_resized = std::mem::take(is_resized);
        let lost = std::mem::take(dirty);
        if was_resized && dice.chance(MILLION / 2) {
            stable.resize(bytes.len(), 0);
        }
        for page in lost {
            if dice.chance(MILLION / 2) {
                copy(bytes, stable, page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
            }
        }
        Ok(())
    }

    /// Brings the names in a directory to the disk, and what changed together with them, or before them under the same name.
    pub(crate) fn sync_directory(&mut self, dir: Ino) {
        let mut names: BTreeSet<(Ino, OsString)> = BTreeSet::new();
        let mut synced = Vec::new();
        let mut rest = Vec::new();
        for change in std::mem::take(&mut self.unsynced).into_iter().rev() {
            let has_part =
                |(it, name, _): &(Ino, OsString, _)| *it == dir || names.contains(&(*it, name.clone()));
            if change.0.iter().any(has_part) {
                names.extend(change.0.iter().map(|(it, name, _)| (*it, name.clone())));
                synced.push(change);
            } else {
                rest.push(change);
            }
        }
        self.unsynced = rest.into_iter().rev().collect();
        synced.into_iter().rev().for_each(|change| self.settle(change));
    }

    fn settle(&mut self, change: Change) {
        for (dir, name, ino) in change.0 {
            let Some(Inode { node: Node::Directory(names), .. }) = self.inodes.get_mut(&dir) else {
                continue;
            };
            match ino {
                Some(ino) => names.stable.insert(name, ino),
                None => names.stable.remove(&name),
            };
        }
    }

    /// The power is gone: any subset of what was not synced is lost. Everything is closed.
    pub(crate) fn lose_power(&mut self, dice: &mut Dice) -> Lost {
        let mut lost = Lost::default();
        // Often much of it is lost, or little.
        let kept = *dice.one_of(&[0, MILLION / 4, MILLION / 2, MILLION * 3 / 4, MILLION]);
        let mut lost_names: BTreeSet<(Ino, OsString)> = BTreeSet::new();
        for change in std::mem::take(&mut self.unsynced) {
            // What builds on a change that is lost is lost, too: no file system brings it about without that.
            let is_baseless =
                change.0.iter().any(|(dir, name, _)| lost_names.contains(&(*dir, name.clone())));
            if !is_baseless && dice.chance(kept) {
                self.settle(change);
            } else {
                lost.names += 1;
                lost_names.extend(change.0.into_iter().map(|(dir, name, _)| (dir, name)));
            }
        }
        for inode in self.inodes.values_mut() {
            inode.links = 0;
            inode.opened = 0;
            inode.locked = None;
            if dice.chance(kept) {
                inode.stable = (inode.mode, inode.mtime);
            } else if inode.stable != (inode.mode, inode.mtime) {
                lost.attributes += 1;
                (inode.mode, inode.mtime) = inode.stable;
            }
            match &mut inode.node {
                Node::File(content) => {
                    self.stamps += 1;
                    content.stamp = self.stamps;
                    content.lose_power(kept, dice, &mut lost);
                }
                Node::Directory(names) => names.current.clone_from(&names.stable),
                Node::Symlink(_) => {}
            }
        }
        self.has_failed = false;
        self.changes += 1;
        self.forget_nameless();
        lost
    }

    /// Drops what nobody can come upon any more.
    pub(crate) fn collect(&mut self) {
        let unused = |(&ino, inode): (&Ino, &Inode)| (inode.links == 0 && inode.opened == 0).then_some(ino);
        let unused: Vec<Ino> = self.inodes.iter().filter_map(unused).collect();
        for ino in unused {
            if !self.is_stable(ino) {
                self.inodes.remove(&ino);
            }
        }
    }

    /// Drops what no name leads to, and counts names anew.
    fn forget_nameless(&mut self) {
        let mut found = BTreeMap::from([(ROOT, 1)]);
        let mut ahead = vec![ROOT];
        while let Some(dir) = ahead.pop() {
            let Some(Inode { node: Node::Directory(names), .. }) = self.inodes.get(&dir) else { continue };
            for ino in names.current.values() {
                let links = found.entry(*ino).or_insert(0);
                *links += 1;
                if *links == 1 {
                    ahead.push(*ino);
                }
            }
        }
        self.inodes.retain(|ino, inode| {
            inode.links = found.get(ino).copied().unwrap_or_default();
            inode.links > 0
        });
    }
}

impl Content {
    fn lose_power(&mut self, kept: u32, dice: &mut Dice, lost: &mut Lost) {
        let Self { bytes, stable, dirty, is_resized, .. } = self;
        if std::mem::take(is_resized) {
            let len = match dice.below(3) {
                0 => stable.len(),
                1 => bytes.len(),
                // It grew while it was written back, from what was synced on.
                _ => {
                    let any = dice.below(bytes.len() as u64 + 1) as usize / PAGE_BYTES * PAGE_BYTES;
                    any.max(stable.len()).min(bytes.len())
                }
            };
            stable.resize(len, 0);
        }
        for page in std::mem::take(dirty) {
            let start = page * PAGE_BYTES;
            let mut sectors = (PAGE_BYTES / SECTOR_BYTES) as u64;
            if !dice.chance(kept) {
                sectors = if dice.chance(MILLION / 4) { dice.below(sectors) } else { 0 };
                *if sectors > 0 { &mut lost.torn } else { &mut lost.pages } += 1;
            }
            copy(bytes, stable, start, start + sectors as usize * SECTOR_BYTES);
        }
        bytes.clone_from(stable);
    }
}

/// What a power loss took.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    pub(crate) names: u64,
    pub(crate) pages: u64,
    pub(crate) torn: u64,
    pub(crate) attributes: u64,
}

/// Copies what both have of `[start, end)`.
fn copy(from: &[u8], to: &mut [u8], start: usize, end: usize) {
    let end = end.min(from.len()).min(to.len());
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}
