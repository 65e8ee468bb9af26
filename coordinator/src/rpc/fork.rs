//! Forks: an experiment whose runs go on from the state of a run, and inherit its epochs.
//!
//! The inherited epochs are the beginning of the new plan, with the keys that they have; so they are taken from where they were
//! trained, count for the budget, keep their checkpoints, and are trained again if these are damaged, like any other epochs.

use ceteris_shared::{
    digest::Digest,
    ids::Epoch,
    plan::{Plan, PlannedRun, Work},
    spec::{ExperimentSpec, ForkPoint},
};

use super::{Error, Service, verify::refuse_verification};
use crate::store::{CommittedRecord, DatasetRecord, ExperimentRecord};

/// The state of a run that can be gone on from.
pub(super) struct Fork {
    /// The same point, by the run's whole id.
    pub(super) point: ForkPoint,
    /// Digest of the weights that the run itself began with; none if they were drawn.
    pub(super) init: Option<Digest>,
    /// What was trained.
    pub(super) inherited: Vec<Work>,
}

impl Service {
    /// Finds the state of a run and checks that `spec`, which trains on `dataset`, can go on from it.
    pub(super) async fn fork(
        &self,
        spec: &ExperimentSpec,
        dataset: &DatasetRecord,
        point: &ForkPoint,
    ) -> Result<Fork, Error> {
        let (known, run) = self.find_run(&point.run).await?;
        let ExperimentRecord { spec: of, pins, plan, .. } = &known.experiment;
        refuse_verification(of, "go on from a run of")?;
        let before = pins.dataset.ok_or_else(|| Error::Damaged(format!("run {} has no data set", run.id)))?;
        let before = self.find_dataset(&before.to_string()).await?;
        check_dataset(&run, &before, dataset)?;
        check_arch(&run, of, spec)?;
        let committed: Vec<&CommittedRecord> = known.committed(&run).collect();
        // An extension goes on from what the extended experiment has trained after this point.
        let collected =
            if spec.budget.extends.is_none() { self.store.references().await?.collected } else { Vec::new() };
        check_epoch(&run, plan, &committed, &collected, point.epoch)?;
        Ok(Fork {
            point: ForkPoint { run: run.id.to_string(), epoch: point.epoch },
            init: pins.init,
            inherited: plan.work_up_to(&run, point.epoch),
        })
    }
}

fn refuse<T>(cause: String, help: impl Into<String>) -> Result<T, Error> {
    Err(Error::invalid(format!("model.init: {cause}"), help))
}

/// Whether the run was trained on the data set that the fork is trained on.
fn check_dataset(run: &PlannedRun, before: &DatasetRecord, dataset: &DatasetRecord) -> Result<(), Error> {
    let run = run.id.short();
    let (had, has) = (before.classes.len(), dataset.classes.len());
    let elsewhere = format!(
        "write dataset = {:?}; to begin on other data with what the run has learned, save its weights with `ceteris checkpoint get`, \
         import them with `ceteris weights import` and name them: the budget is then counted from 0",
        before.name
    );
    if had != has {
        return refuse(
            format!(
                "run {run} tells {had} classes apart ({}), and the data set {:?} has {has} ({})",
                before.classes.join(", "),
                dataset.name,
                dataset.classes.join(", ")
            ),
            elsewhere,
        );
    }
    if before.manifest != dataset.manifest {
        return refuse(
            format!(
                "run {run} was trained on the data set {:?} ({}), and this experiment is on {:?} ({}); inherited epochs count for the \
                 budget, so they must be epochs of the same data",
                before.name,
                before.manifest.short(),
                dataset.name,
                dataset.manifest.short()
            ),
            elsewhere,
        );
    }
    Ok(())
}

fn check_arch(run: &PlannedRun, of: &ExperimentSpec, spec: &ExperimentSpec) -> Result<(), Error> {
    let (had, has) = (of.model.arch.name(), spec.model.arch.name());
    if had == has {
        return Ok(());
    }
    let cause = format!("run {} is of {had}, and `model.arch` is {has}", run.id.short());
    refuse(cause, format!("write arch = {had:?}, or go on from a run of {has}"))
}

/// Whether the epoch is in the run's budget, trained, and its checkpoint kept.
fn check_epoch(
    run: &PlannedRun,
    plan: &Plan,
    committed: &[&CommittedRecord],
    collected: &[Digest],
    epoch: Epoch,
) -> Result<(), Error> {
    let (id, epochs) = (run.id.short(), plan.epochs_of(run));
    if u64::from(epoch.0) > epochs {
        return refuse(
            format!("run {id} has {epochs} epochs, and no epoch {epoch}"),
            format!("name an epoch up to {epochs}"),
        );
    }
    let Some(at) = committed.iter().find(|committed| committed.epoch == epoch) else {
        let trained = committed.len();
        let help = match trained {
            0 => format!("wait for it (`ceteris explain {id}`), or name a run that is trained"),
            _ => format!("name an epoch up to {trained}, or wait until {epoch} is trained"),
        };
        return refuse(
            format!("run {id} has trained {trained} of its {epochs} epochs, and not epoch {epoch} yet"),
            help,
        );
    };
    if !collected.contains(&at.manifest) {
        return Ok(());
    }
    let kept = committed.iter().filter(|committed| !collected.contains(&committed.manifest));
    let kept: Vec<String> = kept.map(|committed| committed.epoch.to_string()).collect();
    let help = match kept.as_slice() {
        [] => "submit the run's own spec with these stages after its own: what is gone is trained again".to_owned(),
        kept => format!("name an epoch that is kept: {}", kept.join(", ")),
    };
    refuse(format!("the checkpoint of run {id} after epoch {epoch} was given up to make room (`ceteris gc`)"), help)
}

#[cfg(test)]
mod tests {
    use ceteris_scheduler::Timestamp;
    use ceteris_shared::{
        checkpoint::Environment,
        dataset::Split,
        ids::{ExperimentId, SegmentId},
        lineage::LineageKey,
        plan::{Pins, plan},
        spec::{Format, parse},
        trainer::Spent,
    };

    use super::*;

    fn environment() -> Environment {
        let [engine, libtorch, device, instructions, determinism] =
            ["2", "2.9.1", "cpu", "AVX512", "default"].map(str::to_owned);
        Environment { engine, libtorch, device, instructions, threads: 2, determinism }
    }

    fn dataset(name: &str, manifest: u8, classes: &[&str]) -> DatasetRecord {
        DatasetRecord {
            name: name.to_owned(),
            manifest: Digest([manifest; 32]),
            image_size: 224,
            classes: classes.iter().map(|class| (*class).to_owned()).collect(),
            counts: Split::ALL.map(|split| (split, vec![5; classes.len()])).into(),
            patients: None,
            registered_at: Timestamp(0),
        }
    }

    fn planned() -> Plan {
        let text = "name = \"e\"\ndata.dataset = \"kermany\"\nmodel.init = \"random\"\nbudget.epochs = 4\nseeds.count = 1\n\
                    [[arm]]\nname = \"a\"\nstages = [{ epochs = 4, train = \"head\" }]";
        let spec = parse(text, Format::Toml).expect("a valid spec");
        plan(ExperimentId(uuid::Uuid::nil()), &spec, &Pins::default()).expect("a valid spec")
    }

    fn committed(epoch: u32) -> CommittedRecord {
        CommittedRecord {
            epoch: Epoch(epoch),
            key: LineageKey(Digest([0; 32])),
            source: SegmentId::FIRST,
            attempt: 1,
            environment: environment(),
            manifest: Digest([u8::try_from(epoch).expect("a small one"); 32]),
            weights: None,
            spent: Spent { steps: 1, samples: 1, seconds: 1.0 },
            committed_at: Timestamp(0),
            predictions: Vec::new(),
        }
    }

    #[test]
    fn other_data_is_refused() {
        let plan = planned();
        let of = dataset("kermany", 1, &["NORMAL", "PNEUMONIA"]);
        let check = |other: &DatasetRecord| check_dataset(&plan.runs[0], &of, other);
        assert!(check(&of).is_ok());
        let told = [dataset("nih", 2, &["NORMAL", "PNEUMONIA"]), dataset("three", 3, &["A", "B", "C"])]
            .map(|other| check(&other).expect_err("other data").to_string());
        insta::assert_snapshot!(told.join("\n\n"), @r#"
        model.init: run a21e9c23 was trained on the data set "kermany" (010101010101), and this experiment is on "nih" (020202020202); inherited epochs count for the budget, so they must be epochs of the same data
        help: write dataset = "kermany"; to begin on other data with what the run has learned, save its weights with `ceteris checkpoint get`, import them with `ceteris weights import` and name them: the budget is then counted from 0

        model.init: run a21e9c23 tells 2 classes apart (NORMAL, PNEUMONIA), and the data set "three" has 3 (A, B, C)
        help: write dataset = "kermany"; to begin on other data with what the run has learned, save its weights with `ceteris checkpoint get`, import them with `ceteris weights import` and name them: the budget is then counted from 0
        "#);
    }

    #[test]
    fn an_epoch_that_is_not_there_is_refused() {
        let plan = planned();
        let all: Vec<CommittedRecord> = (1..=3).map(committed).collect();
        let check = |trained: usize, collected: &[u8], epoch: u32| {
            let committed: Vec<&CommittedRecord> = all[..trained].iter().collect();
            let collected: Vec<Digest> = collected.iter().map(|epoch| Digest([*epoch; 32])).collect();
            check_epoch(&plan.runs[0], &plan, &committed, &collected, Epoch(epoch))
        };
        assert!(check(3, &[], 3).is_ok() && check(3, &[1, 3], 2).is_ok());
        let told = [check(3, &[], 5), check(3, &[], 4), check(0, &[], 1), check(3, &[1], 1), check(3, &[1, 2, 3], 2)]
            .map(|checked| checked.expect_err("not there").to_string());
        insta::assert_snapshot!(told.join("\n\n"), @"
        model.init: run a21e9c23 has 4 epochs, and no epoch 5
        help: name an epoch up to 4

        model.init: run a21e9c23 has trained 3 of its 4 epochs, and not epoch 4 yet
        help: name an epoch up to 3, or wait until 4 is trained

        model.init: run a21e9c23 has trained 0 of its 4 epochs, and not epoch 1 yet
        help: wait for it (`ceteris explain a21e9c23`), or name a run that is trained

        model.init: the checkpoint of run a21e9c23 after epoch 1 was given up to make room (`ceteris gc`)
        help: name an epoch that is kept: 2, 3

        model.init: the checkpoint of run a21e9c23 after epoch 2 was given up to make room (`ceteris gc`)
        help: submit the run's own spec with these stages after its own: what is gone is trained again
        ");
    }
}
