//! Which run of the machine this is.

/// A number that is another one after each start of the machine. `None` where the system has none (random(4): Linux has).
pub fn boot_id() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_run_of_the_machine_has_one_number() {
        assert_eq!(super::boot_id(), super::boot_id());
        assert!(super::boot_id().is_none_or(|id| id != [0; 16]));
    }
}
