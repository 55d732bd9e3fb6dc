//! A simulated process: a server or a client, and its shards.

use std::net::SocketAddr;

use xferd_client::Client;
use xferd_engine::{Failure, Stepped};
use xferd_kv::Keyspace;
use xferd_os::sim::{self, Crash, MachineId, ProcessId, heap};
use xferd_server::Server;

/// A process that runs.
pub(crate) struct Host {
    pub(crate) process: ProcessId,
    /// Its shards, and what else would have a thread.
    stepped: Vec<Box<dyn Stepped>>,
    program: Program,
}

enum Program {
    Server(Server),
    Client(Client),
}

impl Host {
    /// Starts a server, which may come to its end meanwhile.
    ///
    /// # Errors
    /// What it says to that.
    pub(crate) fn serve(
        machine: MachineId,
        config: xferd_server::Config,
        fuse: Option<(u64, Crash)>,
    ) -> Result<Self, Failure> {
        let process = sim::start_process(machine);
        heap::watch(process);
        if let Some((calls, crash)) = fuse {
            sim::light_fuse(process, calls, crash);
        }
        let started = sim::run_as(process, || Server::start_stepped(config));
        match started {
            Ok((server, stepped)) => Ok(Self { process, stepped, program: Program::Server(server) }),
            Err(failure) => {
                sim::end_process(process);
                Err(failure)
            }
        }
    }

    /// Opens a client of the server at `address`.
    ///
    /// # Errors
    /// What it says to that.
    pub(crate) fn open(machine: MachineId, address: SocketAddr, io_threads: usize) -> Result<Self, Failure> {
        let process = sim::start_process(machine);
        let config = xferd_client::Config { io_threads, workers: 0, ..Default::default() };
        let (client, stepped) = sim::run_as(process, || Client::open_stepped(address, config))?;
        Ok(Self { process, stepped, program: Program::Client(client) })
    }

    /// How many take turns in it.
    pub(crate) fn stepped(&self) -> usize {
        self.stepped.len()
    }

    /// Has one of them take a turn.
    pub(crate) fn step(&mut self, index: usize) {
        sim::run_as(self.process, || {
            if let Some(it) = self.stepped.get_mut(index) {
                if !it.step().is_ok_and(|goes_on| goes_on) {
                    it.finish();
                    drop(self.stepped.remove(index));
                }
            }
        });
    }

    /// How many connections its shards have.
    pub(crate) fn connections(&self) -> usize {
        self.stepped.iter().map(|stepped| stepped.connections()).sum()
    }

    /// Takes what a server tells of what happened, as whoever runs one does.
    pub(crate) fn hear(&self) {
        if let Program::Server(server) = &self.program {
            server.happenings();
        }
    }

    /// Removes what an earlier server left behind.
    pub(crate) fn sweep(&self) {
        if let Program::Server(server) = &self.program {
            sim::run_as(self.process, || server.sweep());
        }
    }

    /// Looks at what its keys hold, if it has any.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Keyspace) -> T) -> Option<T> {
        match &self.program {
            Program::Server(server) => sim::run_as(self.process, || server.keyspace().map(look)),
            Program::Client(_) => None,
        }
    }

    /// Tells it to come to its end, after what it is doing or at once.
    pub(crate) fn stop(&self, patiently: bool) {
        sim::run_as(self.process, || match &self.program {
            Program::Server(server) => server.wind_down(patiently),
            Program::Client(client) => client.close(),
        });
    }

    /// Asks a client for something.
    pub(crate) fn ask<T>(&self, ask: impl FnOnce(&Client) -> T) -> Option<T> {
        match &self.program {
            Program::Client(client) => Some(sim::run_as(self.process, || ask(client))),
            Program::Server(_) => None,
        }
    }

    /// Drops all it has: nothing of that has an effect if it is dead.
    pub(crate) fn bury(self) {
        let Self { process, stepped, program, .. } = self;
        sim::run_as(process, || {
            drop(stepped);
            drop(program);
        });
        sim::end_process(process);
    }
}
