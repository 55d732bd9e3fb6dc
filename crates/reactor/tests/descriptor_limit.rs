//! The limit of descriptors is the process's: this test has one of its own.

#![allow(clippy::unwrap_used)]

#[expect(dead_code, reason = "one test needs little of it")]
mod rig;

use std::fs::File;
use std::os::fd::AsRawFd;

use rig::{connect, each_driver};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use xferd_reactor::{Carried, Op};

#[test]
fn a_connection_past_the_descriptor_limit_waits_until_one_is_free() {
    each_driver(|rig| {
        let (listener, address) = rig.listen();
        let _peer = connect(&address).unwrap();
        let limit = getrlimit(Resource::Nofile);
        let next_free = File::open("/dev/null").unwrap().as_raw_fd();
        setrlimit(Resource::Nofile, Rlimit { current: Some(next_free as u64), ..limit }).unwrap();
        let refused = rig.run(Op::Accept(listener)).result.unwrap_err();
        setrlimit(Resource::Nofile, limit).unwrap();
        assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
        assert!(matches!(rig.run(Op::Accept(listener)).carried, Carried::Socket(..)));
    });
}
