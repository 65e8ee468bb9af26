//! Concatenation, normalisation, ReLU and convolution as one operation under libtorch's autograd (`norm_relu.cpp`), for
//! activations on the processor whose channels lie next to each other.

use std::ffi::{CStr, c_char, c_int, c_void};

use tch::Tensor;

use super::operations::{Libtorch, Pass};
use crate::model::{EPSILON, MOMENTUM, Mode, Norm};

#[allow(unsafe_code)]
unsafe extern "C" {
    fn ceteris_norm_relu_convolution(
        out: *mut *mut c_void,
        inputs: *const *const c_void,
        count: usize,
        weight: *const c_void,
        bias: *const c_void,
        mean: *const c_void,
        variance: *const c_void,
        kernel: *const c_void,
        training: c_int,
        updates: c_int,
        momentum: f64,
        epsilon: f64,
        padding: i64,
        reason: *mut c_char,
        length: usize,
    ) -> c_int;
}

/// ReLU of the normalised concatenation of `inputs`, convolved with `kernel` (its weight and padding) if there is one.
///
/// # Panics
/// When libtorch reports an error, as tch's own operations do.
#[allow(unsafe_code)]
pub(super) fn norm_relu_convolution(
    o: &Libtorch,
    inputs: &[&Tensor],
    norm: Norm<'_, Tensor>,
    kernel: Option<(&Tensor, usize)>,
) -> Tensor {
    let pointers: Vec<*const c_void> = inputs.iter().map(|tensor| tensor.as_ptr().cast()).collect();
    let raw = |tensor: &Tensor| -> *const c_void { tensor.as_ptr().cast() };
    let training = o.mode == Mode::Training;
    let mut out = std::ptr::null_mut();
    let mut reason = [0; 1024];
    // SAFETY: tch's tensors are pointers to C++ tensors, alive during the call; the function writes one new tensor to
    // `out` on success, a text with its final zero within the given length otherwise, and keeps no pointer.
    let code = unsafe {
        ceteris_norm_relu_convolution(
            &raw mut out,
            pointers.as_ptr(),
            pointers.len(),
            raw(norm.weight),
            raw(norm.bias),
            raw(norm.mean),
            raw(norm.variance),
            kernel.map_or(std::ptr::null(), |(weight, _)| raw(weight)),
            training.into(),
            (o.pass == Pass::First).into(),
            MOMENTUM,
            EPSILON,
            kernel.map_or(0, |(_, padding)| padding as i64),
            reason.as_mut_ptr(),
            reason.len(),
        )
    };
    // SAFETY: as above; the array is zeroed and its last byte stays so.
    assert!(code == 0, "{}", unsafe { CStr::from_ptr(reason.as_ptr()) }.to_string_lossy());
    // SAFETY: the pointer is a new C++ tensor that nobody else owns.
    unsafe { Tensor::from_ptr(out.cast()) }
}
