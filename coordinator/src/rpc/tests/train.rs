//! Read-outs of experiments that were trained, by a worker that makes its results up.

use std::time::Duration;

use ceteris_proto::v1;
use ceteris_shared::{
    document::{
        Checkpoints, Comparison, Evidence, Experiment, Explanation, Reason, State, Verdict, Verification, WorkerState,
        Workers,
    },
    ids::Epoch,
};
use tokio::time::timeout;
use tonic::Code;

use super::harness::{Behaviour, Client, Coordinator, read, spec};

const PATIENCE: Duration = Duration::from_secs(30);

fn reference(experiment: &Experiment) -> v1::ExperimentRequest {
    v1::ExperimentRequest { experiment: experiment.id.to_string() }
}

/// Watches to the end; returns every document.
async fn watch(client: &mut Client, experiment: &Experiment) -> Vec<Experiment> {
    let mut watched = client.watch_experiment(reference(experiment)).await.expect("watched").into_inner();
    let mut seen = Vec::new();
    while let Some(document) = timeout(PATIENCE, watched.message()).await.expect("in time").expect("open") {
        seen.push(read(document));
    }
    seen
}

async fn compare(client: &mut Client, experiment: &Experiment, at: u32, exploratory: bool) -> Comparison {
    let request = v1::CompareRequest { experiment: experiment.id.to_string(), at, exploratory };
    read(client.compare_experiment(request).await.expect("compared").into_inner())
}

#[tokio::test]
async fn a_trained_experiment_is_watched_compared_and_looked_into() {
    let mut coordinator = Coordinator::start().await;
    coordinator.import("chest").await;
    let submitted = coordinator.submit(&spec("e")).await;
    let worker = coordinator.worker(Behaviour::Good).await;
    let client = &mut coordinator.client;
    let seen = watch(client, &submitted).await;
    let last = seen.last().expect("at least one look");
    assert_eq!((last.state, last.epochs_done), (State::Done, 6));
    let run = &last.arms[1].runs[0];
    assert_eq!((run.epoch, run.spent.steps, run.val["auc"]), (Epoch(2), 8, 1.0));
    assert_eq!(run.series.len(), 4, "{:?}", run.series);

    let compared = compare(client, &submitted, 0, false).await;
    assert!(compared.refused.is_empty(), "{:?}", compared.refused);
    let scores = |arm: usize| compared.arms[arm].runs[0].metrics.test.clone().expect("test at the endpoint");
    assert_eq!((scores(0).auc, scores(1).auc), (Some(0.5), Some(1.0)));
    assert_eq!(scores(1).confusion, [[4, 0], [0, 4]]);
    assert!(compared.arms.iter().flat_map(|arm| &arm.runs).all(|run| run.epochs_trained == 2));
    let contrast = &compared.contrasts[0];
    assert_eq!(
        (contrast.difference.mean_difference, contrast.difference.sign_flip_p, contrast.verdict),
        (0.5, Some(0.5), Verdict::Inconclusive)
    );

    let early = compare(client, &submitted, 1, false).await;
    assert!(early.truncated && early.contrasts[0].metric.to_string() == "val.auc");
    assert!(early.arms.iter().flat_map(|arm| &arm.runs).all(|run| run.metrics.test.is_none()));
    let beyond = v1::CompareRequest { experiment: submitted.id.to_string(), at: 3, exploratory: false };
    assert_eq!(client.compare_experiment(beyond).await.expect_err("no epoch 3").code(), Code::InvalidArgument);

    let one = v1::RunRequest { run: run.run.to_string() };
    let checkpoints: Checkpoints = read(client.list_checkpoints(one.clone()).await.expect("listed").into_inner());
    assert_eq!(checkpoints.epochs.iter().map(|checkpoint| checkpoint.epoch.0).collect::<Vec<_>>(), [1, 2]);
    assert!(checkpoints.epochs.iter().all(|checkpoint| checkpoint.parts.len() == 3 && checkpoint.bytes > 0));
    let why: Explanation = read(client.explain_run(one).await.expect("explained").into_inner());
    assert!(why.state == State::Done && why.text.starts_with("2 of 2 epochs committed."), "{why:?}");
    let logs = v1::RunLogsRequest { run: run.run.to_string(), follow: true };
    let mut logs = client.run_logs(logs).await.expect("read").into_inner();
    let mut lines = Vec::new();
    while let Some(chunk) = timeout(PATIENCE, logs.message()).await.expect("following ends").expect("open") {
        lines.extend(chunk.lines);
    }
    assert_eq!(lines, ["seed 0", "seed 0"], "of the shared segment and of the run's own");
    drop(worker);
    coordinator.stop().await;
}

#[tokio::test]
async fn what_is_frozen_and_moved_is_not_compared() {
    let mut coordinator = Coordinator::start().await;
    coordinator.import("chest").await;
    let submitted = coordinator.submit(&spec("e")).await;
    let _worker = coordinator.worker(Behaviour::MovesWhatIsFrozen).await;
    let client = &mut coordinator.client;
    watch(client, &submitted).await;
    let compared = compare(client, &submitted, 0, false).await;
    // The other arm has one epoch of each stage, so that nothing of it can be seen to move.
    let refused: Vec<_> = compared.refused.iter().map(|refusal| (refusal.reason, refusal.arms.join(" "))).collect();
    assert_eq!(refused, [(Reason::FrozenMoved, "frozen".to_owned())]);
    assert!(compared.contrasts.is_empty());
    coordinator.stop().await;
}

#[tokio::test]
async fn evidence_names_everything_that_a_comparison_rests_on() {
    let mut coordinator = Coordinator::start().await;
    coordinator.import("chest").await;
    let first = coordinator.submit(&spec("first")).await;
    let _worker = coordinator.worker(Behaviour::Good).await;
    watch(&mut coordinator.client, &first).await;
    // Trained by the first, and submitted after it was scored on test.
    let second = coordinator.submit(&spec("second")).await;
    let client = &mut coordinator.client;
    let mut evidence = async |experiment: &Experiment| -> Evidence {
        let request = v1::ExperimentRequest { experiment: experiment.id.to_string() };
        read(client.get_evidence(request).await.expect("told").into_inner())
    };
    let (of_first, of_second) = (evidence(&first).await, evidence(&second).await);
    assert_eq!((of_first.earlier_looks.len(), of_second.earlier_looks.clone()), (0, vec![first.id]));
    assert_eq!((of_first.runs.len(), of_first.environments.len()), (4, 1));
    for run in &of_first.runs {
        assert_eq!(run.epochs.len(), 2);
        for epoch in &run.epochs {
            assert_eq!(
                (epoch.environment, epoch.measured.contains_key("auc"), epoch.frozen.is_some()),
                (0, true, true)
            );
        }
        assert_eq!(run.epochs.iter().map(|epoch| epoch.predictions.len()).collect::<Vec<_>>(), [1, 2]);
    }
    let keys = |evidence: &Evidence| -> Vec<_> {
        evidence.runs.iter().flat_map(|run| run.epochs.iter().map(|epoch| epoch.key)).collect()
    };
    assert_eq!(keys(&of_first), keys(&of_second), "the same epochs");
    coordinator.stop().await;
}

#[tokio::test]
async fn what_diverged_is_not_compared() {
    let mut coordinator = Coordinator::start().await;
    coordinator.import("chest").await;
    let submitted = coordinator.submit(&spec("e")).await;
    let _worker = coordinator.worker(Behaviour::DivergesAboveTheHead).await;
    let client = &mut coordinator.client;
    let last = watch(client, &submitted).await.pop().expect("at least one look");
    assert_eq!(last.state, State::Failed);
    let states: Vec<State> = last.arms.iter().flat_map(|arm| &arm.runs).map(|run| run.state).collect();
    assert_eq!(states, [State::Done, State::Done, State::Failed, State::Failed]);
    let failure = last.arms[1].runs[0].failure.as_ref().expect("a reason");
    assert_eq!(failure.message, "the loss of step 2 is not finite");

    let compared = compare(client, &submitted, 0, false).await;
    let reasons: Vec<Reason> = compared.refused.iter().map(|refusal| refusal.reason).collect();
    assert_eq!(reasons, [Reason::Diverged, Reason::UnequalBudgets]);
    assert!(compared.contrasts.is_empty());
    let exploratory = compare(client, &submitted, 0, true).await;
    assert!(exploratory.exploratory && exploratory.refused.len() == 2);
    let both_reached = compare(client, &submitted, 1, false).await;
    assert!(both_reached.refused.is_empty());
    coordinator.stop().await;
}

#[tokio::test]
async fn progress_is_seen_while_it_is_made() {
    let mut coordinator = Coordinator::start().await;
    coordinator.import("chest").await;
    let submitted = coordinator.submit(&spec("e")).await;
    let _worker = coordinator.worker(Behaviour::NeverEnds).await;
    let client = &mut coordinator.client;
    let mut watched = client.watch_experiment(reference(&submitted)).await.expect("watched").into_inner();
    let live = async {
        loop {
            let seen: Experiment = read(watched.message().await.expect("open").expect("goes on"));
            if let Some(live) = seen.arms[0].runs[0].live {
                return (seen, live);
            }
        }
    };
    let (seen, live) = timeout(PATIENCE, live).await.expect("in time");
    assert_eq!((seen.state, live.epoch, live.steps, live.loss), (State::Running, Epoch(1), 4, Some(0.7)));
    assert_eq!(seen.segments[0].worker.as_deref(), Some("gpu-03"));
    let workers: Workers = read(client.list_workers(v1::ListWorkersRequest {}).await.expect("listed").into_inner());
    let worker = &workers.workers[0];
    assert_eq!((worker.state, worker.slots), (WorkerState::Connected, 2));
    assert!(!worker.attempts.is_empty());
    let compared = compare(client, &submitted, 0, false).await;
    assert!(compared.refused.iter().all(|refusal| refusal.reason == Reason::Unfinished), "{:?}", compared.refused);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_run_that_does_not_come_out_the_same_is_told_with_what_differs() {
    let mut coordinator = Coordinator::start().await;
    coordinator.import("chest").await;
    let submitted = coordinator.submit(&spec("e")).await;
    let _worker = coordinator.worker(Behaviour::Irreproducible).await;
    let client = &mut coordinator.client;
    watch(client, &submitted).await;
    let run = submitted.arms[0].runs[0].run.to_string();
    let request = |from| v1::VerifyRequest { run: run.clone(), from, verification: uuid::Uuid::new_v4().to_string() };
    let by: Experiment = read(client.verify(request(0)).await.expect("submitted").into_inner());
    assert_eq!((by.epochs_to_train, by.epochs_reused), (2, 0));
    watch(client, &by).await;
    let found: Verification = read(client.show_verification(reference(&by)).await.expect("shown").into_inner());
    assert_eq!((found.equal, found.by), (Some(false), by.id));
    assert_eq!(found.epochs.iter().map(|epoch| epoch.equal).collect::<Vec<_>>(), [true, false]);
    let difference = found.first_difference.expect("something differs");
    assert_eq!(difference, "epoch 2: the trained part differs first in its header");

    let later: Experiment = read(client.verify(request(1)).await.expect("submitted").into_inner());
    assert_eq!(later.epochs_reused, 1);
    let late = client.verify(request(2)).await.expect_err("nothing is left").message().to_owned();
    assert!(late.contains("after epoch 2 nothing of run"), "{late}");
    let again = v1::VerifyRequest { run: by.arms[0].runs[0].run.to_string(), ..request(0) };
    let again = client.verify(again).await.expect_err("it is one itself");
    assert!(again.message().contains("is a verification itself"), "{}", again.message());
    let compared =
        client.compare_experiment(v1::CompareRequest { experiment: by.id.to_string(), at: 0, exploratory: false });
    assert_eq!(compared.await.expect_err("there is nothing to compare").code(), Code::InvalidArgument);
}
