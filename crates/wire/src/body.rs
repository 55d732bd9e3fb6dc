//! What the body of each frame means.

use crate::digest::{Digest, DigestAlgorithm};
use crate::entry::{Entries, Entry, EntryKind, Mtime};
use crate::error::{ErrorCode, ErrorReply};
use crate::fault::Fault;
use crate::frame::{
    Checksum, Committed, FileHeader, Frame, Get, Have, Identity, KV_MORE, List, MakeDir, PARENTS,
    PUT_DURABLE, PUT_RESUMABLE, PUT_SHARED, PUT_SIZED, Put, RECURSIVE, Remove, Rename, Run, SetAttributes,
    Sharing, Symlink, TO_END, TransferId,
};
use crate::header::{EXTENT_OFFSET_BYTES, Header};
use crate::kv::KvPart;
use crate::limits::{ENTRIES_MAX, FILE_BYTES_MAX, MESSAGE_BYTES_MAX, MODE_MAX, NANOSECONDS_MAX, RUNS_MAX};
use crate::link::LinkTarget;
use crate::opcode;
use crate::path::{PathError, RemotePath};
use crate::reader::Reader;
use crate::write_path::WritePath;

impl Header {
    /// Bytes of the body that are needed to understand it: all but the raw bytes of an extent.
    pub(crate) fn needed_bytes(&self) -> u64 {
        match self.opcode {
            opcode::EXTENT => self.body_bytes.min(EXTENT_OFFSET_BYTES),
            _ => self.body_bytes,
        }
    }

    /// Reads `body`, which holds the [needed](Self::needed_bytes) bytes.
    pub(crate) fn read_body(&self, body: &[u8]) -> Result<Frame, Fault> {
        let reader = &mut Reader::new(body);
        let frame = match self.opcode {
            opcode::ERROR => Frame::Error(read_error(reader)?),
            opcode::PING => Frame::Ping(reader.u64()?),
            opcode::PONG => Frame::Pong(reader.u64()?),
            opcode::GOODBYE => Frame::Goodbye,
            opcode::PUT => Frame::Put(read_put(reader)?),
            opcode::EXTENT => read_extent(self.body_bytes, reader)?,
            opcode::DIGEST => Frame::Digest(read_digest(reader)?),
            opcode::COMMIT => Frame::Commit { size: read_size(reader)? },
            opcode::COMMITTED => Frame::Committed(Committed {
                size: read_size(reader)?,
                write_path: read_write_path(reader)?,
                digest: read_digest(reader)?,
            }),
            opcode::CANCEL => Frame::Cancel,
            opcode::ATTACH => Frame::Attach(TransferId(reader.array()?)),
            opcode::HAVE => Frame::Have(read_have(reader)?),
            opcode::GET => Frame::Get(read_get(reader)?),
            opcode::FILE => Frame::File(read_file_header(reader)?),
            opcode::END => Frame::End,
            opcode::LIST => {
                let recursive = read_flag(opcode::LIST, RECURSIVE, reader)?;
                Frame::List(List { path: read_path(reader)?, recursive })
            }
            opcode::ENTRIES => Frame::Entries(read_entries(reader)?),
            opcode::STAT => Frame::Stat(read_path(reader)?),
            opcode::ENTRY => Frame::Entry(read_entry(reader)?),
            opcode::REMOVE => {
                let recursive = read_flag(opcode::REMOVE, RECURSIVE, reader)?;
                Frame::Remove(Remove { path: read_path_beneath_root(reader)?, recursive })
            }
            opcode::RENAME => Frame::Rename(Rename {
                from: read_path_beneath_root(reader)?,
                to: read_path_beneath_root(reader)?,
            }),
            opcode::MAKE_DIR => {
                let parents = read_flag(opcode::MAKE_DIR, PARENTS, reader)?;
                Frame::MakeDir(MakeDir { path: read_path(reader)?, mode: read_mode(reader)?, parents })
            }
            opcode::SYMLINK => {
                let path = read_path_beneath_root(reader)?;
                Frame::Symlink(Symlink { path, target: LinkTarget::parse(read_name(reader)?)? })
            }
            opcode::SET_ATTRIBUTES => Frame::SetAttributes(SetAttributes {
                path: read_path(reader)?,
                mode: read_mode(reader)?,
                mtime: read_mtime(reader)?,
            }),
            opcode::DONE => Frame::Done,
            opcode::CHECKSUM => Frame::Checksum(Checksum {
                path: read_path_beneath_root(reader)?,
                digest: read_algorithm(reader)?,
            }),
            opcode::KV => Frame::Kv(read_part(opcode::KV, reader)?),
            opcode::KV_REPLY => Frame::KvReply(read_part(opcode::KV_REPLY, reader)?),
            opcode::KV_PUSH => Frame::KvPush(read_part(opcode::KV_PUSH, reader)?),
            opcode => return Err(Fault::Opcode { opcode }),
        };
        reader.finish()?;
        Ok(frame)
    }
}

fn read_error(reader: &mut Reader<'_>) -> Result<ErrorReply, Fault> {
    let code = ErrorCode::from_u16(reader.u16()?);
    let retryable = match reader.u8()? {
        0 => false,
        1 => true,
        value => return Err(Fault::Bool { value }),
    };
    let message = reader.long_bytes()?;
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(Fault::MessageTooLong { message_bytes: message.len() });
    }
    let message = std::str::from_utf8(message).map_err(|_| Fault::MessageNotUtf8)?.to_owned();
    Ok(ErrorReply { code, retryable, message })
}

fn read_put(reader: &mut Reader<'_>) -> Result<Put, Fault> {
    let flags = read_flags(opcode::PUT, PUT_DURABLE | PUT_SIZED | PUT_SHARED | PUT_RESUMABLE, reader)?;
    let sharing = sharing(flags)?;
    let digest = read_algorithm(reader)?;
    let path = read_path_beneath_root(reader)?;
    let size = match (read_size(reader)?, flags & PUT_SIZED != 0) {
        (size, true) => Some(size),
        (0, false) => None,
        (size, false) => return Err(Fault::UnannouncedSize { size }),
    };
    let mode = read_mode(reader)?;
    let mtime = read_mtime(reader)?;
    let inode = reader.u64()?;
    let ctime = read_mtime(reader)?;
    let identity = Identity { inode, ctime_s: ctime.seconds, ctime_ns: ctime.nanoseconds };
    Ok(Put { path, size, durable: flags & PUT_DURABLE != 0, digest, mode, mtime, identity, sharing })
}

fn sharing(flags: u16) -> Result<Sharing, Fault> {
    let is_set = |flag| flags & flag != 0;
    match (is_set(PUT_SIZED), is_set(PUT_SHARED), is_set(PUT_RESUMABLE)) {
        (_, false, false) => Ok(Sharing::Alone),
        (true, true, false) => Ok(Sharing::Shared),
        (true, true, true) => Ok(Sharing::Resumable),
        _ => Err(Fault::Sharing),
    }
}

fn read_have(reader: &mut Reader<'_>) -> Result<Have, Fault> {
    let transfer = TransferId(reader.array()?);
    let (start, end) = (read_size(reader)?, read_size(reader)?);
    if start > end {
        return Err(Fault::Range { start, end });
    }
    let count = reader.u16()?;
    if usize::from(count) > RUNS_MAX {
        return Err(Fault::TooManyRuns { runs: count });
    }
    let mut runs: Vec<Run> = Vec::new();
    for _ in 0..count {
        let run = Run { offset: reader.u64()?, len: reader.u64()?, crc64: reader.u64()? };
        let follows = runs.last().is_none_or(|last| last.end() <= run.offset);
        let run_end = run.offset.checked_add(run.len).filter(|&end| end <= FILE_BYTES_MAX);
        if run.len == 0 || !follows || run_end.is_none() {
            return Err(Fault::Run { offset: run.offset, len: run.len });
        }
        runs.push(run);
    }
    Ok(Have { transfer, start, end, runs })
}

fn read_extent(body_bytes: u64, reader: &mut Reader<'_>) -> Result<Frame, Fault> {
    let offset = reader.u64()?;
    let len = body_bytes.saturating_sub(EXTENT_OFFSET_BYTES);
    if len == 0 {
        return Err(Fault::EmptyExtent);
    }
    if offset.checked_add(len).is_none_or(|end| end > FILE_BYTES_MAX) {
        return Err(Fault::ExtentEnd { offset, len });
    }
    Ok(Frame::Extent { offset, len })
}

fn read_get(reader: &mut Reader<'_>) -> Result<Get, Fault> {
    let path = read_path_beneath_root(reader)?;
    let start = read_size(reader)?;
    let end = match reader.u64()? {
        TO_END => None,
        end => Some(check_size(end)?),
    };
    if let Some(end) = end.filter(|end| start > *end) {
        return Err(Fault::Range { start, end });
    }
    Ok(Get { path, start, end, digest: read_algorithm(reader)? })
}

fn read_file_header(reader: &mut Reader<'_>) -> Result<FileHeader, Fault> {
    let size = read_size(reader)?;
    let (start, end) = (reader.u64()?, reader.u64()?);
    if start > end || end > size {
        return Err(Fault::Range { start, end });
    }
    Ok(FileHeader { size, start, end, mode: read_mode(reader)?, mtime: read_mtime(reader)? })
}

fn read_entries(reader: &mut Reader<'_>) -> Result<Entries, Fault> {
    let entries = reader.u16()?;
    if usize::from(entries) > ENTRIES_MAX {
        return Err(Fault::TooManyEntries { entries });
    }
    let mut read = Entries::default();
    for _ in 0..entries {
        let entry = read_entry(reader)?;
        if entry.path.is_root() {
            return Err(PathError::Root.into());
        }
        // A body within its limit holds no more entries than fit.
        read.push(entry).map_err(|_| Fault::TooManyEntries { entries })?;
    }
    Ok(read)
}

fn read_entry(reader: &mut Reader<'_>) -> Result<Entry, Fault> {
    let id = reader.u8()?;
    let kind = EntryKind::from_id(id).ok_or(Fault::EntryKind { id })?;
    let path = read_path(reader)?;
    let size = read_size(reader)?;
    let mode = read_mode(reader)?;
    let mtime = read_mtime(reader)?;
    let link_target = match read_name(reader)? {
        "" => None,
        target => Some(LinkTarget::parse(target)?),
    };
    Ok(Entry { path, kind, size, mode, mtime, link_target })
}

fn read_part(opcode: u8, reader: &mut Reader<'_>) -> Result<KvPart, Fault> {
    let more = read_flag(opcode, KV_MORE, reader)?;
    let bytes = reader.rest();
    if bytes.is_empty() {
        return Err(Fault::Short);
    }
    Ok(KvPart { bytes: bytes.to_vec(), more })
}

fn read_digest(reader: &mut Reader<'_>) -> Result<Digest, Fault> {
    let algorithm = read_algorithm(reader)?;
    Ok(Digest::new(algorithm, reader.short_bytes()?)?)
}

fn read_algorithm(reader: &mut Reader<'_>) -> Result<DigestAlgorithm, Fault> {
    let id = reader.u8()?;
    DigestAlgorithm::from_id(id).ok_or(Fault::DigestAlgorithm { id })
}

fn read_write_path(reader: &mut Reader<'_>) -> Result<WritePath, Fault> {
    let id = reader.u8()?;
    WritePath::from_id(id).ok_or(Fault::WritePath { id })
}

fn read_path_beneath_root(reader: &mut Reader<'_>) -> Result<RemotePath, Fault> {
    let path = read_path(reader)?;
    if path.is_root() {
        return Err(PathError::Root.into());
    }
    Ok(path)
}

fn read_path(reader: &mut Reader<'_>) -> Result<RemotePath, Fault> {
    Ok(RemotePath::parse(read_name(reader)?)?)
}

fn read_name<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Fault> {
    let name = reader.long_bytes()?;
    std::str::from_utf8(name)
        .map_err(|_| Fault::NameNotUtf8 { name: String::from_utf8_lossy(name).into_owned() })
}

fn read_mtime(reader: &mut Reader<'_>) -> Result<Mtime, Fault> {
    let (seconds, nanoseconds) = (reader.i64()?, reader.u32()?);
    if nanoseconds > NANOSECONDS_MAX {
        return Err(Fault::Nanoseconds { nanoseconds });
    }
    Ok(Mtime { seconds, nanoseconds })
}

fn read_mode(reader: &mut Reader<'_>) -> Result<u32, Fault> {
    let mode = reader.u32()?;
    if mode > MODE_MAX {
        return Err(Fault::Mode { mode });
    }
    Ok(mode)
}

fn read_size(reader: &mut Reader<'_>) -> Result<u64, Fault> {
    check_size(reader.u64()?)
}

fn check_size(size: u64) -> Result<u64, Fault> {
    if size > FILE_BYTES_MAX {
        return Err(Fault::FileBytes { size });
    }
    Ok(size)
}

/// Whether the only flag that there is for `opcode` is set.
fn read_flag(opcode: u8, flag: u16, reader: &mut Reader<'_>) -> Result<bool, Fault> {
    Ok(read_flags(opcode, flag, reader)? != 0)
}

fn read_flags(opcode: u8, known: u16, reader: &mut Reader<'_>) -> Result<u16, Fault> {
    let flags = reader.u16()?;
    if flags & !known != 0 {
        return Err(Fault::Flags { opcode, flags });
    }
    Ok(flags)
}
