//! Buffers that go back where they came from. A batch of 32 images has 19 MB: asked from the system anew, its pages cost
//! more than what is written into them.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
};

/// Buffers that wait to be used again; more are given back to the system.
const KEPT: usize = 16;

/// Where buffers come from. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Pool(Arc<Mutex<Vec<Vec<f32>>>>);

/// Numbers that go back to their pool when they are dropped.
pub struct Buffer {
    /// As long as it ever was, so that growing again writes nothing.
    values: Vec<f32>,
    length: usize,
    pool: Pool,
}

impl Pool {
    /// A buffer of `length` numbers, which are what they were when it was last used.
    pub fn take(&self, length: usize) -> Buffer {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = kept.iter().position(|values| values.len() >= length);
        let values = fits.map(|index| kept.swap_remove(index));
        drop(kept);
        // A new one comes zeroed from the system, page by page when it is written.
        let values = values.unwrap_or_else(|| vec![0.0; length]);
        Buffer { values, length, pool: self.clone() }
    }

    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Buffer {
    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.length]
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut kept = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(std::mem::take(&mut self.values));
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} values)", self.length)
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again() {
        let pool = Pool::default();
        let place = pool.take(100).as_ptr();
        assert_eq!(pool.waiting(), 1);
        let (again, other) = (pool.take(60), pool.take(10));
        assert_eq!((again.as_ptr(), again.len(), other.len()), (place, 60, 10));
        drop((again, other));
        assert_eq!(pool.waiting(), 2);
        let many: Vec<Buffer> = (0..2 * KEPT).map(|_| pool.take(10)).collect();
        drop(many);
        assert_eq!(pool.waiting(), KEPT);
    }
}
