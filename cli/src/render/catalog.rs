//! What the coordinator knows besides experiments: data sets, weights, workers, checkpoints, explanations.

use ceteris_shared::{
    checkpoint::Environment,
    document::{Checkpoints, Datasets, Explanation, Weights, Worker, Workers},
};

use crate::output::{ReadOut, Table, bytes};

impl ReadOut for Datasets {
    fn text(&self) -> String {
        if self.datasets.is_empty() {
            return "No data sets yet. Import one with `ceteris data import DIR --name NAME`.\n".to_owned();
        }
        let mut table = Table::new(["name", ">size", ">samples", ">patients", "classes", "digest", "imported"]);
        for dataset in &self.datasets {
            table.row([
                dataset.name.clone(),
                dataset.image_size.to_string(),
                dataset.samples.to_string(),
                dataset.patients.map_or_else(|| "-".to_owned(), |patients| patients.to_string()),
                dataset.classes.join(", "),
                dataset.digest.short(),
                dataset.registered_at.to_string(),
            ]);
        }
        table.text()
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(["name", "digest", "image size", "split", "class", "samples", "registered at"]);
        for dataset in &self.datasets {
            for (split, classes) in &dataset.counts {
                for (class, samples) in classes {
                    table.row([
                        dataset.name.clone(),
                        dataset.digest.to_string(),
                        dataset.image_size.to_string(),
                        split.to_string(),
                        class.clone(),
                        samples.to_string(),
                        dataset.registered_at.to_string(),
                    ]);
                }
            }
        }
        table
    }
}

impl ReadOut for Weights {
    fn text(&self) -> String {
        if self.weights.is_empty() {
            return "No weights yet. Import some with `ceteris weights import FILE --name NAME`.\n".to_owned();
        }
        let mut table = Table::new(["name", "arch", "digest", "imported"]);
        for entry in &self.weights {
            table.row([
                entry.name.clone(),
                entry.arch.name().to_owned(),
                entry.digest.short(),
                entry.registered_at.to_string(),
            ]);
        }
        table.text()
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(["name", "arch", "digest", "registered at"]);
        for entry in &self.weights {
            table.row([
                entry.name.clone(),
                entry.arch.name().to_owned(),
                entry.digest.to_string(),
                entry.registered_at.to_string(),
            ]);
        }
        table
    }
}

/// What a worker computes with: `cpu AVX512 ×2`, and how its bits come out where that is not the default.
fn device(environment: &Environment) -> String {
    let Environment { device, instructions, threads, determinism, engine: _, libtorch: _ } = environment;
    let determinism = if determinism == "default" { String::new() } else { format!(" {determinism}") };
    format!("{device} {instructions} ×{threads}{determinism}")
}

/// Whether it is there, and what of it is used.
fn worker_state(worker: &Worker) -> String {
    let mut text = worker.state.name().to_owned();
    if !worker.drained_slots.is_empty() && worker.drained_slots.len() == worker.slots as usize {
        text += ", drained";
    } else if !worker.drained_slots.is_empty() {
        let slots: Vec<String> = worker.drained_slots.iter().map(u32::to_string).collect();
        text += &format!(", slot {} drained", slots.join(" and "));
    }
    if let Some(until) = worker.set_aside_until {
        text += &format!(", set aside until {until}");
    }
    text
}

impl ReadOut for Workers {
    fn text(&self) -> String {
        if self.workers.is_empty() {
            return "No worker has registered yet. Start one with `ceteris up` or `ceteris-worker`.\n".to_owned();
        }
        let mut table = Table::new(["worker", "id", "state", ">slots", "device", "libtorch", "runs now", "last seen"]);
        for worker in &self.workers {
            let attempts = worker.attempts.iter().map(|running| match running.epoch {
                Some(epoch) => format!("{} epoch {epoch}", running.attempt),
                None => running.attempt.to_string(),
            });
            let attempts = attempts.collect::<Vec<_>>().join(", ");
            let environment = &worker.environment;
            table.row([
                worker.name.clone(),
                worker.id.short(),
                worker_state(worker),
                worker.slots.to_string(),
                device(environment),
                environment.libtorch.clone(),
                if attempts.is_empty() { "-".to_owned() } else { attempts },
                worker.last_seen.to_string(),
            ]);
        }
        table.text()
    }

    fn csv(&self) -> Table {
        let mut table = Table::new([
            "id",
            "name",
            "state",
            "slots",
            "attempts",
            "version",
            "engine",
            "libtorch",
            "device",
            "instructions",
            "threads",
            "determinism",
            "last seen",
        ]);
        for worker in &self.workers {
            table.row([
                worker.id.to_string(),
                worker.name.clone(),
                worker.state.name().to_owned(),
                worker.slots.to_string(),
                worker.attempts.len().to_string(),
                worker.version.clone(),
                worker.environment.engine.clone(),
                worker.environment.libtorch.clone(),
                worker.environment.device.clone(),
                worker.environment.instructions.clone(),
                worker.environment.threads.to_string(),
                worker.environment.determinism.clone(),
                worker.last_seen.to_string(),
            ]);
        }
        table
    }
}

impl ReadOut for Checkpoints {
    fn text(&self) -> String {
        let head = format!("run {}: {}, seed {}\n", self.run, self.arm, self.seed);
        if self.epochs.is_empty() {
            return format!("{head}No epoch is committed yet; `ceteris explain {}` says why.\n", self.run.short());
        }
        let mut table = Table::new([">epoch", "lineage", "manifest", "attempt", ">size", "device"]);
        for checkpoint in &self.epochs {
            table.row([
                checkpoint.epoch.to_string(),
                checkpoint.key.short(),
                checkpoint.manifest.short(),
                checkpoint.attempt.to_string(),
                bytes(checkpoint.bytes),
                checkpoint.environment.device.clone(),
            ]);
        }
        head + &table.text()
    }

    fn csv(&self) -> Table {
        let mut table =
            Table::new(["run", "arm", "seed", "epoch", "lineage", "manifest", "segment", "attempt", "bytes"]);
        for checkpoint in &self.epochs {
            table.row([
                self.run.to_string(),
                self.arm.clone(),
                self.seed.to_string(),
                checkpoint.epoch.to_string(),
                checkpoint.key.to_string(),
                checkpoint.manifest.to_string(),
                checkpoint.attempt.segment.to_string(),
                checkpoint.attempt.number.to_string(),
                checkpoint.bytes.to_string(),
            ]);
        }
        table
    }
}

impl ReadOut for Explanation {
    fn text(&self) -> String {
        format!("run {}: {}, seed {}, {}\n{}\n", self.run, self.arm, self.seed, self.state.name(), self.text)
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(["run", "experiment", "arm", "seed", "state", "text"]);
        table.row([
            self.run.to_string(),
            self.experiment.to_string(),
            self.arm.clone(),
            self.seed.to_string(),
            self.state.name().to_owned(),
            self.text.clone(),
        ]);
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures;

    #[test]
    fn nothing_yet_says_what_to_do() {
        insta::assert_snapshot!(Datasets { datasets: Vec::new() }.text());
        insta::assert_snapshot!(Weights { weights: Vec::new() }.text());
        insta::assert_snapshot!(Workers { workers: Vec::new() }.text());
        insta::assert_snapshot!(Checkpoints { epochs: Vec::new(), ..fixtures::checkpoints() }.text());
    }

    #[test]
    fn data_sets() {
        insta::assert_snapshot!(fixtures::datasets().text());
        insta::assert_snapshot!(fixtures::datasets().csv().csv());
    }

    #[test]
    fn weights() {
        insta::assert_snapshot!(fixtures::weights().text());
        insta::assert_snapshot!(fixtures::weights().csv().csv());
    }

    #[test]
    fn workers() {
        insta::assert_snapshot!(fixtures::workers().text());
        insta::assert_snapshot!(fixtures::workers().csv().csv());
    }

    #[test]
    fn checkpoints() {
        insta::assert_snapshot!(fixtures::checkpoints().text());
        insta::assert_snapshot!(fixtures::checkpoints().csv().csv());
    }
}
