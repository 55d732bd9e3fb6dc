//! The Redis of this machine, to be asked what it answers.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{Client, eventually};

/// A `redis-server` of our own; it ends with this.
pub(crate) struct Redis {
    child: Child,
    directory: TempDir,
}

impl Redis {
    /// None where it is not installed, or is another version than the one that is followed; says so.
    pub(crate) fn start() -> Option<Self> {
        const VERSION: &str = "v=7.0.";
        let version = Command::new("redis-server").arg("--version").output();
        if !version.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains(VERSION)) {
            println!("SKIPPED: no redis-server 7.0 is installed to compare with");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no", "--unixsocket"])
            .arg(directory.path().join("redis"))
            .args(["--slowlog-log-slower-than", "-1", "--dir"])
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let redis = Self { child, directory };
        eventually("Redis listens", || std::os::unix::net::UnixStream::connect(redis.path()).is_ok());
        Some(redis)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("redis")
    }

    pub(crate) fn client(&self) -> Client {
        Client::unix(&self.path())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
