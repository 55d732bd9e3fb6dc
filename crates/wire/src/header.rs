//! The sixteen bytes that every frame begins with.

use crate::fault::Fault;
use crate::limits::{CONTROL_BODY_BYTES_MAX, EXTENT_BYTES_MAX, SKIPPED_BODY_BYTES_MAX};
use crate::opcode;
use crate::reader::Reader;

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 16;

/// Bytes of an extent's offset, which stands between its header and its raw bytes.
pub(crate) const EXTENT_OFFSET_BYTES: u64 = 8;

/// A header as it was read. Nothing in it is to be believed before it is [checked](Self::check).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) opcode: u8,
    flags: u8,
    reserved: u16,
    pub(crate) request: u32,
    pub(crate) body_bytes: u64,
}

impl Header {
    /// Reads the [`HEADER_BYTES`] in `bytes`.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(bytes);
        Ok(Self {
            opcode: reader.u8()?,
            flags: reader.u8()?,
            reserved: reader.u16()?,
            request: reader.u32()?,
            body_bytes: reader.u64()?,
        })
    }

    /// Refuses what can be refused before any of the body is there.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        let Self { opcode, flags, request, .. } = *self;
        if self.reserved != 0 {
            return Err(Fault::Reserved { opcode });
        }
        if opcode::is_optional(opcode) {
            return self.check_body_bytes(SKIPPED_BODY_BYTES_MAX);
        }
        if !opcode::is_known(opcode) {
            return Err(Fault::Opcode { opcode });
        }
        if flags != 0 {
            return Err(Fault::Flags { opcode, flags: flags.into() });
        }
        let misplaced = match opcode {
            opcode::ERROR => false,
            opcode::PING..=opcode::GOODBYE | opcode::KV_PUSH => request != 0,
            _ => request == 0,
        };
        if misplaced {
            return Err(Fault::Request { opcode });
        }
        match opcode {
            opcode::EXTENT => self.check_body_bytes(EXTENT_OFFSET_BYTES + EXTENT_BYTES_MAX),
            _ => self.check_body_bytes(CONTROL_BODY_BYTES_MAX as u64),
        }
    }

    /// Appends a header to `out`.
    pub(crate) fn write(opcode: u8, request: u32, body_bytes: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&[opcode, 0, 0, 0]);
        out.extend_from_slice(&request.to_le_bytes());
        out.extend_from_slice(&body_bytes.to_le_bytes());
    }

    fn check_body_bytes(&self, bytes_max: u64) -> Result<(), Fault> {
        if self.body_bytes > bytes_max {
            return Err(Fault::Body { opcode: self.opcode, body_bytes: self.body_bytes, bytes_max });
        }
        Ok(())
    }
}
