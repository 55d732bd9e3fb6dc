//! Takes values off the front of bytes that came from a peer. Nothing here can panic or copy more than is there.

use crate::fault::Fault;

/// The bytes of one body that have not been read yet.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Fault> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Fault> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Fault::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Fault::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// A `u16` length and as many bytes.
    pub(crate) fn long_bytes(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.u16()?;
        self.bytes(len.into())
    }

    /// A `u8` length and as many bytes.
    pub(crate) fn short_bytes(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.u8()?;
        self.bytes(len.into())
    }

    /// Makes sure that everything was read.
    ///
    /// # Errors
    /// [`Fault::Trailing`] if there are bytes left that nobody asked for.
    pub(crate) fn finish(&self) -> Result<(), Fault> {
        if !self.rest.is_empty() {
            return Err(Fault::Trailing { bytes: self.rest.len() });
        }
        Ok(())
    }
}
