//! The network: stem, four dense blocks with transitions between them, final normalisation, classifier.

use burn::{
    module::{Module, Param},
    nn::{
        PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{
        Device, Tensor,
        activation::relu,
        module::{adaptive_avg_pool2d, linear, max_pool2d},
        ops::MaxPoolOptions,
    },
};

use super::{BatchNorm, DenseBlock, Mode, Part, Transition, layer::GROWTH};

/// Layers of the four blocks.
const LAYERS: [usize; 4] = [6, 12, 24, 16];
/// Channels that the stem gives.
const STEM: usize = 64;

/// DenseNet-121. Its fields have torchvision's names, so a path in the tree is a name in a file.
#[derive(Module, Debug)]
pub struct DenseNet121 {
    features: Features,
    classifier: Classifier,
}

#[derive(Module, Debug)]
struct Features {
    conv0: Conv2d,
    norm0: BatchNorm,
    denseblock1: DenseBlock,
    transition1: Transition,
    denseblock2: DenseBlock,
    transition2: Transition,
    denseblock3: DenseBlock,
    transition3: Transition,
    denseblock4: DenseBlock,
    norm5: BatchNorm,
}

/// A linear layer whose weight is `[out, in]`, as PyTorch keeps it.
#[derive(Module, Debug)]
struct Classifier {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl DenseNet121 {
    /// The structure on `device`, without autodiff. Parameters have no useful values until a state is loaded.
    pub fn new(classes: usize, device: &Device) -> Self {
        let mut channels = STEM;
        let mut block = |layers: usize| {
            let block = DenseBlock::new(layers, channels, device);
            channels += layers * GROWTH;
            let width = channels;
            channels /= 2;
            (block, width)
        };
        let [(denseblock1, width1), (denseblock2, width2), (denseblock3, width3), (denseblock4, width4)] =
            LAYERS.map(&mut block);
        Self {
            features: Features {
                conv0: Conv2dConfig::new([3, STEM], [7, 7])
                    .with_stride([2, 2])
                    .with_padding(PaddingConfig2d::Explicit(3, 3, 3, 3))
                    .with_bias(false)
                    .init(device),
                norm0: BatchNorm::new(STEM, device),
                denseblock1,
                transition1: Transition::new(width1, device),
                denseblock2,
                transition2: Transition::new(width2, device),
                denseblock3,
                transition3: Transition::new(width3, device),
                denseblock4,
                norm5: BatchNorm::new(width4, device),
            },
            classifier: Classifier {
                weight: Param::from_tensor(Tensor::zeros([classes, width4], device)),
                bias: Param::from_tensor(Tensor::zeros([classes], device)),
            },
        }
    }

    /// The same network, with `first` and all after it on the training device and all before it off it: what is frozen
    /// has no gradient, no tape and cannot change.
    pub fn trained_from(self, first: Part) -> Self {
        fn place<M: Module>(module: M, trained: bool) -> M {
            if trained { module.train() } else { module.valid() }
        }
        let Self { features: f, classifier } = self;
        let on = |part: Part| part >= first;
        Self {
            features: Features {
                conv0: place(f.conv0, on(Part::Stem)),
                norm0: place(f.norm0, on(Part::Stem)),
                denseblock1: place(f.denseblock1, on(Part::Block1)),
                transition1: place(f.transition1, on(Part::Block1)),
                denseblock2: place(f.denseblock2, on(Part::Block2)),
                transition2: place(f.transition2, on(Part::Block2)),
                denseblock3: place(f.denseblock3, on(Part::Block3)),
                transition3: place(f.transition3, on(Part::Block3)),
                denseblock4: place(f.denseblock4, on(Part::Block4)),
                norm5: place(f.norm5, on(Part::Block4)),
            },
            classifier: place(classifier, on(Part::Head)),
        }
    }

    /// Logits `[batch, classes]` of `images` `[batch, 3, height, width]`: what is before `first` in inference mode on
    /// plain tensors, the rest in training mode.
    pub fn forward_training(&self, images: Tensor<4>, first: Part) -> Tensor<2> {
        self.forward_from(self.forward_below(images, first).autodiff(), first, Mode::Training)
    }

    /// Logits `[batch, classes]` of `images` `[batch, 3, height, width]`, all in inference mode.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.forward_from(images, Part::Stem, Mode::Inference)
    }

    /// The input of `first`, in inference mode.
    pub fn forward_below(&self, images: Tensor<4>, first: Part) -> Tensor<4> {
        let below = Part::FEATURES.into_iter().filter(|part| *part < first);
        below.fold(images, |x, part| self.part(part, x, Mode::Inference))
    }

    /// Logits `[batch, classes]` from the input of `first`.
    pub fn forward_from(&self, input: Tensor<4>, first: Part, mode: Mode) -> Tensor<2> {
        let rest = Part::FEATURES.into_iter().filter(|part| *part >= first);
        let pooled = rest.fold(input, |x, part| self.part(part, x, mode));
        linear(pooled.flatten(1, 3), self.classifier.weight.val().transpose(), Some(self.classifier.bias.val()))
    }

    /// One part but the head. The last block ends with normalisation, ReLU and global pooling: `[batch, 1024, 1, 1]`.
    fn part(&self, part: Part, x: Tensor<4>, mode: Mode) -> Tensor<4> {
        let f = &self.features;
        match part {
            Part::Stem => {
                let x = relu(f.norm0.forward(f.conv0.forward(x), mode));
                max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]))
            }
            Part::Block1 => f.transition1.forward(f.denseblock1.forward(x, mode), mode),
            Part::Block2 => f.transition2.forward(f.denseblock2.forward(x, mode), mode),
            Part::Block3 => f.transition3.forward(f.denseblock3.forward(x, mode), mode),
            Part::Block4 => {
                let x = relu(f.norm5.forward(f.denseblock4.forward(x, mode), mode));
                adaptive_avg_pool2d(x, [1, 1])
            }
            Part::Head => x,
        }
    }
}
