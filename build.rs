//! Compiles the C++ side of the border against the libtorch that torch-sys found, and embeds the CUDA sources.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_TORCH").is_some() {
        compile_cpp();
        embed_kernels();
    }
}

fn compile_cpp() {
    let libtorch = PathBuf::from(env::var_os("DEP_TCH_LIBTORCH_LIB").expect("torch-sys names the folder of libtorch"));
    let include = libtorch.parent().expect("libtorch lies in torch/lib").join("include");
    let sources = files_below("src/torch", "cpp");
    println!("cargo:rerun-if-changed=src/torch");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .files(sources)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .flag("-Wno-unused-parameter")
        // torch's own headers are not free of warnings; ours are checked by `make lint`.
        .warnings(false)
        // TORCH_LIBRARY registers in static initialisers, which the linker would drop as unreferenced.
        .link_lib_modifier("+whole-archive")
        .compile("avatorch_border");
    // An installed package finds libtorch beside itself, whatever was imported first; Rust programs, where it is now.
    let rpath = match env::var_os("CARGO_FEATURE_PYTHON") {
        Some(_) => "$ORIGIN/../torch/lib".into(),
        None => libtorch.display().to_string(),
    };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{rpath}");
}

/// Writes `SOURCES`, every file of `kernels/` by its name there, to be given to NVRTC from memory.
fn embed_kernels() {
    println!("cargo:rerun-if-changed=kernels");
    let root = fs::canonicalize("kernels").expect("kernels/ is part of the package");
    let mut files = files_below("kernels", "cu");
    files.extend(files_below("kernels", "cuh"));
    files.sort();
    let mut table = String::from("pub(super) static SOURCES: &[(&str, &str)] = &[\n");
    for file in files {
        let name = file.strip_prefix("kernels").expect("found below kernels/").to_str().expect("names are ASCII");
        let path = root.join(name);
        writeln!(table, "    ({name:?}, include_str!({:?})),", path.to_str().expect("paths are UTF-8"))
            .expect("text grows in memory");
    }
    table += "];\n";
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("kernels.rs"), table).expect("OUT_DIR is writable");
}

fn files_below(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(folder).to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a source folder can be listed") {
            let path = entry.expect("a source file can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
