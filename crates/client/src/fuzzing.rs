//! What fuzz targets need to play a client's shard and its server, and nobody else: only there with `--cfg fuzzing`.

use std::io;
use std::iter;

use xferd_engine::fuzzing::{Connection, Played, end_mail, mailbox, read_mail};
use xferd_engine::{End, Mailbox};

use crate::client::{Client, Config};
use crate::dispatcher::Dispatcher;
use crate::session::ClientSession;

/// A client without threads and sockets: its connections are played.
pub struct Stage {
    client: Client,
    mailbox: Mailbox<ClientSession>,
    connections: Vec<Played<ClientSession>>,
}

impl Stage {
    /// A client that was asked for nothing yet.
    ///
    /// # Errors
    /// What the kernel answers to making what wakes a shard.
    pub fn new() -> io::Result<Self> {
        let mailbox = mailbox()?;
        let address = ([127, 0, 0, 1], 1).into();
        let dispatcher = Dispatcher::new(mailbox.clone(), iter::empty(), address, Config::default().patience);
        Ok(Self { client: Client::played(dispatcher), mailbox, connections: Vec::new() })
    }

    /// The client itself.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Lets its shard look at what it was asked for. How many connections there are then, those that are over included.
    pub fn read_mail(&mut self) -> usize {
        read_mail(&self.mailbox, &mut self.connections);
        self.connections.len()
    }

    /// One of its connections.
    pub fn connection(&mut self, index: usize) -> &mut dyn Connection {
        &mut self.connections[index]
    }

    /// Ends it with all that is under way.
    pub fn end(mut self) {
        end_mail(&self.mailbox);
        for connection in &mut self.connections {
            connection.end(End::Stopped);
        }
    }
}
