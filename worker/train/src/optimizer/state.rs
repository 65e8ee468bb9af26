//! The optimizer's state as a checkpoint keeps it: tensors named after the parameter that they belong to.

use burn::tensor::Device;
use ceteris_shared::{
    architecture::Entry,
    spec::optimization::{Optimization, UpdateRule},
};

use super::{Memory, Optimizer, groups::elements};
use crate::{
    backend,
    tensors::{self, Contents, Error, HostTensor, Source, StateDict},
};

/// Running mean of the gradient.
const FIRST: &str = "moment1";
/// Running mean of the gradient's square.
const SECOND: &str = "moment2";
/// SGD's velocity.
const MOMENTUM: &str = "momentum";
/// Exponential moving average of the parameter.
const AVERAGE: &str = "average";

impl Optimizer {
    /// A copy of the state in memory: `NAME.moment1` and `NAME.moment2`, or `NAME.momentum`, and `NAME.average`, as the
    /// settings need them, in each parameter's shape; and the steps made. Before the first step there are no tensors.
    pub fn state(&self) -> Contents {
        let remembered = match &self.memory {
            Some(Memory::Moments { first, second }) => vec![(FIRST, first), (SECOND, second)],
            Some(Memory::Momentum(buffer)) => vec![(MOMENTUM, buffer)],
            Some(Memory::None) | None => Vec::new(),
        };
        let average = self.average.iter().map(|average| (AVERAGE, average));
        let mut tensors = StateDict::default();
        for (suffix, flat) in remembered.into_iter().chain(average) {
            let mut start = 0;
            for entry in &self.parameters {
                let end = start + elements(entry);
                let part = HostTensor::of(flat.clone().slice(start..end));
                tensors.0.insert(named(entry, suffix), HostTensor { shape: entry.shape.clone(), ..part });
                start = end;
            }
        }
        Contents { tensors, step: Some(self.step) }
    }

    /// The optimizer in the state that a checkpoint keeps, for the tensors `parameters`: what [`Optimizer::state`] was
    /// called on, to the bit.
    ///
    /// # Errors
    /// When the state is not that of exactly these settings and parameters.
    pub fn from_state(
        settings: &Optimization,
        state: &dyn Source,
        parameters: &[Entry],
        device: &Device,
    ) -> Result<Self, Error> {
        let step = state.step().ok_or(Error::Step)?;
        let suffixes = if step == 0 { Vec::new() } else { suffixes(settings) };
        let expected: Vec<_> = parameters
            .iter()
            .flat_map(|entry| suffixes.iter().map(|suffix| (named(entry, suffix), entry.shape.as_slice())))
            .collect();
        tensors::check(state, &expected)?;
        let count = parameters.iter().map(elements).sum();
        let load = |suffix| {
            let wanted = suffixes.contains(&suffix).then(|| {
                let named = parameters.iter().map(|entry| (named(entry, suffix), entry.shape.as_slice()));
                backend::filled(count, device, |values| tensors::copy_all(state, named, values))
            });
            wanted.transpose()
        };
        let memory = match (load(FIRST)?, load(SECOND)?, load(MOMENTUM)?) {
            (Some(first), Some(second), _) => Some(Memory::Moments { first, second }),
            (_, _, Some(buffer)) => Some(Memory::Momentum(buffer)),
            _ => None,
        };
        Ok(Self { step, memory, average: load(AVERAGE)?, ..Self::new(settings, parameters) })
    }
}

/// What is kept for each parameter once a step was made.
fn suffixes(settings: &Optimization) -> Vec<&'static str> {
    let mut suffixes = match settings.rule {
        UpdateRule::Adam { .. } | UpdateRule::Adamw { .. } => vec![FIRST, SECOND],
        UpdateRule::Sgd { momentum: 0.0, .. } => Vec::new(),
        UpdateRule::Sgd { .. } => vec![MOMENTUM],
    };
    suffixes.extend(settings.average.map(|_| AVERAGE));
    suffixes
}

fn named(entry: &Entry, suffix: &str) -> String {
    format!("{}.{suffix}", entry.name)
}
