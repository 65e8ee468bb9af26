//! Compiles the `.proto` files without `protoc`; the generated code stays in `OUT_DIR`.

use std::{env, fs, path::PathBuf};

use protox::prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=ceteris");
    let descriptors = protox::compile(["ceteris/v1/coordinator.proto", "ceteris/v1/fleet.proto"], ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
