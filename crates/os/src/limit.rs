//! How many descriptors this process may have.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

// macOS refuses more than OPEN_MAX (sys/syslimits.h) even where the hard limit says "unlimited"; a million is past
// what anybody serves from one process, and what Linux has as its default fs.nr_open.
#[cfg(target_vendor = "apple")]
const DESCRIPTORS_MAX: u64 = 10_240;
#[cfg(not(target_vendor = "apple"))]
const DESCRIPTORS_MAX: u64 = 1 << 20;

/// Raises the number of descriptors this process may have as far as it is allowed to without privileges.
/// Returns how many it may have now.
///
/// # Errors
/// What `setrlimit(2)` says. The old limit then stays.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` is "unlimited".
    let wanted = maximum.map_or(DESCRIPTORS_MAX, |maximum| maximum.min(DESCRIPTORS_MAX));
    match current {
        Some(current) if current < wanted => {
            setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })?;
            Ok(wanted)
        }
        Some(current) => Ok(current),
        None => Ok(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_once_and_then_stays() {
        let raised = raise_descriptor_limit().unwrap();
        assert!(raised >= 256, "{raised}");
        assert_eq!(raise_descriptor_limit().unwrap(), raised);
    }
}
