//! Compiles the C++ side of the border against the libtorch that torch-sys found.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_TORCH").is_some() {
        compile_cpp();
    }
}

fn compile_cpp() {
    let libtorch = PathBuf::from(env::var_os("DEP_TCH_LIBTORCH_LIB").expect("torch-sys names the folder of libtorch"));
    let include = libtorch.parent().expect("libtorch lies in torch/lib").join("include");
    let mut sources: Vec<_> = fs::read_dir("src/torch")
        .expect("src/torch is part of the package")
        .map(|entry| entry.expect("a source file can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cpp"))
        .collect();
    sources.sort();
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
