//! Floating-point numbers as Redis 7.0 replies them: C's `%.17g`, which is never less than exact and often longer than
//! it had to be (`3.14` is `3.1400000000000001`).

use std::io::Write as _;

use super::number::{parse_integer, write_integer};

/// Significant digits.
const DIGITS: i32 = 17;

/// Appends `number`; `inf`, `-inf` and `nan` if it is none.
pub fn write_double(number: f64, out: &mut Vec<u8>) {
    if number.is_nan() {
        return out.extend_from_slice(b"nan");
    }
    if number.is_infinite() {
        return out.extend_from_slice(if number > 0.0 { b"inf" } else { b"-inf" });
    }
    let start = out.len();
    // Whole numbers are by far the most frequent, and below 2^53 they are what they seem.
    let whole = number as i64;
    if whole.unsigned_abs() < 1 << 53 && whole as f64 == number && (whole != 0 || number.is_sign_positive()) {
        return write_integer(whole, out);
    }
    // A vector takes all that is written to it.
    let _ = write!(out, "{number:.*e}", DIGITS as usize - 1);
    let Some(e) = out.iter().rposition(|byte| *byte == b'e').filter(|e| *e > start) else { return };
    let exponent = out.get(e + 1..).and_then(parse_integer).unwrap_or_default() as i32;
    out.truncate(e);
    if (-4..DIGITS).contains(&exponent) {
        out.truncate(start);
        let _ = write!(out, "{number:.*}", (DIGITS - 1 - exponent) as usize);
        trim_zeros(start, out);
    } else {
        trim_zeros(start, out);
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "e{sign}{:02}", exponent.unsigned_abs());
    }
}

/// Takes the zeros off the end of a fraction, and the point if nothing is behind it.
fn trim_zeros(start: usize, out: &mut Vec<u8>) {
    let Some(fraction) = out.get(start..).and_then(|text| text.iter().position(|byte| *byte == b'.')) else {
        return;
    };
    let point = start + fraction;
    while out.last() == Some(&b'0') {
        out.pop();
    }
    if out.len() == point + 1 {
        out.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(number: f64) -> String {
        let mut out = Vec::new();
        write_double(number, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_number_is_written_as_c_writes_it_with_17_digits() {
        for (number, expected) in [
            ("3.14", "3.1400000000000001"),
            ("0.1", "0.10000000000000001"),
            ("1e+17", "1e+17"),
            ("1e+16", "10000000000000000"),
            ("1.2345678901234568e+17", "1.2345678901234568e+17"),
            ("1e-05", "1.0000000000000001e-05"),
            ("0.0001", "0.0001"),
            ("0.00012345", "0.00012344999999999999"),
            ("1e+20", "1e+20"),
            ("-0.0", "-0"),
            ("5.0", "5"),
            ("-7.0", "-7"),
            ("1e+300", "1.0000000000000001e+300"),
            ("2.5e-310", "2.5000000000000171e-310"),
            ("5e-324", "4.9406564584124654e-324"),
            ("1.7976931348623157e+308", "1.7976931348623157e+308"),
            ("0.3", "0.29999999999999999"),
            ("100000.0", "100000"),
            ("1e+22", "1e+22"),
            ("17179869184.5", "17179869184.5"),
            ("9007199254740991.0", "9007199254740991"),
            ("9007199254740992.0", "9007199254740992"),
            ("9007199254740992.0", "9007199254740992"),
            ("-9007199254740994.0", "-9007199254740994"),
            ("9.999999999999998e+16", "99999999999999984"),
            ("1e+17", "1e+17"),
            ("0.5", "0.5"),
            ("0.25", "0.25"),
            ("0.3333333333333333", "0.33333333333333331"),
            ("0.6666666666666666", "0.66666666666666663"),
            ("-1.1", "-1.1000000000000001"),
            ("1000000000000000.2", "1000000000000000.2"),
            ("1.2345678901234568e+16", "12345678901234568"),
            ("9.999999999999999e-05", "9.9999999999999991e-05"),
            ("0.0001", "0.0001"),
            ("1e-07", "9.9999999999999995e-08"),
            ("6.02214076e+23", "6.0221407599999999e+23"),
            ("-2.5e-08", "-2.4999999999999999e-08"),
            ("inf", "inf"),
            ("-inf", "-inf"),
            ("nan", "nan"),
            ("-nan", "nan"),
        ] {
            assert_eq!(written(number.parse().unwrap()), expected, "{number}");
        }
    }

    #[test]
    fn a_number_that_was_written_is_the_same_when_it_is_read() {
        // Steps through all exponents and many fractions; Miri is too slow for as many.
        let steps = if cfg!(miri) { 20 } else { 20_000_u64 };
        for step in 0..steps {
            let number = f64::from_bits(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            if number.is_finite() {
                assert_eq!(written(number).parse::<f64>().unwrap().to_bits(), number.to_bits());
            }
        }
    }
}
