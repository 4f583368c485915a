//! What every target does with an open file.

use avatorch::model::source::Source;

/// Deflate and sparse matrices grow; the model reader refuses what grows further, and so does the fuzzer.
const MAX_GROWTH: usize = 1 << 20;

/// Reads every array whose header is good: the data must be what the header says.
pub fn read_all(source: &dyn Source, file_size: usize) {
    for key in source.keys() {
        let Ok(Some(header)) = source.header(&key) else { continue };
        if header.byte_len().is_none_or(|length| length > MAX_GROWTH + 16 * file_size) {
            continue;
        }
        if let Ok(data) = source.data(&key) {
            let numeric = header.kind.size() > 0;
            assert!(!numeric || header.byte_len() == Some(data.len()), "{key}: {header:?}, {} bytes", data.len());
        }
    }
}
