//! What is shared between runs, and what makes an epoch another one.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::spec::{ForkPoint, Format, PolicyName, Schedule, parse};

fn spec(arms: &[&[(u32, &str)]], seeds: u32) -> ExperimentSpec {
    let budget: u32 = arms[0].iter().map(|(epochs, _)| epochs).sum();
    let mut text = format!(
        "name = \"x\"\ndata = {{ dataset = \"d\" }}\nmodel = {{ init = \"random\" }}\nbudget = {{ epochs = {budget} }}\n\
         seeds = {{ count = {seeds} }}\n"
    );
    for (index, stages) in arms.iter().enumerate() {
        let stages: Vec<String> =
            stages.iter().map(|(epochs, train)| format!("{{ epochs = {epochs}, train = \"{train}\" }}")).collect();
        text += &format!("[[arm]]\nname = \"arm{index}\"\nstages = [{}]\n", stages.join(", "));
    }
    parse(&text, Format::Toml).expect("a well-formed spec")
}

fn planned(spec: &ExperimentSpec) -> Plan {
    plan(ExperimentId(uuid::Uuid::nil()), spec, &Pins::default()).expect("a valid spec")
}

#[test]
fn the_seed_study_trains_55_of_80_epochs() {
    let mut study = spec(
        &[
            &[(20, "head")],
            &[(15, "head"), (5, "denseblock4")],
            &[(10, "head"), (10, "denseblock4")],
            &[(20, "denseblock4")],
        ],
        8,
    );
    study.grid.augment = Some(vec![Augment::NONE, Augment::Named(PolicyName::Light)]);
    let plan = planned(&study);
    assert_eq!((plan.runs.len(), plan.epochs_asked(), plan.epochs_to_train()), (64, 1280, 880));
}

#[test]
fn a_common_beginning_is_one_segment_and_its_runs_branch_from_it() {
    let plan = planned(&spec(&[&[(4, "head")], &[(2, "head"), (2, "denseblock4")]], 1));
    let shape: Vec<_> = plan.segments.iter().map(|s| (s.parent, s.work.epochs.len(), s.work.endpoint)).collect();
    assert_eq!(shape, [(None, 2, false), (Some(0), 2, true), (Some(0), 2, true)]);
    assert_eq!(plan.runs.iter().map(|run| run.path.clone()).collect::<Vec<_>>(), [vec![0, 1], vec![0, 2]]);
    assert!(plan.segments[2].work.epochs[0].optimizer_starts);
}

#[test]
fn equal_arms_share_everything() {
    let plan = planned(&spec(&[&[(3, "head")], &[(3, "head")]], 2));
    assert_eq!((plan.runs.len(), plan.segments.len(), plan.epochs_to_train()), (4, 2, 6));
}

#[test]
fn a_horizon_free_schedule_shares_what_a_shorter_one_has_done() {
    let stages: [&[(u32, &str)]; 2] = [&[(4, "head")], &[(3, "head"), (1, "head")]];
    let to_train = |schedule| {
        let mut spec = spec(&stages, 1);
        spec.controls.schedule = schedule;
        planned(&spec).epochs_to_train()
    };
    assert_eq!(to_train(Schedule::Step { every: 2, factor: 0.1, warm_up: 0 }), 5);
    // Stages of 4 and of 3 epochs begin with the same rate, and then fall at different speeds.
    assert_eq!(to_train(Schedule::Cosine { minimum: 0.0, warm_up: 0 }), 7);
    assert_eq!(to_train(Schedule::OneCycle { rise: 0.3, start_divisor: 25.0, end_divisor: 1e4 }), 8);
}

/// The first epoch whose key a change of the spec moves; `None` where it moves none.
fn touched(change: impl Fn(&mut ExperimentSpec)) -> Option<u32> {
    let mut changed = spec(&[&[(2, "head"), (2, "denseblock4")]], 1);
    changed.controls.optimizer.weight_decay = Some(0.1);
    let keys = |spec: &ExperimentSpec| {
        let plan = planned(spec);
        plan.keys(&plan.runs[0]).map(|(_, key)| key).collect::<Vec<_>>()
    };
    let before = keys(&changed);
    change(&mut changed);
    let after = keys(&changed);
    let first = before.iter().zip(&after).position(|(before, after)| before != after);
    first.map(|index| index as u32 + 1)
}

#[test]
fn a_setting_moves_the_keys_from_the_first_epoch_that_it_touches() {
    let from_the_first = [
        touched(|spec| spec.model.arch = Arch::Densenet169),
        touched(|spec| spec.model.init = Init::Weights("w".to_owned())),
        touched(|spec| spec.data.dataset = "other".to_owned()),
        touched(|spec| spec.seeds.values = spec.seeds.count.take().map(|_| vec![7])),
        touched(|spec| spec.controls.batch_size = 16),
        touched(|spec| spec.controls.optimizer.epsilon = Some(1e-7)),
        touched(|spec| spec.controls.optimizer.weight_decay = Some(0.2)),
        touched(|spec| spec.controls.optimizer.decay_norms_and_biases = Some(true)),
        touched(|spec| spec.controls.lr = 1e-4),
        touched(|spec| spec.controls.schedule = Schedule::Constant { warm_up: 1 }),
        touched(|spec| spec.controls.augment = Augment::Named(PolicyName::Strong)),
        touched(|spec| spec.controls.clip_norm = Some(1.0)),
        touched(|spec| spec.controls.label_smoothing = 0.1),
        touched(|spec| spec.controls.class_weights = spec::ClassWeights::Listed(vec![1.0, 2.0])),
        touched(|spec| spec.controls.accumulate = 2),
        touched(|spec| spec.controls.average = Some(0.99)),
        touched(|spec| spec.controls.precision = Precision::Bf16),
        touched(|spec| spec.controls.memory = Memory::Low),
    ];
    assert_eq!(from_the_first, [Some(1); 18]);
    assert_eq!(touched(|spec| spec.controls.lr_decay_per_block = 0.5), Some(3));
    assert_eq!(touched(|spec| spec.arm[0].stages[1].lr = Some(1e-5)), Some(3));
    assert_eq!(touched(|spec| spec.controls.schedule = Schedule::Step { every: 1, factor: 0.1, warm_up: 0 }), Some(2));
    let nothing = [
        touched(|spec| spec.name = "other".to_owned()),
        touched(|spec| spec.arm[0].name = "other".to_owned()),
        touched(|spec| spec.execution.checkpoint_every_steps = Some(10)),
        touched(|spec| spec.controls.optimizer.betas = Some([0.9, 0.999])),
        touched(|spec| spec.controls.clip_norm = Some(0.0)),
        touched(|spec| spec.compare.alpha = 0.01),
    ];
    assert_eq!(nothing, [None; 6]);
}

proptest! {
    #[test]
    fn every_run_covers_its_budget_once_and_no_epoch_is_trained_twice(
        splits in prop::collection::vec(prop::collection::vec(0usize..6, 1..5), 1..6),
        budget in 1u32..12,
        seeds in 1u32..4,
    ) {
        const TRAIN: [&str; 6] = ["head", "denseblock4", "denseblock3", "denseblock2", "denseblock1", "all"];
        let arms: Vec<Vec<(u32, &str)>> = splits
            .iter()
            .map(|kinds| {
                let stages = kinds.len().min(budget as usize);
                let mut arm: Vec<_> = kinds[..stages].iter().map(|kind| (1, TRAIN[*kind])).collect();
                arm[stages - 1].0 = budget - stages as u32 + 1;
                arm
            })
            .collect();
        let arms: Vec<&[(u32, &str)]> = arms.iter().map(Vec::as_slice).collect();
        let plan = planned(&spec(&arms, seeds));
        for run in &plan.runs {
            let epochs: Vec<u32> = plan.keys(run).map(|(epoch, _)| epoch.0).collect();
            prop_assert_eq!(epochs, (1..=budget).collect::<Vec<_>>());
            prop_assert!(plan.segments[*run.path.last().unwrap()].work.endpoint);
            for pair in run.path.windows(2) {
                prop_assert_eq!(plan.segments[pair[1]].parent, Some(pair[0]));
            }
        }
        let keys: Vec<_> = plan.segments.iter().flat_map(|s| s.work.epochs.iter().map(|work| work.key)).collect();
        prop_assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
        prop_assert!(plan.segments.iter().enumerate().all(|(index, s)| s.parent.is_none_or(|parent| parent < index)));
        let ids: HashSet<_> = plan.segments.iter().map(|s| s.id).chain(plan.runs.iter().map(|r| SegmentId(r.id.0))).collect();
        prop_assert_eq!(ids.len(), plan.segments.len() + plan.runs.len());
    }
}

/// A spec of which every run goes on from `inherited`, and the run's own plan.
fn forked(stages: &[(u32, &str)], seeds: &[u64], inherited: Vec<Work>) -> (ExperimentSpec, Plan) {
    let mut spec = spec(&[stages], 1);
    let epoch = inherited.last().map_or(Epoch(0), Work::last_epoch);
    spec.model.init = Init::Run(ForkPoint { run: "0000".to_owned(), epoch });
    spec.budget.epochs += epoch.0;
    (spec.seeds.count, spec.seeds.values) = (None, Some(seeds.to_vec()));
    let pins = Pins { inherited, ..Pins::default() };
    let plan = plan(ExperimentId(uuid::Uuid::from_u128(1)), &spec, &pins).expect("a valid spec");
    (spec, plan)
}

#[test]
fn a_fork_with_the_runs_own_seed_has_the_keys_of_a_run_with_both_stages() {
    let whole = planned(&spec(&[&[(2, "head"), (3, "denseblock4")]], 2));
    let before = planned(&spec(&[&[(4, "head")]], 2));
    let (_, fork) = forked(&[(3, "denseblock4")], &[1], before.work_up_to(&before.runs[1], Epoch(2)));
    assert_eq!(fork.keys(&fork.runs[0]).collect::<Vec<_>>(), whole.keys(&whole.runs[1]).collect::<Vec<_>>());
    let works: Vec<_> = fork.segments.iter().map(|segment| (segment.work.seed, segment.work.endpoint)).collect();
    assert_eq!(works, [(1, false), (1, true)]);
}

#[test]
fn forks_with_other_seeds_inherit_one_beginning_and_part_after_it() {
    let before = planned(&spec(&[&[(4, "head")]], 2));
    let inherited = before.work_up_to(&before.runs[0], Epoch(3));
    let (mut spec, fork) = forked(&[(2, "head")], &[0, 1, 2], inherited.clone());
    let shape: Vec<_> = fork.segments.iter().map(|s| (s.parent, s.work.seed, s.work.epochs.len())).collect();
    assert_eq!(shape, [(None, 0, 3), (Some(0), 0, 2), (Some(0), 1, 2), (Some(0), 2, 2)]);
    assert_eq!((fork.epochs_asked(), fork.epochs_to_train()), (15, 9));
    let ends: HashSet<_> = fork.runs.iter().filter_map(|run| fork.keys(run).last()).collect();
    assert_eq!(ends.len(), 3);
    assert!(fork.segments[1].work.epochs[0].optimizer_starts);

    // On its own, a run trains what it inherits with the seed that this was trained with.
    let alone = fork.alone(&fork.runs[2], ExperimentId(uuid::Uuid::from_u128(2)));
    assert_eq!(alone.segments.iter().map(|segment| segment.work.seed).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(alone.keys(&alone.runs[0]).collect::<Vec<_>>(), fork.keys(&fork.runs[2]).collect::<Vec<_>>());

    // A fork of a fork inherits both.
    let (_, twice) = forked(&[(1, "head")], &[2], fork.work_up_to(&fork.runs[2], Epoch(4)));
    assert_eq!(twice.segments.iter().map(|segment| segment.work.epochs.len()).collect::<Vec<_>>(), [3, 1, 1]);
    assert_eq!(twice.keys(&twice.runs[0]).nth(3), fork.keys(&fork.runs[2]).nth(3));

    // Where nothing is shared, each run trains all of its epochs.
    spec.execution.share = false;
    let pins = Pins { inherited, ..Pins::default() };
    let unshared = plan(ExperimentId(uuid::Uuid::nil()), &spec, &pins).expect("a valid spec");
    assert_eq!((unshared.segments.len(), unshared.epochs_to_train()), (6, 15));
    let ids: HashSet<_> = unshared.segments.iter().map(|segment| segment.id).collect();
    assert_eq!(ids.len(), 6);
}

#[test]
fn a_fork_needs_a_coordinator_and_counts_what_it_inherits() {
    let mut spec = spec(&[&[(2, "head")]], 1);
    spec.model.init = Init::Run(ForkPoint { run: "1f0c92ab".to_owned(), epoch: Epoch(3) });
    let refused = |spec: &ExperimentSpec| {
        plan(ExperimentId(uuid::Uuid::nil()), spec, &Pins::default()).expect_err("it is not known").to_string()
    };
    insta::assert_snapshot!(refused(&spec), @r#"arm "arm0": its stages add up to 5 epochs (3 inherited + 2), but `budget.epochs` is 2; every arm must spend exactly the budget, so change the stages or the budget"#);
    spec.budget.epochs = 5;
    insta::assert_snapshot!(refused(&spec), @"model.init: only a coordinator knows what run:1f0c92ab@3 is; plan and submit with one");
}
