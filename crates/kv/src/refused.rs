//! Why a command is not carried out, in Redis's words: clients tell by them.

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The key holds something else.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// The options make no sense.
    #[error("ERR syntax error")]
    Syntax,
    /// An argument, or what is there, is no whole number of 64 bits.
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    /// An argument is no whole number of 32 bits.
    #[error("ERR value is out of range, value must between {} and {}", i32::MIN, i32::MAX)]
    OutOfRange,
    /// An argument is no count.
    #[error("ERR value is out of range, must be positive")]
    NotACount,
    /// An argument, or what is there, is no number.
    #[error("ERR value is not a valid float")]
    NotAFloat,
    /// There are too many arguments for that command, or too few.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(String),
    /// That command can set no such deadline.
    #[error("ERR invalid expire time in '{0}' command")]
    ExpireTime(&'static str),
    /// The string would be longer than [`STRING_BYTES_MAX`](crate::STRING_BYTES_MAX).
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    StringTooLong,
    /// The key is longer than [`KEY_BYTES_MAX`](crate::KEY_BYTES_MAX).
    #[error("ERR key is longer than {} bytes", crate::KEY_BYTES_MAX)]
    KeyTooLong,
    /// The key is not there.
    #[error("ERR no such key")]
    NoSuchKey,
    /// Keys take as much memory as they may, and none can go.
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    OutOfMemory,
    /// What only one command says, with its code.
    #[error("{0}")]
    Other(&'static str),
    /// The same with something in it.
    #[error("{0}")]
    Told(String),
}

impl Refused {
    /// `command` has nothing of that name.
    pub(crate) fn unknown_subcommand(command: &str, word: &[u8]) -> Self {
        Self::Told(format!("ERR unknown subcommand '{}'. Try {command} HELP.", said(word)))
    }

    /// What `command` has of that name takes other arguments.
    pub fn subcommand_arguments(command: &str, word: &[u8]) -> Self {
        Self::Told(format!(
            "ERR unknown subcommand or wrong number of arguments for '{}'. Try {command} HELP.",
            said(word)
        ))
    }
}

/// What was said, as far as it is repeated: 128 bytes, and what C prints of them.
pub fn said(word: &[u8]) -> String {
    let end = word.iter().position(|byte| *byte == 0).unwrap_or(word.len()).min(128);
    String::from_utf8_lossy(word.get(..end).unwrap_or_default()).into_owned()
}
