//! Which files belong to a log, as `appendonly.aof.manifest` of Redis 7 says it.

use std::fmt::Write as _;

use xferd_wire::resp::RequestParser;

/// Files of one log: each attempt at a snapshot that fails leaves one more.
pub(crate) const FILES_MAX: usize = 1000;
/// Bytes of a manifest: so many files with the longest names there are.
pub(crate) const MANIFEST_BYTES_MAX: u64 = FILES_MAX as u64 * 300;

/// What a file is: all there was once.
pub(crate) const BASE: char = 'b';
/// What a file is: what has changed since.
pub(crate) const INCREMENT: char = 'i';
/// What a file is: no longer needed.
const HISTORY: char = 'h';

/// The files of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) base: Option<Listed>,
    /// The oldest first.
    pub(crate) increments: Vec<Listed>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) number: u64,
}

impl Manifest {
    /// # Errors
    /// What is wrong with which line.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let mut manifest = Self::default();
        let (mut files, mut rest, mut line_number) = (0, text, 0);
        while !rest.is_empty() {
            line_number += 1;
            let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
            let (line, behind) = rest.split_at(end);
            rest = behind;
            if line.starts_with(b"#") || line.trim_ascii().is_empty() {
                continue;
            }
            files += 1;
            if files > FILES_MAX {
                return Err(format!("it names more than {FILES_MAX} files"));
            }
            let (kind, listed) = parse_line(line).map_err(|what| format!("line {line_number}: {what}"))?;
            match kind {
                BASE if manifest.base.is_some() => {
                    return Err(format!("line {line_number}: it has a second base"));
                }
                BASE => manifest.base = Some(listed),
                INCREMENT if manifest.increments.last().is_some_and(|last| last.number >= listed.number) => {
                    return Err(format!("line {line_number}: the increments are not in their order"));
                }
                INCREMENT => manifest.increments.push(listed),
                _ => {}
            }
        }
        Ok(manifest)
    }

    /// A file by itself.
    pub(crate) fn of_one(name: String) -> Self {
        Self { base: None, increments: vec![Listed { name, number: 1 }] }
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let base = self.base.iter().map(|listed| (listed, BASE));
        for (Listed { name, number }, kind) in
            base.chain(self.increments.iter().map(|listed| (listed, INCREMENT)))
        {
            let name = quoted(name);
            // A string takes all that is written to it.
            let _ = writeln!(text, "file {name} seq {number} type {kind}");
        }
        text
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.base.iter().chain(&self.increments).map(|listed| listed.name.as_str())
    }

    /// The number of the next base, or of the next increment.
    pub(crate) fn next(&self, kind: char) -> u64 {
        let last = if kind == BASE { self.base.as_ref() } else { self.increments.last() };
        last.map_or(1, |last| last.number.saturating_add(1))
    }
}

fn parse_line(line: &[u8]) -> Result<(char, Listed), String> {
    let mut line = line.to_vec();
    if line.last() != Some(&b'\n') {
        line.push(b'\n');
    }
    // Its words are quoted as those of a request in a line are.
    let mut parser = RequestParser::new();
    let len = parser.parse(&line).map_err(|error| error.to_string())?;
    let words = len.map(|_| parser.args(&line)).filter(|words| words.len() % 2 == 0);
    let words = words.ok_or("it is no list of names and values")?;
    let (mut name, mut number, mut kind) = (None, None, None);
    let mut words = words.iter();
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        let value = std::str::from_utf8(value).map_err(|_| "it is not UTF-8")?;
        match key {
            b"file" => name = Some(value),
            b"seq" => number = value.parse().ok(),
            b"type" => kind = value.chars().next(),
            // Redis passes over what it does not know.
            _ => {}
        }
    }
    let name = name.ok_or("it names no file")?;
    // A name that leads elsewhere would have anything be read, and later be removed.
    if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
        return Err(format!("{name:?} is not the name of a file in this directory"));
    }
    let number = number.ok_or("it has no number")?;
    let kind = kind.filter(|kind| [BASE, INCREMENT, HISTORY].contains(kind));
    Ok((kind.ok_or("its type is not b, i or h")?, Listed { name: name.to_owned(), number }))
}

/// A name as it stands in a manifest.
fn quoted(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
    if name.bytes().all(is_plain) {
        return name.to_owned();
    }
    let mut text = String::from('"');
    for byte in name.bytes() {
        match byte {
            b'"' | b'\\' => text.extend(['\\', byte.into()]),
            b' '..=b'~' => text.push(byte.into()),
            // A string takes all that is written to it.
            _ => drop(write!(text, "\\x{byte:02x}")),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, number: u64) -> Listed {
        Listed { name: name.into(), number }
    }

    #[test]
    fn a_manifest_of_redis_is_read_and_what_is_written_is_read_again() {
        let text = b"file appendonly.aof.2.base.rdb seq 2 type b\n# comment\nfile old seq 1 type h\n\
            file \"with \\\"blank\\x01\" seq 3 type i\nfile appendonly.aof.4.incr.aof seq 4 type i\n";
        let manifest = Manifest::parse(text).unwrap();
        let increments = vec![listed("with \"blank\x01", 3), listed("appendonly.aof.4.incr.aof", 4)];
        assert_eq!(manifest.base, Some(listed("appendonly.aof.2.base.rdb", 2)));
        assert_eq!(manifest.increments, increments);
        assert_eq!(Manifest::parse(manifest.text().as_bytes()), Ok(manifest.clone()));
        assert_eq!((manifest.next(BASE), manifest.next(INCREMENT)), (3, 5));
        assert_eq!(Manifest::parse(b""), Ok(Manifest::default()));
    }

    #[test]
    fn a_manifest_that_makes_no_sense_is_refused() {
        for line in [
            "file a seq 1",
            "file a type b",
            "seq 1 type b",
            "file a seq 1 type x",
            "file a seq -1 type i",
            "file ../a seq 1 type i",
            "file /etc/passwd seq 1 type i",
            "file .. seq 1 type i",
            "file \"\" seq 1 type i",
            "file \"a seq 1 type i",
            "file",
            "file a seq 1 type b\nfile b seq 2 type b",
            "file a seq 2 type i\nfile b seq 2 type i",
        ] {
            assert!(Manifest::parse(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn as_many_files_as_the_limit_are_listed_and_no_more() {
        let text = |files| (0..files).map(|n| format!("file {n} seq {n} type i\n")).collect::<String>();
        assert!(Manifest::parse(text(FILES_MAX).as_bytes()).is_ok());
        assert!(Manifest::parse(text(FILES_MAX + 1).as_bytes()).is_err());
        assert!((text(FILES_MAX).len() as u64) < MANIFEST_BYTES_MAX);
    }
}
