//! Files that are written and read piece by piece, as fast as somebody gives the pieces and takes them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use xferd_client::{Client, Reader, WriteSpec, Writer};
use xferd_engine::{Failure, lock};
use xferd_os::sim::{Dice, once_in};
use xferd_wire::{ErrorCode, RemotePath};

use crate::run::Done;

/// Bytes of a piece, at most.
const PIECE_BYTES_MAX: u64 = 4000;

/// One of them.
pub(crate) struct Stream {
    /// The task that it is.
    pub(crate) task: u64,
    pub(crate) client: usize,
    way: Way,
    heard: Heard,
}

enum Way {
    Write { writer: Writer, pieces: VecDeque<Vec<u8>>, is_finished: bool },
    Read { reader: Reader, bytes: Vec<u8> },
}

/// What the client has answered last. It is asked for one thing at a time.
type Heard = Arc<Mutex<Option<Result<Answer, Failure>>>>;

enum Answer {
    /// The next piece may come.
    GoOn,
    Piece(Vec<u8>),
    /// All of it is there.
    End,
}

impl Stream {
    /// Writes `bytes` in pieces.
    pub(crate) fn write(
        task: u64,
        client: usize,
        (at, spec): (&Client, WriteSpec),
        mut bytes: &[u8],
        dice: &mut Dice,
    ) -> Self {
        let heard = Heard::default();
        let writer = at.write(spec, hears(&heard, |()| Answer::GoOn));
        let mut pieces = VecDeque::new();
        while !bytes.is_empty() {
            let len = dice.between(1, PIECE_BYTES_MAX).min(bytes.len() as u64) as usize;
            pieces.push_back(bytes[..len].to_vec());
            bytes = &bytes[len..];
        }
        Self { task, client, way: Way::Write { writer, pieces, is_finished: false }, heard }
    }

    /// Reads `[start, end)` of `path`.
    pub(crate) fn read(
        task: u64,
        client: usize,
        at: &Client,
        path: RemotePath,
        (start, end): (u64, Option<u64>),
    ) -> Self {
        let heard = Heard::default();
        let reader = at.read(path, start, end, hears(&heard, |_| Answer::GoOn));
        Self { task, client, way: Way::Read { reader, bytes: Vec::new() }, heard }
    }

    /// Gives or takes the next piece, if it may. To be had by the client's process. What came of it in the end.
    pub(crate) fn go_on(&mut self, dice: &mut Dice) -> Option<Result<Done, Failure>> {
        let answer = match lock(&self.heard).take()? {
            Ok(answer) => answer,
            Err(failure) => return Some(Err(failure)),
        };
        let given_up = dice.chance(once_in(200));
        match (&mut self.way, answer) {
            (Way::Write { writer, .. }, Answer::GoOn) if given_up => {
                writer.cancel();
                return Some(Err(Failure::new(ErrorCode::Aborted, "given up")));
            }
            (Way::Read { reader, .. }, Answer::Piece(_)) if given_up => {
                reader.cancel();
                return Some(Err(Failure::new(ErrorCode::Aborted, "given up")));
            }
            (Way::Write { is_finished: true, .. }, _) => return Some(Ok(Done::whole())),
            (Way::Write { writer, pieces, is_finished }, _) => match pieces.pop_front() {
                Some(piece) => writer.write(piece, Box::new(hears(&self.heard, |()| Answer::GoOn))),
                None => {
                    *is_finished = true;
                    writer.finish(Box::new(hears(&self.heard, |_| Answer::End)));
                }
            },
            (Way::Read { bytes, .. }, Answer::End) => return Some(Ok(Done::Read(std::mem::take(bytes)))),
            (Way::Read { reader, bytes }, answer) => {
                if let Answer::Piece(piece) = answer {
                    bytes.extend(piece);
                }
                let piece = |piece: Option<Vec<u8>>| piece.map_or(Answer::End, Answer::Piece);
                reader.next_chunk(Box::new(hears(&self.heard, piece)));
            }
        }
        None
    }
}

/// Takes down what a client answers.
fn hears<T>(
    heard: &Heard,
    answer: impl FnOnce(T) -> Answer + Send + 'static,
) -> impl FnOnce(Result<T, Failure>) + Send + 'static {
    let heard = heard.clone();
    move |result| *lock(&heard) = Some(result.map(answer))
}
