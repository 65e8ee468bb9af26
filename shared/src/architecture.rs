//! The networks that can be trained, as lists of named tensors: torchvision's names, shapes and order.
//!
//! Both sides that read weights use it: the import, which knows no tensor library, and the trainer. What is computed
//! with the tensors is the trainer's (`worker/train/src/model`).

use serde::{Deserialize, Serialize};

/// A known architecture, as in torchvision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// DenseNet-121 (Huang et al., "Densely Connected Convolutional Networks", CVPR 2017).
    #[default]
    Densenet121,
    /// DenseNet-169.
    Densenet169,
    /// DenseNet-201.
    Densenet201,
    /// ResNet-50 (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016), with the stride in the 3×3
    /// convolution.
    Resnet50,
}

/// How an architecture's features are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Dense blocks of so many layers.
    DenseNet([usize; 4]),
    /// Stages of so many bottlenecks.
    ResNet([usize; 4]),
}

/// A stretch of a network that is frozen or trained as a whole, in forward order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The first convolution with its normalisation.
    Stem,
    /// DenseNet: `denseblock1` and `transition1`. ResNet: `layer1`.
    Block1,
    /// DenseNet: `denseblock2` and `transition2`. ResNet: `layer2`.
    Block2,
    /// DenseNet: `denseblock3` and `transition3`. ResNet: `layer3`.
    Block3,
    /// DenseNet: `denseblock4` and `norm5`. ResNet: `layer4`.
    Block4,
    /// The classifier.
    Head,
}

/// One tensor of a network's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// torchvision's name.
    pub name: String,
    /// PyTorch's shape.
    pub shape: Vec<usize>,
    /// Where it belongs.
    pub part: Part,
}

/// DenseNet: channels that each layer adds.
pub const GROWTH: usize = 32;
/// DenseNet: channels between a layer's two convolutions.
pub const BOTTLENECK: usize = 4 * GROWTH;
/// Channels that the stem gives.
pub const STEM: usize = 64;
/// ResNet: how many times wider a bottleneck's output is than its middle.
pub const EXPANSION: usize = 4;

impl Arch {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Densenet121, Self::Densenet169, Self::Densenet201, Self::Resnet50];

    /// The name in specs, lineage and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Densenet121 => "densenet121",
            Self::Densenet169 => "densenet169",
            Self::Densenet201 => "densenet201",
            Self::Resnet50 => "resnet50",
        }
    }

    /// How its features are made.
    pub fn family(self) -> Family {
        match self {
            Self::Densenet121 => Family::DenseNet([6, 12, 24, 16]),
            Self::Densenet169 => Family::DenseNet([6, 12, 32, 32]),
            Self::Densenet201 => Family::DenseNet([6, 12, 48, 32]),
            Self::Resnet50 => Family::ResNet([3, 4, 6, 3]),
        }
    }

    /// Length of the pooled feature vector that the classifier reads.
    pub fn features(self) -> usize {
        match self.family() {
            Family::DenseNet(layers) => layers.iter().fold(2 * STEM, |channels, count| channels / 2 + count * GROWTH),
            Family::ResNet(_) => 8 * STEM * EXPANSION,
        }
    }

    /// Height and width of the last maps for square images of `image_size` pixels.
    pub fn last_map_size(self, image_size: u32) -> u32 {
        // The stem's convolution and pooling halve upwards (padded), as ResNet's stages do; DenseNet's transitions
        // halve downwards.
        let stem = image_size.div_ceil(2).div_ceil(2);
        match self.family() {
            Family::DenseNet(_) => stem / 8,
            Family::ResNet(_) => stem.div_ceil(8),
        }
    }

    /// Smallest height and width for which every map still has a pixel.
    pub fn min_image_size(self) -> u32 {
        match self.family() {
            Family::DenseNet(_) => 29,
            Family::ResNet(_) => 1,
        }
    }

    /// All parameters and BatchNorm statistics of a network with `classes` classes, in torchvision's order, without
    /// `num_batches_tracked`. An entry's position is the tensor's index in the draws of its initial values.
    pub fn layout(self, classes: usize) -> Vec<Entry> {
        let mut layout = Layout { entries: Vec::new(), part: Part::Stem };
        match self.family() {
            Family::DenseNet(layers) => layout.densenet(layers),
            Family::ResNet(blocks) => layout.resnet(blocks),
        }
        layout.part = Part::Head;
        let head = match self.family() {
            Family::DenseNet(_) => "classifier",
            Family::ResNet(_) => "fc",
        };
        layout.push(format!("{head}.weight"), &[classes, self.features()]);
        layout.push(format!("{head}.bias"), &[classes]);
        layout.entries
    }
}

impl Part {
    /// All parts, in forward order.
    pub const ALL: [Self; 6] = [Self::Stem, Self::Block1, Self::Block2, Self::Block3, Self::Block4, Self::Head];
    /// The four blocks.
    pub const BLOCKS: [Self; 4] = [Self::Block1, Self::Block2, Self::Block3, Self::Block4];
}

impl Entry {
    /// Whether it is trained, and not one of BatchNorm's statistics.
    pub fn is_parameter(&self) -> bool {
        !self.name.contains(".running_")
    }
}

struct Layout {
    entries: Vec<Entry>,
    part: Part,
}

impl Layout {
    fn push(&mut self, name: String, shape: &[usize]) {
        self.entries.push(Entry { name, shape: shape.to_vec(), part: self.part });
    }

    fn convolution(&mut self, name: &str, output: usize, input: usize, kernel: usize) {
        self.push(format!("{name}.weight"), &[output, input, kernel, kernel]);
    }

    fn norm(&mut self, name: &str, channels: usize) {
        for member in ["weight", "bias", "running_mean", "running_var"] {
            self.push(format!("{name}.{member}"), &[channels]);
        }
    }

    fn densenet(&mut self, layers: [usize; 4]) {
        self.convolution("features.conv0", STEM, 3, 7);
        self.norm("features.norm0", STEM);
        let mut channels = STEM;
        for ((number, part), count) in (1..).zip(Part::BLOCKS).zip(layers) {
            self.part = part;
            for layer in 1..=count {
                let prefix = format!("features.denseblock{number}.denselayer{layer}");
                self.norm(&format!("{prefix}.norm1"), channels);
                self.convolution(&format!("{prefix}.conv1"), BOTTLENECK, channels, 1);
                self.norm(&format!("{prefix}.norm2"), BOTTLENECK);
                self.convolution(&format!("{prefix}.conv2"), GROWTH, BOTTLENECK, 3);
                channels += GROWTH;
            }
            if part == Part::Block4 {
                self.norm("features.norm5", channels);
            } else {
                self.norm(&format!("features.transition{number}.norm"), channels);
                self.convolution(&format!("features.transition{number}.conv"), channels / 2, channels, 1);
                channels /= 2;
            }
        }
    }

    fn resnet(&mut self, blocks: [usize; 4]) {
        self.convolution("conv1", STEM, 3, 7);
        self.norm("bn1", STEM);
        let mut channels = STEM;
        for ((number, part), count) in (1..).zip(Part::BLOCKS).zip(blocks) {
            self.part = part;
            let middle = STEM << (number - 1);
            for block in 0..count {
                let prefix = format!("layer{number}.{block}");
                let output = middle * EXPANSION;
                for (index, (to, from, kernel)) in
                    (1..).zip([(middle, channels, 1), (middle, middle, 3), (output, middle, 1)])
                {
                    self.convolution(&format!("{prefix}.conv{index}"), to, from, kernel);
                    self.norm(&format!("{prefix}.bn{index}"), to);
                }
                if block == 0 {
                    self.convolution(&format!("{prefix}.downsample.0"), output, channels, 1);
                    self.norm(&format!("{prefix}.downsample.1"), output);
                }
                channels = output;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(arch: Arch) -> usize {
        let layout = arch.layout(1000);
        layout.iter().filter(|entry| entry.is_parameter()).map(|entry| entry.shape.iter().product::<usize>()).sum()
    }

    #[test]
    fn parameters_are_as_many_as_torchvisions() {
        let counts = Arch::ALL.map(parameters);
        assert_eq!(counts, [7_978_856, 14_149_480, 20_013_928, 25_557_032]);
    }

    #[test]
    fn names_shapes_and_parts_are_torchvisions() {
        let layout = Arch::Densenet121.layout(1000);
        let at = |index: usize| (layout[index].name.as_str(), layout[index].shape.clone(), layout[index].part);
        assert_eq!(layout.len(), 606);
        assert_eq!(at(0), ("features.conv0.weight", vec![64, 3, 7, 7], Part::Stem));
        assert_eq!(at(5), ("features.denseblock1.denselayer1.norm1.weight", vec![64], Part::Block1));
        assert_eq!(at(14), ("features.denseblock1.denselayer1.conv2.weight", vec![32, 128, 3, 3], Part::Block1));
        assert_eq!(at(604), ("classifier.weight", vec![1000, 1024], Part::Head));
        let part = |name: &str| layout.iter().find(|entry| entry.name == name).map(|entry| entry.part);
        assert_eq!(part("features.transition3.conv.weight"), Some(Part::Block3));
        assert_eq!(part("features.norm5.running_mean"), Some(Part::Block4));

        let layout = Arch::Resnet50.layout(2);
        let of =
            |name: &str| layout.iter().find(|entry| entry.name == name).map(|entry| (entry.shape.clone(), entry.part));
        assert_eq!(layout.len(), 267);
        assert_eq!(of("layer4.0.downsample.0.weight"), Some((vec![2048, 1024, 1, 1], Part::Block4)));
        assert_eq!(of("layer2.3.conv2.weight"), Some((vec![128, 128, 3, 3], Part::Block2)));
        assert_eq!(of("fc.weight"), Some((vec![2, 2048], Part::Head)));
    }

    #[test]
    fn the_smallest_image_still_has_a_map() {
        for arch in Arch::ALL {
            assert_eq!(arch.last_map_size(arch.min_image_size()), 1, "{arch:?}");
            assert_eq!(arch.last_map_size(224), 7, "{arch:?}");
        }
        assert_eq!(Arch::Densenet121.last_map_size(28), 0);
    }
}
