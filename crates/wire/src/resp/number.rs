//! Whole numbers in decimal, as Redis reads and writes them.

/// The longest number: the sign and 19 digits of `i64::MIN`.
const DIGITS_MAX: usize = 20;

/// The number that `text` spells in the only way it can be spelled: no `+`, no leading zero, no `-0`, nothing around it.
/// Redis's `string2ll`.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        b"0" => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if !matches!(digits.first(), Some(b'1'..=b'9')) || text.len() > DIGITS_MAX {
        return None;
    }
    let mut number = 0_u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(digit.into())?;
    }
    if negative { 0_i64.checked_sub_unsigned(number) } else { i64::try_from(number).ok() }
}

/// Appends `number` in decimal.
pub fn write_integer(number: i64, out: &mut Vec<u8>) {
    let mut text = [0; DIGITS_MAX];
    let mut at = text.len();
    let mut rest = number.unsigned_abs();
    while rest >= 10 {
        at -= 2;
        text[at..at + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
        rest /= 100;
    }
    if rest > 0 || at == text.len() {
        at -= 1;
        text[at] = b'0' + rest as u8;
    }
    if number < 0 {
        at -= 1;
        text[at] = b'-';
    }
    out.extend_from_slice(&text[at..]);
}

/// `00` to `99`: one division for two digits.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use super::*;

    fn written(number: i64) -> String {
        let mut out = Vec::new();
        write_integer(number, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_number_is_written_as_everybody_writes_it_and_read_again() {
        let powers = (0..19).map(|power| 10_i64.pow(power));
        let numbers = powers.flat_map(|n| [n - 1, n, n + 1, -n]).chain([i64::MIN, i64::MIN + 1, i64::MAX]);
        for number in numbers.chain(-1000..1000) {
            assert_eq!(written(number), number.to_string());
            assert_eq!(parse_integer(written(number).as_bytes()), Some(number));
        }
    }

    #[test]
    fn a_number_has_one_spelling() {
        for text in ["", "-", "+1", "01", "-0", "-01", " 1", "1 ", "1a", "a", "0x1", "1.0", "--1", "00"] {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_number_of_64_bits_is_read_and_one_beyond_is_not() {
        assert_eq!(parse_integer(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(parse_integer(b"9223372036854775808"), None);
        assert_eq!(parse_integer(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_integer(b"-9223372036854775809"), None);
        assert_eq!(parse_integer(b"18446744073709551616"), None);
        assert_eq!(parse_integer(b"99999999999999999999"), None);
        assert_eq!(parse_integer(b"100000000000000000000"), None);
    }
}
