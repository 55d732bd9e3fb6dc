//! How a stored file got to the disk.

use std::fmt;

/// The way that the bytes of a file took, or are to take, to the disk of the one who stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WritePath {
    /// Through the page cache, from where the kernel writes them when it sees fit: the fastest way for as long as it lets
    /// that wait.
    Cached,
    /// Through the page cache, written at once and dropped from it then.
    Uncached,
    /// Around the page cache.
    Direct,
    /// Through the page cache, which is emptied behind the writer: where there is nothing better.
    Paced,
}

impl WritePath {
    /// All there are, by their number.
    pub const ALL: [Self; 4] = [Self::Cached, Self::Uncached, Self::Direct, Self::Paced];

    /// Its name for users.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Uncached => "uncached",
            Self::Direct => "direct",
            Self::Paced => "paced",
        }
    }

    /// Its number in frames.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The one with this number.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id)).copied()
    }
}

/// How many files took each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WritePathCounts(pub [u64; WritePath::ALL.len()]);

impl WritePathCounts {
    /// One more.
    pub fn add(&mut self, path: WritePath) {
        if let Some(count) = self.0.get_mut(usize::from(path.id())) {
            *count += 1;
        }
    }
}

impl fmt::Display for WritePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_number_and_no_other_number_has_one() {
        for path in WritePath::ALL {
            assert_eq!(WritePath::from_id(path.id()), Some(path));
        }
        assert_eq!(WritePath::from_id(4), None);
    }
}
