//! An attempt on a machine: what its slot, its trainer and its uploads would do, in time that chance decides.

use std::collections::VecDeque;

use ceteris_proto::fleet::{EpochCommitted, EventKind, StartAttempt, StepCommitted};
use ceteris_shared::{
    checkpoint::Environment,
    dataset::Split,
    digest::Digest,
    ids::Epoch,
    trainer::{FailureCause, MetricPoint, Scored, Spent},
};
use ceteris_worker::attempts::Wish;
use tokio::sync::watch;

use crate::{
    objects::{self, Checkpoint, Objects},
    random::Random,
};

/// Epochs that wait for the store before training does.
const QUEUE: usize = 2;

/// An attempt that was taken and is not over.
#[derive(Debug)]
pub struct Execution {
    pub start: StartAttempt,
    pub wish: watch::Receiver<Wish>,
    /// The slot that it has.
    pub slot: Option<usize>,
    /// It trains.
    pub training: bool,
    /// It ends soon, whatever else it was to do.
    pub halting: bool,
    /// The weights before the epoch that is trained.
    pub weights: Digest,
    /// Index of the epoch that is trained next, or now.
    pub next: usize,
    /// Epochs that are trained and not committed: their index and the weights after them.
    pub uploads: VecDeque<(usize, Digest)>,
    /// Training waits for the store.
    pub blocked: bool,
    /// Steps of the epoch that is trained that were stored.
    pub steps: u32,
}

impl Execution {
    pub fn new(start: StartAttempt, wish: watch::Receiver<Wish>) -> Self {
        Self {
            start,
            wish,
            slot: None,
            training: false,
            halting: false,
            weights: Digest([0; 32]),
            next: 0,
            uploads: VecDeque::new(),
            blocked: false,
            steps: 0,
        }
    }

    /// What is wished of it.
    pub fn wished(&self) -> Wish {
        self.wish.borrow().clone()
    }

    /// Whether no further epoch is to be begun.
    pub fn ends_here(&self) -> bool {
        self.next >= self.start.work.epochs.len() || self.wished() >= Wish::StopAfterEpoch
    }

    pub fn has_room(&self) -> bool {
        self.uploads.len() <= QUEUE
    }

    /// The epoch of this index is trained: it is to be stored.
    pub fn trained(&mut self, index: usize, environment: &Environment) {
        let Some(work) = self.start.work.epochs.get(index) else { return };
        self.weights = objects::trained(self.weights, work.key, environment);
        self.uploads.push_back((index, self.weights));
        (self.next, self.steps) = (index + 1, 0);
    }

    /// Why the epoch of this index cannot be trained.
    pub fn failure(&self, index: usize) -> Option<EventKind> {
        let cause = objects::fails(self.start.work.epochs.get(index)?.key)?;
        let message = match cause {
            FailureCause::Diverged => "the loss is no longer finite",
            _ => "this cannot be trained as it is",
        };
        Some(EventKind::Failed { cause, message: message.to_owned() })
    }

    /// Stores a checkpoint within the epoch that is trained.
    pub fn store_step(&mut self, objects: &mut Objects, environment: &Environment, by: u32) -> Option<EventKind> {
        let work = self.start.work.epochs.get(self.next)?;
        self.steps += by.max(1);
        let (epoch, step, key) = (work.epoch, self.steps, work.key);
        let manifest = objects.store(
            self.start.attempt,
            Checkpoint { epoch, step: Some(step), key, weights: self.weights, environment: environment.clone() },
        );
        Some(EventKind::StepCommitted(StepCommitted { epoch, step, key, manifest }))
    }

    /// What is measured of the oldest epoch that is trained; another attempt would measure it with other noise.
    pub fn measure(&self, random: &Random) -> Option<EventKind> {
        let epoch = self.epoch_of(self.uploads.front()?.0)?;
        let value = random.below(1 << 30) as f64 / (1 << 30) as f64;
        let point = |name: &str, step, split, value| MetricPoint { epoch, step, split, name: name.to_owned(), value };
        let points = vec![
            point("step_loss", 1, Split::Train, value),
            point("loss", 8, Split::Val, value / 2.0),
            point("auc", 8, Split::Val, 1.0 - value),
        ];
        Some(EventKind::Metrics(points))
    }

    fn epoch_of(&self, index: usize) -> Option<Epoch> {
        Some(self.start.work.epochs.get(index)?.epoch)
    }

    /// Commits the oldest epoch that is trained.
    pub fn commit(&mut self, objects: &mut Objects, environment: &Environment) -> Option<EventKind> {
        let (index, weights) = self.uploads.pop_front()?;
        let work = self.start.work.epochs.get(index)?;
        let (epoch, key) = (work.epoch, work.key);
        let checkpoint = Checkpoint { epoch, step: None, key, weights, environment: environment.clone() };
        let manifest = objects.store(self.start.attempt, checkpoint);
        let last = index + 1 == self.start.work.epochs.len() && self.start.work.endpoint;
        let scored = |split| (Scored::Split(split), Digest::of(format!("{split} {key}").as_bytes()));
        let mut predictions = vec![scored(Split::Val)];
        if last {
            predictions.push(scored(Split::Test));
            let external = self.start.external.iter();
            predictions.extend(external.map(|(name, digest)| (Scored::External(name.clone()), *digest)));
        }
        let spent = Spent { steps: 8, samples: 256, seconds: 2.5 };
        Some(EventKind::EpochCommitted(EpochCommitted {
            epoch,
            key,
            manifest,
            predictions,
            spent,
            weights: Some(weights),
        }))
    }
}
