//! Mistakes that can be made on purpose, to see whether they are found.

use std::cell::Cell;

/// A mistake. Each has its place in the code, marked by [`seeded!`](crate::seeded).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// A durable file is acknowledged without being synced.
    AckBeforeSync,
    /// The directory of a durable file is not synced.
    RenameWithoutSync,
    /// A checkpoint of a journal does not wait for the bytes that it vouches for.
    JournalBeforeData,
    /// Bytes that came are not compared with their digest.
    DigestNotChecked,
    /// Unfinished files of a dead process are not removed.
    StagingLeftBehind,
    /// What leads out of the root is followed.
    PathCheckSkipped,
    /// A file whose sync has failed is gone on with. It was made once (found by seed 1058).
    FailedSyncForgotten,
    /// As much memory is taken as a peer says that it will send.
    AnnouncementAllocated,
    /// What waits for a peer that does not read is not counted.
    AnswersUncounted,
    /// A durable file is synced without its mode and its time.
    AttributesUnsynced,
    /// What was said about keys is answered before it is recorded.
    ReplyBeforeCommit,
    /// The log of keys goes on from a base that is not synced.
    BaseUnsynced,
    /// A snapshot of keys has what was changed after it was begun.
    StripeSavedLate,
    /// Nobody syncs the log of keys once a second.
    SecondSlept,
    /// What was read of the log of keys is taken for synced.
    TailBelieved,
    /// The log of keys lists a file whose name may not be on the disk. It was made once (found by seed 200068).
    ListedUnnamed,
}

impl Defect {
    /// All there are.
    pub const ALL: [Self; 16] = [
        Self::AckBeforeSync,
        Self::RenameWithoutSync,
        Self::JournalBeforeData,
        Self::DigestNotChecked,
        Self::StagingLeftBehind,
        Self::PathCheckSkipped,
        Self::FailedSyncForgotten,
        Self::AnnouncementAllocated,
        Self::AnswersUncounted,
        Self::AttributesUnsynced,
        Self::ReplyBeforeCommit,
        Self::BaseUnsynced,
        Self::StripeSavedLate,
        Self::SecondSlept,
        Self::TailBelieved,
        Self::ListedUnnamed,
    ];

    /// Whether only a world with keys can show it.
    pub const fn is_about_keys(self) -> bool {
        self as u8 >= Self::ReplyBeforeCommit as u8
    }

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeSync => "ack-before-sync",
            Self::RenameWithoutSync => "rename-without-sync",
            Self::JournalBeforeData => "journal-before-data",
            Self::DigestNotChecked => "digest-not-checked",
            Self::StagingLeftBehind => "staging-left-behind",
            Self::PathCheckSkipped => "path-check-skipped",
            Self::FailedSyncForgotten => "failed-sync-forgotten",
            Self::AnnouncementAllocated => "announcement-allocated",
            Self::AnswersUncounted => "answers-uncounted",
            Self::AttributesUnsynced => "attributes-unsynced",
            Self::ReplyBeforeCommit => "reply-before-commit",
            Self::BaseUnsynced => "base-unsynced",
            Self::StripeSavedLate => "stripe-saved-late",
            Self::SecondSlept => "second-slept",
            Self::TailBelieved => "tail-believed",
            Self::ListedUnnamed => "listed-unnamed",
        }
    }
}

thread_local! {
    static SEEDED: Cell<Option<Defect>> = const { Cell::new(None) };
}

/// Has the code make that mistake, or none, from now on.
pub fn seed(defect: Option<Defect>) {
    SEEDED.set(defect);
}

/// Whether the code is to make that mistake.
pub fn is_seeded(defect: Defect) -> bool {
    SEEDED.get() == Some(defect)
}
