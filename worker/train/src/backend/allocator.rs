//! How glibc's allocator deals with the large blocks that every step frees and asks for again. None of it changes a
//! result.
//!
//! By default such a block goes back to the kernel when it is freed and has each page cleared when it is asked for
//! again, which costs a step a good share of its time. Kept on the heap it costs nothing, but leaves gaps. So blocks are
//! kept, unless everything that saves memory is asked for at once, little memory and narrow numbers: then large ones go back.

use super::Compute;
#[cfg(target_env = "gnu")]
use super::Float;

/// Blocks of this size and more are the kernel's where large ones go back.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 4 << 20;
/// Free memory at the end of the heap that is kept.
#[cfg(target_env = "gnu")]
const KEPT: i32 = i32::MAX;

/// Keeps freed blocks for the next step, or returns large ones, as suits how a network is computed.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn suit(compute: Compute) {
    let smallest = compute.low_memory && compute.float == Float::Bf16;
    // SAFETY: mallopt and malloc_trim may be called at any time by any thread; a setting that glibc does not take is
    // ignored and only costs time.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        if smallest {
            libc::mallopt(libc::M_MMAP_MAX, 65_536);
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 32 * LARGE);
            libc::malloc_trim(0);
        } else {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        }
    }
}

/// Other allocators are left alone.
#[cfg(not(target_env = "gnu"))]
pub fn suit(_compute: Compute) {}
