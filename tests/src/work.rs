//! Experiments for a fleet that is disturbed: always some unfinished ones, and a memory of everything that was ever shown of
//! each, which must stay.

use std::collections::BTreeSet;

use ceteris_shared::document::{Experiments, State};

use crate::{Client, Spec, Trace, eventually};

/// Epochs of each experiment.
const EPOCHS: u32 = 16;
/// Unfinished experiments at any time: more than are trained during a fault.
const UNFINISHED: usize = 6;
/// So many are different; then they begin again, and train every epoch anew.
const DIFFERENT: u32 = 24;
/// One in so many trains part of the network too, with checkpoints of 26 MB.
const HEAVY: u32 = 4;

/// See above.
#[derive(Debug, Default)]
pub struct Work {
    unfinished: Vec<Known>,
    finished: Vec<Known>,
    /// Checkpoints and values that were shown once and are gone, or are others.
    pub lost: u32,
    /// Checkpoints and values that are there more than once.
    pub doubled: u32,
}

/// An experiment, as it was shown last.
#[derive(Debug)]
struct Known {
    number: u32,
    trace: Trace,
}

fn name(number: u32) -> String {
    format!("work-{number}")
}

/// The spec of this number.
fn spec(number: u32) -> String {
    let rate = format!("{:e}", 1e-3 + f64::from(number % DIFFERENT) * 1e-6);
    // Augmented, so that a frozen backbone is passed anew in every epoch, which takes a while.
    let stages = match number % HEAVY {
        0 => format!(
            "{{ epochs = 15, train = \"head\", lr = {rate} }}, {{ epochs = 1, train = \"denseblock4\", lr = {rate} }}"
        ),
        _ => format!("{{ epochs = 16, train = \"head\", lr = {rate} }}"),
    };
    let spec = Spec { name: &name(number), epochs: EPOCHS, seeds: 1, arms: vec![("only", &stages)] };
    format!("{}\n[execution]\nshare = false\n", spec.text())
}

fn submit(client: &Client, number: u32) {
    client.ceteris(&["submit", &client.write(&format!("{}.toml", name(number)), &spec(number))]).ok();
}

impl Work {
    /// Submits experiments until there is enough to do.
    pub fn supply(&mut self, client: &Client) {
        while self.unfinished.len() < UNFINISHED {
            let number = (self.unfinished.len() + self.finished.len()) as u32;
            submit(client, number);
            self.unfinished.push(Known { number, trace: Trace::default() });
        }
    }

    /// Looks at what is finished since the last time, and at the oldest of what is not, and compares with what was shown
    /// before.
    ///
    /// # Panics
    /// When an experiment failed, or cannot be asked for.
    pub fn look(&mut self, client: &Client) {
        let listed: Experiments = client.document(&["ls"]);
        let done: BTreeSet<String> =
            listed.experiments.into_iter().filter(|row| row.state == State::Done).map(|row| row.name).collect();
        for (index, mut known) in std::mem::take(&mut self.unfinished).into_iter().enumerate() {
            if index > 0 && !done.contains(&name(known.number)) {
                self.unfinished.push(known);
                continue;
            }
            match self.compare(client, &mut known) {
                State::Done => self.finished.push(known),
                State::Queued | State::Running => self.unfinished.push(known),
                state => panic!("{} ended as {state:?}", name(known.number)),
            }
        }
    }

    fn compare(&mut self, client: &Client, known: &mut Known) -> State {
        let (state, trace, doubled) = Trace::so_far(client, &name(known.number));
        self.lost += trace.lost_since(&known.trace);
        self.doubled += doubled;
        known.trace = trace;
        state
    }

    /// Waits until everything is finished, and looks at all of it once more.
    pub fn finish(&mut self, client: &Client) {
        eventually("all experiments to end", || {
            self.look(client);
            self.unfinished.is_empty().then_some(())
        });
        for mut known in std::mem::take(&mut self.finished) {
            self.compare(client, &mut known);
            self.finished.push(known);
        }
        self.finished.sort_by_key(|known| known.number);
    }

    /// How many experiments are finished, of how many epochs, with how many measured values.
    pub fn done(&self) -> (usize, usize, usize) {
        let sum = |count: fn(&Trace) -> usize| self.finished.iter().map(|known| count(&known.trace)).sum();
        (self.finished.len(), sum(|trace| trace.checkpoints.len()), sum(|trace| trace.metrics.len()))
    }

    /// How many experiments a fleet that nobody disturbs trains to other weights or values.
    ///
    /// # Panics
    /// When it does not train one to its end.
    pub fn differing(&self, peaceful: &Client) -> usize {
        let different = DIFFERENT.min(self.finished.len() as u32);
        (0..different).for_each(|number| submit(peaceful, number));
        let trained = |number| {
            let (state, trace, doubled) = eventually("an undisturbed experiment to end", || {
                Some(Trace::so_far(peaceful, &name(number))).filter(|(state, ..)| *state == State::Done)
            });
            assert_eq!((state, doubled, trace.checkpoints.len()), (State::Done, 0, EPOCHS as usize));
            trace
        };
        let traces: Vec<Trace> = (0..different).map(trained).collect();
        self.finished.iter().filter(|known| known.trace != traces[(known.number % DIFFERENT) as usize]).count()
    }
}
