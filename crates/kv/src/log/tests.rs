use std::io::Write as _;

use super::*;

fn recorded(requests: &[&str]) -> Vec<Recorded> {
    let request = |line: &str| {
        let mut request = Vec::new();
        encode_request(line.split(' ').collect::<Vec<_>>(), &mut request);
        Recorded { database: 0, request }
    };
    requests.iter().map(|line| request(line)).collect()
}

fn log_on(file: File, fsync: Fsync) -> Log {
    Log::new(file, 0, 0, fsync, Clock::starting(0))
}

#[test]
fn one_commit_is_enough_for_all_that_was_recorded_before_it() {
    let log = log_on(tempfile::tempfile().unwrap(), Fsync::Always);
    log.record(&recorded(&["SET a 1"]));
    let first = log.position();
    log.record(&recorded(&["SET b 1"]));
    assert!(!log.is_committed(first));
    log.commit(log.position()).unwrap();
    assert!(log.is_committed(first) && log.is_committed(log.position()));
    log.record(&recorded(&["SET c 1"]));
    assert!(log.is_committed(first) && !log.is_committed(log.position()));
}

#[test]
fn what_is_recorded_past_the_limit_is_written_by_who_does_so() {
    let log = log_on(tempfile::tempfile().unwrap(), Fsync::No);
    let filler = "x".repeat(1000);
    let line = format!("SET k {filler}");
    let one = recorded(&[&line]);
    let bytes = one[0].request.len();
    while lock(&log.pending).bytes.len() + bytes <= BUFFER_BYTES_MAX {
        log.record(&one);
        assert_eq!(log.size(), 0);
    }
    log.record(&one);
    assert!(log.size() > BUFFER_BYTES_MAX as u64 && log.is_committed(log.position()));
}

#[test]
fn a_disk_that_is_full_ends_it_for_good_and_says_so() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let log = log_on(full, Fsync::No);
    assert_eq!(log.failure(), None);
    log.record(&recorded(&["SET a 1"]));
    let error = log.commit(log.position()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let failure = log.failure().unwrap().to_owned();
    assert!(failure.contains("No space left"), "{failure}");
    // Though there might be room again.
    lock(&log.out).file = Arc::new(tempfile::tempfile().unwrap());
    log.record(&recorded(&["SET b 1"]));
    assert_eq!(log.commit(log.position() + 1).unwrap_err().to_string(), failure);
    assert_eq!(log.sync_up_to(log.position() + 1).unwrap_err().to_string(), failure);
    assert_eq!(log.size(), 0);
}

#[test]
fn a_sync_that_failed_is_not_tried_again() {
    // A pipe takes what is written, by offset too little, and cannot be synced: fsync(2) says EINVAL.
    let device = File::options().write(true).open("/dev/null").unwrap();
    let log = log_on(device, Fsync::Always);
    log.record(&recorded(&["SET a 1"]));
    assert!(log.commit(log.position()).is_err());
    lock(&log.out).file = Arc::new(tempfile::tempfile().unwrap());
    assert!(log.commit(log.position()).is_err());
    assert!(!log.is_committed(log.position()));
    assert!(log.failure().is_some());
}

#[test]
fn a_write_that_came_to_nothing_leaves_no_part_of_it() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"what was there and what failed").unwrap();
    let log = Log::new(file.try_clone().unwrap(), 14, 14, Fsync::No, Clock::starting(0));
    // One that cannot be written to but can be cut off.
    lock(&log.out).len = u64::MAX / 2;
    log.record(&recorded(&["SET a 1"]));
    assert!(log.commit(log.position()).is_err());
    assert!(log.failure().is_some());
    assert_eq!(log.size(), 14);
}
