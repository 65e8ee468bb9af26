//! What people ask of the coordinator, and when.

use ceteris_coordinator::driver::SharingChange;
use ceteris_scheduler::Drain;
use ceteris_shared::ids::ExperimentId;

use super::World;
use crate::{experiments, scene::Happening, users::Ask};

impl World {
    pub(super) fn ask(&mut self, what: Ask) {
        let Some((handle, number)) = self.leader().and_then(|life| Some((life.reach()?.0, life.number))) else {
            return;
        };
        match &what {
            Ask::Submit(request) | Ask::SubmitSenseless(request) => {
                self.scene.line(format_args!("a user submits {}", request.experiment.short()))
            }
            other => self.scene.line(format_args!("a user asks {other:?}")),
        }
        // Who submits what is senseless waits for nothing.
        if !matches!(what, Ask::SubmitSenseless(_)) {
            self.asked = Some(number);
        }
        let answers = self.answers.clone();
        if let Some(life) = self.lives.last_mut() {
            life.tasks.spawn(answers.ask(handle, what));
        }
    }

    /// The first experiment that is due and not stored yet.
    pub(super) fn due(&self) -> Option<Ask> {
        let due = |(index, (variant, at)): (usize, &(usize, u64))| {
            let id = ExperimentId(uuid::Uuid::from_u128(index as u128 + 1));
            let missing = *at <= self.scene.now && self.scene.oracle.experiment(id).is_none();
            missing.then(|| Ask::Submit(Box::new(experiments::request(index as u128, *variant))))
        };
        self.setting.experiments.iter().enumerate().find_map(due)
    }

    pub(super) fn user(&mut self) {
        if self.scene.calm {
            return;
        }
        self.scene.after(1000, Happening::User);
        if self.asked.is_some() {
            return;
        }
        if let Some(ask) = self.due() {
            return self.ask(ask);
        }
        if self.scene.random.per_mille((1_000_000 / self.setting.requests).min(1000)) {
            let id = ExperimentId(uuid::Uuid::from_u128(u128::from(self.scene.random.between(1, 4))));
            let ask = match self.scene.random.below(18) {
                0 => Ask::Cancel(id),
                1..=3 => Ask::Pause(id),
                4..=6 => Ask::Resume(id),
                7..=8 => Ask::Retry(id),
                9..=10 => {
                    let mut manifests = self.scene.oracle.manifests();
                    manifests.retain(|_| self.scene.random.per_mille(500));
                    Ask::Collect(manifests)
                }
                11..=13 => self.sharing(id),
                14..=16 => self.drain(),
                _ => {
                    let index = self.scene.random.index(self.setting.experiments.len());
                    Ask::Submit(Box::new(experiments::request(index as u128, self.setting.experiments[index].0)))
                }
            };
            self.ask(ask);
        }
    }

    /// Changes how an experiment shares the fleet.
    fn sharing(&self, id: ExperimentId) -> Ask {
        let random = &self.scene.random;
        let mut change = SharingChange::default();
        match random.below(3) {
            0 => change.priority = Some(i32::try_from(random.below(3)).unwrap_or(0) - 1),
            1 => change.weight = Some(u32::try_from(random.between(1, 4)).unwrap_or(1)),
            _ => change.max_concurrent = Some(if random.per_mille(500) { Some(1) } else { None }),
        }
        Ask::Share(id, change)
    }

    /// Has a machine, or one slot of it, not used any more until someone has looked at it. Where that is done with the cable
    /// pulled, it may be used again before it is back.
    fn drain(&mut self) -> Ask {
        let random = self.scene.random.clone();
        let index = random.index(self.machines.len());
        let drain = if random.per_mille(500) {
            Drain::Worker
        } else {
            Drain::Slots([u32::try_from(random.below(3)).unwrap_or(0)].into())
        };
        if random.per_mille(500) {
            self.scene.after(random.wait(20_000), Happening::Unplug(index));
        }
        self.scene.after(random.wait(90_000), Happening::UseAgain(index));
        Ask::Drain(self.machines[index].id, Some(drain))
    }

    pub(super) fn unplug(&mut self, index: usize) {
        let long = self.scene.random.wait(60_000);
        if !self.scene.calm {
            self.machines[index].cut_off(&mut self.scene, long);
        }
    }

    pub(super) fn use_again(&mut self, index: usize) {
        if self.scene.calm {
            return;
        }
        if self.asked.is_some() {
            return self.scene.after(1000, Happening::UseAgain(index));
        }
        self.ask(Ask::Drain(self.machines[index].id, None));
    }

    /// Submits what contradicts itself. It changes nothing, so it may come at any time, whatever else is asked.
    pub(super) fn submit_senseless(&mut self) {
        if self.scene.calm {
            return;
        }
        let wait = self.scene.random.wait(self.setting.senseless) + 1;
        self.scene.after(wait, Happening::Senseless);
        self.ask(Ask::SubmitSenseless(Box::new(experiments::senseless())));
    }
}
