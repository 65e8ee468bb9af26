//! What results computed here depend on, besides what was asked for.

use ceteris_shared::{checkpoint::Environment, lineage};

/// On burn's own kernels. They are part of this program, so the engine's version covers theirs; and they run on the
/// thread that trains, whatever was asked for.
#[cfg(feature = "flex")]
pub(super) fn of_flex() -> Environment {
    Environment {
        engine: lineage::ENGINE.to_owned(),
        libtorch: "none".to_owned(),
        device: "flex".to_owned(),
        instructions: if has_avx2() { "AVX2" } else { "DEFAULT" }.to_owned(),
        threads: 1,
        determinism: "deterministic".to_owned(),
    }
}

/// On libtorch, whose version this is, by this thread; `gpu` is the place of a GPU.
#[cfg(feature = "libtorch")]
pub(super) fn of_libtorch(version: &str, gpu: Option<usize>, threads: u32) -> Environment {
    Environment {
        engine: lineage::ENGINE.to_owned(),
        libtorch: version.to_owned(),
        device: match gpu {
            None => "cpu".to_owned(),
            Some(index) => gpu_model(index).unwrap_or_else(|| "cuda".to_owned()),
        },
        instructions: instructions(std::env::var("ATEN_CPU_CAPABILITY").ok().as_deref()).to_owned(),
        threads,
        determinism: "deterministic".to_owned(),
    }
}

/// Whether the processor has AVX2 and FMA, which libtorch's kernels and burn's are both made for.
fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// The instruction set that libtorch's own kernels are dispatched to, by its rule (`aten/src/ATen/native/DispatchStub.cpp`);
/// `wish` is its environment variable ATEN_CPU_CAPABILITY.
#[cfg(feature = "libtorch")]
fn instructions(wish: Option<&str>) -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        let avx512 = has_avx2()
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq");
        match wish {
            Some("default") => "DEFAULT",
            Some("avx2") => "AVX2",
            Some("avx512") => "AVX512",
            _ if avx512 => "AVX512",
            _ if has_avx2() => "AVX2",
            _ => "DEFAULT",
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = wish;
        "DEFAULT"
    }
}

/// The model name that the NVIDIA driver tells, where it counts GPUs as this process does.
#[cfg(feature = "libtorch")]
fn gpu_model(index: usize) -> Option<String> {
    if std::env::var_os("CUDA_VISIBLE_DEVICES").is_some() {
        return None;
    }
    let mut folders: Vec<_> =
        std::fs::read_dir("/proc/driver/nvidia/gpus").ok()?.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    let text = std::fs::read_to_string(folders.get(index)?.join("information")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Model:")).map(|model| model.trim().to_owned())
}

#[cfg(all(test, feature = "libtorch"))]
mod tests {
    use super::*;

    #[test]
    fn a_wish_decides_the_instruction_set() {
        if cfg!(target_arch = "x86_64") {
            assert_eq!(instructions(Some("default")), "DEFAULT");
            assert_eq!(instructions(Some("avx2")), "AVX2");
        }
    }
}
