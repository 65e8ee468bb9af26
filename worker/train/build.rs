//! Tells the linker where libtorch lies, so that the trainer finds it at run time without an environment variable, and
//! compiles the few lines that set what libtorch keeps for the whole process.

use std::{env, fs, path::Path};

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    println!("cargo::rerun-if-env-changed=LIBTORCH_INCLUDE");
    if env::var_os("CARGO_FEATURE_LIBTORCH").is_none() {
        return;
    }
    let Some(root) = env::var_os("LIBTORCH").filter(|root| !root.is_empty()) else {
        println!("cargo::error=LIBTORCH is not set, so there is no libtorch to link: run `cargo xtask setup` once");
        return;
    };
    let library = Path::new(&root).join("lib");
    if !library.join("libtorch_cpu.so").is_file() {
        println!(
            "cargo::error=there is no libtorch_cpu.so in {}: run `cargo xtask setup`, or set LIBTORCH to a libtorch",
            library.display()
        );
        return;
    }
    // First beside the program, so that an installed trainer can carry its own libtorch; then the one of this build.
    println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", library.display());
    println!("cargo::rustc-env=CETERIS_LIBTORCH_VERSION={}", version(Path::new(&root)));
    let include = env::var_os("LIBTORCH_INCLUDE").filter(|root| !root.is_empty()).unwrap_or(root);
    const CONTEXT: &str = "src/backend/libtorch/context.cpp";
    println!("cargo::rerun-if-changed={CONTEXT}");
    let include = Path::new(&include).join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(include.join("torch/csrc/api/include"))
        .include(include)
        .flag_if_supported("-Wno-unused-parameter")
        .file(CONTEXT)
        .compile("ceteris_context");
}

/// The version that libtorch's archive (`build-version`) or PyTorch's package (`version.py`) states.
fn version(root: &Path) -> String {
    let read = |name: &str| {
        let path = root.join(name);
        println!("cargo::rerun-if-changed={}", path.display());
        fs::read_to_string(path).ok()
    };
    let stated = read("build-version").or_else(|| {
        let module = read("version.py")?;
        let line = module.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
        Some(line.trim_matches(['\'', '"']).to_owned())
    });
    stated.map_or_else(|| "unknown".to_owned(), |version| version.trim().to_owned())
}
