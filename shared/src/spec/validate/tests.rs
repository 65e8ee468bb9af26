//! What is refused, and in which words.

use super::*;
use crate::spec::Keep;
use crate::{
    architecture::Arch,
    spec::{
        Augment, CustomPolicy, Factor, Format, Optimizer, OptimizerName, PolicyName, Precision, Schedule, Stage,
        Trainable, parse,
    },
};

const LIGHT: Augment = Augment::Named(PolicyName::Light);

const ADAM: Optimizer = Optimizer {
    name: OptimizerName::Adam,
    betas: None,
    epsilon: None,
    momentum: None,
    dampening: None,
    nesterov: None,
    weight_decay: None,
    decay_norms_and_biases: None,
};

fn good() -> ExperimentSpec {
    let text = r#"
        name = "x"
        data = { dataset = "d" }
        model = { init = "random" }
        budget = { epochs = 20 }
        seeds = { count = 2 }
        [[arm]]
        name = "frozen"
        stages = [{ epochs = 20, train = "head" }]
        [[arm]]
        name = "finetuned"
        stages = [{ epochs = 15, train = "head" }, { epochs = 5, train = "denseblock4", lr = 1e-5 }]
    "#;
    parse(text, Format::Toml).expect("a well-formed spec")
}

fn error(change: impl FnOnce(&mut ExperimentSpec)) -> String {
    let mut spec = good();
    change(&mut spec);
    validate(&spec).expect_err("the change makes it invalid").to_string()
}

#[test]
fn a_good_spec_is_accepted() {
    assert_eq!(validate(&good()), Ok(()));
}

#[test]
fn unequal_budgets_are_refused_with_the_arm_the_sum_and_the_budget() {
    insta::assert_snapshot!(error(|spec| spec.arm[1].stages[0].epochs = 20));
}

#[test]
fn sums_that_overflow_are_only_unequal() {
    let stage = Stage { epochs: u32::MAX, train: Trainable::Head, lr: None, schedule: None, augment: None };
    assert!(error(|spec| spec.arm[0].stages = vec![stage.clone(), stage]).contains("8589934590 epochs"));
}

#[test]
fn refusals_name_the_place_and_the_way_out() {
    let errors = [
        error(|spec| spec.name = "a b".to_owned()),
        error(|spec| spec.data.dataset = "../x".to_owned()),
        error(|spec| spec.data.external = vec!["d".to_owned()]),
        error(|spec| spec.controls.lr = f64::NAN),
        error(|spec| spec.controls.batch_size = 0),
        error(|spec| spec.controls.optimizer.betas = Some([1.0, 0.999])),
        error(|spec| spec.seeds.values = Some(vec![1])),
        error(|spec| spec.seeds = Seeds::default()),
        error(|spec| spec.seeds = Seeds { count: None, values: Some(vec![3, 3]) }),
        error(|spec| spec.arm.clear()),
        error(|spec| spec.arm[1].name = "frozen".to_owned()),
        error(|spec| spec.arm[0].stages.clear()),
        error(|spec| spec.grid.augment = Some(vec![])),
        error(|spec| spec.grid.augment = Some(vec![Augment::NONE, Augment::NONE])),
        error(|spec| {
            spec.arm[0].augment = Some(LIGHT);
            spec.grid.augment = Some(vec![Augment::NONE, LIGHT]);
        }),
        error(|spec| spec.compare.baseline = Some("frosen".to_owned())),
        error(|spec| spec.compare.treatment = Some(vec![])),
        error(|spec| spec.compare.treatment = Some(vec![Factor::Lr, Factor::Stages, Factor::Lr])),
        error(|spec| spec.compare.alpha = 1.0),
        error(|spec| spec.compare.margin = Some(0.0)),
        error(|spec| spec.keep = Some(Keep { best: 0, last: 0, ..Keep::default() })),
        error(|spec| {
            spec.seeds.count = Some(10_000);
            spec.grid.lr = Some((1..=6).map(|level| f64::from(level) * 1e-4).collect());
        }),
        error(|spec| {
            spec.seeds.count = Some(10_000);
            spec.grid.lr = Some((1..=5).map(|level| f64::from(level) * 1e-4).collect());
            spec.budget.epochs = 201;
            spec.arm.iter_mut().for_each(|arm| arm.stages[0].epochs += 181);
        }),
    ];
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn settings_of_the_engine_are_refused_with_the_way_out() {
    let cosine = |minimum, warm_up| Schedule::Cosine { minimum, warm_up };
    let errors = [
        error(|spec| spec.controls.optimizer.momentum = Some(0.9)),
        error(|spec| {
            spec.arm[1].optimizer = Some(Optimizer { name: OptimizerName::Sgd, epsilon: Some(1e-8), ..ADAM });
        }),
        error(|spec| {
            spec.arm[1].optimizer = Some(Optimizer { name: OptimizerName::Sgd, nesterov: Some(true), ..ADAM });
        }),
        error(|spec| {
            spec.arm[1].optimizer = Some(Optimizer { name: OptimizerName::Sgd, dampening: Some(0.1), ..ADAM });
        }),
        error(|spec| spec.controls.optimizer.weight_decay = Some(-1.0)),
        error(|spec| spec.controls.schedule = Schedule::Step { every: 0, factor: 0.1, warm_up: 0 }),
        error(|spec| spec.controls.schedule = Schedule::Exponential { factor: 1.5, warm_up: 0 }),
        error(|spec| spec.controls.schedule = cosine(-1.0, 0)),
        error(|spec| spec.controls.schedule = cosine(0.0, 5)),
        error(|spec| spec.controls.schedule = cosine(1e-4, 0)),
        error(|spec| {
            spec.arm[0].stages[0].schedule =
                Some(Schedule::OneCycle { rise: 1.0, start_divisor: 25.0, end_divisor: 1e4 });
        }),
        error(|spec| {
            spec.arm[1].stages[1].augment =
                Some(Augment::Custom(Box::new(CustomPolicy { flip: Some(2.0), ..CustomPolicy::default() })));
        }),
        error(|spec| spec.controls.clip_norm = Some(f64::INFINITY)),
        error(|spec| spec.controls.label_smoothing = 1.0),
        error(|spec| spec.controls.class_weights = ClassWeights::Listed(vec![1.0])),
        error(|spec| spec.arm[0].class_weights = Some(ClassWeights::Listed(vec![0.0, 0.0]))),
        error(|spec| spec.controls.lr_decay_per_block = 0.0),
        error(|spec| spec.controls.accumulate = 3),
        error(|spec| spec.arm[0].accumulate = Some(0)),
        error(|spec| spec.controls.average = Some(1.0)),
        error(|spec| spec.execution.checkpoint_every_steps = Some(0)),
        error(|spec| spec.execution.priority = 1001),
        error(|spec| spec.execution.weight = 0),
        error(|spec| spec.execution.max_concurrent = Some(0)),
        error(|spec| spec.model.arch = Arch::Resnet50),
        error(|spec| spec.arm[0].stages[0].train = Trainable::Layer4),
        error(|spec| spec.grid.weight_decay = Some(vec![0.0, 2.0])),
        error(|spec| spec.grid.label_smoothing = Some(vec![1.0])),
        error(|spec| spec.grid.schedule = Some(vec![cosine(0.0, 0), cosine(0.0, 0)])),
        error(|spec| {
            spec.arm[0].precision = Some(Precision::Bf16);
            spec.grid.precision = Some(vec![Precision::Fp32, Precision::Bf16]);
        }),
    ];
    insta::assert_snapshot!(errors.join("\n"));
}
