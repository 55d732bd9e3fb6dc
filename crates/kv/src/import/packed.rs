//! The compact forms in which Redis keeps, and dumps, small collections.

use xferd_wire::resp::write_integer;

/// What an element is told to; `false` ends it.
pub(super) type Tell<'t> = &'t mut dyn FnMut(&[u8]) -> bool;

/// What reads one of them.
pub(super) type Read = fn(&[u8], Tell<'_>) -> Option<()>;

const END: u8 = 0xff;

/// The elements of a listpack (`listpack.c` of Redis 7). `None` if it is none.
pub(super) fn listpack(pack: &[u8], tell: Tell<'_>) -> Option<()> {
    const HEADER_BYTES: usize = 6;
    if little(pack.get(..4)?) != pack.len() as u64 {
        return None;
    }
    let mut rest = Rest(pack.get(HEADER_BYTES..)?);
    loop {
        let before = rest.0.len();
        let first = rest.byte()?;
        match first {
            END => return rest.0.is_empty().then_some(()),
            0x00..=0x7f => told(i64::from(first), tell)?,
            0x80..=0xbf => ask(tell(rest.bytes(usize::from(first & 0x3f))?))?,
            0xc0..=0xdf => {
                let number = i64::from(first & 0x1f) << 8 | i64::from(rest.byte()?);
                told(if number >= 1 << 12 { number - (1 << 13) } else { number }, tell)?;
            }
            0xe0..=0xef => {
                let len = usize::from(first & 0x0f) << 8 | usize::from(rest.byte()?);
                ask(tell(rest.bytes(len)?))?;
            }
            0xf0 => {
                let len = usize::try_from(little(rest.bytes(4)?)).ok()?;
                ask(tell(rest.bytes(len)?))?;
            }
            0xf1..=0xf4 => {
                let len = [2, 3, 4, 8][usize::from(first - 0xf1)];
                told(signed(rest.bytes(len)?), tell)?;
            }
            _ => return None,
        }
        // How long it was, seven bits a byte, for who goes backwards.
        let back = match before - rest.0.len() {
            0..=127 => 1,
            128..=16_382 => 2,
            16_383..=2_097_150 => 3,
            2_097_151..=268_435_454 => 4,
            _ => 5,
        };
        rest.bytes(back)?;
    }
}

/// The elements of a ziplist (`ziplist.c` of Redis 6). `None` if it is none.
pub(super) fn ziplist(list: &[u8], tell: Tell<'_>) -> Option<()> {
    const HEADER_BYTES: usize = 10;
    if little(list.get(..4)?) != list.len() as u64 {
        return None;
    }
    let mut rest = Rest(list.get(HEADER_BYTES..)?);
    loop {
        match rest.byte()? {
            END => return rest.0.is_empty().then_some(()),
            // The length of the element before does not fit a byte.
            0xfe => drop(rest.bytes(4)?),
            _ => {}
        }
        let first = rest.byte()?;
        match first {
            0x00..=0x3f => ask(tell(rest.bytes(usize::from(first))?))?,
            0x40..=0x7f => {
                let len = usize::from(first & 0x3f) << 8 | usize::from(rest.byte()?);
                ask(tell(rest.bytes(len)?))?;
            }
            0x80 => {
                let len = rest.bytes(4)?.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
                ask(tell(rest.bytes(len)?))?;
            }
            0xc0 => told(signed(rest.bytes(2)?), tell)?,
            0xd0 => told(signed(rest.bytes(4)?), tell)?,
            0xe0 => told(signed(rest.bytes(8)?), tell)?,
            0xf0 => told(signed(rest.bytes(3)?), tell)?,
            0xfe => told(signed(rest.bytes(1)?), tell)?,
            0xf1..=0xfd => told(i64::from(first & 0x0f) - 1, tell)?,
            _ => return None,
        }
    }
}

/// The members of an intset (`intset.c`). `None` if it is none.
pub(super) fn intset(set: &[u8], tell: Tell<'_>) -> Option<()> {
    let mut rest = Rest(set);
    let (width, count) = (little(rest.bytes(4)?), little(rest.bytes(4)?));
    let width = usize::try_from(width).ok().filter(|width| matches!(width, 2 | 4 | 8))?;
    if rest.0.len() as u64 != count * width as u64 {
        return None;
    }
    rest.0.chunks_exact(width).try_for_each(|number| told(signed(number), tell))
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn byte(&mut self) -> Option<u8> {
        self.bytes(1)?.first().copied()
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }
}

fn told(number: i64, tell: Tell<'_>) -> Option<()> {
    let mut text = Vec::with_capacity(20);
    write_integer(number, &mut text);
    ask(tell(&text))
}

fn ask(goes_on: bool) -> Option<()> {
    goes_on.then_some(())
}

/// At most eight bytes, the least first.
pub(super) fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The same with a sign.
pub(super) fn signed(bytes: &[u8]) -> i64 {
    let unused = 64_usize.saturating_sub(8 * bytes.len()) as u32;
    (little(bytes) as i64).wrapping_shl(unused) >> unused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(pack: &[u8], read: Read) -> Option<Vec<String>> {
        let mut all = Vec::new();
        read(pack, &mut |element| {
            all.push(String::from_utf8_lossy(element).into_owned());
            true
        })?;
        Some(all)
    }

    fn framed(body: &[u8], count: &[u8], header: usize) -> Vec<u8> {
        let mut pack = ((body.len() + header) as u32).to_le_bytes().to_vec();
        pack.resize(header - 2, 0);
        pack.extend_from_slice(count);
        pack.extend_from_slice(body);
        pack
    }

    #[test]
    fn elements_of_every_kind_are_read_and_cut_off_anywhere_it_is_refused() {
        let list = framed(
            b"\x07\x01\x82ab\x03\xdf\xff\x02\xf1\x00\x80\x03\xf2\xff\xff\xff\x04\xf3\x01\0\0\0\x05\xf4\0\0\0\0\0\0\0\x80\x09\xe0\x01c\x03\xf0\x01\0\0\0d\x06\xff",
            &[9, 0],
            6,
        );
        let expected = ["7", "ab", "-1", "-32768", "-1", "1", "-9223372036854775808", "c", "d"];
        assert_eq!(elements(&list, listpack).unwrap(), expected);
        let ziplist_bytes = framed(
            b"\0\x01a\x03\x40\x01b\x04\x80\0\0\0\x01c\x07\xc0\xff\xff\xfe\x04\0\0\0\xf0\x01\0\0\x05\xfe\x80\x03\xf1\x02\xfd\x02\xd0\0\0\0\x80\x06\xe0\x01\0\0\0\0\0\0\0\xff",
            &[10, 0],
            10,
        );
        let expected = ["a", "b", "c", "-1", "1", "-128", "0", "12", "-2147483648", "1"];
        assert_eq!(elements(&ziplist_bytes, ziplist).unwrap(), expected);
        let set = b"\x02\0\0\0\x02\0\0\0\xff\xff\x07\0";
        assert_eq!(elements(set, intset).unwrap(), ["-1", "7"]);
        for len in 0..list.len() {
            let mut cut = list[..len].to_vec();
            assert_eq!(elements(&cut, listpack), None);
            if len > 4 {
                cut[..4].copy_from_slice(&(len as u32).to_le_bytes());
                assert_eq!(elements(&cut, listpack), None);
            }
        }
        for len in 0..ziplist_bytes.len() {
            let mut cut = ziplist_bytes[..len].to_vec();
            if len > 4 {
                cut[..4].copy_from_slice(&(len as u32).to_le_bytes());
            }
            assert_eq!(elements(&cut, ziplist), None);
        }
        for len in 0..set.len() {
            assert_eq!(elements(&set[..len], intset), None);
        }
    }
}
