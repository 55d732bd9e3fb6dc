//! Numbers with a fraction as Redis reads them.

/// A number as [`parse_c_float`] reads it, unless it is too large or too small to be told from infinity or zero.
pub(crate) fn parse_float(bytes: &[u8]) -> Option<f64> {
    let value = parse_c_float(bytes)?;
    let mut mantissa = bytes.iter().take_while(|byte| !matches!(byte, b'e' | b'E'));
    let is_out_of_range = if value.is_infinite() {
        bytes.iter().any(u8::is_ascii_digit)
    } else {
        value == 0.0 && mantissa.any(|byte| matches!(byte, b'1'..=b'9'))
    };
    (!is_out_of_range).then_some(value)
}

/// A number with a fraction or an exponent, or infinity, as C reads one (strtod(3)), without blanks around it.
pub(crate) fn parse_c_float(bytes: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number = text.trim_start_matches(['+', '-']);
    // Rust takes neither hexadecimal ones nor two signs, C no "infinit".
    if text.len() - number.len() > 1 {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    (!value.is_nan()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_read_as_c_does() {
        for (text, number) in [
            ("1", 1.0),
            ("-1.5", -1.5),
            ("1e3", 1000.0),
            ("+.5", 0.5),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
        ] {
            assert_eq!(parse_float(text.as_bytes()), Some(number), "{text}");
        }
        for (text, number) in [("1e400", f64::INFINITY), ("-1e400", f64::NEG_INFINITY), ("1e-400", 0.0)] {
            assert_eq!(parse_c_float(text.as_bytes()), Some(number), "{text}");
            assert_eq!(parse_float(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_float(b"0e400"), Some(0.0));
        for text in ["", " 1", "1 ", "nan", "-+1", "1x", "--1"] {
            assert_eq!(parse_float(text.as_bytes()), None, "{text}");
        }
    }
}
