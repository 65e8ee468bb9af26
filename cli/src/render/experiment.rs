//! What was submitted and how far it is: `ls` and `show`.

use ceteris_shared::document::{Experiment, Experiments, Ledger, NamedDigest, Run, Sharing, standing};

use super::{duration, number, score, stages};
use crate::output::{ReadOut, Table, count};

impl ReadOut for Experiments {
    fn text(&self) -> String {
        if self.experiments.is_empty() {
            return "No experiments yet. Submit one with `ceteris submit FILE`.\n".to_owned();
        }
        let mut table = Table::new(["id", "name", "state", ">runs", ">epochs", "submitted"]);
        for row in &self.experiments {
            table.row([
                row.id.short(),
                row.name.clone(),
                standing(row.state, row.paused),
                row.runs.to_string(),
                format!("{}/{}", row.epochs_done, row.epochs_to_train),
                row.submitted_at.to_string(),
            ]);
        }
        table.text()
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(["id", "name", "state", "runs", "epochs done", "epochs to train", "submitted at"]);
        for row in &self.experiments {
            table.row([
                row.id.to_string(),
                row.name.clone(),
                standing(row.state, row.paused),
                row.runs.to_string(),
                row.epochs_done.to_string(),
                row.epochs_to_train.to_string(),
                row.submitted_at.to_string(),
            ]);
        }
        table
    }
}

/// How an experiment shares the fleet, in words.
fn shares(sharing: &Sharing) -> String {
    let mut text = format!("priority {}, weight {}", sharing.priority, sharing.weight);
    if let Some(max) = sharing.max_concurrent {
        text += &format!(", at most {max} at once");
    }
    if sharing.device_memory_bytes > 0 {
        text += &format!(", on devices with {:.1} GB or more", sharing.device_memory_bytes as f64 / 1e9);
    }
    text
}

impl ReadOut for Experiment {
    fn text(&self) -> String {
        let mut text = format!("{}: {}\n", self.name, standing(self.state, self.paused));
        text += &format!("id         {}\n", self.id);
        text += &format!("submitted  {}\n", self.submitted_at);
        text += &format!("dataset    {}\n", named(&self.dataset));
        text += &format!("init       {}\n", named(&self.init));
        for external in &self.external {
            text += &format!("external   {}\n", named(external));
        }
        text += &format!("endpoint   {} at the last epoch ({})\n", self.endpoint.metric, self.budget);
        if let Some(extended) = self.extends {
            text += &format!("extends    {extended}\n");
        }
        let reused = match self.epochs_reused {
            0 => String::new(),
            reused => format!(", {reused} of them by earlier experiments"),
        };
        text += &format!(
            "epochs     {} of {} trained{reused} ({} asked for)\n",
            self.epochs_done, self.epochs_to_train, self.epochs_asked
        );
        if let Some(environment) = &self.environment {
            text += &format!("trained in {environment}\n");
        }
        if let Some(sharing) = &self.sharing {
            text += &format!("shares     {}\n", shares(sharing));
        }
        text += &format!("ledger     {}\n\n", ledger(&self.ledger));
        let mut arms = Table::new(["arm", "stages"]);
        for arm in &self.arms {
            arms.row([arm.name.clone(), stages(&arm.stages)]);
        }
        text += &arms.text();
        text += "\n";
        text += &runs(self).text();
        let failed = self.arms.iter().flat_map(|arm| &arm.runs).filter_map(|run| Some((run, run.failure.as_ref()?)));
        for (run, failure) in failed {
            text += &format!("\n{} seed {} failed: {}\n", run.arm, run.seed, failure.message);
        }
        text
    }

    fn csv(&self) -> Table {
        let mut table = Table::new([
            "experiment",
            "arm",
            "seed",
            "run",
            "state",
            "epoch",
            "epochs",
            "val auc",
            "val accuracy",
            "val loss",
            "steps",
            "samples",
            "seconds",
        ]);
        for run in self.arms.iter().flat_map(|arm| &arm.runs) {
            let val = |name| number(run.val.get(name).copied());
            table.row([
                self.id.to_string(),
                run.arm.clone(),
                run.seed.to_string(),
                run.run.to_string(),
                run.state.name().to_owned(),
                run.epoch.to_string(),
                run.epochs.to_string(),
                val("auc"),
                val("accuracy"),
                val("loss"),
                run.spent.steps.to_string(),
                run.spent.samples.to_string(),
                run.spent.seconds.to_string(),
            ]);
        }
        table
    }
}

/// What was charged, what was trained and what was spent, in one line.
fn ledger(ledger: &Ledger) -> String {
    let Ledger { charged, trained, reused: _, replayed, attempts, attempt_seconds } = ledger;
    let again = match replayed.epochs {
        0 => String::new(),
        epochs => format!(", again {} ({})", count(epochs.into(), "epoch"), duration(replayed.seconds)),
    };
    format!(
        "runs are charged {} ({}), trained here {} ({}){again}, spent {} in {}",
        count(charged.epochs.into(), "epoch"),
        duration(charged.seconds),
        count(trained.epochs.into(), "epoch"),
        duration(trained.seconds),
        duration(*attempt_seconds),
        count(*attempts, "attempt"),
    )
}

fn runs(experiment: &Experiment) -> Table {
    let mut table = Table::new([
        "arm",
        ">seed",
        "run",
        "state",
        ">epoch",
        "in flight",
        ">val auc",
        ">val accuracy",
        ">val loss",
        ">time",
    ]);
    for run in experiment.arms.iter().flat_map(|arm| &arm.runs) {
        let val = |name| score(run.val.get(name).copied());
        table.row([
            run.arm.clone(),
            run.seed.to_string(),
            run.run.short(),
            run.state.name().to_owned(),
            format!("{}/{}", run.epoch, run.epochs),
            in_flight(run),
            val("auc"),
            val("accuracy"),
            val("loss"),
            duration(run.spent.seconds),
        ]);
    }
    table
}

/// The epoch in flight, in a few words.
pub(super) fn in_flight(run: &Run) -> String {
    match &run.live {
        None => "-".to_owned(),
        Some(live) if live.epoch.0 == 0 => "fetching".to_owned(),
        Some(live) => {
            let loss = live.loss.map(|loss| format!(" loss {loss:.4}")).unwrap_or_default();
            format!("epoch {} step {}/{}{loss}", live.epoch, live.step, live.steps)
        }
    }
}

fn named(named: &NamedDigest) -> String {
    match named.digest {
        Some(digest) => format!("{} ({})", named.name, digest.short()),
        None => named.name.clone(),
    }
}

/// One line that says how an experiment stands.
pub fn headline(experiment: &Experiment) -> String {
    let runs = experiment.arms.iter().map(|arm| arm.runs.len() as u64).sum();
    format!(
        "{} ({}) is {}: {}, {} of {} trained",
        experiment.name,
        experiment.id.short(),
        standing(experiment.state, experiment.paused),
        count(runs, "run"),
        experiment.epochs_done,
        count(experiment.epochs_to_train, "epoch"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures;

    #[test]
    fn a_list() {
        insta::assert_snapshot!(Experiments { experiments: Vec::new() }.text());
        insta::assert_snapshot!(fixtures::experiments().text());
        insta::assert_snapshot!(fixtures::experiments().csv().csv());
    }

    #[test]
    fn one_that_is_running() {
        insta::assert_snapshot!(fixtures::running().text());
        insta::assert_snapshot!(fixtures::running().csv().csv());
        insta::assert_snapshot!(headline(&fixtures::running()));
    }

    #[test]
    fn one_that_failed_says_why() {
        insta::assert_snapshot!(fixtures::failed().text());
    }
}
