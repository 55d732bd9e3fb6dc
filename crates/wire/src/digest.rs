//! The proof that the bytes which arrived are the bytes which were sent.

use std::fmt;

/// How a digest is computed. On the wire a frame carries its [`id`](Self::id), a hello its [`name`](Self::name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DigestAlgorithm {
    /// No digest: the bytes are trusted to TCP's checksum.
    None,
    /// CRC-64/NVME (NVM Command Set Specification 1.0, section 5.2.1.3.4), its 8 bytes in big-endian order.
    Crc64Nvme,
    /// BLAKE3 with its default output of 32 bytes.
    Blake3,
}

impl DigestAlgorithm {
    /// Every algorithm, the preferred one first.
    pub const ALL: [Self; 3] = [Self::Crc64Nvme, Self::Blake3, Self::None];

    /// Its name in a hello, on the command line and in front of a printed digest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Crc64Nvme => "crc64nvme",
            Self::Blake3 => "blake3",
        }
    }

    /// The algorithm with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its number in frames.
    pub const fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Crc64Nvme => 1,
            Self::Blake3 => 2,
        }
    }

    /// The algorithm with this number.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.id() == id)
    }

    /// Bytes of its digests.
    pub const fn digest_bytes(self) -> usize {
        match self {
            Self::None => 0,
            Self::Crc64Nvme => 8,
            Self::Blake3 => 32,
        }
    }
}

impl fmt::Display for DigestAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The digest of some bytes. Printed as `crc64nvme:` and hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest {
    algorithm: DigestAlgorithm,
    // Zero past the algorithm's bytes, so that equality and hashing can be derived.
    bytes: [u8; DigestAlgorithm::Blake3.digest_bytes()],
}

impl Digest {
    /// The digest of those who take none.
    pub const NONE: Self = Self { algorithm: DigestAlgorithm::None, bytes: [0; 32] };

    /// A digest that `algorithm` made.
    ///
    /// # Errors
    /// [`DigestError`] if `bytes` is not as long as the digests of `algorithm` are.
    pub fn new(algorithm: DigestAlgorithm, bytes: &[u8]) -> Result<Self, DigestError> {
        let mut digest = Self { algorithm, bytes: [0; 32] };
        match digest.bytes.get_mut(..bytes.len()) {
            Some(room) if bytes.len() == algorithm.digest_bytes() => room.copy_from_slice(bytes),
            _ => return Err(DigestError { algorithm, digest_bytes: bytes.len() }),
        }
        Ok(digest)
    }

    /// The algorithm that made it.
    pub const fn algorithm(&self) -> DigestAlgorithm {
        self.algorithm
    }

    /// As many bytes as digests of the algorithm have.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.digest_bytes()]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.algorithm)?;
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A digest of the wrong length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a digest by {algorithm} has {} bytes, not {digest_bytes}", .algorithm.digest_bytes())]
pub struct DigestError {
    /// The algorithm it was said to be made by.
    pub algorithm: DigestAlgorithm,
    /// The bytes it has.
    pub digest_bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_exactly_as_long_as_its_algorithm_makes_it() {
        for algorithm in DigestAlgorithm::ALL {
            for digest_bytes in 0..=33 {
                let digest = Digest::new(algorithm, &vec![7; digest_bytes]);
                if digest_bytes == algorithm.digest_bytes() {
                    assert_eq!(digest.unwrap().as_bytes(), vec![7; digest_bytes]);
                } else {
                    assert_eq!(digest, Err(DigestError { algorithm, digest_bytes }));
                }
            }
        }
    }

    #[test]
    fn an_algorithm_is_found_by_its_name_and_by_its_number() {
        for algorithm in DigestAlgorithm::ALL {
            assert_eq!(DigestAlgorithm::from_name(algorithm.name()), Some(algorithm));
            assert_eq!(DigestAlgorithm::from_id(algorithm.id()), Some(algorithm));
        }
        assert_eq!((DigestAlgorithm::from_name("md5"), DigestAlgorithm::from_id(3)), (None, None));
    }

    #[test]
    fn a_digest_prints_its_algorithm_and_its_bytes() {
        let digest = Digest::new(DigestAlgorithm::Crc64Nvme, &[0, 1, 2, 3, 0xfc, 0xfd, 0xfe, 0xff]).unwrap();
        assert_eq!(digest.to_string(), "crc64nvme:00010203fcfdfeff");
        assert_eq!(Digest::NONE.to_string(), "none:");
    }
}
