//! A machine says what is not so, or what it has said already.

use ceteris_proto::{
    fleet::{EpochCommitted, EventKind},
    v1,
};
use ceteris_shared::{ids::Attempt, trainer::Spent};

use super::{Link, Machine};
use crate::{network::Up, scene::Scene};

/// Of a thousand commits of a machine that lies: those around which it says something else.
const AROUND: u64 = 250;

impl Machine {
    /// Says an event that is not so.
    pub fn say_falsely(&mut self, scene: &mut Scene, attempt: Attempt, kind: EventKind) {
        scene.line(format_args!("machine {} lies about {attempt}: {kind:?}", self.index));
        self.append(scene, attempt, kind);
    }

    /// Sends a message past the protocol.
    pub fn send_raw(&mut self, scene: &mut Scene, message: v1::WorkerMessage) {
        let link = self.agent.as_ref().map(|agent| &agent.link);
        if let Some(&Link::Open { connection, .. }) = link {
            scene.line(format_args!("machine {} says what makes no sense", self.index));
            scene.send_up(connection, Up::Message(message));
        }
    }

    /// Commits something. One that lies may say another epoch first, whose turn it is not, and may say everything twice.
    pub(super) fn commit(&mut self, scene: &mut Scene, attempt: Attempt, kind: EventKind) {
        let lies = |scene: &Scene| self.lies && !scene.calm && scene.random.per_mille(AROUND);
        let (before, twice) = (lies(scene), lies(scene));
        if before && let Some(other) = out_of_turn(scene, attempt, &kind) {
            self.say_falsely(scene, attempt, other);
        }
        if twice {
            self.append(scene, attempt, kind.clone());
            self.say_falsely(scene, attempt, kind);
        } else {
            self.append(scene, attempt, kind);
        }
    }
}

/// An epoch whose turn it is not when `kind` is said: the one after the next, or one that is committed, as it was said.
fn out_of_turn(scene: &Scene, attempt: Attempt, kind: &EventKind) -> Option<EventKind> {
    let said = match kind {
        EventKind::EpochCommitted(committed) => committed.epoch,
        EventKind::StepCommitted(committed) => committed.epoch,
        _ => return None,
    };
    let others = scene.oracle.out_of_turn(attempt, said);
    let &((epoch, key), manifest) = scene.random.pick(&others)?;
    let (predictions, spent, weights) = (Vec::new(), Spent::default(), None);
    Some(EventKind::EpochCommitted(EpochCommitted { epoch, key, manifest, predictions, spent, weights }))
}
