//! A directory to play in, in memory where there is some.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Larger than what is read at once by whoever sends it, and than what is gathered in memory by whoever receives it.
pub(crate) const LARGE_BYTES: usize = 300_000;

/// A tree that is served, or pushed, or pulled into, and something beside it that must stay as it is.
pub(crate) struct Place {
    dir: TempDir,
    canary: (i64, i64, u32),
}

impl Place {
    pub(crate) fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let dir = tempfile::Builder::new()
            .prefix("xferd-fuzz-")
            .tempdir_in(parent)
            .expect("a directory to play in");
        let root = dir.path().join("root");
        let outside = dir.path().join("outside");
        for made in [&root, &root.join("dir"), &outside] {
            fs::create_dir(made).expect("a new directory");
        }
        for (file, bytes) in [("small", 5000), ("large", LARGE_BYTES), ("dir/inner", 10)] {
            fs::write(root.join(file), vec![7; bytes]).expect("a new file");
        }
        fs::write(outside.join("canary"), b"alive").expect("a new file");
        std::os::unix::fs::symlink("../outside", root.join("out")).expect("a new link");
        let canary = stamp(&fs::metadata(outside.join("canary")).expect("what was just made"));
        Self { dir, canary }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Nothing beside the tree was touched.
    pub(crate) fn check_outside(&self) {
        let outside = self.dir.path().join("outside");
        let names: Vec<_> =
            fs::read_dir(&outside).expect("it is there").flatten().map(|it| it.file_name()).collect();
        assert_eq!(names, ["canary"], "something was made outside the root");
        assert_eq!(fs::read(outside.join("canary")).expect("it is there"), b"alive");
        assert_eq!(stamp(&fs::metadata(outside.join("canary")).expect("it is there")), self.canary);
    }

    /// The names of staging files that were left behind and that nobody can resume.
    pub(crate) fn check_leftovers(&self) {
        let mut folders = vec![self.root()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("it is there").flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let journal = entry.path().with_file_name(format!("{name}.journal"));
                let is_resumable = name.ends_with(".journal") || journal.exists();
                assert!(!name.starts_with(".xferd-") || is_resumable, "{name} was left behind");
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(entry.path());
                }
            }
        }
    }
}

fn stamp(metadata: &Metadata) -> (i64, i64, u32) {
    (metadata.ctime(), metadata.ctime_nsec(), metadata.mode())
}
