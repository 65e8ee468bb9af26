//! A longer budget for an experiment: the same arms, each with a longer last stage.

use super::{Error, ExperimentSpec, resolve, validate};
use crate::ids::ExperimentId;

/// The spec of an experiment that goes on from `experiment`, whose spec is `spec`, up to `epochs` epochs. All epochs of
/// the old budget have the same lineage in it, so only the new ones have to be trained.
///
/// # Errors
/// When `epochs` is not more than the budget, or when an arm ends in a schedule with a horizon: in a longer stage its
/// epochs would have been others.
pub fn extended(experiment: ExperimentId, spec: &ExperimentSpec, epochs: u32) -> Result<ExperimentSpec, Error> {
    let refuse = |place: &str, cause: String| Err(Error::Invalid { place: place.to_owned(), cause });
    let before = spec.budget.epochs;
    if epochs <= before {
        let cause = format!("{epochs} is not more than the {before} that the experiment has; write a larger number");
        return refuse("budget.epochs", cause);
    }
    for arm in resolve(spec) {
        let Some(stage) = arm.stages.last().filter(|stage| !stage.schedule.is_horizon_free()) else { continue };
        let cause = format!(
            "the schedule {} of the last stage has a horizon: it depends on how many epochs the stage has, so in a longer one \
             the epochs that are trained would have been others; submit a spec with `budget.epochs = {epochs}` in its place",
            stage.schedule
        );
        return refuse(&format!("arm {:?}", arm.name), cause);
    }
    let mut longer = spec.clone();
    longer.budget.epochs = epochs;
    longer.budget.extends = Some(experiment);
    for stage in longer.arm.iter_mut().filter_map(|arm| arm.stages.last_mut()) {
        stage.epochs += epochs - before;
    }
    validate(&longer)?;
    Ok(longer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::{Pins, plan},
        spec::{Format, parse},
    };

    fn spec(schedule: &str) -> ExperimentSpec {
        let text = format!(
            "name = \"x\"\ndata.dataset = \"d\"\nmodel.init = \"random\"\nbudget.epochs = 4\nseeds.count = 2\n\
             controls.schedule = {schedule}\n\
             [[arm]]\nname = \"a\"\nstages = [{{ epochs = 4, train = \"head\" }}]\n\
             [[arm]]\nname = \"b\"\nstages = [{{ epochs = 2, train = \"head\" }}, {{ epochs = 2, train = \"all\" }}]"
        );
        parse(&text, Format::Toml).expect("a well-formed spec")
    }

    #[test]
    fn an_extension_has_the_epochs_of_the_old_budget_and_more() {
        let id = |number| ExperimentId(uuid::Uuid::from_u128(number));
        for schedule in ["\"constant\"", "{ name = \"step\", every = 3, warm_up = 1 }"] {
            let short = spec(schedule);
            let long = extended(id(1), &short, 6).expect("it can be extended");
            assert_eq!((long.budget.epochs, long.budget.extends), (6, Some(id(1))));
            let planned = |experiment, spec| plan(experiment, spec, &Pins::default()).expect("it can be planned");
            let (short, long) = (planned(id(1), &short), planned(id(2), &long));
            for (short_run, long_run) in short.runs.iter().zip(&long.runs) {
                let keys: Vec<_> = long.keys(long_run).collect();
                assert_eq!(keys.len(), 6);
                assert_eq!(short.keys(short_run).collect::<Vec<_>>(), keys[..4]);
            }
            let trained: std::collections::BTreeSet<_> =
                short.runs.iter().flat_map(|run| short.keys(run)).map(|(_, key)| key).collect();
            let reusable = long.reusable(|key, _| trained.get(&key).copied());
            let left = long.epochs_to_train() - reusable.iter().map(Vec::len).sum::<usize>() as u64;
            assert_eq!(left, 2 * long.runs.len() as u64);
        }
    }

    #[test]
    fn what_cannot_be_extended_is_refused() {
        let id = ExperimentId(uuid::Uuid::nil());
        let refused = |schedule, epochs| extended(id, &spec(schedule), epochs).expect_err("refused").to_string();
        insta::assert_snapshot!(
            [refused("\"constant\"", 4), refused("\"cosine\"", 6), refused("\"one-cycle\"", 5)].join("\n"),
            @r#"
        budget.epochs: 4 is not more than the 4 that the experiment has; write a larger number
        arm "a": the schedule cosine of the last stage has a horizon: it depends on how many epochs the stage has, so in a longer one the epochs that are trained would have been others; submit a spec with `budget.epochs = 6` in its place
        arm "a": the schedule one-cycle of the last stage has a horizon: it depends on how many epochs the stage has, so in a longer one the epochs that are trained would have been others; submit a spec with `budget.epochs = 5` in its place
        "#
        );
    }
}
