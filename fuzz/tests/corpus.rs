//! Every input that was kept is as good as a test, on any toolchain.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

/// Inputs of one target: more would make the replay slow, and belong into a fuzzer's own folder.
const INPUTS_MAX: usize = 300;
const INPUTS_BYTES_MAX: u64 = 300_000;

macro_rules! replay {
    ($($target:ident)*) => {
        const TARGETS: &[&str] = &[$(stringify!($target)),*];
        $(
            #[test]
            fn $target() {
                replay(stringify!($target), xferd_fuzz::$target);
            }
        )*
    };
}

replay! { wire_decode hello frame path resp_request resp_reply journal server client aof rdb }

#[test]
fn each_target_is_replayed_and_keeps_no_more_than_it_may() {
    let targets = files(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets"));
    let mut targets: Vec<_> =
        targets.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
    targets.sort_unstable();
    let mut replayed = TARGETS.to_vec();
    replayed.sort_unstable();
    assert_eq!(targets, replayed);
    for target in TARGETS {
        let inputs = inputs(target);
        let bytes: u64 = inputs.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert!((1..=INPUTS_MAX).contains(&inputs.len()), "{target} keeps {} inputs", inputs.len());
        assert!(bytes <= INPUTS_BYTES_MAX, "{target} keeps {bytes} bytes");
    }
}

fn replay(target: &str, run: fn(&[u8])) {
    for path in inputs(target) {
        let input = fs::read(&path).unwrap();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&input))) {
            eprintln!("the input was {}", path.display());
            resume_unwind(panic);
        }
    }
}

fn inputs(target: &str) -> Vec<PathBuf> {
    files(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target))
}

fn files(folder: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().path()).collect()
}
