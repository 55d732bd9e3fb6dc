//! What a new connection says first, and what the answers mean.

use xferd_engine::Failure;
use xferd_wire::ErrorCode;
use xferd_wire::resp::{encode_request, limits::UNAUTHENTICATED_BULK_BYTES_MAX};

/// Bytes of a password: what a server reads from who has not said who they are.
pub const PASSWORD_BYTES_MAX: usize = UNAUTHENTICATED_BULK_BYTES_MAX;

/// Bytes of the name of a connection.
pub const NAME_BYTES_MAX: usize = 256;

/// Who comes, and what for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Greeting {
    password: Option<String>,
    name: Option<String>,
    database: u32,
}

impl Greeting {
    /// # Errors
    /// INVALID_ARGUMENT.
    pub(crate) fn new(
        password: Option<String>,
        name: Option<String>,
        database: u32,
    ) -> Result<Self, Failure> {
        let wrong = |message: String| Err(Failure::new(ErrorCode::InvalidArgument, message));
        if password.as_ref().is_some_and(|password| !(1..=PASSWORD_BYTES_MAX).contains(&password.len())) {
            return wrong(format!(
                "a password has 1 to {PASSWORD_BYTES_MAX} bytes; leave it out if there is none"
            ));
        }
        let is_name = |name: &String| {
            (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if name.as_ref().is_some_and(|name| !is_name(name)) {
            return wrong(format!(
                "the name of a connection has 1 to {NAME_BYTES_MAX} bytes, letters, digits and signs of ASCII"
            ));
        }
        Ok(Self { password, name, database })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut hello = vec!["HELLO", "3"];
        if let Some(password) = &self.password {
            hello.extend(["AUTH", "default", password]);
        }
        if let Some(name) = &self.name {
            hello.extend(["SETNAME", name]);
        }
        encode_request(hello, out);
        if self.database != 0 {
            encode_request(["SELECT", &self.database.to_string()], out);
        }
    }

    /// How many answers follow.
    pub(crate) fn answers(&self) -> usize {
        1 + usize::from(self.database != 0)
    }

    /// What the answer means that the server at `url` has given, the last but `left`.
    ///
    /// # Errors
    /// Why it is of no use.
    pub(crate) fn judge(&self, answer: &[u8], left: usize, url: &str) -> Result<(), Failure> {
        let is_first = left + 1 == self.answers();
        match answer.first() {
            Some(b'-' | b'!') => Err(self.refusal(answer, url)),
            Some(b'%') | Some(b'+') if is_first == (answer.first() == Some(&b'%')) => Ok(()),
            _ => Err(Failure::protocol(format!("{url} does not answer as a key-value store does"))),
        }
    }

    fn refusal(&self, answer: &[u8], url: &str) -> Failure {
        let said = String::from_utf8_lossy(answer);
        // Of a long error, the length stands in a line of its own.
        let said = if said.starts_with('!') {
            said.split_once("\r\n").map_or("", |(_, said)| said)
        } else {
            &said[1..]
        };
        let said = said.trim_end().trim_end_matches('.');
        let (code, remedy) = match said {
            _ if said.starts_with("WRONGPASS") || said.starts_with("ERR invalid password") => {
                (ErrorCode::Permission, "; check the password")
            }
            _ if said.starts_with("NOAUTH") => {
                return Failure::new(
                    ErrorCode::Permission,
                    format!("{url} asks for a password; give the one it was started with"),
                );
            }
            _ if said.starts_with("ERR too many wrong passwords") => (ErrorCode::Permission, ""),
            _ if ["ERR max number of clients", "LOADING", "BUSY"]
                .iter()
                .any(|word| said.starts_with(word)) =>
            {
                (ErrorCode::Busy, "; try again")
            }
            _ if said.starts_with("NOPROTO") || said.starts_with("ERR unknown command") => (
                ErrorCode::Unsupported,
                "; a server is needed that speaks RESP3, as Redis does from version 6 on",
            ),
            _ => (ErrorCode::InvalidArgument, ""),
        };
        Failure::new(code, format!("{url} refuses the connection: {said}{remedy}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(password: Option<&str>, name: Option<&str>, database: u32) -> Greeting {
        Greeting::new(password.map(Into::into), name.map(Into::into), database).unwrap()
    }

    #[test]
    fn only_what_there_is_is_said() {
        let said = |greeting: Greeting| {
            let mut out = Vec::new();
            greeting.write(&mut out);
            let words = String::from_utf8(out).unwrap().replace("\r\n", " ");
            (
                words.split(' ').filter(|word| !word.starts_with(['*', '$'])).collect::<Vec<_>>().join(" "),
                greeting.answers(),
            )
        };
        assert_eq!(said(greeting(None, None, 0)), ("HELLO 3 ".into(), 1));
        assert_eq!(
            said(greeting(Some("secret"), Some("me"), 7)),
            ("HELLO 3 AUTH default secret SETNAME me SELECT 7 ".into(), 2)
        );
    }

    #[test]
    fn a_password_and_a_name_may_be_so_long_and_not_longer() {
        let new = |password: usize, name: usize| {
            Greeting::new(Some("p".repeat(password)), Some("n".repeat(name)), 0).map(drop)
        };
        new(PASSWORD_BYTES_MAX, NAME_BYTES_MAX).unwrap();
        new(1, 1).unwrap();
        for (password, name) in [(0, 1), (1, 0), (PASSWORD_BYTES_MAX + 1, 1), (1, NAME_BYTES_MAX + 1)] {
            assert_eq!(new(password, name).unwrap_err().code, ErrorCode::InvalidArgument);
        }
        for name in ["a b", "a\n", "ä"] {
            assert!(Greeting::new(None, Some(name.into()), 0).is_err(), "{name:?}");
        }
    }

    #[test]
    fn each_answer_means_something_else() {
        let greeting = greeting(None, None, 1);
        let code =
            |answer: &[u8], left| greeting.judge(answer, left, "kv://x").map_err(|failure| failure.code);
        assert_eq!(code(b"%0\r\n", 1), Ok(()));
        assert_eq!(code(b"+OK\r\n", 0), Ok(()));
        assert_eq!(code(b"+OK\r\n", 1), Err(ErrorCode::Protocol));
        assert_eq!(code(b"%0\r\n", 0), Err(ErrorCode::Protocol));
        assert_eq!(code(b":1\r\n", 1), Err(ErrorCode::Protocol));
        assert_eq!(code(b"-WRONGPASS invalid\r\n", 1), Err(ErrorCode::Permission));
        assert_eq!(code(b"!10\r\nNOAUTH now\r\n", 1), Err(ErrorCode::Permission));
        assert_eq!(code(b"-NOPROTO unsupported\r\n", 1), Err(ErrorCode::Unsupported));
        assert_eq!(code(b"-ERR max number of clients reached\r\n", 1), Err(ErrorCode::Busy));
        assert_eq!(code(b"-ERR DB index is out of range\r\n", 0), Err(ErrorCode::InvalidArgument));
    }
}
