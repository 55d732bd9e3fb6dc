//! The password, and how often it may be guessed.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use xferd_engine::lock;
use xferd_os::net::Peer;
use xferd_os::{HashMap, clock};
use xferd_store::Hasher;
use xferd_wire::{Digest, DigestAlgorithm};

/// Wrong passwords of one address within [`FAILURES_KEPT`]; then none is looked at until that has passed.
pub const FAILURES_MAX: u32 = 10;
/// For how long wrong passwords are remembered, from the first on.
pub const FAILURES_KEPT: Duration = Duration::from_secs(60);
/// Addresses whose wrong passwords are remembered. With more, all are forgotten that are older than half the time, and if
/// that is not enough nobody's password is looked at until it is.
pub const ADDRESSES_MAX: usize = 4096;

/// What a connection has to say first.
#[derive(Debug, Default)]
pub(crate) struct Auth {
    /// What came of hashing the password: to compare that takes as long whatever was guessed.
    password: Option<Digest>,
    failures: Mutex<HashMap<IpAddr, (u32, Instant)>>,
}

/// What becomes of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    Wrong,
    /// It was not looked at.
    TooMany,
}

impl Auth {
    pub(crate) fn new(password: Option<&str>) -> Self {
        Self { password: password.map(|password| digest(password.as_bytes())), failures: Mutex::default() }
    }

    pub(crate) fn is_required(&self) -> bool {
        self.password.is_some()
    }

    pub(crate) fn judge(&self, peer: Peer, password: &[u8]) -> Verdict {
        // Who may open a Unix socket is decided by its mode; all of them count as one.
        let address = match peer {
            Peer::Internet(address) => address.ip().to_canonical(),
            Peer::Unix { .. } | Peer::SameProcess => IpAddr::from([0, 0, 0, 0]),
        };
        let now = clock::now();
        let mut failures = lock(&self.failures);
        if failures.len() >= ADDRESSES_MAX && !failures.contains_key(&address) {
            failures.retain(|_, (_, since)| now.saturating_duration_since(*since) < FAILURES_KEPT / 2);
            if failures.len() >= ADDRESSES_MAX {
                return Verdict::TooMany;
            }
        }
        let (count, since) = failures.get(&address).copied().unwrap_or((0, now));
        let (count, since) =
            if now.saturating_duration_since(since) >= FAILURES_KEPT { (0, now) } else { (count, since) };
        if count >= FAILURES_MAX {
            return Verdict::TooMany;
        }
        if self.password.as_ref() == Some(&digest(password)) {
            failures.remove(&address);
            return Verdict::Right;
        }
        failures.insert(address, (count + 1, since));
        Verdict::Wrong
    }
}

fn digest(password: &[u8]) -> Digest {
    let mut hasher = Hasher::new(DigestAlgorithm::Blake3);
    hasher.update(password);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn peer(last: u32) -> Peer {
        Peer::Internet(SocketAddr::from((last.to_be_bytes(), 1)))
    }

    #[test]
    fn a_password_may_be_guessed_so_often_and_not_once_more() {
        let auth = Auth::new(Some("right"));
        for _ in 0..FAILURES_MAX {
            assert_eq!(auth.judge(peer(1), b"wrong"), Verdict::Wrong);
        }
        assert_eq!(auth.judge(peer(1), b"right"), Verdict::TooMany);
        assert_eq!(auth.judge(peer(2), b"right"), Verdict::Right);
    }

    #[test]
    fn who_knows_it_has_his_mistakes_forgotten() {
        let auth = Auth::new(Some("right"));
        for _ in 0..3 {
            (1..FAILURES_MAX).for_each(|_| assert_eq!(auth.judge(peer(1), b"wrong"), Verdict::Wrong));
            assert_eq!(auth.judge(peer(1), b"right"), Verdict::Right);
        }
    }

    #[test]
    fn so_many_addresses_are_remembered_and_with_one_more_nobody_guesses() {
        let auth = Auth::new(Some("right"));
        for address in 0..ADDRESSES_MAX as u32 {
            assert_eq!(auth.judge(peer(address), b"wrong"), Verdict::Wrong);
        }
        assert_eq!(auth.judge(peer(u32::MAX), b"right"), Verdict::TooMany);
        assert_eq!(auth.judge(peer(0), b"right"), Verdict::Right);
    }
}
