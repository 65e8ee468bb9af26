//! How much memory a GPU has (`memory.cpp`).

use std::ffi::{c_int, c_ulonglong};

#[allow(unsafe_code)]
unsafe extern "C" {
    fn ceteris_gpu_memory(index: c_int) -> c_ulonglong;
}

/// The bytes of the GPU that libtorch counts as `index`; none where the driver does not say.
#[allow(unsafe_code)]
pub(in crate::backend) fn of_gpu(index: usize) -> Option<u64> {
    let index = c_int::try_from(index).ok()?;
    // SAFETY: the function takes any number and only asks the driver.
    Some(unsafe { ceteris_gpu_memory(index) }).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_is_not_there_has_no_memory() {
        assert_eq!(of_gpu(4096), None);
        assert_eq!(of_gpu(usize::MAX), None);
    }

    #[test]
    fn a_gpu_that_is_there_has_some() {
        if tch::Cuda::device_count() > 0 {
            assert!(of_gpu(0).is_some_and(|bytes| bytes > 1 << 30));
        } else {
            eprintln!("skipped: a_gpu_that_is_there_has_some needs a GPU");
        }
    }
}
