//! Until when, as commands say it.

use xferd_wire::resp::parse_integer;

use crate::commands::is_word;
use crate::refused::Refused;

/// How a command says until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Seconds from now.
    Seconds,
    /// Milliseconds from now.
    Milliseconds,
    /// Seconds since 1970.
    AtSeconds,
    /// Milliseconds since 1970.
    AtMilliseconds,
}

impl Unit {
    /// As an option of SET and GETEX.
    pub(crate) fn of_option(word: &[u8]) -> Option<Self> {
        const WORDS: [(&str, Unit); 4] = [
            ("ex", Unit::Seconds),
            ("px", Unit::Milliseconds),
            ("exat", Unit::AtSeconds),
            ("pxat", Unit::AtMilliseconds),
        ];
        WORDS.into_iter().find(|(name, _)| is_word(word, name)).map(|(_, unit)| unit)
    }

    /// The deadline in milliseconds since 1970. It may be in the past, even before 1970.
    ///
    /// # Errors
    /// [`Refused::NotAnInteger`]; [`Refused::ExpireTime`] of `command` if it is further away than can be said.
    pub(crate) fn deadline(self, arg: &[u8], now_ms: u64, command: &'static str) -> Result<i64, Refused> {
        let number = parse_integer(arg).ok_or(Refused::NotAnInteger)?;
        let factor = match self {
            Self::Seconds | Self::AtSeconds => 1000,
            Self::Milliseconds | Self::AtMilliseconds => 1,
        };
        let beginning = match self {
            Self::Seconds | Self::Milliseconds => i64::try_from(now_ms).unwrap_or(i64::MAX),
            Self::AtSeconds | Self::AtMilliseconds => 0,
        };
        let deadline = number.checked_mul(factor).and_then(|ms| ms.checked_add(beginning));
        deadline.ok_or(Refused::ExpireTime(command))
    }

    /// The same where no time before now makes sense, nor 0 since 1970.
    ///
    /// # Errors
    /// [`Refused::NotAnInteger`], [`Refused::ExpireTime`].
    pub(crate) fn future_deadline(
        self,
        arg: &[u8],
        now_ms: u64,
        command: &'static str,
    ) -> Result<u64, Refused> {
        if parse_integer(arg).ok_or(Refused::NotAnInteger)? <= 0 {
            return Err(Refused::ExpireTime(command));
        }
        let deadline = self.deadline(arg, now_ms, command)?;
        u64::try_from(deadline).map_err(|_| Refused::ExpireTime(command))
    }
}
