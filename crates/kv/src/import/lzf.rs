//! LZF, which Redis compresses strings with (liblzf of Marc Lehmann, `lzf_d.c`).

/// Bytes that come of three at most: what is announced is compared with it before it is believed.
const GROWTH_MAX: usize = 264;

/// The `len` bytes that `from` stands for; `None` if it stands for anything else.
pub(super) fn decompress(from: &[u8], len: usize) -> Option<Vec<u8>> {
    if len > from.len().saturating_mul(GROWTH_MAX) {
        return None;
    }
    let mut out = Vec::with_capacity(len);
    let mut bytes = from.iter();
    while let Some(control) = bytes.next() {
        let control = usize::from(*control);
        if control < 32 {
            let literal = bytes.as_slice().get(..=control)?;
            out.extend_from_slice(literal);
            bytes = bytes.as_slice().get(control + 1..)?.iter();
        } else {
            let mut run = control >> 5;
            if run == 7 {
                run += usize::from(*bytes.next()?);
            }
            let back = ((control & 31) << 8 | usize::from(*bytes.next()?)) + 1;
            let from = out.len().checked_sub(back)?;
            if out.len() + run + 2 > len {
                return None;
            }
            // It may run into what it has just written.
            for at in from..from + run + 2 {
                let byte = *out.get(at)?;
                out.push(byte);
            }
        }
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_repetitions_come_out() {
        assert_eq!(decompress(b"\x02abc", 3).unwrap(), b"abc");
        assert_eq!(decompress(b"\x00a\xe0\x05\x00", 15).unwrap(), b"a".repeat(15));
        assert_eq!(decompress(b"\x02abc\x20\x02", 6).unwrap(), b"abcabc");
        assert_eq!(decompress(b"", 0).unwrap(), b"");
    }

    #[test]
    fn what_is_cut_off_or_leads_astray_or_is_of_another_length_is_refused() {
        for (from, len) in [
            (&b"\x02ab"[..], 3),
            (b"\x02abc", 2),
            (b"\x02abc", 4),
            (b"\x20\x00", 3),
            (b"\x00a\x20\x01", 4),
            (b"\x00a\xe0", 15),
            (b"\x00a\xe0\xff\x00", 15),
            (b"", 1),
            (b"\x02abc", usize::MAX),
        ] {
            assert_eq!(decompress(from, len), None, "{}", from.escape_ascii());
        }
    }
}
