//! A tensor in someone else's file: a strided view of bytes that were not looked at yet.

use half::{bf16, f16};

use super::Error;

/// Element types that PyTorch stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }
}

/// A view of `storage`. Nothing of it was checked.
#[derive(Clone, Debug)]
pub struct Tensor<'file> {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// In elements, one for each dimension.
    pub strides: Vec<usize>,
    /// In elements.
    pub offset: usize,
    /// Little-endian elements.
    pub storage: &'file [u8],
}

impl Tensor<'_> {
    /// The elements in row-major order, as little-endian fp32. `name` is for errors only.
    ///
    /// # Errors
    /// When elements are no floating-point numbers, are not finite, or lie outside the storage.
    pub fn to_f32(&self, name: &str) -> Result<Vec<u8>, Error> {
        let read: fn(&[u8]) -> f32 = match self.dtype {
            Dtype::F64 => |b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32,
            Dtype::F32 => |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            Dtype::F16 => |b| f16::from_le_bytes([b[0], b[1]]).to_f32(),
            Dtype::Bf16 => |b| bf16::from_le_bytes([b[0], b[1]]).to_f32(),
            Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::I8 | Dtype::U8 | Dtype::Bool => {
                return Err(Error::NotFloat { name: name.to_owned(), dtype: format!("{:?}", self.dtype) });
            }
        };
        let outside = || Error::OutOfBounds(name.to_owned());
        let count = self.checked_count().ok_or_else(outside)?;
        let size = self.dtype.size();
        let mut values = Vec::with_capacity(4 * count);
        let mut position = vec![0; self.shape.len()];
        let mut at = self.offset;
        for _ in 0..count {
            let value = read(&self.storage[at * size..(at + 1) * size]);
            if !value.is_finite() {
                return Err(Error::NotFinite(name.to_owned()));
            }
            values.extend_from_slice(&value.to_le_bytes());
            for dimension in (0..position.len()).rev() {
                position[dimension] += 1;
                at += self.strides[dimension];
                if position[dimension] < self.shape[dimension] {
                    break;
                }
                at -= self.strides[dimension] * self.shape[dimension];
                position[dimension] = 0;
            }
        }
        Ok(values)
    }

    /// How many elements there are, if all lie in the storage. A view that repeats elements is refused too: it could
    /// be far larger than its file, and no state dict holds one.
    fn checked_count(&self) -> Option<usize> {
        if self.strides.len() != self.shape.len() {
            return None;
        }
        let held = self.storage.len() / self.dtype.size();
        let mut count = 1usize;
        let mut last = self.offset;
        for (length, stride) in self.shape.iter().zip(&self.strides) {
            count = count.checked_mul(*length)?;
            last = last.checked_add(length.saturating_sub(1).checked_mul(*stride)?)?;
            length.checked_mul(*stride)?.checked_add(self.offset)?;
        }
        let inside = count == 0 || (last < held && count <= held);
        inside.then_some(count)
    }
}

/// The strides of a dense row-major tensor of `shape`.
pub fn dense_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for dimension in (1..shape.len()).rev() {
        strides[dimension - 1] = strides[dimension].saturating_mul(shape[dimension]);
    }
    strides
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    #[test]
    fn a_transposed_view_is_read_in_its_own_order() {
        let storage: Vec<u8> = (0..7).flat_map(|n| (n as f64).to_le_bytes()).collect();
        let tensor = Tensor { dtype: Dtype::F64, shape: vec![3, 2], strides: vec![1, 3], offset: 1, storage: &storage };
        assert_eq!(floats(&tensor.to_f32("t").unwrap()), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }

    #[test]
    fn half_precision_and_scalars_are_read() {
        let storage = [0x00, 0x3c, 0x80, 0x3f];
        let one = |dtype, offset| Tensor { dtype, shape: vec![], strides: vec![], offset, storage: &storage };
        assert_eq!(floats(&one(Dtype::F16, 0).to_f32("t").unwrap()), [1.0]);
        assert_eq!(floats(&one(Dtype::Bf16, 1).to_f32("t").unwrap()), [1.0]);
    }

    #[test]
    fn what_is_not_finite_in_fp32_is_refused() {
        for value in [f64::NAN, f64::INFINITY, 1e300] {
            let storage = value.to_le_bytes();
            let tensor = Tensor { dtype: Dtype::F64, shape: vec![1], strides: vec![1], offset: 0, storage: &storage };
            assert!(matches!(tensor.to_f32("t"), Err(Error::NotFinite(name)) if name == "t"));
        }
    }

    proptest! {
        #[test]
        fn any_view_is_read_or_refused(
            dims in prop::collection::vec((0usize..5, 0usize..5), 0..4), offset in 0usize..10, held in 0usize..40,
            huge in prop::option::of(any::<usize>()),
        ) {
            let storage = vec![0; 4 * held];
            let (shape, mut strides): (Vec<_>, Vec<_>) = dims.into_iter().unzip();
            if let (Some(huge), Some(first)) = (huge, strides.first_mut()) {
                *first = huge;
            }
            let count: usize = shape.iter().product();
            let tensor = Tensor { dtype: Dtype::F32, shape, strides, offset, storage: &storage };
            if let Ok(values) = tensor.to_f32("t") {
                prop_assert_eq!(values.len(), 4 * count);
            }
        }
    }
}
