//! Per-sample predictions: what every score is computed from, kept so that every score can be computed again.
//!
//! The file is safetensors: `sample`, u32 of shape `[n]`, indices into the data set's manifest, ascending; and
//! `probability`, f32 of shape `[n, classes]`. Labels are not in it: they are the manifest's.

use std::collections::HashMap;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// The largest file that is read: ten million samples of two classes.
pub const MAX_BYTES: u64 = 128 << 20;

/// Probabilities of every class for some samples of one data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    /// Indices into the data set's manifest, ascending.
    pub samples: Vec<u32>,
    /// Row-major, shape `[samples, classes]`.
    pub probabilities: Vec<f32>,
    /// Number of classes.
    pub classes: usize,
}

/// Why a predictions file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the predictions cannot be read: {0}")]
pub struct Error(String);

impl Predictions {
    /// The file's bytes; equal predictions give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let samples: Vec<u8> = self.samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let probabilities: Vec<u8> = self.probabilities.iter().flat_map(|p| p.to_le_bytes()).collect();
        let rows = self.samples.len();
        let view = |dtype, shape, bytes| TensorView::new(dtype, shape, bytes).expect("the shape is the data's own");
        let tensors = [
            ("probability", view(Dtype::F32, vec![rows, self.classes], &probabilities)),
            ("sample", view(Dtype::U32, vec![rows], &samples)),
        ];
        safetensors::serialize(tensors, None::<HashMap<String, String>>).expect("two well-formed tensors")
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// When the bytes are no such file, when shapes disagree, samples are not ascending, or a value is not a probability.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| Error(error.to_string()))?;
        let tensor = |name, dtype| {
            let tensor = file.tensor(name).map_err(|error| Error(error.to_string()))?;
            if tensor.dtype() == dtype {
                Ok(tensor)
            } else {
                Err(Error(format!("{name} is {:?}, not {dtype:?}", tensor.dtype())))
            }
        };
        let (sample, probability) = (tensor("sample", Dtype::U32)?, tensor("probability", Dtype::F32)?);
        let (&[rows], &[same_rows, classes]) = (sample.shape(), probability.shape()) else {
            return Err(Error(format!(
                "shapes are {:?} and {:?}, not [n] and [n, classes]",
                sample.shape(),
                probability.shape()
            )));
        };
        if rows != same_rows || classes < 2 {
            return Err(Error(format!("{rows} samples have {same_rows} rows of {classes} probabilities")));
        }
        let words = |bytes: &[u8]| bytes.chunks_exact(4).map(|c| [c[0], c[1], c[2], c[3]]).collect::<Vec<_>>();
        let samples: Vec<u32> = words(sample.data()).into_iter().map(u32::from_le_bytes).collect();
        let probabilities: Vec<f32> = words(probability.data()).into_iter().map(f32::from_le_bytes).collect();
        if !samples.is_sorted_by(|a, b| a < b) {
            return Err(Error("samples are not in ascending order".to_owned()));
        }
        if let Some(value) = probabilities.iter().find(|value| !(0.0..=1.0).contains(*value)) {
            return Err(Error(format!("{value} is not a probability")));
        }
        Ok(Self { samples, probabilities, classes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Predictions {
        Predictions { samples: vec![2, 5], probabilities: vec![0.25, 0.75, 1.0, 0.0], classes: 2 }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Predictions::from_bytes(&example().to_bytes()), Ok(example()));
    }

    #[test]
    fn contradictions_are_refused() {
        let unordered = Predictions { samples: vec![5, 2], ..example() };
        let improbable = Predictions { probabilities: vec![0.5, 0.5, 1.5, 0.0], ..example() };
        let undefined = Predictions { probabilities: vec![0.5, 0.5, f32::NAN, 0.0], ..example() };
        for predictions in [unordered, improbable, undefined] {
            assert!(Predictions::from_bytes(&predictions.to_bytes()).is_err(), "{predictions:?}");
        }
    }

    #[test]
    fn a_cut_file_is_refused_at_every_length() {
        let bytes = example().to_bytes();
        assert!((0..bytes.len()).all(|length| Predictions::from_bytes(&bytes[..length]).is_err()));
    }
}
