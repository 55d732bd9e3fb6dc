//! A simulated process: a server or a client, and its shards.

use std::net::SocketAddr;
use std::time::Duration;

use xferd_client::Client;
use xferd_engine::{Failure, Stepped};
use xferd_os::sim::{self, MachineId, ProcessId, heap};
use xferd_server::Server;

/// A process that runs.
pub(crate) struct Host {
    pub(crate) process: ProcessId,
    shards: Vec<Box<dyn Stepped>>,
    program: Program,
}

enum Program {
    Server(Server),
    Client(Client),
}

impl Host {
    /// Starts a server.
    ///
    /// # Errors
    /// What it says to that.
    pub(crate) fn serve(machine: MachineId, config: xferd_server::Config) -> Result<Self, Failure> {
        let process = sim::start_process(machine);
        heap::watch(process);
        let started = sim::run_as(process, || Server::start_stepped(config));
        match started {
            Ok((server, shards)) => Ok(Self { process, shards, program: Program::Server(server) }),
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
        let (client, shards) = sim::run_as(process, || Client::open_stepped(address, config))?;
        Ok(Self { process, shards, program: Program::Client(client) })
    }

    /// How many shards it has.
    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Has one of its shards take a turn.
    pub(crate) fn step(&mut self, shard: usize) {
        sim::run_as(self.process, || {
            if let Some(it) = self.shards.get_mut(shard) {
                if !it.step().is_ok_and(|goes_on| goes_on) {
                    it.finish();
                    drop(self.shards.remove(shard));
                }
            }
        });
    }

    /// How many connections its shards have.
    pub(crate) fn connections(&self) -> usize {
        self.shards.iter().map(|shard| shard.connections()).sum()
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

    /// Tells it to come to its end, after what it is doing or at once.
    pub(crate) fn stop(&self, patiently: bool) {
        sim::run_as(self.process, || match &self.program {
            Program::Server(server) if patiently => server.drain(Duration::ZERO),
            Program::Server(server) => server.stop(),
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
        let Self { process, shards, program, .. } = self;
        sim::run_as(process, || {
            drop(shards);
            drop(program);
        });
        sim::end_process(process);
    }
}
