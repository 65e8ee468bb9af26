//! How glibc's allocator deals with the large blocks that every step frees and asks for again. None of it changes a
//! result.
//!
//! By default such a block goes back to the kernel when it is freed and has each page cleared when it is asked for
//! again, which costs a step a good share of its time. Kept on the heap it costs nothing, but leaves gaps: so where
//! memory is short, large blocks go back, and only the others are kept.

/// Blocks of this size and more are the kernel's where memory is short.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 4 << 20;
/// Free memory at the end of the heap that is kept.
#[cfg(target_env = "gnu")]
const KEPT: i32 = i32::MAX;

/// Keeps freed blocks for the next step, or, where `low_memory`, returns large ones.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn suit(low_memory: bool) {
    // SAFETY: mallopt and malloc_trim may be called at any time by any thread; a setting that glibc does not take is
    // ignored and only costs time.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        if low_memory {
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
pub fn suit(_low_memory: bool) {}
