//! A small history with something of everything that a store remembers, up to a version of the schema.

use super::*;

/// What the history comes to.
pub(crate) const EXPERIMENT: &str = "golden";
pub(crate) const ANOTHER: &str = "golden-again";
pub(crate) const LOG: [&str; 2] = ["epoch 1", "an é, a 'quote'\nand a line"];
/// Values of the first epoch.
pub(crate) const VALUES: [(Split, &str, u32, f64); 4] = [
    (Split::Train, "step_loss", 1, 0.1 + 0.2),
    (Split::Train, "step_loss", 2, 5e-324),
    (Split::Train, "step_loss", 3, -1.797_693_134_862_315_7e308),
    (Split::Val, "auc", 3, 0.75),
];
/// A value of the second, which is not committed.
pub(crate) const LATER: (Split, &str, u32, f64) = (Split::Train, "step_loss", 1, 0.125);

/// A checkpoint that was given up.
pub(crate) fn collected() -> Digest {
    Digest::of(b"given up")
}

fn measured(epoch: u32, values: &[(Split, &str, u32, f64)]) -> Vec<MetricPoint> {
    let point = |&(split, name, step, value): &(Split, &str, u32, f64)| MetricPoint {
        epoch: Epoch(epoch),
        step,
        split,
        name: name.to_owned(),
        value,
    };
    values.iter().map(point).collect()
}

/// An experiment whose first epoch is trained at the second attempt and whose second is being trained. From `schema` 2 on a
/// step of that is committed, from 5 on the first epoch was trained again before, from 3 on another experiment takes it,
/// which is paused from 4 on, and from 6 on a checkpoint was given up.
pub(crate) async fn tell(store: &impl Store, schema: i64) {
    let record = experiment(1, EXPERIMENT);
    let dataset = DatasetRecord {
        name: "d".to_owned(),
        manifest: record.pins.dataset.expect("it is pinned"),
        image_size: 224,
        classes: vec!["NORMAL".to_owned(), "PNEUMONIA".to_owned()],
        counts: BTreeMap::from([(Split::Train, vec![3, 4]), (Split::Val, vec![1, 1])]),
        patients: Some(5),
        registered_at: Timestamp(1),
    };
    store.register_dataset(&dataset).await.expect("it is new");
    let (digest, arch) = (Digest::of(b"imagenet"), Arch::Densenet121);
    let weights = WeightsRecord { name: "imagenet".to_owned(), digest, arch, registered_at: Timestamp(1) };
    store.register_weights(&weights).await.expect("they are new");

    let mut run = Run::of(store, &record).await;
    run.report(Report::Started).await;
    let cause = FailureCause::Infrastructure;
    run.report(Report::Failed { cause, message: "the disk is full".to_owned() }).await;
    run.now += 10_000;
    run.handle(vec![], Event::Tick).await;
    run.report(Report::Started).await;
    let trainer = run.attempt();
    store.append_metrics(WORKER, 1, trainer, &measured(1, &VALUES)).await.expect("they are stored");
    store.append_log(WORKER, 2, trainer, &LOG.map(str::to_owned)).await.expect("they are stored");
    run.epoch(&record, 1).await;
    run.report(Report::Finished).await;
    let first = committed(Epoch(1), record.plan.segments[0].work.epochs[0].key);
    if schema >= 5 {
        run.report(Report::Damaged { checkpoint: first.manifest, message: "it is gone".to_owned() }).await;
        for _ in 0..2 {
            run.now += 10_000;
            run.handle(vec![], Event::Tick).await;
        }
        let again = CommittedEpoch { manifest: Digest::of(b"anew"), ..first.clone() };
        run.report(Report::EpochCommitted(again)).await;
    }
    run.report(Report::Started).await;
    let attempt = run.attempt();
    store.append_metrics(WORKER, 3, attempt, &measured(2, &[LATER])).await.expect("it is stored");
    if schema >= 2 {
        let segment = record.plan.segments.iter().find(|s| s.id == attempt.segment).expect("it is planned");
        let work = &segment.work.epochs[0];
        let (epoch, step, key, manifest) = (work.epoch, 5, work.key, Digest::of(b"step"));
        run.report(Report::StepCommitted(CommittedStep { epoch, step, key, manifest })).await;
    }
    if schema >= 3 {
        let another = experiment(2, ANOTHER);
        let trained = store.trained(&[first.key]).await.expect("it is read")[&first.key][0].clone();
        let reused = Reused { source: trained.segment, manifest: trained.manifest, weights: trained.weights };
        let submission = Submission { reused: vec![vec![reused]], ..submission(&another) };
        let submitted = Event::ExperimentSubmitted(Box::new(submission));
        run.handle(vec![Change::Experiment(Box::new(another.clone()))], submitted).await;
        if schema >= 4 {
            run.handle(vec![], Event::PauseExperiment(another.id)).await;
        }
    }
    if schema >= 6 {
        let given_up = Decision::CheckpointCollected { manifest: collected(), at: Timestamp(run.now) };
        store.commit(&[Change::Scheduler(given_up)]).await.expect("it is stored");
    }
}
