//! Numbers with a fraction, as INCRBYFLOAT adds them.

use std::fmt;

use xferd_wire::resp::parse_integer;

use crate::number::parse_float;

/// A number in units of 10⁻¹⁷, as many decimals as Redis prints: it adds them as 80-bit floats and then rounds to so many, which
/// for what people count comes to the same. Beyond what fits it is a float of 64 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Decimal {
    Fixed(i128),
    Float(f64),
}

const DECIMALS: usize = 17;
const ONE: i128 = 10_i128.pow(DECIMALS as u32);
/// Digits before the point that are fixed: an 80-bit float has 19 in all.
const WHOLE_DIGITS_MAX: usize = 19;

impl Default for Decimal {
    fn default() -> Self {
        Self::Fixed(0)
    }
}

impl Decimal {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        match fixed(bytes) {
            Some(number) => Some(Self::Fixed(number)),
            None => parse_float(bytes).map(Self::Float),
        }
    }

    /// The sum, if it is a number.
    pub(crate) fn plus(self, other: Self) -> Option<Self> {
        if let (Self::Fixed(a), Self::Fixed(b)) = (self, other) {
            return Some(Self::Fixed(a + b));
        }
        let sum = self.to_f64() + other.to_f64();
        sum.is_finite().then_some(Self::Float(sum))
    }

    fn to_f64(self) -> f64 {
        match self {
            Self::Fixed(number) => number as f64 / ONE as f64,
            Self::Float(number) => number,
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(number) => {
                let sign = if *number < 0 { "-" } else { "" };
                let (whole, fraction) =
                    (number.unsigned_abs() / ONE as u128, number.unsigned_abs() % ONE as u128);
                let fraction = format!("{fraction:0DECIMALS$}");
                let fraction = fraction.trim_end_matches('0');
                let point = if fraction.is_empty() { "" } else { "." };
                write!(formatter, "{sign}{whole}{point}{fraction}")
            }
            Self::Float(number) => {
                let text = format!("{number:.DECIMALS$}");
                formatter.write_str(text.trim_end_matches('0').trim_end_matches('.'))
            }
        }
    }
}

/// A number that has neither too many digits before the point nor after it.
fn fixed(bytes: &[u8]) -> Option<i128> {
    let (negative, number) = match bytes {
        [b'-', number @ ..] => (true, number),
        [b'+', number @ ..] => (false, number),
        number => (false, number),
    };
    let mut parts = number.splitn(2, |byte| byte.eq_ignore_ascii_case(&b'e'));
    let (number, exponent) = (parts.next()?, parts.next());
    let exponent = match exponent {
        None => 0,
        Some([b'+', digits @ ..]) => parse_integer(digits).filter(|_| !digits.starts_with(b"-"))?,
        Some(text) => parse_integer(text)?,
    };
    let mut parts = number.splitn(2, |byte| *byte == b'.');
    let (whole, fraction) = (parts.next()?, parts.next().unwrap_or_default());
    if whole.len() + fraction.len() == 0 || whole.len() > WHOLE_DIGITS_MAX || fraction.len() > DECIMALS {
        return None;
    }
    let digits_before = (whole.len() as i64).checked_add(exponent)?;
    let digits_behind = (fraction.len() as i64).checked_sub(exponent)?;
    if digits_before > WHOLE_DIGITS_MAX as i64 || digits_behind > DECIMALS as i64 {
        return None;
    }
    let mut value = 0_i128;
    for digit in whole.iter().chain(fraction) {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i128::from(digit - b'0');
    }
    value *= 10_i128.pow((DECIMALS as i64 - digits_behind) as u32);
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        Some(Decimal::parse(a.as_bytes())?.plus(Decimal::parse(b.as_bytes())?)?.to_string())
    }

    #[test]
    fn sums_have_the_digits_that_people_expect() {
        for (a, b, expected) in [
            ("10.50", "0.1", "10.6"),
            ("0.1", "0.2", "0.3"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "-3", "0"),
            ("-0.5", "0.25", "-0.25"),
            ("1", "1.25", "2.25"),
            (".5", "5.", "5.5"),
            ("1e20", "1", "100000000000000000000"),
            ("1e2", "0.1", "100.1"),
            ("1.5e+1", "25E-2", "15.25"),
            ("9223372036854775807", "1e2", "9223372036854775907"),
        ] {
            assert_eq!(sum(a, b).as_deref(), Some(expected), "{a} + {b}");
        }
    }

    #[test]
    fn what_is_no_number_is_not_added() {
        for (a, b) in [
            ("", "1"),
            (".", "1"),
            ("1e", "1"),
            ("e1", "1"),
            ("1e+-1", "1"),
            ("x", "1"),
            ("1", " 1"),
            ("1", "nan"),
            ("inf", "1"),
            ("1e308", "1e309"),
        ] {
            assert_eq!(sum(a, b), None, "{a} + {b}");
        }
    }
}
