//! Requests as a client writes them.

use super::number::write_integer;

/// Appends a request of these arguments, the command first.
pub fn encode_request<A: AsRef<[u8]>>(
    args: impl IntoIterator<Item = A, IntoIter: ExactSizeIterator>,
    out: &mut Vec<u8>,
) {
    let args = args.into_iter();
    out.push(b'*');
    write_integer(args.len() as i64, out);
    out.extend_from_slice(b"\r\n");
    for arg in args {
        let arg = arg.as_ref();
        out.push(b'$');
        write_integer(arg.len() as i64, out);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}
