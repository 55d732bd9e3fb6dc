//! How much a client has under way, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use xferd_engine::Failure;
use xferd_wire::{ErrorCode, resp};

/// Calls of one client that are not over. Another one fails with BUSY.
pub const CALLS_MAX: usize = 65_536;

/// Bytes of requests of one client that wait to be sent: as many as one request may have. A call with more fails with LIMIT,
/// one for which there is no room now with BUSY.
pub const REQUESTS_BYTES_MAX: usize = resp::limits::REQUEST_BYTES_MAX;

/// The counts. Its clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quota(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    calls: AtomicUsize,
    bytes: AtomicUsize,
}

impl Quota {
    /// Counts one call more, with so many bytes of requests.
    ///
    /// # Errors
    /// LIMIT, BUSY.
    pub(crate) fn admit(&self, bytes: usize) -> Result<Admission, Failure> {
        if bytes > REQUESTS_BYTES_MAX {
            let message = format!(
                "a call of {bytes} bytes is too large; at most {REQUESTS_BYTES_MAX} are taken at once"
            );
            return Err(Failure::new(ErrorCode::Limit, message));
        }
        let busy = |what: String| {
            Failure::new(ErrorCode::Busy, format!("{what} under way already; wait until some are answered"))
        };
        if !add(&self.0.calls, 1, CALLS_MAX) {
            return Err(busy(format!("{CALLS_MAX} calls are")));
        }
        let mut admission = Admission { quota: self.clone(), bytes: 0 };
        if !add(&self.0.bytes, bytes, REQUESTS_BYTES_MAX) {
            return Err(busy(format!("of {REQUESTS_BYTES_MAX} bytes of requests too many are")));
        }
        admission.bytes = bytes;
        Ok(admission)
    }
}

fn add(count: &AtomicUsize, more: usize, max: usize) -> bool {
    let with = |count: usize| count.checked_add(more).filter(|&count| count <= max);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with).is_ok()
}

/// A call that counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    quota: Quota,
    bytes: usize,
}

impl Admission {
    /// Its requests wait no more.
    pub(crate) fn sent(&mut self) {
        self.quota.0.bytes.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.sent();
        self.quota.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_calls_are_under_way_and_not_one_more() {
        let quota = Quota::default();
        let mut all: Vec<_> = (0..CALLS_MAX).map(|_| quota.admit(1).unwrap()).collect();
        all.iter_mut().for_each(Admission::sent);
        assert_eq!(quota.admit(1).unwrap_err().code, ErrorCode::Busy);
        all.pop();
        quota.admit(1).unwrap();
    }

    #[test]
    fn so_many_bytes_wait_and_not_one_more() {
        let quota = Quota::default();
        assert_eq!(quota.admit(REQUESTS_BYTES_MAX + 1).unwrap_err().code, ErrorCode::Limit);
        let mut large = quota.admit(REQUESTS_BYTES_MAX - 1).unwrap();
        let small = quota.admit(1).unwrap();
        let failure = quota.admit(1).unwrap_err();
        assert_eq!((failure.code, failure.retryable), (ErrorCode::Busy, true));
        drop(quota.admit(0).unwrap());
        large.sent();
        drop(quota.admit(REQUESTS_BYTES_MAX - 1).unwrap());
        drop(small);
        drop(quota.admit(REQUESTS_BYTES_MAX).unwrap());
        drop(large);
        assert_eq!(quota.0.calls.load(Ordering::Relaxed) + quota.0.bytes.load(Ordering::Relaxed), 0);
    }
}
