//! By which settings two arms differ, each once and by its name in a spec. Whether a difference in results can be anyone's
//! in particular depends on their number ([`super::confounded`]).

use serde_json::{Value, json};

use crate::spec::{Factor, Optimization, ResolvedArm, ResolvedStage};

/// A setting in which two arms differ.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Differing {
    pub(super) factor: Factor,
    /// Its value in the baseline and in the other arm.
    pub(super) values: [Value; 2],
}

/// The settings in which two arms differ, sorted by name.
///
/// A rate and its schedule are chosen for what is trained: in epochs in which the arms train different parts they belong to
/// `stages`, and in epochs in which they train the same they are `lr` and `schedule`. Augmentation is the same question in
/// every epoch.
pub(super) fn factors(baseline: &ResolvedArm, arm: &ResolvedArm) -> Vec<Differing> {
    let differing = |factor: Factor| {
        differ(factor, baseline, arm)
            .then(|| Differing { factor, values: [baseline, arm].map(|arm| value(factor, arm)) })
    };
    Factor::ALL.into_iter().filter_map(differing).collect()
}

fn differ(factor: Factor, baseline: &ResolvedArm, arm: &ResolvedArm) -> bool {
    let in_some_epoch = |differ: fn(&ResolvedStage, &ResolvedStage) -> bool| {
        at_the_same_time(&baseline.stages, &arm.stages).any(|(baseline, arm)| differ(baseline, arm))
    };
    match factor {
        Factor::Stages => {
            let spent =
                |arm: &ResolvedArm| arm.stages.iter().map(|stage| (stage.epochs, stage.train)).collect::<Vec<_>>();
            spent(baseline) != spent(arm)
        }
        Factor::Lr => in_some_epoch(|baseline, arm| baseline.train == arm.train && baseline.lr != arm.lr),
        Factor::Schedule => in_some_epoch(|baseline, arm| {
            baseline.train == arm.train && baseline.schedule.to_string() != arm.schedule.to_string()
        }),
        Factor::Augment => in_some_epoch(|baseline, arm| baseline.augment.to_string() != arm.augment.to_string()),
        // Where one arm has no decay, there is nothing that could be spared from it.
        Factor::DecayNormsAndBiases => {
            let decays = |arm: &ResolvedArm| arm.optimization.weight_decay != 0.0;
            decays(baseline) && decays(arm) && value(factor, baseline) != value(factor, arm)
        }
        Factor::Accumulate
        | Factor::Average
        | Factor::BatchSize
        | Factor::ClassWeights
        | Factor::ClipNorm
        | Factor::LabelSmoothing
        | Factor::LrDecayPerBlock
        | Factor::Memory
        | Factor::Optimizer
        | Factor::Precision
        | Factor::WeightDecay => value(factor, baseline) != value(factor, arm),
    }
}

/// The two arms' stages in each stretch of epochs in which neither goes on to another.
fn at_the_same_time<'a>(
    baseline: &'a [ResolvedStage],
    arm: &'a [ResolvedStage],
) -> impl Iterator<Item = (&'a ResolvedStage, &'a ResolvedStage)> {
    let ends = |stages: &'a [ResolvedStage]| {
        stages.iter().scan(0_u64, |end, stage| {
            *end += u64::from(stage.epochs);
            Some((*end, stage))
        })
    };
    let (mut baseline, mut arm) = (ends(baseline).peekable(), ends(arm).peekable());
    std::iter::from_fn(move || {
        let (&(baseline_ends, of_baseline), &(arm_ends, of_arm)) = (baseline.peek()?, arm.peek()?);
        baseline.next_if(|_| baseline_ends <= arm_ends);
        arm.next_if(|_| arm_ends <= baseline_ends);
        Some((of_baseline, of_arm))
    })
}

/// A setting's value in an arm. Stages, schedules, policies and rules are one text each; of what stages can differ in there
/// is a list where they do.
fn value(factor: Factor, arm: &ResolvedArm) -> Value {
    // The arm's name and levels say the same again. All else is a factor: whoever adds a setting has to say which.
    let ResolvedArm { name: _, levels: _, batch_size, optimization, precision, memory, stages } = arm;
    let Optimization {
        rule,
        weight_decay,
        decay_norms_and_biases,
        clip_norm,
        label_smoothing,
        class_weights,
        lr_decay_per_block,
        accumulate,
        average,
    } = optimization;
    let of_stages = |of: fn(&ResolvedStage) -> Value| super::one_or_list(stages.iter().map(of).collect());
    match factor {
        Factor::Accumulate => json!(accumulate),
        Factor::Augment => of_stages(|stage| json!(stage.augment.to_string())),
        Factor::Average => json!(average),
        Factor::BatchSize => json!(batch_size),
        Factor::ClassWeights => json!(class_weights),
        Factor::ClipNorm => json!(clip_norm),
        Factor::DecayNormsAndBiases => json!(decay_norms_and_biases),
        Factor::LabelSmoothing => json!(label_smoothing),
        Factor::Lr => of_stages(|stage| json!(stage.lr)),
        Factor::LrDecayPerBlock => json!(lr_decay_per_block),
        Factor::Memory => json!(memory),
        Factor::Optimizer => json!(rule.to_string()),
        Factor::Precision => json!(precision),
        Factor::Schedule => of_stages(|stage| json!(stage.schedule.to_string())),
        Factor::Stages => json!(stages.iter().map(ResolvedStage::to_string).collect::<Vec<_>>().join(", ")),
        Factor::WeightDecay => json!(weight_decay),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Format, parse, resolve};

    /// The names of what two arms differ in, each written as its keys in a spec. `controls` is a table, or nothing.
    fn named(controls: &str, arms: [&str; 2]) -> String {
        let mut text = format!(
            "name = \"x\"\ndata.dataset = \"d\"\nmodel.init = \"random\"\nbudget.epochs = 20\nseeds.count = 2\n{controls}\n"
        );
        for (name, keys) in ["one", "other"].iter().zip(arms) {
            text += &format!("[[arm]]\nname = \"{name}\"\n{keys}\n");
        }
        let spec = parse(&text, Format::Toml).expect("a spec");
        crate::spec::validate(&spec).expect("a valid spec");
        let arms = resolve(&spec);
        let names = |baseline, arm| factors(baseline, arm).iter().map(|of| of.factor.name()).collect::<Vec<_>>();
        let told = names(&arms[0], &arms[1]);
        assert_eq!(told, names(&arms[1], &arms[0]), "either way round");
        assert_eq!(told.is_empty(), super::super::treatment(&arms[0], &arms[1]).is_empty(), "{arms:?}");
        told.join(" ")
    }

    /// How two arms spend the budget, and what they differ in.
    #[test]
    fn a_rate_and_its_schedule_belong_to_what_is_trained() {
        let head = "{ epochs = 20, train = \"head\" }";
        for (baseline, arm, expected) in [
            (head, head, ""),
            (head, "{ epochs = 15, train = \"head\" }, { epochs = 5, train = \"denseblock4\", lr = 1e-5 }", "stages"),
            (head, "{ epochs = 20, train = \"denseblock4\", lr = 1e-5, schedule = \"cosine\" }", "stages"),
            (head, "{ epochs = 20, train = \"head\", lr = 1e-4 }", "lr"),
            (head, "{ epochs = 20, train = \"head\", schedule = \"cosine\" }", "schedule"),
            (head, "{ epochs = 20, train = \"head\", augment = \"light\" }", "augment"),
            // The head is trained at two rates for 15 epochs.
            (
                head,
                "{ epochs = 15, train = \"head\", lr = 1e-4 }, { epochs = 5, train = \"denseblock4\", lr = 1e-5 }",
                "lr stages",
            ),
            // The same stages one after the other, and then another rate for the same.
            (head, "{ epochs = 10, train = \"head\" }, { epochs = 10, train = \"head\" }", "stages"),
            (head, "{ epochs = 10, train = \"head\" }, { epochs = 10, train = \"head\", lr = 1e-4 }", "lr stages"),
            // What counts is what is trained in an epoch, not in the stage of the same number.
            (
                "{ epochs = 20, train = \"denseblock4\", lr = 1e-5 }",
                "{ epochs = 15, train = \"head\" }, { epochs = 5, train = \"denseblock4\", lr = 1e-5 }",
                "stages",
            ),
            (
                "{ epochs = 20, train = \"denseblock4\", lr = 1e-5 }",
                "{ epochs = 15, train = \"head\" }, { epochs = 5, train = \"denseblock4\", lr = 1e-4 }",
                "lr stages",
            ),
            (
                "{ epochs = 10, train = \"head\" }, { epochs = 10, train = \"all\", lr = 1e-5 }",
                "{ epochs = 5, train = \"head\" }, { epochs = 5, train = \"denseblock4\", lr = 1e-4 }, { epochs = 10, train = \"all\", lr = 1e-5 }",
                "stages",
            ),
            (
                "{ epochs = 15, train = \"head\" }, { epochs = 5, train = \"denseblock4\", lr = 1e-5 }",
                "{ epochs = 10, train = \"head\" }, { epochs = 10, train = \"denseblock4\", lr = 1e-5 }",
                "stages",
            ),
            // Augmentation is a question of its own in every epoch, also where only one arm has a stage.
            (
                head,
                "{ epochs = 15, train = \"head\" }, { epochs = 5, train = \"denseblock4\", augment = \"light\" }",
                "augment stages",
            ),
        ] {
            let [baseline, arm] = [baseline, arm].map(|stages| format!("stages = [{stages}]"));
            assert_eq!(named("", [&baseline, &arm]), expected, "{baseline} against {arm}");
        }
    }

    #[test]
    fn settings_of_a_rule_are_the_rules_but_its_weight_decay() {
        let head = "stages = [{ epochs = 20, train = \"head\" }]";
        let other = |keys: &str| named("", [head, &format!("{head}\n{keys}")]);
        assert_eq!(other("optimizer = { name = \"adam\", betas = [0.9, 0.99], epsilon = 1e-6 }"), "optimizer");
        assert_eq!(other("optimizer = { name = \"sgd\", momentum = 0.9 }"), "optimizer");
        // adamw decays by 0.01 if it is not told otherwise.
        assert_eq!(other("optimizer = { name = \"adamw\" }"), "optimizer weight_decay");
        assert_eq!(other("optimizer = { name = \"adamw\", weight_decay = 0 }"), "optimizer");
        assert_eq!(other("optimizer = { name = \"adam\", weight_decay = 0.1 }"), "weight_decay");
        let all = "optimizer = { name = \"adam\", weight_decay = 0.1, decay_norms_and_biases = true }";
        assert_eq!(other(all), "weight_decay");
        let controls = "controls.optimizer = { name = \"adam\", weight_decay = 0.1 }";
        assert_eq!(named(controls, [head, &format!("{head}\n{all}")]), "decay_norms_and_biases");
    }
}
