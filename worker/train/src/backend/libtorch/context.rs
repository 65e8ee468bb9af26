//! How libtorch computes, for the whole process (`context.cpp`).

use std::ffi::{CStr, c_char, c_int};

#[allow(unsafe_code)]
unsafe extern "C" {
    fn ceteris_set_context(deterministic: c_int, tf32: c_int, reason: *mut c_char, length: usize) -> c_int;
}

/// Settings that libtorch keeps for the whole process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) struct Context {
    /// Kernels that give the same bits every time, where there are any.
    pub deterministic: bool,
    /// fp32 products from 10-bit mantissas, where a device can.
    pub tf32: bool,
}

impl Context {
    /// Makes libtorch keep to it.
    ///
    /// # Errors
    /// What libtorch says where it refuses.
    #[allow(unsafe_code)]
    pub fn set(self) -> Result<(), String> {
        let mut reason = [0; 512];
        // SAFETY: the function writes a text with its final zero within the length it is given, catches every exception,
        // and keeps no pointer.
        let code = unsafe {
            ceteris_set_context(self.deterministic.into(), self.tf32.into(), reason.as_mut_ptr(), reason.len())
        };
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the array is zeroed and the function keeps its last byte so.
        Err(unsafe { CStr::from_ptr(reason.as_ptr()) }.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_takes_the_settings() {
        for tf32 in [true, false] {
            assert_eq!(Context { deterministic: true, tf32 }.set(), Ok(()));
        }
    }
}
