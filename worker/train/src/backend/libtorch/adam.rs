//! Adam's direction in one pass over memory, on the processor (`adam.cpp`).

use std::ffi::{CStr, c_char, c_int, c_void};

use burn_tch::TchTensor;

#[allow(unsafe_code)]
unsafe extern "C" {
    fn ceteris_adam(
        first: *const c_void,
        second: *const c_void,
        gradient: *const c_void,
        beta1: f64,
        beta2: f64,
        epsilon: f64,
        correction: f64,
        reason: *mut c_char,
        length: usize,
    ) -> c_int;
}

/// The numbers of one step: the decay rates, epsilon, and the root of what the second moment falls short by.
#[derive(Clone, Copy, Debug)]
pub(in crate::backend) struct Rates {
    pub betas: [f64; 2],
    pub epsilon: f64,
    pub correction: f64,
}

/// Updates `first` and `second` and turns `gradient` into the direction, in place. None, with everything as it was, where
/// burn has other owners of their memory or they are not the processor's.
///
/// # Panics
/// When libtorch reports an error, as tch's own operations do.
#[allow(unsafe_code)]
pub(super) fn direction(first: &TchTensor, second: &TchTensor, gradient: &TchTensor, rates: Rates) -> Option<()> {
    let ours = |tensor: &&TchTensor| {
        tensor.can_mut() && tensor.tensor.device() == tch::Device::Cpu && tensor.tensor.is_contiguous()
    };
    [first, second, gradient].iter().all(ours).then_some(())?;
    let raw = |tensor: &TchTensor| -> *const c_void { tensor.tensor.as_ptr().cast() };
    let mut reason = [0; 512];
    // SAFETY: tch's tensors are pointers to C++ tensors, alive during the call, and nobody else holds their memory; the
    // function checks their kinds, writes a text with its final zero within the given length, and keeps no pointer.
    let code = unsafe {
        ceteris_adam(
            raw(first),
            raw(second),
            raw(gradient),
            rates.betas[0],
            rates.betas[1],
            rates.epsilon,
            rates.correction,
            reason.as_mut_ptr(),
            reason.len(),
        )
    };
    // SAFETY: as above; the array is zeroed and its last byte stays so.
    assert!(code == 0, "{}", unsafe { CStr::from_ptr(reason.as_ptr()) }.to_string_lossy());
    Some(())
}
