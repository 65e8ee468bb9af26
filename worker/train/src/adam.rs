//! Adam (Kingma and Ba, ICLR 2015) with PyTorch's arithmetic, in PyTorch's order of operations.
//!
//! burn's own rounds the decay rates to single precision and numbers its state by parameter ids that are new in every
//! process; this one keeps its state by torchvision's names, which is what a checkpoint stores.

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleMapper, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData},
};
use ceteris_shared::spec::Optimizer;

use crate::{
    model::{DenseNet121, Entry, Path},
    tensors::{Contents, Error, HostTensor, StateDict},
};

/// The update rule and its state.
#[derive(Clone, Debug)]
pub struct Adam {
    settings: Optimizer,
    step: u64,
    moments: BTreeMap<String, Moments>,
}

/// Running means of a parameter's gradient and of its square, flattened so that one map holds all ranks.
#[derive(Clone, Debug)]
struct Moments {
    shape: Vec<usize>,
    first: Tensor<1>,
    second: Tensor<1>,
}

impl Adam {
    /// The rule before its first step.
    pub fn new(settings: Optimizer) -> Self {
        Self { settings, step: 0, moments: BTreeMap::new() }
    }

    /// One step of rate `lr` on every parameter that has a gradient.
    pub fn step(&mut self, lr: f64, network: DenseNet121, gradients: GradientsParams) -> DenseNet121 {
        self.step += 1;
        network.map(&mut Update { adam: self, lr, gradients, path: Path::default() })
    }

    /// The new value of one parameter, from its gradient.
    fn update<const D: usize>(&mut self, name: String, lr: f64, value: Tensor<D>, gradient: Tensor<D>) -> Tensor<D> {
        let [beta1, beta2] = self.settings.betas;
        let shape = value.dims();
        let gradient = gradient.flatten::<1>(0, D - 1);
        let zeros = || gradient.zeros_like();
        let old = self.moments.remove(&name).unwrap_or_else(|| Moments {
            shape: shape.to_vec(),
            first: zeros(),
            second: zeros(),
        });
        let first = old.first.clone().add(gradient.clone().sub(old.first).mul_scalar(1.0 - beta1));
        let square = gradient.clone().mul(gradient);
        let second = old.second.mul_scalar(beta2).add(square.mul_scalar(1.0 - beta2));
        let steps = self.step as f64;
        let (correction1, correction2) = (1.0 - beta1.powf(steps), 1.0 - beta2.powf(steps));
        let denominator = second.clone().sqrt().div_scalar(correction2.sqrt()).add_scalar(self.settings.epsilon);
        let change = first.clone().div(denominator).mul_scalar(lr / correction1);
        self.moments.insert(name, Moments { shape: old.shape, first, second });
        value.sub(change.reshape(shape))
    }

    /// The state as a checkpoint keeps it.
    pub fn state(&self) -> Contents {
        let mut tensors = StateDict::default();
        for (name, moments) in &self.moments {
            for (moment, tensor) in [("moment1", &moments.first), ("moment2", &moments.second)] {
                let host = HostTensor { shape: moments.shape.clone(), ..HostTensor::of(tensor.clone()) };
                tensors.0.insert(format!("{name}.{moment}"), host);
            }
        }
        Contents { tensors, step: Some(self.step) }
    }

    /// The rule in the state that a checkpoint keeps, for the parameters of `trained`.
    ///
    /// # Errors
    /// When the state is not that of exactly these parameters.
    pub fn from_state(
        settings: Optimizer,
        state: &Contents,
        trained: &[Entry],
        device: &Device,
    ) -> Result<Self, Error> {
        let step = state.step.ok_or(Error::Step)?;
        let parameters = || trained.iter().filter(|entry| entry.is_parameter());
        let expected: Vec<Entry> = parameters().flat_map(moments_of).collect();
        state.tensors.check(&expected)?;
        let load = |name: String| {
            let values = state.tensors.0[&name].values.clone();
            let count = values.len();
            Tensor::<1>::from_data(TensorData::new(values, [count]), device)
        };
        let moments = parameters().map(|entry| {
            let [first, second] = moments_of(entry).map(|moment| load(moment.name));
            (entry.name.clone(), Moments { shape: entry.shape.clone(), first, second })
        });
        Ok(Self { settings, step, moments: moments.collect() })
    }
}

/// The two tensors that a checkpoint keeps for a parameter.
fn moments_of(parameter: &Entry) -> [Entry; 2] {
    ["moment1", "moment2"].map(|moment| Entry {
        name: format!("{}.{moment}", parameter.name),
        shape: parameter.shape.clone(),
        part: parameter.part,
    })
}

struct Update<'a> {
    adam: &'a mut Adam,
    lr: f64,
    gradients: GradientsParams,
    path: Path,
}

impl ModuleMapper for Update<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else { return param };
        let name = self.path.name();
        param.map(|value| {
            let value = self.adam.update(name, self.lr, value.without_autodiff(), gradient);
            value.autodiff().require_grad()
        })
    }

    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{DeviceName, open};

    /// The paper's algorithm 1, one value in double precision.
    fn reference(mut value: f64, gradients: &[f64], lr: f64, o: &Optimizer) -> f64 {
        let (mut m, mut v) = (0.0, 0.0);
        for (step, g) in (1..).zip(gradients) {
            m = o.betas[0] * m + (1.0 - o.betas[0]) * g;
            v = o.betas[1] * v + (1.0 - o.betas[1]) * g * g;
            let (m, v) = (m / (1.0 - o.betas[0].powi(step)), v / (1.0 - o.betas[1].powi(step)));
            value -= lr * m / (v.sqrt() + o.epsilon);
        }
        value
    }

    #[test]
    fn steps_follow_the_paper() {
        let device = open(DeviceName::Cpu, 1).expect("the processor is always there");
        let settings = Optimizer { betas: [0.8, 0.95], epsilon: 1e-3, ..Optimizer::default() };
        let gradients = [[0.5, -1e-3], [-0.25, 2e-3], [1.0, 0.0], [0.125, -4e-3]];
        let mut adam = Adam::new(settings);
        let mut value = Tensor::<1>::from_data([1.0, -2.0], &device);
        for gradient in gradients {
            adam.step += 1;
            value = adam.update("p".to_owned(), 0.1, value, Tensor::from_data(gradient, &device));
        }
        let got = HostTensor::of(value).values;
        for (index, start) in [1.0, -2.0].into_iter().enumerate() {
            let column: Vec<f64> = gradients.iter().map(|row| row[index]).collect();
            let expected = reference(start, &column, 0.1, &settings);
            assert!((f64::from(got[index]) - expected).abs() < 1e-6, "{} is not {expected}", got[index]);
        }
    }

    #[test]
    fn the_state_comes_back_from_a_checkpoint() {
        let device = open(DeviceName::Cpu, 1).expect("the processor is always there");
        let parameter =
            Entry { name: "classifier.weight".to_owned(), shape: vec![2, 1], part: crate::model::Part::Head };
        let mut adam = Adam::new(Optimizer::default());
        adam.step = 1;
        let zeros = Tensor::<2>::zeros([2, 1], &device);
        adam.update(parameter.name.clone(), 1e-3, zeros, Tensor::from_data([[1.0], [2.0]], &device));
        let state = adam.state();
        let entries = [parameter];
        let again = Adam::from_state(Optimizer::default(), &state, &entries, &device).expect("its own state");
        assert_eq!(again.state(), state);

        let without_step = Contents { step: None, ..state.clone() };
        assert!(matches!(Adam::from_state(Optimizer::default(), &without_step, &entries, &device), Err(Error::Step)));
        let other = Adam::new(Optimizer::default()).state();
        let error = Adam::from_state(Optimizer::default(), &other, &entries, &device).expect_err("it has no moments");
        assert_eq!(error.to_string(), "tensor classifier.weight.moment1 is missing");
    }
}
