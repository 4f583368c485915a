//! Compiled kernels on disk. An entry is one file, written beside its place and renamed into it, so that any number of
//! processes may write at once; one that is torn, foreign or from another version is not read but built again.
//!
//! ```text
//! magic | sha256 of the rest | key | number of symbols | each symbol: length, text | cubin        (lengths: u64, little endian)
//! ```

use std::path::{Path, PathBuf};
use std::{env, fs, process};

use sha2::{Digest, Sha256};

use super::compile::{self, Compiled};
use super::sources::SOURCES;
use crate::Result;

const MAGIC: &[u8; 16] = b"avatorch-cubin-2";

/// Where entries lie: `$AVATORCH_CACHE_DIR`, else `avatorch` in `$XDG_CACHE_HOME` or `~/.cache`.
pub(crate) fn folder() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("AVATORCH_CACHE_DIR")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("avatorch")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/avatorch")))
}

/// The cubin of `kernels/{file}` for an architecture: from disk, or compiled and put there.
pub(super) fn cubin(file: &str, kernels: &[&str], arch: &str) -> Result<Compiled> {
    let key = key(file, kernels, arch)?;
    let name = key.iter().take(12).fold(String::new(), |name, byte| format!("{name}{byte:02x}"));
    let stem = Path::new(file).file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let path = folder().map(|folder| folder.join(format!("{stem}-{arch}-{name}.cubin")));
    let found = path.as_ref().and_then(|path| fs::read(path).ok()).and_then(|bytes| decode(&bytes, &key));
    if let Some(found) = found.filter(|found| found.symbols.len() == kernels.len()) {
        return Ok(found);
    }
    let compiled = compile::compile(file, kernels, arch)?;
    if let Some(path) = path {
        // A folder that cannot be written costs the time of compiling again, nothing else.
        let _ = store(&path, &encode(&compiled, &key));
    }
    Ok(compiled)
}

/// Everything the cubin depends on. All headers count: finding the included ones is not worth a parser.
fn key(file: &str, kernels: &[&str], arch: &str) -> Result<[u8; 32]> {
    let (major, minor) = compile::version()?;
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    add(compile::source(file)?);
    for (name, text) in SOURCES.iter().filter(|(name, _)| name.ends_with(".cuh")) {
        add(name);
        add(text);
    }
    for kernel in kernels {
        add(kernel);
    }
    for option in compile::OPTIONS {
        add(&option.to_string_lossy());
    }
    add(&format!("{arch} nvrtc {major}.{minor} avatorch {}", env!("CARGO_PKG_VERSION")));
    Ok(hash.finalize().into())
}

fn encode(compiled: &Compiled, key: &[u8; 32]) -> Vec<u8> {
    let mut rest = key.to_vec();
    rest.extend((compiled.symbols.len() as u64).to_le_bytes());
    for symbol in &compiled.symbols {
        rest.extend((symbol.len() as u64).to_le_bytes());
        rest.extend(symbol.as_bytes());
    }
    rest.extend(&compiled.cubin);
    [MAGIC.as_slice(), &Sha256::digest(&rest), &rest].concat()
}

fn decode(bytes: &[u8], key: &[u8; 32]) -> Option<Compiled> {
    let (digest, rest) = bytes.strip_prefix(MAGIC)?.split_at_checked(32)?;
    if Sha256::digest(rest).as_slice() != digest {
        return None;
    }
    let mut rest = rest.strip_prefix(key)?;
    let count = take_length(&mut rest)?;
    let mut symbols = Vec::new();
    for _ in 0..count {
        let length = take_length(&mut rest)?;
        let (symbol, after) = rest.split_at_checked(length)?;
        symbols.push(String::from_utf8(symbol.to_vec()).ok()?);
        rest = after;
    }
    Some(Compiled { cubin: rest.to_vec(), symbols, log: String::new() })
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let (length, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    usize::try_from(u64::from_le_bytes(*length)).ok()
}

fn store(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let draft = path.with_extension(format!("{}-{:?}.draft", process::id(), std::thread::current().id()));
    let written = fs::write(&draft, bytes).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn entry() -> Vec<u8> {
        encode(&Compiled { cubin: vec![1, 2, 3], symbols: vec!["a".into(), "bc".into()], log: String::new() }, &KEY)
    }

    #[test]
    fn an_entry_reads_back() {
        let found = decode(&entry(), &KEY).expect("a whole entry");
        assert_eq!(found.cubin, [1, 2, 3]);
        assert_eq!(found.symbols, ["a", "bc"]);
    }

    #[test]
    fn torn_changed_and_foreign_entries_are_refused() {
        let whole = entry();
        for length in 0..whole.len() {
            assert!(decode(&whole[..length], &KEY).is_none(), "{length} bytes");
        }
        for position in 0..whole.len() {
            let mut changed = whole.clone();
            changed[position] ^= 1;
            assert!(decode(&changed, &KEY).is_none(), "byte {position}");
        }
        assert!(decode(&whole, &[8; 32]).is_none());
    }

    #[test]
    fn many_writers_leave_one_whole_entry() {
        let folder = env::temp_dir().join(format!("avatorch-cache-test-{}", process::id()));
        let path = folder.join("kernel.cubin");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..50).for_each(|_| store(&path, &entry()).expect("the folder is writable")));
            }
        });
        let left = fs::read_dir(&folder).expect("the folder exists").count();
        let read = decode(&fs::read(&path).expect("the entry exists"), &KEY);
        fs::remove_dir_all(&folder).expect("the folder is ours");
        assert!(read.is_some());
        assert_eq!(left, 1, "drafts are gone");
    }
}
