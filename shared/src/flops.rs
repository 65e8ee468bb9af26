//! What a step costs in operations, whatever machine does it and whatever was kept from before: the axis on which arms can be compared
//! where seconds say more about machines and caches than about arms.
//!
//! Counted are the multiply-accumulates of convolutions and of the classifier, two operations each, as torchvision's documentation
//! counts them; normalisation, activations, pooling and the optimizer are left out. Backward of a trained part costs twice its forward:
//! one pass for the gradient of the weights and one for that of the input.

use std::collections::BTreeMap;

use crate::architecture::{Arch, Entry, Family, Part};

/// Multiply-accumulates of one image's forward, by part; square images of `image_size` pixels.
pub fn multiply_accumulates(arch: Arch, classes: usize, image_size: u32) -> BTreeMap<Part, u64> {
    let mut parts = BTreeMap::new();
    for entry in arch.layout(classes) {
        let positions = match entry.shape[..] {
            [_, _, _, _] => u64::from(output_size(arch, &entry, image_size)).pow(2),
            [_, _] => 1,
            _ => continue,
        };
        let weights: u64 = entry.shape.iter().map(|&size| size as u64).product();
        *parts.entry(entry.part).or_default() += weights * positions;
    }
    parts
}

/// Floating-point operations to train on one image once, where `from` and all parts after it are trained.
pub fn training(arch: Arch, classes: usize, image_size: u32, from: Part) -> f64 {
    let cost = |(part, count): (Part, u64)| 2.0 * count as f64 * if part >= from { 3.0 } else { 1.0 };
    multiply_accumulates(arch, classes, image_size).into_iter().map(cost).sum()
}

/// Height and width of what a convolution gives.
fn output_size(arch: Arch, entry: &Entry, image_size: u32) -> u32 {
    let first = image_size.div_ceil(2);
    let block = Part::BLOCKS.iter().position(|part| *part == entry.part);
    let Some(block) = block.map(|block| block as u32) else { return first };
    let stem = first.div_ceil(2);
    match arch.family() {
        // A transition's convolution comes before its pooling.
        Family::DenseNet(_) => stem >> block,
        Family::ResNet(_) => {
            let halved = |times: u32| (0..times).fold(stem, |size, _| size.div_ceil(2));
            // The stride is in the first bottleneck's 3×3 convolution and in the shortcut beside it.
            let before_stride = entry.name.ends_with(".0.conv1.weight");
            halved(if before_stride { block.saturating_sub(1) } else { block })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torchvision's documentation of its weights: "GFLOPS", one for a multiply-accumulate.
    #[test]
    fn counts_are_torchvisions() {
        let giga = |arch| {
            let all: u64 = multiply_accumulates(arch, 1000, 224).values().sum();
            (all as f64 / 1e7).round() / 100.0
        };
        assert_eq!(Arch::ALL.map(giga), [2.83, 3.36, 4.29, 4.09]);
    }

    #[test]
    fn what_is_trained_costs_three_times_its_forward() {
        let parts = multiply_accumulates(Arch::Densenet121, 2, 224);
        let forward: u64 = parts.values().sum();
        assert_eq!(training(Arch::Densenet121, 2, 224, Part::Stem), 6.0 * forward as f64);
        let head = training(Arch::Densenet121, 2, 224, Part::Head);
        assert_eq!(head, 2.0 * forward as f64 + 4.0 * (2.0 * 1024.0));
        assert!(training(Arch::Densenet121, 2, 224, Part::Block4) > head);
    }
}
