//! torchvision's initialisation, drawn from a seed: He et al., "Delving Deep into Rectifiers", ICCV 2015
//! (`kaiming_normal_`) for convolutions, by the fan in for DenseNet and by the fan out for ResNet; 1 and 0 for BatchNorm;
//! PyTorch's default for the classifier, whose bias is 0 in DenseNet.

use ceteris_shared::{
    architecture::{Arch, Entry, Family, Part},
    ids::Epoch,
    seed::{Draws, Purpose, draw},
};

use crate::tensors::{HostTensor, StateDict};

/// The whole state of a network with `classes` classes.
pub fn random(arch: Arch, seed: u64, classes: usize) -> StateDict {
    initial(arch, seed, classes, |_| true)
}

/// The classifier alone: the same values as in [`random`].
pub fn head(arch: Arch, seed: u64, classes: usize) -> StateDict {
    initial(arch, seed, classes, |entry| entry.part == Part::Head)
}

fn initial(arch: Arch, seed: u64, classes: usize, wanted: impl Fn(&Entry) -> bool) -> StateDict {
    let values = |name: &str, shape: &[usize], draws| match arch.family() {
        Family::DenseNet(_) => densenet(name, shape, draws),
        Family::ResNet(_) => resnet(name, shape, draws),
    };
    let tensors = (0..).zip(arch.layout(classes)).filter(|(_, entry)| wanted(entry));
    StateDict(
        tensors
            .map(|(index, Entry { name, shape, .. })| {
                let values = values(&name, &shape, draw(seed, Epoch(0), index, Purpose::Init));
                (name, HostTensor { shape, values })
            })
            .collect(),
    )
}

fn densenet(name: &str, shape: &[usize], mut draws: Draws) -> Vec<f32> {
    let fan_in: usize = shape.iter().skip(1).product();
    match shape.len() {
        4 => normal(shape, fan_in, &mut draws),
        2 => uniform(shape, fan_in, &mut draws),
        _ => constant(name, shape),
    }
}

fn resnet(name: &str, shape: &[usize], mut draws: Draws) -> Vec<f32> {
    match *shape {
        [out, _, height, width] => normal(shape, out * height * width, &mut draws),
        [_, features] => uniform(shape, features, &mut draws),
        // The classifier's bias is drawn like its weight.
        _ if name == "fc.bias" => uniform(shape, Arch::Resnet50.features(), &mut draws),
        _ => constant(name, shape),
    }
}

/// `kaiming_normal_` for ReLU.
fn normal(shape: &[usize], fan: usize, draws: &mut Draws) -> Vec<f32> {
    let deviation = (2.0 / fan as f64).sqrt();
    (0..shape.iter().product()).map(|_| (deviation * draws.normal()) as f32).collect()
}

/// PyTorch's default for a linear layer.
fn uniform(shape: &[usize], fan_in: usize, draws: &mut Draws) -> Vec<f32> {
    let bound = 1.0 / (fan_in as f64).sqrt();
    (0..shape.iter().product()).map(|_| draws.between(-bound, bound) as f32).collect()
}

/// Biases and running means are 0; BatchNorm's scale and running variance 1.
fn constant(name: &str, shape: &[usize]) -> Vec<f32> {
    let one = name.ends_with(".weight") || name.ends_with(".running_var");
    vec![if one { 1.0 } else { 0.0 }; shape.iter().product()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARCH: Arch = Arch::Densenet121;

    #[test]
    fn a_seed_decides_every_value() {
        assert_eq!(head(ARCH, 7, 2), head(ARCH, 7, 2));
        assert_ne!(head(ARCH, 7, 2), head(ARCH, 8, 2));
    }

    #[test]
    fn a_new_head_is_the_head_of_a_random_network() {
        let (head, random) = (head(ARCH, 3, 2), random(ARCH, 3, 2));
        assert_eq!(head.0.len(), 2);
        assert!(head.0.iter().all(|(name, tensor)| random.0[name] == *tensor));
    }

    #[test]
    fn convolutions_have_the_deviation_of_their_fan_in() {
        let state = random(ARCH, 0, 2);
        let values = &state.0["features.conv0.weight"].values;
        let square: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64;
        let expected: f64 = 2.0 / (3.0 * 49.0);
        assert!((square / expected - 1.0).abs() < 0.05, "{square} is not {expected}");
        let bound = 1.0 / 1024f32.sqrt();
        assert!(state.0["classifier.weight"].values.iter().all(|v| v.abs() <= bound));
        assert!(state.0["classifier.bias"].values.iter().all(|v| *v == 0.0));
    }
}
