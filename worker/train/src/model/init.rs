//! torchvision's initialisation of DenseNet, drawn from a seed: He et al., "Delving Deep into Rectifiers", ICCV 2015
//! (`kaiming_normal_`) for convolutions, 1 and 0 for BatchNorm, PyTorch's default for the classifier's weight, bias 0.

use ceteris_shared::{
    ids::Epoch,
    seed::{Draws, Purpose, draw},
};

use super::{Entry, Part, layout};
use crate::tensors::{HostTensor, StateDict};

/// The whole state of a network with `classes` classes.
pub fn random(seed: u64, classes: usize) -> StateDict {
    initial(seed, classes, |_| true)
}

/// The classifier alone: the same values as in [`random`].
pub fn head(seed: u64, classes: usize) -> StateDict {
    initial(seed, classes, |entry| entry.part == Part::Head)
}

fn initial(seed: u64, classes: usize, wanted: impl Fn(&Entry) -> bool) -> StateDict {
    let tensors = (0..).zip(layout(classes)).filter(|(_, entry)| wanted(entry));
    StateDict(
        tensors
            .map(|(index, Entry { name, shape, .. })| {
                let values = values(&name, &shape, draw(seed, Epoch(0), index, Purpose::Init));
                (name, HostTensor { shape, values })
            })
            .collect(),
    )
}

fn values(name: &str, shape: &[usize], mut draws: Draws) -> Vec<f32> {
    let count: usize = shape.iter().product();
    let fan_in: usize = shape.iter().skip(1).product();
    match shape.len() {
        4 => {
            let deviation = (2.0 / fan_in as f64).sqrt();
            (0..count).map(|_| (deviation * draws.normal()) as f32).collect()
        }
        2 => {
            let bound = 1.0 / (fan_in as f64).sqrt();
            (0..count).map(|_| draws.between(-bound, bound) as f32).collect()
        }
        // A classifier's bias, and BatchNorm's bias and running mean, are 0; its weight and running variance 1.
        _ if name.ends_with(".weight") || name.ends_with(".running_var") => vec![1.0; count],
        _ => vec![0.0; count],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_every_value() {
        assert_eq!(head(7, 2), head(7, 2));
        assert_ne!(head(7, 2), head(8, 2));
    }

    #[test]
    fn a_new_head_is_the_head_of_a_random_network() {
        let (head, random) = (head(3, 2), random(3, 2));
        assert_eq!(head.0.len(), 2);
        assert!(head.0.iter().all(|(name, tensor)| random.0[name] == *tensor));
    }

    #[test]
    fn convolutions_have_the_deviation_of_their_fan_in() {
        let state = random(0, 2);
        let values = &state.0["features.conv0.weight"].values;
        let square: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64;
        let expected: f64 = 2.0 / (3.0 * 49.0);
        assert!((square / expected - 1.0).abs() < 0.05, "{square} is not {expected}");
        let bound = 1.0 / 1024f32.sqrt();
        assert!(state.0["classifier.weight"].values.iter().all(|v| v.abs() <= bound));
        assert!(state.0["classifier.bias"].values.iter().all(|v| *v == 0.0));
    }
}
