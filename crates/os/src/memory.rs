//! What the kernel says about memory that waits to be written to disk.

#[cfg(all(target_os = "linux", not(any(xferd_portable, xferd_sim))))]
use std::fs::File;
#[cfg(all(target_os = "linux", not(any(xferd_portable, xferd_sim))))]
use std::os::unix::fs::FileExt;

/// Bytes of `/proc/vmstat`; it has some 6,000 (Linux 6.18).
#[cfg(all(target_os = "linux", not(any(xferd_portable, xferd_sim))))]
const VMSTAT_BYTES_MAX: usize = 32 * 1024;

/// Bytes that were written by processes and are not on disk yet, and how many the kernel lets wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirty {
    /// How many there are, those on their way included.
    pub bytes: u64,
    /// From how many on the kernel begins to write them by itself (`vm.dirty_background_ratio`).
    pub background_bytes: u64,
}

/// What the kernel says about dirty memory now; `None` where it does not.
#[cfg(all(target_os = "linux", not(any(xferd_portable, xferd_sim))))]
pub fn dirty() -> Option<Dirty> {
    let mut text = vec![0; VMSTAT_BYTES_MAX];
    // The file is made anew by each read, which takes some 30 µs; one read gets all of it.
    let bytes = File::open("/proc/vmstat").and_then(|file| file.read_at(&mut text, 0)).ok()?;
    parse(std::str::from_utf8(text.get(..bytes)?).ok()?, rustix::param::page_size() as u64)
}

/// What the kernel says about dirty memory: here, nothing.
#[cfg(not(all(target_os = "linux", not(any(xferd_portable, xferd_sim)))))]
pub fn dirty() -> Option<Dirty> {
    None
}

#[cfg(all(target_os = "linux", not(any(xferd_portable, xferd_sim))))]
fn parse(vmstat: &str, page_bytes: u64) -> Option<Dirty> {
    let value = |name: &str| {
        let line = vmstat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse::<u64>().ok()?.checked_mul(page_bytes)
    };
    Some(Dirty {
        bytes: value("nr_dirty")?.checked_add(value("nr_writeback")?)?,
        background_bytes: value("nr_dirty_background_threshold")?,
    })
}

#[cfg(all(test, target_os = "linux", not(any(xferd_portable, xferd_sim))))]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_of_this_machine_is_understood() {
        let dirty = dirty().unwrap();
        assert!(dirty.background_bytes > 0);
    }

    #[test]
    fn names_are_compared_whole_and_pages_are_counted_in_bytes() {
        let vmstat = "nr_dirtied 9\nnr_dirty 1\nnr_writeback_temp 9\nnr_writeback 2\n\
                      nr_dirty_background_threshold 10\n";
        let expected = Dirty { bytes: 12_288, background_bytes: 40_960 };
        assert_eq!(parse(vmstat, 4096), Some(expected));
        for broken in ["", "nr_dirty 1", "nr_dirty x\nnr_writeback 2\nnr_dirty_background_threshold 1"] {
            assert_eq!(parse(broken, 4096), None);
        }
    }
}
