//! Asks the server what it has under the names of what was found, to find out what is there already.

use std::collections::VecDeque;

use xferd_engine::{Failure, lock};
use xferd_os::HashMap;
use xferd_store::{FileAttributes, FileDigest, StoreError};
use xferd_wire::{Digest, Entry, ErrorCode, Frame, SetAttributes};

use super::Copy;
use crate::job::Job;
use crate::same::{COMPARISONS_MAX, Compare, Comparison, Verdict, has_attributes, is_directory, is_link_to};
use crate::sources::{Found, LocalFile};
use crate::task::{Channel, unexpected};

/// What one connection has found and may be there already.
#[derive(Default)]
pub(super) struct Inquiry {
    /// What was not asked about.
    unasked: VecDeque<Found>,
    /// What was asked about.
    questions: HashMap<u32, Question>,
}

/// What the server was asked about something that was found.
enum Question {
    /// What is there under its name.
    Name(Found),
    /// Whether the file that is there has its content.
    Content(Comparing),
}

struct Comparing {
    file: LocalFile,
    has_attributes: bool,
    comparison: Comparison,
}

/// What became of something that was found.
pub(super) enum Finding {
    /// It is there, a directory or a link.
    There,
    /// The content of a file is there.
    SameContent { file: LocalFile, has_attributes: bool },
    /// It is to be pushed: nothing can be said to be there, or something else is.
    Differs(Found),
}

impl Inquiry {
    /// Takes in more.
    pub(super) fn extend(&mut self, found: Vec<Found>) {
        self.unasked.extend(found);
    }

    /// How many entries it has.
    pub(super) fn len(&self) -> usize {
        self.unasked.len() + self.questions.len()
    }

    /// Whether an answer is waited for.
    pub(super) fn is_waiting(&self) -> bool {
        !self.questions.is_empty()
    }

    /// Whether `request` is one of its questions.
    pub(super) fn asks(&self, request: u32) -> bool {
        self.questions.contains_key(&request)
    }

    /// Asks on while the connection takes it and fewer than `max` questions are open.
    pub(super) fn ask(&mut self, max: usize, compare: Compare, channel: &mut Channel<'_>) {
        let max = if compare == Compare::Contents { max.min(COMPARISONS_MAX) } else { max };
        while self.questions.len() < max && !channel.effects.is_congested() {
            let Some(found) = self.unasked.pop_front() else { return };
            let request = channel.request(&Frame::Stat(found.remote().clone()));
            self.questions.insert(request, Question::Name(found));
        }
    }

    /// Nobody answers any more: what was asked can be asked again.
    pub(super) fn take_back(&mut self) {
        self.unasked.extend(self.questions.drain().map(|(_, question)| match question {
            Question::Name(found) => found,
            Question::Content(comparing) => Found::File(comparing.file),
        }));
    }

    /// The server answers. `None` as long as the answer tells too little.
    pub(super) fn on_frame(
        &mut self,
        request: u32,
        frame: Frame,
        copy: &Copy,
        job: &Job,
        channel: &mut Channel<'_>,
    ) -> Result<Option<Finding>, Failure> {
        match self.questions.remove(&request) {
            Some(Question::Name(found)) => match frame {
                Frame::Entry(there) => {
                    copy.answered(&found, job);
                    Ok(self.on_there(found, &there, copy, channel))
                }
                // If it is anything worse than that nothing is there, the push will meet it again.
                Frame::Error(reply) => {
                    if let (Found::Directory(directory), ErrorCode::NotFound) = (&found, reply.code) {
                        lock(&copy.directories).new.insert(directory.path.clone());
                    }
                    copy.answered(&found, job);
                    Ok(Some(Finding::Differs(found)))
                }
                _ => Err(unexpected(&frame)),
            },
            Some(Question::Content(mut comparing)) => {
                comparing.comparison.on_frame(frame)?;
                Ok(self.on_compared(request, comparing))
            }
            None => Err(unexpected(&frame)),
        }
    }

    /// Some more of a file whose content is compared was hashed here.
    pub(super) fn on_hashed(
        &mut self,
        request: u32,
        result: Result<(Box<FileDigest>, Option<Digest>), StoreError>,
        channel: &mut Channel<'_>,
    ) -> Option<Finding> {
        let Question::Content(mut comparing) = self.questions.remove(&request)? else { return None };
        comparing.comparison.on_hashed(request, result, channel);
        self.on_compared(request, comparing)
    }

    /// Something is there under the name of what was found.
    fn on_there(
        &mut self,
        found: Found,
        there: &Entry,
        copy: &Copy,
        channel: &mut Channel<'_>,
    ) -> Option<Finding> {
        match found {
            Found::File(file) => {
                let has_attributes = has_attributes(there, &file.attributes);
                match copy.manner.compare.judge(file.size, &file.attributes, there) {
                    Verdict::Differs => Some(Finding::Differs(Found::File(file))),
                    Verdict::Same => Some(Finding::SameContent { file, has_attributes }),
                    Verdict::Doubtful => {
                        let (request, comparison) = file.compare(copy.manner.digest, channel);
                        self.on_compared(request, Comparing { file, has_attributes, comparison })
                    }
                }
            }
            Found::Directory(SetAttributes { path, mode, mtime }) if is_directory(there) => {
                if has_attributes(there, &FileAttributes { mode, mtime }) {
                    lock(&copy.directories).finished.insert(path);
                }
                Some(Finding::There)
            }
            Found::Link(link) if is_link_to(there, &link.target) => Some(Finding::There),
            found => Some(Finding::Differs(found)),
        }
    }

    /// One side more of a comparison is done, or not yet.
    fn on_compared(&mut self, request: u32, comparing: Comparing) -> Option<Finding> {
        let Some(is_same) = comparing.comparison.is_same() else {
            self.questions.insert(request, Question::Content(comparing));
            return None;
        };
        let Comparing { file, has_attributes, .. } = comparing;
        Some(if is_same {
            Finding::SameContent { file, has_attributes }
        } else {
            Finding::Differs(Found::File(file))
        })
    }
}
