/// Has the processor fetch what is at `address` into its cache while it goes on, if it can be told to.
///
/// Nothing is read by the program: any address will do, and a wrong one only wastes the fetch.
#[inline]
pub fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction neither faults nor changes anything, whatever the address is; every processor of this kind has it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
