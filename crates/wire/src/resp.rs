//! RESP, the protocol of Redis: requests as a server reads them, replies as it writes them, and both for clients.
//!
//! Everything is incremental in the same way. A parser or scanner is given the bytes from where the current request or
//! reply begins; while it is incomplete, it is given them again with more behind them and goes on where it was, so that
//! no byte is looked at twice. Nothing is allocated by what is merely announced.
//!
//! ```
//! use xferd_wire::resp::{Replies, RequestParser, Version, encode_request};
//!
//! let mut received = Vec::new();
//! encode_request(["ECHO", "hello"], &mut received);
//!
//! let mut parser = RequestParser::new();
//! assert_eq!(parser.parse(&received[..9])?, None);
//! let len = parser.parse(&received)?.expect("it is whole");
//! let args = parser.args(&received[..len]);
//! assert_eq!((args.len(), &args[0], &args[1]), (2, &b"ECHO"[..], &b"hello"[..]));
//!
//! let mut out = Vec::new();
//! Replies::new(&mut out, Version::Resp2).bulk(&args[1]);
//! assert_eq!(out, b"$5\r\nhello\r\n");
//! # Ok::<(), xferd_wire::resp::RespError>(())
//! ```

mod args;
mod double;
mod encode;
mod error;
mod http;
mod inline;
pub mod limits;
mod number;
mod replies;
mod request;
mod scan;
mod value;

pub(crate) use args::Span;
pub use args::{Args, ArgsBuf};
pub use double::write_double;
pub use encode::encode_request;
pub use error::{ReplyError, RespError};
pub use http::is_http;
pub use number::{parse_integer, write_integer};
pub use replies::{Mark, Replies, Version};
pub use request::RequestParser;
pub use scan::ReplyScanner;
pub use value::{Value, ValueDecoder};
