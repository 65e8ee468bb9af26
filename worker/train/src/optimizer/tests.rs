//! Every formula by hand in double precision, and the state there and back.

use burn::tensor::{DType, Device};
use ceteris_shared::architecture::Part;

use super::*;
use crate::{
    backend::{DeviceName, open},
    tensors::{Contents, Error, HostTensor},
};

const GRADIENTS: [[f64; 2]; 4] = [[0.5, -1e-3], [-0.25, 2e-3], [1.0, 0.0], [0.125, -4e-3]];
const START: [f64; 2] = [1.0, -2.0];
const BETAS: [f64; 2] = [0.8, 0.95];
const EPSILON: f64 = 1e-3;

fn device() -> Device {
    open(DeviceName::default(), 1).expect("the processor is always there").device
}

fn entry(name: &str, shape: &[usize], part: Part) -> Entry {
    Entry { name: name.to_owned(), shape: shape.to_vec(), part }
}

fn classifier() -> Vec<Entry> {
    vec![entry("classifier.weight", &[1, 1], Part::Head), entry("classifier.bias", &[1], Part::Head)]
}

fn values(tensor: Tensor<1>) -> Vec<f64> {
    tensor.into_data().try_into_vec().expect("the test computes in f64")
}

/// The parameters after each of the steps along `GRADIENTS` at rate 0.1.
fn trajectory(settings: &Optimization, parameters: &[Entry]) -> (Vec<Vec<f64>>, Optimizer) {
    let device = device();
    let tensor = |values: [f64; 2]| Tensor::<1>::from_data(values, (&device, DType::F64));
    let mut optimizer = Optimizer::new(settings, parameters);
    let mut current = tensor(START);
    let mut all = Vec::new();
    for gradient in GRADIENTS {
        current = optimizer.step(0.1, current, tensor(gradient));
        all.push(values(current.clone()));
    }
    (all, optimizer)
}

/// Compares each element's trajectory with `rule`, which maps (index, step from 1, value, gradient) to the next value.
#[track_caller]
fn assert_follows(settings: &Optimization, mut rule: impl FnMut(usize, i32, f64, f64) -> f64) {
    let (got, _) = trajectory(settings, &classifier());
    for (index, mut value) in START.into_iter().enumerate() {
        for (step, gradients) in (1..).zip(GRADIENTS) {
            value = rule(index, step, value, gradients[index]);
            let got = got[step as usize - 1][index];
            assert!((got - value).abs() < 1e-12, "element {index} is {got} after step {step}, not {value}");
        }
    }
}

/// The paper's algorithm 1 for two values: the change of value `index` before the rate.
fn adam() -> impl FnMut(usize, i32, f64) -> f64 {
    let mut moments = [[0.0; 2]; 2];
    move |index, step, gradient| {
        let [m, v] = &mut moments[index];
        *m = BETAS[0] * *m + (1.0 - BETAS[0]) * gradient;
        *v = BETAS[1] * *v + (1.0 - BETAS[1]) * gradient * gradient;
        let (m, v) = (*m / (1.0 - BETAS[0].powi(step)), *v / (1.0 - BETAS[1].powi(step)));
        m / (v.sqrt() + EPSILON)
    }
}

fn sgd(momentum: f64, dampening: f64, nesterov: bool) -> Optimization {
    Optimization { rule: UpdateRule::Sgd { momentum, dampening, nesterov }, ..Optimization::default() }
}

#[test]
fn adam_follows_the_paper_and_decays_the_gradient() {
    let rule = UpdateRule::Adam { betas: BETAS, epsilon: EPSILON };
    let mut change = adam();
    assert_follows(&Optimization { rule, ..Optimization::default() }, |index, step, value, gradient| {
        value - 0.1 * change(index, step, gradient)
    });
    let mut change = adam();
    let settings = Optimization { rule, weight_decay: 0.3, ..Optimization::default() };
    assert_follows(&settings, |index, step, value, gradient| {
        let decay = if index == 0 { 0.3 } else { 0.0 };
        value - 0.1 * change(index, step, gradient + decay * value)
    });
}

#[test]
fn adamw_decays_the_weight_and_not_the_gradient() {
    let rule = UpdateRule::Adamw { betas: BETAS, epsilon: EPSILON };
    for everything in [false, true] {
        let settings =
            Optimization { rule, weight_decay: 0.3, decay_norms_and_biases: everything, ..Optimization::default() };
        let mut change = adam();
        assert_follows(&settings, |index, step, value, gradient| {
            let decay = if index == 0 || everything { 0.3 } else { 0.0 };
            value * (1.0 - 0.1 * decay) - 0.1 * change(index, step, gradient)
        });
    }
}

#[test]
fn sgd_starts_its_momentum_with_the_first_gradient() {
    assert_follows(&sgd(0.0, 0.0, false), |_, _, value, gradient| value - 0.1 * gradient);
    for (dampening, nesterov) in [(0.0, false), (0.25, false), (0.0, true)] {
        let mut buffers = [0.0; 2];
        assert_follows(&sgd(0.9, dampening, nesterov), |index, step, value, gradient| {
            let buffer = &mut buffers[index];
            *buffer = if step == 1 { gradient } else { 0.9 * *buffer + (1.0 - dampening) * gradient };
            value - 0.1 * if nesterov { gradient + 0.9 * *buffer } else { *buffer }
        });
    }
}

#[test]
fn long_gradients_are_shortened() {
    let settings = Optimization { clip_norm: Some(0.3), ..sgd(0.0, 0.0, false) };
    assert_follows(&settings, |_, step, value, gradient| {
        let [a, b] = GRADIENTS[step as usize - 1];
        value - 0.1 * gradient * (0.3 / (a.hypot(b) + 1e-6)).min(1.0)
    });
}

#[test]
fn the_average_starts_with_the_first_weights() {
    for decay in [0.9, 0.25] {
        let settings = Optimization { average: Some(decay), ..sgd(0.0, 0.0, false) };
        assert!(Optimizer::new(&settings, &classifier()).averaged().is_none());
        let (weights, optimizer) = trajectory(&settings, &classifier());
        let got = values(optimizer.averaged().expect("it is asked for"));
        for (index, got) in got.into_iter().enumerate() {
            let average = |average: f64, weights: &Vec<f64>| decay * average + (1.0 - decay) * weights[index];
            let expected = weights[1..].iter().fold(weights[0][index], average);
            assert!((got - expected).abs() < 1e-12, "{got} is not {expected}");
        }
    }
}

#[test]
fn blocks_below_the_head_are_slower() {
    let parameters = [entry("features.norm5.weight", &[1], Part::Block4), entry("classifier.bias", &[1], Part::Head)];
    let plain = trajectory(&sgd(0.0, 0.0, false), &parameters).0;
    let slower = trajectory(&Optimization { lr_decay_per_block: 0.5, ..sgd(0.0, 0.0, false) }, &parameters).0;
    for (plain, slower) in plain.iter().zip(&slower) {
        assert!((slower[0] - START[0] - 0.5 * (plain[0] - START[0])).abs() < 1e-12);
        assert_eq!(slower[1], plain[1]);
    }
}

#[test]
fn a_tensor_that_is_still_held_keeps_its_values() {
    let device = device();
    let held = Tensor::<1>::from_data([1.0, 2.0], (&device, DType::F64));
    let settings =
        Optimization { clip_norm: Some(1e-3), weight_decay: 0.1, average: Some(0.9), ..Optimization::default() };
    let mut optimizer = Optimizer::new(&settings, &classifier());
    let first = optimizer.step(0.1, held.clone(), held.clone());
    let before = (values(first.clone()), values(optimizer.averaged().expect("it is asked for")));
    let average = optimizer.averaged().expect("it is asked for");
    optimizer.step(0.1, first.clone(), held.clone());
    assert_eq!(values(held), [1.0, 2.0]);
    assert_eq!((values(first), values(average)), before);
}

#[test]
fn a_state_that_does_not_fit_is_refused_by_name() {
    let device = device();
    let settings = Optimization { average: Some(0.9), ..Optimization::default() };
    let tensor = |values: [f32; 2]| Tensor::<1>::from_data(values, &device);
    let mut optimizer = Optimizer::new(&settings, &classifier());
    optimizer.step(0.1, tensor([1.0, 2.0]), tensor([0.5, 0.25]));
    let state = optimizer.state();
    let names: Vec<&str> = state.tensors.0.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "classifier.bias.average",
            "classifier.bias.moment1",
            "classifier.bias.moment2",
            "classifier.weight.average",
            "classifier.weight.moment1",
            "classifier.weight.moment2",
        ]
    );
    assert_eq!(state.tensors.0["classifier.weight.moment1"].shape, [1, 1]);

    let refused = |settings: &Optimization, state: &Contents| {
        Optimizer::from_state(settings, state, &classifier(), &device).expect_err("it does not fit").to_string()
    };
    let mut missing = state.clone();
    missing.tensors.0.remove("classifier.bias.moment2");
    assert_eq!(refused(&settings, &missing), "tensor classifier.bias.moment2 is missing");
    let mut misshapen = state.clone();
    let wrong = HostTensor { shape: vec![2], values: vec![0.0; 2] };
    misshapen.tensors.0.insert("classifier.weight.average".to_owned(), wrong);
    assert_eq!(
        refused(&settings, &misshapen),
        "tensor classifier.weight.average has shape [2]; the network's is [1, 1]"
    );
    let refusal = refused(&Optimization::default(), &state);
    assert_eq!(refusal, "tensor classifier.bias.average is none of the network's");
    assert_eq!(refused(&sgd(0.9, 0.0, false), &state), "tensor classifier.weight.momentum is missing");
    let stepless = Contents { step: None, ..state };
    let error = Optimizer::from_state(&settings, &stepless, &classifier(), &device).expect_err("it has no step");
    assert!(matches!(error, Error::Step));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn a_restored_optimizer_goes_on_to_the_bit(
        rule in 0..5usize,
        average in proptest::option::of(0.0..1.0f64),
        clip_norm in proptest::option::of(0.1..2.0f64),
        (weight_decay, lr_decay_per_block) in (0.0..0.2f64, 0.1..1.0f64),
        gradients in proptest::collection::vec(proptest::array::uniform4(-2.0..2.0f32), 2..6),
        after in 0..6usize,
    ) {
        let device = device();
        let rule = [
            UpdateRule::Adam { betas: BETAS, epsilon: EPSILON },
            UpdateRule::Adamw { betas: BETAS, epsilon: EPSILON },
            UpdateRule::Sgd { momentum: 0.0, dampening: 0.0, nesterov: false },
            UpdateRule::Sgd { momentum: 0.9, dampening: 0.1, nesterov: false },
            UpdateRule::Sgd { momentum: 0.9, dampening: 0.0, nesterov: true },
        ][rule];
        let settings =
            Optimization { rule, average, clip_norm, weight_decay, lr_decay_per_block, ..Optimization::default() };
        let mut parameters = classifier();
        parameters.insert(0, entry("features.norm5.weight", &[2], Part::Block4));
        let mut straight = Optimizer::new(&settings, &parameters);
        let mut restored = straight.clone();
        let start = || Tensor::<1>::from_data([0.5f32, -1.0, 2.0, 0.0], &device);
        let mut weights = [start(), start()];
        for (step, gradient) in gradients.iter().enumerate() {
            if step == after {
                restored = Optimizer::from_state(&settings, &restored.state(), &parameters, &device)
                    .expect("its own state");
                proptest::prop_assert_eq!(restored.state(), straight.state());
            }
            let gradient = || Tensor::<1>::from_data(*gradient, &device);
            let [a, b] = weights;
            weights = [straight.step(0.1, a, gradient()), restored.step(0.1, b, gradient())];
            proptest::prop_assert_eq!(HostTensor::of(weights[0].clone()), HostTensor::of(weights[1].clone()));
        }
        proptest::prop_assert_eq!(restored.state(), straight.state());
    }
}
