//! What a spec would do and cost.

use ceteris_shared::{
    document::{FieldDifference, PinState, Plan, PlanArm},
    spec::{ClassWeighting, ClassWeights, Memory, Optimization, UpdateRule, number},
};

use super::{compare::several, stages};
use crate::output::{ReadOut, Table, count};

impl ReadOut for Plan {
    fn text(&self) -> String {
        let mut text = format!(
            "{}: {} × {} = {}, each {}\n",
            self.experiment,
            count(self.arms.len() as u64, "arm"),
            count(self.seeds.len() as u64, "seed"),
            count(self.runs, "run"),
            count(u64::from(self.budget), "epoch"),
        );
        text += &format!(
            "epochs: {} asked for, {} to train in {}",
            self.epochs_asked,
            self.epochs_to_train,
            count(self.segments, "segment"),
        );
        let shared = self.epochs_asked - self.epochs_to_train - self.epochs_in_store.unwrap_or_default();
        text += &match (shared, self.epochs_in_store.unwrap_or_default()) {
            (0, 0) => "; nothing is shared\n".to_owned(),
            (_, 0) => format!("; shared beginnings save {:.0} %\n", self.saving * 100.0),
            (_, trained) => {
                format!(
                    "; {trained} are trained already; with shared beginnings that saves {:.0} %\n",
                    self.saving * 100.0
                )
            }
        };
        let endpoint = &self.endpoint;
        text += &format!("judged on {} at the last epoch\n", endpoint.metric);
        text += &names(self);
        text += "\n";
        let mut arms = Table::new(["arm", ">runs", ">batch", "optimizer", "precision", "stages"]);
        for arm in &self.arms {
            arms.row([
                arm.name.clone(),
                arm.runs.to_string(),
                arm.batch_size.to_string(),
                optimizer(&arm.optimization),
                precision(arm),
                stages(&arm.stages),
            ]);
        }
        text += &arms.text();
        for contrast in &self.contrasts {
            text += &format!("\n{} against {}\n", contrast.arm, contrast.baseline);
            text += &format!("  treatment: {}\n", treatment(&contrast.treatment));
            if let Some(refusal) = &contrast.refused {
                text += &format!("  compare will refuse this: {}\n", refusal.message);
                continue;
            }
            text += &several(&contrast.factors, contrast.bundle);
            text += &format!("  {}\n", contrast.because);
        }
        text
    }

    fn csv(&self) -> Table {
        let mut table =
            Table::new(["experiment", "arm", "runs", "budget", "batch size", "optimizer", "precision", "stages"]);
        for arm in &self.arms {
            table.row([
                self.experiment.clone(),
                arm.name.clone(),
                arm.runs.to_string(),
                self.budget.to_string(),
                arm.batch_size.to_string(),
                optimizer(&arm.optimization),
                precision(arm),
                stages(&arm.stages),
            ]);
        }
        table
    }
}

/// The update rule, and what is set otherwise than by default: `sgd momentum=0.9 clip_norm=1`.
fn optimizer(optimization: &Optimization) -> String {
    let usual = Optimization::default();
    let (mut text, weight_decay) = match optimization.rule {
        UpdateRule::Adam { betas, epsilon } => (adam("adam", betas, epsilon), 0.0),
        UpdateRule::Adamw { betas, epsilon } => (adam("adamw", betas, epsilon), 0.01),
        UpdateRule::Sgd { momentum, dampening, nesterov } => {
            let settings = [("momentum", momentum), ("dampening", dampening)];
            let nesterov = if nesterov { " nesterov" } else { "" };
            (format!("sgd{}{nesterov}", set(&settings.map(|(name, value)| (name, Some(value), 0.0)))), 0.0)
        }
    };
    text += &set(&[("weight_decay", Some(optimization.weight_decay), weight_decay)]);
    if optimization.decay_norms_and_biases {
        text += " decay_norms_and_biases";
    }
    text += &set(&[
        ("clip_norm", optimization.clip_norm, f64::NAN),
        ("label_smoothing", Some(optimization.label_smoothing), usual.label_smoothing),
    ]);
    match &optimization.class_weights {
        ClassWeights::Named(ClassWeighting::None) => {}
        ClassWeights::Named(ClassWeighting::Balanced) => text += " class_weights=balanced",
        ClassWeights::Listed(weights) => {
            let weights: Vec<String> = weights.iter().map(|weight| number(*weight)).collect();
            text += &format!(" class_weights={}", weights.join(":"));
        }
    }
    text += &set(&[
        ("lr_decay_per_block", Some(optimization.lr_decay_per_block), usual.lr_decay_per_block),
        ("accumulate", Some(f64::from(optimization.accumulate)), f64::from(usual.accumulate)),
        ("average", optimization.average, f64::NAN),
    ]);
    text
}

fn adam(name: &str, betas: [f64; 2], epsilon: f64) -> String {
    let [beta1, beta2] = betas.map(number);
    let betas = if betas == [0.9, 0.999] { String::new() } else { format!(" betas={beta1}:{beta2}") };
    format!("{name}{betas}{}", set(&[("epsilon", Some(epsilon), 1e-8)]))
}

/// Settings that are set, and not to the default: ` NAME=VALUE` for each.
fn set(settings: &[(&str, Option<f64>, f64)]) -> String {
    let told = settings.iter().filter_map(|(name, value, default)| {
        value.filter(|value| value != default).map(|value| format!(" {name}={}", number(value)))
    });
    told.collect()
}

fn precision(arm: &PlanArm) -> String {
    match arm.memory {
        Memory::Normal => arm.precision.name().to_owned(),
        Memory::Low => format!("{} memory=low", arm.precision.name()),
    }
}

fn names(plan: &Plan) -> String {
    let pinned = match &plan.pins {
        PinState::Pinned(pinned) => pinned,
        PinState::Unresolved(_) => {
            let external: String = plan.external.iter().map(|name| format!(", external {name}")).collect();
            return format!(
                "names not resolved (planned without a coordinator): dataset {}, init {}{external}\n",
                plan.dataset, plan.init
            );
        }
    };
    let init = pinned.init.map(|digest| format!(" ({})", digest.short())).unwrap_or_default();
    let external: String =
        pinned.external.iter().map(|(name, digest)| format!(", external {name} ({})", digest.short())).collect();
    format!("dataset {} ({}), init {}{init}{external}\n", plan.dataset, pinned.dataset.short(), plan.init)
}

/// The fields in which two arms differ, each with both values. What one arm does not have at all, such as a second
/// stage, is told once and not field by field.
pub(super) fn treatment(fields: &[FieldDifference]) -> String {
    if fields.is_empty() {
        return "none: the two arms are the same".to_owned();
    }
    let table = |field: &FieldDifference| field.field.rsplit_once('.').map_or("", |(table, _)| table).to_owned();
    let groups = fields.chunk_by(|a, b| {
        table(a) == table(b) && a.baseline.is_null() == b.baseline.is_null() && a.arm.is_null() == b.arm.is_null()
    });
    let texts = groups.map(|group| {
        let one_sided = group[0].baseline.is_null() || group[0].arm.is_null();
        // Only an item of a list can be missing as a whole; in any other table it is the field alone.
        if one_sided && table(&group[0]).ends_with(']') {
            return missing(&table(&group[0]), group);
        }
        let both =
            |field: &FieldDifference| format!("{} {} → {}", field.field, value(&field.baseline), value(&field.arm));
        group.iter().map(both).collect::<Vec<_>>().join(", ")
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// `with stages[1] (epochs 2, train head)`, where only the arm has it, or `without` where only the baseline does.
fn missing(table: &str, fields: &[FieldDifference]) -> String {
    let with = fields[0].baseline.is_null();
    let told = fields.iter().map(|field| {
        let name = field.field.rsplit('.').next().unwrap_or_default();
        format!("{name} {}", value(if with { &field.arm } else { &field.baseline }))
    });
    format!("{} {table} ({})", if with { "with" } else { "without" }, told.collect::<Vec<_>>().join(", "))
}

/// A JSON value without the noise of quotes.
pub(super) fn value(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => "absent".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use ceteris_shared::{
        ids::ExperimentId,
        plan::{self, Pins},
        spec::{self, Format},
    };
    use uuid::Uuid;

    use super::*;
    use crate::render::fixtures;

    /// Arms that differ in what can be set besides their stages.
    const SETTINGS: &str = r#"
    name = "settings"
    data.dataset = "kermany"
    model = { arch = "resnet50", init = "random" }
    budget.epochs = 4
    seeds.count = 6
    [controls]
    schedule = { name = "cosine", warm_up = 1 }
    optimizer = { name = "adamw", weight_decay = 0.05, decay_norms_and_biases = true }
    augment = "strong"
    [[arm]]
    name = "plain"
    stages = [{ epochs = 4, train = "layer4" }]
    [[arm]]
    name = "other"
    optimizer = { name = "sgd", momentum = 0.9, nesterov = true }
    augment = { flip = 0.5, zoom = [0.9, 1.1] }
    clip_norm = 1.0
    label_smoothing = 0.1
    class_weights = [1.0, 2.5]
    lr_decay_per_block = 0.5
    accumulate = 4
    average = 0.999
    precision = "bf16"
    memory = "low"
    stages = [{ epochs = 3, train = "layer4", schedule = "one-cycle" }, { epochs = 1, train = "all", schedule = "constant" }]
"#;

    #[test]
    fn a_plan_without_a_coordinator() {
        insta::assert_snapshot!(fixtures::plan(None).text());
        insta::assert_snapshot!(fixtures::plan(None).csv().csv());
    }

    #[test]
    fn a_plan_shows_the_settings_that_differ() {
        let spec = spec::parse(SETTINGS, Format::Toml).expect("a spec");
        let planned = plan::plan(ExperimentId(Uuid::nil()), &spec, &Pins::default()).expect("a valid spec");
        insta::assert_snapshot!(Plan::new(&spec, &planned, None).text());
    }

    #[test]
    fn a_declared_bundle_is_told_and_not_refused() {
        let names = "\"accumulate\", \"augment\", \"average\", \"class_weights\", \"clip_norm\", \"decay_norms_and_biases\", \
                     \"label_smoothing\", \"lr_decay_per_block\", \"memory\", \"optimizer\", \"precision\", \"schedule\", \
                     \"stages\", \"weight_decay\"";
        let text = format!("{SETTINGS}\n[compare]\ntreatment = [{names}]\n");
        let spec = spec::parse(&text, Format::Toml).expect("a spec");
        let planned = plan::plan(ExperimentId(Uuid::nil()), &spec, &Pins::default()).expect("a valid spec");
        let text = Plan::new(&spec, &planned, None).text();
        insta::assert_snapshot!(text.lines().rev().take(2).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn a_pinned_plan_shows_digests() {
        insta::assert_snapshot!(fixtures::plan(Some(&fixtures::pins())).text());
    }
}
