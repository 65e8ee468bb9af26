//! Where predictions lie, for whoever wants to read them with other tools.

use ceteris_shared::{
    compare,
    dataset::Split,
    document::{PredictedRun, PredictionFile, PredictionFiles},
    ids::Epoch,
    trainer::Scored,
};

use super::{Error, Service, verify::refuse_verification};

impl Service {
    /// The predictions files of all runs after epoch `at`; 0 is the endpoint. Those on test and external data are told of the
    /// endpoint only, even where a shorter run that ends here was scored on them.
    pub(super) async fn predictions(&self, reference: &str, at: u32) -> Result<PredictionFiles, Error> {
        let experiment = self.store.find_experiment(reference).await?;
        refuse_verification(&experiment.spec, "export")?;
        let at = compare::epoch_to_read(&experiment.spec, (at > 0).then_some(Epoch(at)))?;
        let dataset = experiment.pins.dataset;
        let dataset = dataset.ok_or_else(|| Error::Damaged("the experiment's data set is not pinned".to_owned()))?;
        let known = self.known(experiment).await?;
        let budget = known.experiment.spec.budget.epochs;
        let told = |scored: &Scored| match scored {
            Scored::Split(Split::Val) => true,
            Scored::Split(Split::Test) | Scored::External(_) => at.0 == budget,
            Scored::Split(Split::Train) => false,
        };
        let (mut runs, mut missing) = (Vec::new(), Vec::new());
        for run in &known.experiment.plan.runs {
            let Some(committed) = known.committed(run).find(|committed| committed.epoch == at) else {
                missing.push(run.id);
                continue;
            };
            let files = committed.predictions.iter().filter(|(scored, _)| told(scored)).cloned();
            let files = files.map(|(scored, digest)| PredictionFile { scored, digest }).collect();
            let arm = known.experiment.plan.arms[run.arm].name.clone();
            runs.push(PredictedRun { run: run.id, arm, seed: run.seed, files });
        }
        let (experiment, name) = (known.experiment.id, known.experiment.spec.name.clone());
        let external = known.experiment.pins.external.iter().cloned().collect();
        Ok(PredictionFiles { experiment, name, at, budget, dataset, external, runs, missing })
    }
}
