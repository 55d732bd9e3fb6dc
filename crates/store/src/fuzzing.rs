//! What fuzz targets need to see of a store, and nobody else: only there with `--cfg fuzzing`.

use xferd_wire::Run;

use crate::journal::{self, Recorded, SourceVersion};
use crate::runs::Runs;

/// The bytes of the journal of `file_name` with these records, which need not make sense.
pub fn encode_journal(
    file_name: &str,
    version: &SourceVersion,
    boot: Option<[u8; 16]>,
    records: &[Run],
) -> Vec<u8> {
    journal::encode(file_name, version, boot, records)
}

/// What the bytes of a journal say is there, to whoever runs in the run `boot` of the machine. `None` if it is not the
/// journal of that file and version, or cannot be believed.
pub fn read_journal(
    bytes: &[u8],
    file_name: &str,
    version: &SourceVersion,
    boot: Option<[u8; 16]>,
) -> Option<Runs> {
    Recorded::parse(bytes, file_name, version, boot).and_then(|recorded| recorded.all().ok())
}
