//! Patterns as KEYS, SCAN and PSUBSCRIBE have them.

/// Whether `name` is what `pattern` describes: `?` is any byte, `*` any number of them, `[a-c]` one of those, `[^a]` any
/// other, and `\` takes the meaning from what follows. Takes time in proportion to both lengths, multiplied, whatever the
/// pattern.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    // Where to go on if what follows the last `*` does not match: it takes a byte more then. An earlier one need not be
    // tried again.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            pattern = rest;
            if rest.is_empty() {
                return true;
            }
            retry = Some((rest, name));
            continue;
        }
        match (step(pattern, name), name) {
            (Some(rest), [_, after @ ..]) => (pattern, name) = (rest, after),
            _ if pattern.is_empty() && name.is_empty() => return true,
            _ => match retry {
                Some((after_star, [_, shorter @ ..])) => {
                    retry = Some((after_star, shorter));
                    (pattern, name) = (after_star, shorter);
                }
                _ => return false,
            },
        }
    }
}

/// What is left of the pattern if its first element is the first byte of `name`.
fn step<'p>(pattern: &'p [u8], name: &[u8]) -> Option<&'p [u8]> {
    let byte = *name.first()?;
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => {
            let (matched, rest) = class(rest, byte);
            matched.then_some(rest)
        }
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte).then_some(rest),
    }
}

/// Whether `byte` is of the class, and what follows it. One that is not closed ends with the pattern.
fn class(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    let (negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut matched = false;
    loop {
        rest = match rest {
            [] => return (matched != negated, rest),
            [b']', rest @ ..] => return (matched != negated, rest),
            [b'\\', literal, rest @ ..] => {
                matched |= *literal == byte;
                rest
            }
            [from, b'-', to, rest @ ..] => {
                matched |= (*from.min(to)..=*from.max(to)).contains(&byte);
                rest
            }
            [literal, rest @ ..] => {
                matched |= *literal == byte;
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_describe_names() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "anything", true),
            ("", "", true),
            ("", "a", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h*llo", "hllo", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h[a-b]llo", "hcllo", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("[\\]]", "]", true),
            ("[a", "a", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("**x", "x", true),
            ("a\\", "a\\", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_is_soon_done() {
        assert!(!matches("a*".repeat(500).as_bytes(), "a".repeat(499).as_bytes()));
        assert!(matches("a*".repeat(500).as_bytes(), "a".repeat(50_000).as_bytes()));
        assert!(!matches(format!("{}b", "a*".repeat(500)).as_bytes(), "a".repeat(5_000).as_bytes()));
    }
}
