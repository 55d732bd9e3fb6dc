//! The longest common subsequence of two strings (Wagner and Fischer, "The string-to-string correction problem", 1974).

use crate::refused::Refused;

/// Cells of a table: 64 MiB of them are filled in a quarter of a second, and nobody else gets a turn on that thread.
const CELLS_MAX: usize = 16 << 20;

/// The length of the longest common subsequence for every two beginnings.
pub(crate) struct Table<'a> {
    a: &'a [u8],
    b: &'a [u8],
    cells: Vec<u32>,
}

/// Bytes that both have in a row.
pub(crate) struct Match {
    pub(crate) a: usize,
    pub(crate) b: usize,
    pub(crate) len: usize,
}

impl<'a> Table<'a> {
    /// # Errors
    /// Refused if the strings are so long that it would take too much memory and time.
    pub(crate) fn new(a: &'a [u8], b: &'a [u8]) -> Result<Self, Refused> {
        const TOO_LARGE: Refused =
            Refused::Other("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");
        let cells = (a.len() + 1).checked_mul(b.len() + 1).filter(|cells| *cells <= CELLS_MAX);
        let mut table = Self { a, b, cells: vec![0; cells.ok_or(TOO_LARGE)?] };
        let width = b.len() + 1;
        for (i, byte) in a.iter().enumerate() {
            for (j, other) in b.iter().enumerate() {
                let here = (i + 1) * width + j + 1;
                table.cells[here] = if byte == other {
                    table.cells[here - width - 1] + 1
                } else {
                    table.cells[here - width].max(table.cells[here - 1])
                };
            }
        }
        Ok(table)
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.last().map_or(0, |len| *len as usize)
    }

    pub(crate) fn subsequence(&self) -> Vec<u8> {
        let mut found: Vec<u8> = self.walk_back().map(|(i, _)| self.a[i]).collect();
        found.reverse();
        found
    }

    /// Runs of the subsequence in which both strings go on, the last first.
    pub(crate) fn matches(&self) -> impl Iterator<Item = Match> {
        let mut steps = self.walk_back().peekable();
        std::iter::from_fn(move || {
            let (mut a, mut b) = steps.next()?;
            let mut len = 1;
            while steps.next_if(|next| (next.0 + 1, next.1 + 1) == (a, b)).is_some() {
                (a, b, len) = (a - 1, b - 1, len + 1);
            }
            Some(Match { a, b, len })
        })
    }

    /// Where the bytes of the subsequence are in both, the last first.
    fn walk_back(&self) -> impl Iterator<Item = (usize, usize)> {
        let width = self.b.len() + 1;
        let (mut i, mut j) = (self.a.len(), self.b.len());
        std::iter::from_fn(move || {
            while i > 0 && j > 0 {
                if self.a[i - 1] == self.b[j - 1] {
                    (i, j) = (i - 1, j - 1);
                    return Some((i, j));
                }
                // As Redis chooses among several.
                if self.cells[(i - 1) * width + j] > self.cells[i * width + j - 1] { i -= 1 } else { j -= 1 }
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_with_where_it_is() {
        let table = Table::new(b"ohmytext", b"mynewtext").unwrap();
        assert_eq!((table.len(), table.subsequence()), (6, b"mytext".to_vec()));
        let matches: Vec<_> = table.matches().map(|found| (found.a, found.b, found.len)).collect();
        assert_eq!(matches, [(4, 5, 4), (2, 0, 2)]);
        assert_eq!(Table::new(b"", b"abc").unwrap().len(), 0);
    }

    #[test]
    fn strings_at_the_limit_are_compared_and_longer_ones_are_refused() {
        let side = 4096;
        assert_eq!(side * side, CELLS_MAX);
        let text = vec![b'x'; side];
        assert_eq!(Table::new(&text[1..], &text[1..]).unwrap().len(), side - 1);
        assert!(Table::new(&text, &text[1..]).is_err());
    }
}
