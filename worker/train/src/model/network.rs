//! A network on a device: what is frozen, what is trained, and the passes through both.
//!
//! It runs in two pieces: what lies below the freeze boundary, in inference mode and without a tape, then what is
//! trained. Frozen tensors are in buffers of their own that nothing writes to.

use burn::tensor::{Device, Tensor};
use ceteris_shared::architecture::{Arch, Entry, Part};

use super::{Mode, Unit, units};
use crate::{
    backend::{self, Buffers, Compute},
    tensors::{self, Error, Source, StateDict},
};

/// A network whose parts from `first` on are trained.
#[derive(Clone, Debug)]
pub struct Network {
    arch: Arch,
    classes: usize,
    first: Part,
    compute: Compute,
    device: Device,
    layout: Vec<Entry>,
    units: Vec<Unit>,
    frozen: Buffers,
    trained: Buffers,
}

impl Network {
    /// A network of `arch` with `classes` outputs on `device` that holds `state` and is trained from `first` on.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape, is not finite, or is none of the network's.
    pub fn new(
        state: &dyn Source,
        arch: Arch,
        classes: usize,
        first: Part,
        compute: Compute,
        device: &Device,
    ) -> Result<Self, Error> {
        let layout = arch.layout(classes);
        let expected: Vec<_> = layout.iter().map(|entry| (entry.name.clone(), entry.shape.as_slice())).collect();
        tensors::check(state, &expected)?;
        let (below, above) = layout.split_at(boundary(&layout, first));
        let load = |entries| Buffers::load(state, entries, compute.float, device);
        Ok(Self {
            arch,
            classes,
            first,
            compute,
            device: device.clone(),
            units: units(arch),
            frozen: load(below)?,
            trained: load(above)?,
            layout,
        })
    }

    /// The same network, trained from `first` on.
    pub fn trained_from(self, first: Part) -> Self {
        if first == self.first {
            return self;
        }
        let state = self.state();
        Self::new(&state, self.arch, self.classes, first, self.compute, &self.device).expect("its own state fits")
    }

    /// Which network.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// The first part that is trained.
    pub fn first(&self) -> Part {
        self.first
    }

    /// How it is computed.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// The trained parameters, in the order of [`Self::parameters`].
    pub fn trained_parameters(&self) -> Vec<Entry> {
        self.trained_entries().iter().filter(|entry| entry.is_parameter()).cloned().collect()
    }

    /// The trained parameters, one after the other in one tensor.
    pub fn parameters(&self) -> Tensor<1> {
        self.trained.parameters.clone()
    }

    /// Takes the trained parameters out, so that an update can reuse their memory; [`Self::set_parameters`] must follow.
    pub fn take_parameters(&mut self) -> Tensor<1> {
        let none = Tensor::zeros([0], &self.device);
        std::mem::replace(&mut self.trained.parameters, none)
    }

    /// Puts updated parameters in.
    pub fn set_parameters(&mut self, parameters: Tensor<1>) {
        self.trained.parameters = parameters;
    }

    /// What the trained part reads: the maps before the first trained part, of `images` `[batch, 3, height, width]`, in
    /// inference mode.
    pub fn features(&self, images: Tensor<4>) -> Tensor<4> {
        let (below, _) = self.split_units();
        if below.is_empty() { images } else { backend::infer(below, &self.frozen, self.compute, images) }
    }

    /// Logits `[batch, classes]` from the input of the first trained part, in inference mode.
    pub fn logits_of_features(&self, features: Tensor<4>) -> Tensor<2> {
        backend::classify(self.split_units().1, &self.trained, self.compute, features)
    }

    /// Logits `[batch, classes]` of `images` `[batch, 3, height, width]`, all in inference mode.
    pub fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        self.logits_of_features(self.features(images))
    }

    /// Logits `[batch, classes]` from the input of the first trained part, differentiable in `parameters`, which have the
    /// values of [`Self::parameters`]. In training mode running statistics are updated.
    pub fn differentiable_logits(&mut self, mode: Mode, parameters: Tensor<1>, features: Tensor<4>) -> Tensor<2> {
        let units = self.split_units().1.to_vec();
        backend::train(units, &mut self.trained, parameters, self.compute, mode, features)
    }

    /// A copy of the whole state in memory.
    pub fn state(&self) -> StateDict {
        let mut state = self.frozen_state();
        state.0.append(&mut self.trained_state().0);
        state
    }

    /// A copy of what is frozen.
    pub fn frozen_state(&self) -> StateDict {
        self.frozen.state(&self.layout[..self.boundary()])
    }

    /// A copy of what is trained.
    pub fn trained_state(&self) -> StateDict {
        self.trained.state(self.trained_entries())
    }

    /// Parameters and statistics of the first trained part and all after it.
    pub fn trained_entries(&self) -> &[Entry] {
        &self.layout[self.boundary()..]
    }

    fn boundary(&self) -> usize {
        boundary(&self.layout, self.first)
    }

    fn split_units(&self) -> (&[Unit], &[Unit]) {
        self.units.split_at(self.units.partition_point(|unit| unit.part < self.first))
    }
}

/// The position of the first entry of `first`, or of a part after it.
fn boundary(layout: &[Entry], first: Part) -> usize {
    layout.partition_point(|entry| entry.part < first)
}
