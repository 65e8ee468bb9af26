//! Why a run is where it is, in one paragraph.

use std::collections::HashMap;

use ceteris_scheduler::{AttemptEnd, Explanation, Outcome, State as Scheduled, StopReason, Why};
use ceteris_shared::{
    document,
    ids::{Epoch, WorkerId},
};

use super::{Error, Service};

impl Service {
    pub(super) async fn explain(&self, reference: &str) -> Result<document::Explanation, Error> {
        let (known, run) = self.find_run(reference).await?;
        let segments = self.driver.explain(run.id).await?;
        let names = self.store.workers().await?.into_iter().map(|worker| (worker.id, worker.name)).collect();
        let plan = &known.experiment.plan;
        let first = |index: &usize| plan.segments[*index].work.start().next();
        let firsts: Vec<Epoch> = run.path.iter().map(first).collect();
        Ok(document::Explanation {
            run: run.id,
            experiment: known.experiment.id,
            arm: plan.arms[run.arm].name.clone(),
            seed: run.seed,
            state: known.standing(&run).state,
            text: paragraph(&firsts, &segments, &names),
        })
    }
}

/// `firsts` are the first epochs of the segments.
fn paragraph(firsts: &[Epoch], segments: &[Explanation], names: &HashMap<WorkerId, String>) -> String {
    let epochs: usize = segments.iter().map(|segment| segment.epochs).sum();
    let committed: usize = segments.iter().map(|segment| segment.committed).sum();
    let done = format!("{committed} of {} committed.", count(epochs, "epoch"));
    let unfinished = |(_, segment): &(&Epoch, &Explanation)| segment.state != Scheduled::Done(Outcome::Completed);
    let Some((first, segment)) = firsts.iter().zip(segments).find(unfinished) else {
        return format!("{done} The run is done; `ceteris compare` says what came of it.");
    };
    let last = first.0 as usize + segment.epochs - 1;
    let next = first.0 as usize + segment.committed;
    let stretch = if next < last { format!("Epochs {next} to {last}") } else { format!("Epoch {last}") };
    let mut text = format!("{done} {stretch}: {}.", sentence(&why(&segment.why, names)));
    if let Some(end) = &segment.last_end
        && !segment.state.is_done()
    {
        let tried = count(segment.attempts as usize, "time");
        text.push_str(&format!(
            " This segment was given to a worker {tried}; the last attempt that is over {}.",
            ended(end)
        ));
    }
    text
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("{number} {what}") } else { format!("{number} {what}s") }
}

/// Without the full stop that the paragraph brings.
fn sentence(text: &str) -> &str {
    text.trim_end().trim_end_matches('.')
}

fn why(why: &Why, names: &HashMap<WorkerId, String>) -> String {
    let name = |worker: &WorkerId| names.get(worker).cloned().unwrap_or_else(|| worker.short());
    match why {
        Why::OnWorker { worker, connected: true, .. } => format!("on worker {}", name(worker)),
        Why::OnWorker { worker, connected: false, left } => format!(
            "on worker {}, which is not connected; another attempt starts in {:.0} s unless it comes back",
            name(worker),
            left.as_secs_f64()
        ),
        Why::Stopping { worker, left, reason } => {
            let why = match reason {
                StopReason::Paused => "paused",
                StopReason::Cancelled => "cancelled",
                StopReason::Preempted => "makes room for an experiment of a higher priority",
            };
            format!("{why}; worker {} has {:.0} s left to stop", name(worker), left.as_secs_f64())
        }
        Why::ParentNotTrained { .. }
        | Why::Paused
        | Why::BackingOff { .. }
        | Why::NoWorker
        | Why::OtherEnvironment { .. }
        | Why::TooLittleMemory { .. }
        | Why::NotUsed { .. }
        | Why::AtMostConcurrent { .. }
        | Why::NoFreeSlot { .. }
        | Why::Ended(_) => why.to_string(),
    }
}

fn ended(end: &AttemptEnd) -> String {
    match end {
        AttemptEnd::Finished => "finished".to_owned(),
        AttemptEnd::Stopped => "stopped: its worker was shut down or drained, the experiment was paused, or one of a higher priority took the slot".to_owned(),
        AttemptEnd::Failed { message, .. } => format!("failed: {}", sentence(message)),
        AttemptEnd::Lost => "was lost: its worker was not heard of in time".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use ceteris_scheduler::Timestamp;
    use ceteris_shared::{ids::SegmentId, trainer::FailureCause};

    use super::*;

    const WORKER: WorkerId = WorkerId(uuid::Uuid::from_u128(7));

    fn segment(state: Scheduled, committed: usize, why: Why) -> Explanation {
        let segment = SegmentId(uuid::Uuid::from_u128(1));
        Explanation { segment, state, committed, epochs: 2, attempts: 1, last_end: None, why }
    }

    fn told(segments: &[Explanation]) -> String {
        paragraph(&[Epoch(1), Epoch(3)], segments, &HashMap::from([(WORKER, "gpu-03".to_owned())]))
    }

    #[test]
    fn the_first_unfinished_segment_is_explained() {
        let completed = segment(Scheduled::Done(Outcome::Completed), 2, Why::Ended(Outcome::Completed));
        let running = Scheduled::Running { attempt: 2, worker: WORKER, lease: Timestamp(0), epoch: Epoch(4) };
        let on_worker = Why::OnWorker { worker: WORKER, connected: true, left: Default::default() };
        let mut second = segment(running, 1, on_worker);
        second.attempts = 2;
        second.last_end = Some(AttemptEnd::Failed {
            cause: FailureCause::Infrastructure,
            message: "no room left on the disk.".to_owned(),
        });
        insta::assert_snapshot!(told(&[completed.clone(), second]), @r#"3 of 4 epochs committed. Epoch 4: on worker gpu-03. This segment was given to a worker 2 times; the last attempt that is over failed: no room left on the disk."#);
        let queued = segment(Scheduled::Queued { not_before: Timestamp(0) }, 0, Why::NoWorker);
        let waiting = Scheduled::Waiting { parent: queued.segment };
        let parent = Why::ParentNotTrained { parent: queued.segment, committed: 0, epochs: 2 };
        insta::assert_snapshot!(told(&[queued, segment(waiting, 0, parent)]), @r#"0 of 4 epochs committed. Epochs 1 to 2: ready, but no worker is connected: start `ceteris-worker`."#);
        insta::assert_snapshot!(told(&[completed.clone(), completed]), @r#"4 of 4 epochs committed. The run is done; `ceteris compare` says what came of it."#);
    }
}
