//! What workers say that is not so.

use ceteris_proto::{
    fleet::{EpochCommitted, EventKind, Progress, StepCommitted, WorkerMessage},
    v1,
};
use ceteris_shared::{
    dataset::Split,
    digest::Digest,
    ids::{Attempt, Epoch, SegmentId},
    lineage::LineageKey,
    trainer::{FailureCause, MetricPoint, Scored, Spent},
};

use super::World;

impl World {
    pub(super) fn lie(&mut self) {
        let liars: Vec<usize> =
            self.machines.iter().filter(|machine| machine.lies && machine.is_open()).map(|m| m.index).collect();
        let Some(&index) = self.scene.random.pick(&liars) else { return };
        if self.machines[index].stalled_until > self.scene.now {
            return;
        }
        let live = self.scene.oracle.live_attempts();
        let of_others = Attempt { segment: SegmentId(self.scene.random.uuid()), number: 1 };
        let mut attempt = self.scene.random.pick(&live).map_or(of_others, |(attempt, _)| *attempt);
        match self.scene.random.below(4) {
            0 => attempt.number += 1,
            1 => attempt.number = attempt.number.saturating_sub(1).max(1),
            _ => {}
        }
        let message = match self.scene.random.below(14) {
            0 => Some(v1::WorkerMessage::default()),
            1..=3 => {
                let progress = |attempt| Progress { attempt, epoch: Epoch(1), step: 1, steps: 8, loss: None };
                Some(WorkerMessage::Heartbeat(live.iter().map(|(attempt, _)| progress(*attempt)).collect()).into())
            }
            _ => None,
        };
        if let Some(message) = message {
            return self.machines[index].send_raw(&mut self.scene, message);
        }
        // About others it says things of its own attempts too.
        let id = self.machines[index].id;
        let own: Vec<Attempt> = live.iter().filter(|(_, of)| *of == id).map(|(attempt, _)| *attempt).collect();
        if self.scene.random.per_mille(300)
            && let Some(own) = self.scene.random.pick(&own)
        {
            attempt = *own;
        }
        let heard = self.machines[index].is_drained();
        let kind = self.false_event(attempt, heard);
        self.machines[index].say_falsely(&mut self.scene, attempt, kind);
    }

    /// `heard`: whether the coordinator knows everything that this machine said.
    fn false_event(&mut self, attempt: Attempt, heard: bool) -> EventKind {
        let random = &self.scene.random;
        let key = LineageKey(Digest::of(&random.number().to_le_bytes()));
        let manifest = key.0;
        let (next, following) = self.scene.oracle.next_epochs(attempt);
        let epoch = Epoch(u32::try_from(random.between(1, 6)).unwrap_or(1));
        let committed = |epoch, key, predictions| {
            let (spent, weights) = (Spent::default(), None);
            EventKind::EpochCommitted(EpochCommitted { epoch, key, manifest, predictions, spent, weights })
        };
        let twice = || vec![(Scored::Split(Split::Val), manifest), (Scored::Split(Split::Val), manifest)];
        match random.below(11) {
            10 => {
                let found = self.scene.oracle.any_epoch(attempt, |length| random.index(length));
                // Only what is not what comes next is not so, nor may it become so by what is said already.
                let found = found.filter(|found| next.is_none_or(|next| found.0 < next.0 || (heard && *found != next)));
                // Where it is committed, it is said as it was.
                let known = found.and_then(|(epoch, _)| self.scene.oracle.manifest(attempt.segment, epoch));
                let said = |(epoch, key)| match committed(epoch, key, vec![]) {
                    EventKind::EpochCommitted(epoch) => {
                        EventKind::EpochCommitted(EpochCommitted { manifest: known.unwrap_or(epoch.manifest), ..epoch })
                    }
                    other => other,
                };
                found.map_or(EventKind::Started, said)
            }
            0 => EventKind::Finished,
            1 => EventKind::Stopped,
            2 => EventKind::Failed { cause: FailureCause::Infrastructure, message: "not so".to_owned() },
            3 => committed(next.map_or(epoch, |next| next.0), key, vec![]),
            4 => following.map_or(EventKind::Started, |(epoch, key)| committed(epoch, key, vec![])),
            5 => next.map_or(EventKind::Started, |(epoch, key)| committed(epoch, key, twice())),
            6 => EventKind::StepCommitted(StepCommitted { epoch, step: 1, key, manifest }),
            7 => {
                let manifests = self.scene.oracle.manifests();
                let checkpoint = self.scene.random.pick(&manifests).copied().unwrap_or(manifest);
                EventKind::Damaged { checkpoint, message: "not so".to_owned() }
            }
            8 => EventKind::Log(vec!["not so".to_owned()]),
            _ => {
                let epoch = next.map_or(epoch, |next| next.0);
                let point = MetricPoint { epoch, step: 8, split: Split::Val, name: "auc".to_owned(), value: 0.25 };
                EventKind::Metrics(vec![point])
            }
        }
    }
}
