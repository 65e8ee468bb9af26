//! Coordinators begin, stand still and end; at times there are two, of which one leads.

use ceteris_scheduler::Timestamp;
use tonic::Status;

use super::{HEARTBEAT, World};
use crate::{coordinator::Life, network::Down, scene::Happening};

impl World {
    pub(super) fn start_life(&mut self) {
        self.next_life = false;
        self.started += 1;
        let number = self.started;
        // Clocks are set forward between lives, and seldom back a little.
        match self.scene.random.below(10) {
            0 => self.offset += self.scene.random.wait(3_600_000),
            1 => self.offset -= self.scene.random.below(5_000),
            _ => {}
        }
        for index in 0..self.lives.len() {
            // One that writes nothing is told by its lock, not by a commit.
            let (old, wait) = (self.lives[index].number, self.scene.random.wait(15_000));
            self.scene.after(wait, Happening::Fenced(old));
        }
        self.shared.lead(number);
        let rate = self.scene.random.between(970, 1030);
        let clock = Timestamp(self.offset + self.scene.now);
        self.scene.line(format_args!("life {number} starts at {}", clock.0));
        let (oracle, trace, world) = (&self.scene.oracle, &self.scene.trace, &self.scene.clock);
        let at = (self.scene.now, clock, rate);
        self.lives.push(Life::start(number, self.config, HEARTBEAT, &self.shared, oracle, trace, world, at));
    }

    /// One that does not lead any more finds out, as soon as it can.
    pub(super) fn fence(&mut self, number: u64) {
        match self.lives.iter().find(|life| life.number == number) {
            Some(life) if !life.goes_on(self.scene.now) => {
                let until = life.stalled_until;
                self.scene.at(until, Happening::Fenced(number));
            }
            _ => self.end_life(number, "it finds that another one leads"),
        }
    }

    /// The leader stands still for a while, like a process that is not given the processor. What is sent to it waits, and
    /// workers that hear nothing give their connections up.
    pub(super) fn stall_life(&mut self, milliseconds: u64) {
        let Some(life) = self.lives.last_mut() else { return };
        let number = life.number;
        self.scene.line(format_args!("life {number} stands still for {milliseconds} ms"));
        life.stalled_until = life.stalled_until.max(self.scene.now + milliseconds);
        let until = life.stalled_until;
        self.scene.at(until, Happening::Alarm(number));
        for machine in &mut self.machines {
            let connection = machine.agent.as_ref().and_then(|agent| agent.connection());
            if let Some(connection) = connection.filter(|open| self.scene.connections[*open].life == number) {
                machine.hear_nothing(&mut self.scene, connection);
            }
        }
    }

    /// Ends a life, and whatever it was doing with it.
    pub(super) fn end_life(&mut self, number: u64, why: &str) {
        let Some(index) = self.lives.iter().position(|life| life.number == number) else { return };
        self.scene.line(format_args!("life {number} ends: {why}"));
        let life = self.lives.remove(index);
        // Clocks go on from where they were.
        self.offset = self.offset.max(life.clock().0.saturating_sub(self.scene.now));
        drop(life);
        if self.asked == Some(number) {
            self.asked = None;
        }
        for connection in 0..self.scene.connections.len() {
            let open = &mut self.scene.connections[connection];
            if open.life == number && open.inbound.take().is_some() && open.heard {
                let late = if self.scene.random.per_mille(200) { 20_000 } else { 0 };
                let open = &mut self.scene.connections[connection];
                open.down_until = open.down_until.max(self.scene.now) + late;
                self.scene.send_down(connection, Down::End(Status::unavailable("the connection broke")));
            }
        }
        if self.lives.is_empty() {
            let away =
                if self.scene.calm { 500 } else { self.scene.random.between(self.setting.away.0, self.setting.away.1) };
            self.restart_after(away);
        }
    }

    pub(super) fn restart_after(&mut self, milliseconds: u64) {
        if !std::mem::replace(&mut self.next_life, true) {
            self.scene.after(milliseconds, Happening::StartLife);
        }
    }

    pub(super) fn leader(&self) -> Option<&Life> {
        self.lives.last()
    }

    /// The driver that leads sleeps no longer than until something is to be done.
    pub(super) fn check_deadline(&self) {
        let now = self.scene.now;
        let leads = |life: &&Life| {
            life.number == self.started && life.goes_on(now) && life.reach().is_some() && !self.shared.is_held()
        };
        let Some(life) = self.leader().filter(leads) else { return };
        let oracle = &self.scene.oracle;
        let (wanted, sleeps) = (oracle.next_deadline(life.number, life.clock()), life.sleeps_until());
        if wanted.is_some_and(|wanted| sleeps.is_none_or(|sleeps| sleeps > wanted)) {
            oracle.report("deadlines wake the driver", format!("it sleeps until {sleeps:?}, and {wanted:?} is next"));
        }
    }
}
