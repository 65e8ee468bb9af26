//! Tells the linker where libtorch lies, so that the trainer finds it at run time without an environment variable, and
//! compiles the C++ of our own operations.

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
    compile(&Path::new(&include).join("include"));
}

/// Compiles our few C++ files: what libtorch's C++ has and tch does not reach.
fn compile(include: &Path) {
    const FOLDER: &str = "src/backend/libtorch";
    println!("cargo::rerun-if-changed={FOLDER}");
    let x86 = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|architecture| architecture == "x86_64");
    let mut operations = cc::Build::new();
    operations
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .include(include.join("torch/csrc/api/include"))
        .include(include)
        .warnings(false)
        .flag("-ffp-contract=off")
        .file(format!("{FOLDER}/adam.cpp"))
        .file(format!("{FOLDER}/context.cpp"))
        .file(format!("{FOLDER}/memory.cpp"))
        .file(format!("{FOLDER}/norm_relu.cpp"));
    if x86 {
        operations.define("CETERIS_X86", None);
    }
    operations.compile("ceteris_operations");
    // One copy of the kernels for each instruction set that libtorch dispatches to.
    let all: &[(&str, &[&str])] = if x86 {
        &[
            ("scalar", &[]),
            ("avx2", &["-mavx2", "-mfma"]),
            ("avx512", &["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mprefer-vector-width=512"]),
        ]
    } else {
        &[("scalar", &[])]
    };
    for (capability, flags) in all {
        let mut kernels = cc::Build::new();
        kernels.cpp(true).std("c++17").opt_level(3).flag("-ffp-contract=off").define("CETERIS_CAPABILITY", *capability);
        for flag in *flags {
            kernels.flag(flag);
        }
        kernels.file(format!("{FOLDER}/kernels.cpp")).compile(&format!("ceteris_kernels_{capability}"));
    }
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
