//! The words in which one peer tells the other why it will not, or cannot.

use std::fmt;

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal, retryable: $retryable:literal;)+) => {
        /// A stable number and name for each way to fail.
        ///
        /// Programs may depend on them: what they mean never changes, and new ones are added at the end.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ $variant,)+
            /// A number from a newer peer. Its `retryable` says what there is to know.
            Unknown(u16),
        }

        impl ErrorCode {
            /// Every code that has a name, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The number on the wire.
            pub const fn number(self) -> u16 {
                match self {
                    $(Self::$variant => $number,)+
                    Self::Unknown(number) => number,
                }
            }

            /// The code with this number, [`Unknown`](Self::Unknown) if it has no name here.
            pub const fn from_u16(number: u16) -> Self {
                match number {
                    $($number => Self::$variant,)+
                    _ => Self::Unknown(number),
                }
            }

            /// The name that people and programs see.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                    Self::Unknown(_) => "UNKNOWN",
                }
            }

            /// Whether the same request may well succeed later, unless the one who reports it knows better.
            pub const fn retryable(self) -> bool {
                match self {
                    $(Self::$variant => $retryable,)+
                    Self::Unknown(_) => false,
                }
            }
        }
    };
}

error_codes! {
    /// The bytes are not this protocol.
    Protocol = 1, "PROTOCOL", retryable: false;
    /// The peers have no version in common.
    Version = 2, "VERSION", retryable: false;
    /// A frame, flag or algorithm that the receiver does not know.
    Unsupported = 3, "UNSUPPORTED", retryable: false;
    /// A length or a count beyond its limit.
    Limit = 4, "LIMIT", retryable: false;
    /// A path that breaks the rules of [`RemotePath`](crate::RemotePath).
    BadPath = 5, "BAD_PATH", retryable: false;
    /// A path that leads out of the root by way of a link.
    OutsideRoot = 6, "OUTSIDE_ROOT", retryable: false;
    /// Nothing is there.
    NotFound = 7, "NOT_FOUND", retryable: false;
    /// Something is there already.
    Exists = 8, "EXISTS", retryable: false;
    /// Not a regular file, where one is meant.
    NotAFile = 9, "NOT_A_FILE", retryable: false;
    /// Not a directory, where one is meant.
    NotADirectory = 10, "NOT_A_DIRECTORY", retryable: false;
    /// A directory that has to be empty is not.
    DirectoryNotEmpty = 11, "DIRECTORY_NOT_EMPTY", retryable: false;
    /// The system denies access.
    Permission = 12, "PERMISSION", retryable: false;
    /// The server, or its file system, is read-only.
    ReadOnly = 13, "READ_ONLY", retryable: false;
    /// No space or quota is left.
    DiskFull = 14, "DISK_FULL", retryable: false;
    /// No descriptor is left.
    TooManyFiles = 15, "TOO_MANY_FILES", retryable: true;
    /// The bytes that arrived are not those that were sent.
    DigestMismatch = 16, "DIGEST_MISMATCH", retryable: false;
    /// More or fewer bytes than announced.
    SizeMismatch = 17, "SIZE_MISMATCH", retryable: false;
    /// The source was changed while it was sent.
    SourceChanged = 18, "SOURCE_CHANGED", retryable: true;
    /// A symbolic link that would point out of the root.
    LinkEscapes = 19, "LINK_ESCAPES", retryable: false;
    /// A name that is not UTF-8.
    NameNotUtf8 = 20, "NAME_NOT_UTF8", retryable: false;
    /// The peer was silent for too long.
    Timeout = 21, "TIMEOUT", retryable: true;
    /// The server has as much to do as it accepts.
    Busy = 22, "BUSY", retryable: true;
    /// The server is about to stop.
    ShuttingDown = 23, "SHUTTING_DOWN", retryable: true;
    /// The connection ended in the middle.
    ConnectionLost = 24, "CONNECTION_LOST", retryable: true;
    /// Nobody answers at the address.
    ConnectionRefused = 25, "CONNECTION_REFUSED", retryable: true;
    /// The one who asked gave it up.
    Aborted = 26, "ABORTED", retryable: false;
    /// A value that makes no sense.
    InvalidArgument = 27, "INVALID_ARGUMENT", retryable: false;
    /// Some of it is done, some is not.
    Partial = 28, "PARTIAL", retryable: false;
    /// The system reports an error that has no code of its own.
    Io = 29, "IO", retryable: false;
    /// A mistake in the program.
    Internal = 30, "INTERNAL", retryable: false;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an `ERROR` frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReply {
    /// What went wrong.
    pub code: ErrorCode,
    /// Whether the same request may well succeed later.
    pub retryable: bool,
    /// Names the thing and the remedy. Cut to [`MESSAGE_BYTES_MAX`](crate::limits::MESSAGE_BYTES_MAX) on the wire.
    pub message: String,
}

impl ErrorReply {
    /// A reply that is as retryable as its code.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, retryable: code.retryable(), message: message.into() }
    }
}

impl fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_a_code_and_every_code_keeps_its_number() {
        for number in 0..=u16::MAX {
            assert_eq!(ErrorCode::from_u16(number).number(), number);
        }
        let numbers: Vec<u16> = ErrorCode::ALL.iter().map(|code| code.number()).collect();
        assert_eq!(numbers, (1..=30).collect::<Vec<u16>>());
    }

    #[test]
    fn a_number_from_a_newer_peer_is_kept() {
        assert_eq!(ErrorCode::from_u16(0), ErrorCode::Unknown(0));
        assert_eq!(ErrorCode::from_u16(31), ErrorCode::Unknown(31));
        assert_eq!(ErrorReply::new(ErrorCode::Unknown(31), "new").to_string(), "UNKNOWN: new");
    }
}
