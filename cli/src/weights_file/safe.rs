//! Reading safetensors.

use safetensors::SafeTensors;

use super::{
    Error,
    tensor::{Dtype, Tensor, dense_strides},
};

/// Whether `bytes` begin like a safetensors file: the header's length, then a JSON object.
pub fn is_safetensors(bytes: &[u8]) -> bool {
    match bytes.split_first_chunk::<8>() {
        Some((length, rest)) => rest.first() == Some(&b'{') && u64::from_le_bytes(*length) <= rest.len() as u64,
        None => false,
    }
}

/// Every tensor of the file.
///
/// # Errors
/// When the file is damaged or a tensor is of an element type that PyTorch's state dicts do not have.
pub fn tensors(bytes: &[u8]) -> Result<Vec<(String, Tensor<'_>)>, Error> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| Error::Damaged(error.to_string()))?;
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            let dtype = match view.dtype() {
                safetensors::Dtype::F64 => Dtype::F64,
                safetensors::Dtype::F32 => Dtype::F32,
                safetensors::Dtype::F16 => Dtype::F16,
                safetensors::Dtype::BF16 => Dtype::Bf16,
                safetensors::Dtype::I64 => Dtype::I64,
                safetensors::Dtype::I32 => Dtype::I32,
                safetensors::Dtype::I16 => Dtype::I16,
                safetensors::Dtype::I8 => Dtype::I8,
                safetensors::Dtype::U8 => Dtype::U8,
                safetensors::Dtype::BOOL => Dtype::Bool,
                other => return Err(Error::NotFloat { name, dtype: format!("{other:?}") }),
            };
            let shape = view.shape().to_vec();
            let strides = dense_strides(&shape);
            Ok((name, Tensor { dtype, shape, strides, offset: 0, storage: view.data() }))
        })
        .collect()
}
