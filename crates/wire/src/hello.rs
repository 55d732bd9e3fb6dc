//! The first bytes in either direction: who is there, and what both can do.

use crate::digest::DigestAlgorithm;
use crate::fault::Fault;
use crate::limits::{HELLO_BODY_BYTES_MAX, NAME_BYTES_MAX, NAMES_MAX};
use crate::reader::Reader;

/// The first eight bytes. As in PNG (RFC 2083, section 12.11), the high bit, the line ends and the DOS end of file
/// betray a channel that does not carry bytes as they are.
pub const MAGIC: [u8; 8] = *b"\x89XFER\r\n\x1a";

/// The capability of those who share and resume puts: `ATTACH`, `HAVE` and the flags of a put that lead to them.
pub const TRANSFERS: &str = "transfers";

/// The capability of those who tell the digest of a file: `CHECKSUM`.
pub const CHECKSUMS: &str = "checksums";

/// The capability of a server that keeps keys: `KV` may be sent to it.
pub const KV: &str = "kv";

/// The version of the framing that this crate speaks.
pub const VERSION: u16 = 1;

/// Bytes of a hello before its lists of names.
pub(crate) const HELLO_HEAD_BYTES: usize = 16;

/// What a peer offers. Both sides send one before anything else.
///
/// Versions are about framing; everything else that peers may or may not do has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The lowest version it speaks.
    pub version_min: u16,
    /// The highest version it speaks.
    pub version_max: u16,
    /// What it can do beyond that version: names of 1 to 32 bytes out of `a-z`, `0-9` and `-`. Unknown ones are kept.
    pub capabilities: Vec<String>,
    /// The digests it can take, the preferred one first. Names that are not known here are left out.
    pub digests: Vec<DigestAlgorithm>,
}

impl Hello {
    /// Appends the hello to `out`.
    ///
    /// A name that does not fit the wire is left out, and so is what comes after the list or the body is full: the
    /// peer then does without it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        // The second list needs at least its count.
        encode_names(self.capabilities.iter().map(String::as_str), HELLO_BODY_BYTES_MAX - 1, &mut body);
        encode_names(self.digests.iter().map(|digest| digest.name()), HELLO_BODY_BYTES_MAX, &mut body);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.version_min.to_le_bytes());
        out.extend_from_slice(&self.version_max.to_le_bytes());
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(&body);
    }
}

impl Default for Hello {
    /// Everything that whoever uses this crate can do.
    fn default() -> Self {
        Self {
            version_min: VERSION,
            version_max: VERSION,
            capabilities: vec![TRANSFERS.to_owned(), CHECKSUMS.to_owned()],
            digests: DigestAlgorithm::ALL.to_vec(),
        }
    }
}

impl Hello {
    /// Whether the peer can do what `capability` names.
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|name| name == capability)
    }
}

/// The version that two peers use: the highest that both speak, or `None` if there is none.
pub fn choose_version(ours: &Hello, theirs: &Hello) -> Option<u16> {
    let version = ours.version_max.min(theirs.version_max);
    (version >= ours.version_min.max(theirs.version_min)).then_some(version)
}

/// The part of a hello that says how long the rest is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HelloHead {
    version_min: u16,
    version_max: u16,
    pub(crate) body_bytes: u32,
}

impl HelloHead {
    /// Reads the [`HELLO_HEAD_BYTES`] in `bytes`.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(bytes);
        if reader.array()? != MAGIC {
            return Err(Fault::Magic);
        }
        let head = Self { version_min: reader.u16()?, version_max: reader.u16()?, body_bytes: reader.u32()? };
        let Self { version_min, version_max, body_bytes } = head;
        if version_min > version_max {
            return Err(Fault::VersionRange { version_min, version_max });
        }
        if body_bytes as usize > HELLO_BODY_BYTES_MAX {
            return Err(Fault::HelloBody { body_bytes });
        }
        Ok(head)
    }

    /// Reads the lists of names in `body`.
    pub(crate) fn read_body(self, body: &[u8]) -> Result<Hello, Fault> {
        let mut reader = Reader::new(body);
        let capabilities = read_names(&mut reader, |name| Some(name.to_owned()))?;
        let digests = read_names(&mut reader, DigestAlgorithm::from_name)?;
        reader.finish()?;
        let Self { version_min, version_max, .. } = self;
        Ok(Hello { version_min, version_max, capabilities, digests })
    }
}

fn encode_names<'a>(names: impl Iterator<Item = &'a str>, body_bytes_max: usize, body: &mut Vec<u8>) {
    let count_at = body.len();
    body.push(0);
    let sayable = names.filter(|name| name.len() <= NAME_BYTES_MAX && is_name(name.as_bytes()));
    for name in sayable.take(NAMES_MAX) {
        if body.len() + 1 + name.len() > body_bytes_max {
            return;
        }
        body.push(name.len() as u8);
        body.extend_from_slice(name.as_bytes());
        body[count_at] += 1;
    }
}

fn read_names<T>(reader: &mut Reader<'_>, keep: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Fault> {
    let names = reader.u8()?;
    if usize::from(names) > NAMES_MAX {
        return Err(Fault::Names { names });
    }
    let mut kept = Vec::new();
    for _ in 0..names {
        let name = reader.short_bytes()?;
        if name.len() > NAME_BYTES_MAX {
            return Err(Fault::NameTooLong { name_bytes: name.len() });
        }
        if !is_name(name) {
            return Err(Fault::Name);
        }
        kept.extend(std::str::from_utf8(name).ok().and_then(&keep));
    }
    Ok(kept)
}

fn is_name(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decoder, Item};

    fn hello(version_min: u16, version_max: u16) -> Hello {
        Hello { version_min, version_max, ..Hello::default() }
    }

    fn decode(bytes: &[u8]) -> Result<Hello, Fault> {
        match Decoder::new().decode(bytes) {
            Ok((taken, Some(Item::Hello(hello)))) if taken == bytes.len() => Ok(hello),
            Ok(other) => panic!("not one hello: {other:?}"),
            Err(error) => Err(error.fault),
        }
    }

    fn with_body(body: &[u8]) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &[1, 0, 1, 0]].concat();
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn encoded(hello: &Hello) -> Vec<u8> {
        let mut bytes = Vec::new();
        hello.encode(&mut bytes);
        bytes
    }

    #[test]
    fn peers_speak_the_highest_version_that_both_know() {
        assert_eq!(choose_version(&hello(1, 1), &hello(1, 1)), Some(1));
        assert_eq!(choose_version(&hello(1, 3), &hello(2, 5)), Some(3));
        assert_eq!(choose_version(&hello(4, 5), &hello(1, 4)), Some(4));
        assert_eq!(choose_version(&hello(1, 1), &hello(2, 5)), None);
        assert_eq!(choose_version(&hello(2, 5), &hello(1, 1)), None);
    }

    #[test]
    fn what_is_offered_arrives() {
        let capabilities = vec!["a".to_owned(), "striping-2".to_owned(), "x".repeat(NAME_BYTES_MAX)];
        let offered = Hello { capabilities, ..hello(1, 9) };
        assert_eq!(decode(&encoded(&offered)), Ok(offered));
    }

    #[test]
    fn a_digest_that_is_not_known_is_left_out_and_a_capability_is_kept() {
        let bytes = with_body(b"\x01\x06future\x02\x06sha512\x06blake3");
        let decoded = decode(&bytes).unwrap();
        assert_eq!(decoded.capabilities, ["future"]);
        assert_eq!(decoded.digests, [DigestAlgorithm::Blake3]);
    }

    #[test]
    fn a_list_may_have_32_names_and_not_33() {
        let list = |names: u8| [&[names][..], &b"\x01a".repeat(names.into()), &[0]].concat();
        assert_eq!(decode(&with_body(&list(32))).unwrap().capabilities.len(), NAMES_MAX);
        assert_eq!(decode(&with_body(&list(33))), Err(Fault::Names { names: 33 }));
    }

    #[test]
    fn a_name_may_have_32_bytes_and_neither_33_nor_none() {
        let list = |name_bytes: u8| [&[1, name_bytes][..], &b"a".repeat(name_bytes.into()), &[0]].concat();
        assert!(decode(&with_body(&list(32))).is_ok());
        assert_eq!(decode(&with_body(&list(33))), Err(Fault::NameTooLong { name_bytes: 33 }));
        assert_eq!(decode(&with_body(&list(0))), Err(Fault::Name));
    }

    #[test]
    fn a_name_has_small_letters_digits_and_hyphens_only() {
        for name in [b"\x01A", b"\x01_", b"\x01 ", b"\x01\0", b"\x01\xff"] {
            assert_eq!(decode(&with_body(&[&[1][..], name, &[0]].concat())), Err(Fault::Name));
        }
    }

    #[test]
    fn a_body_may_have_1024_bytes_and_not_1025() {
        // 31 names of 32 bytes are 1023 bytes, with the count 1024 and with the second count 1025.
        let name = [&[32][..], &[b'a'; 32]].concat();
        let mut full = [&[31][..], &name.repeat(30), &[31], &[b'a'; 31], &[0]].concat();
        assert_eq!(full.len(), HELLO_BODY_BYTES_MAX);
        assert_eq!(decode(&with_body(&full)).unwrap().capabilities.len(), 31);
        full.push(0);
        assert_eq!(decode(&with_body(&full)), Err(Fault::HelloBody { body_bytes: 1025 }));
        assert_eq!(decode(&with_body(&full)[..HELLO_HEAD_BYTES]), Err(Fault::HelloBody { body_bytes: 1025 }));
    }

    #[test]
    fn a_hello_that_offers_too_much_leaves_the_last_names_out() {
        let capabilities = (0..40).map(|n| format!("{n:032}")).collect();
        let digests = DigestAlgorithm::ALL.repeat(9);
        let decoded =
            decode(&encoded(&Hello { capabilities, digests: digests.clone(), ..hello(1, 1) })).unwrap();
        assert_eq!(decoded.capabilities.len(), 30);
        // Those and the digests "crc64nvme", "blake3", "none" and "crc64nvme" fill the body to its last byte.
        assert_eq!(decoded.digests, digests[..4]);

        let capabilities = ["", "no", "No", "yes", &"x".repeat(33)].map(str::to_owned).to_vec();
        let decoded = decode(&encoded(&Hello { capabilities, ..hello(1, 1) })).unwrap();
        assert_eq!(decoded.capabilities, ["no", "yes"]);
    }

    #[test]
    fn a_hello_says_exactly_its_body() {
        assert_eq!(decode(&with_body(b"\0")), Err(Fault::Short));
        assert_eq!(decode(&with_body(b"")), Err(Fault::Short));
        assert_eq!(decode(&with_body(b"\x02\x01a")), Err(Fault::Short));
        assert_eq!(decode(&with_body(b"\0\0\0")), Err(Fault::Trailing { bytes: 1 }));
    }

    #[test]
    fn a_range_of_versions_does_not_run_backwards() {
        assert_eq!(
            decode(&encoded(&hello(2, 1))),
            Err(Fault::VersionRange { version_min: 2, version_max: 1 })
        );
    }
}
