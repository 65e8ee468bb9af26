//! What goes wrong in a world, and when.

use super::World;
use crate::{scene::Happening, weather::Fault};

impl World {
    pub(super) fn fault(&mut self) {
        if self.scene.calm {
            return;
        }
        let wait = self.scene.random.wait(self.setting.weather.every) + 1;
        self.scene.after(wait, Happening::Fault);
        let Some(fault) = self.setting.weather.fault(&self.scene.random) else { return };
        self.scene.line(format_args!("fault: {fault:?}"));
        self.cause(fault);
    }

    /// Lets a fault happen now.
    pub fn cause(&mut self, fault: Fault) {
        let index = self.scene.random.index(self.machines.len());
        let long = self.scene.random.wait(30_000);
        match fault {
            Fault::KillCoordinator => {
                if let Some(number) = self.leader().map(|life| life.number) {
                    self.end_life(number, "it is killed");
                }
            }
            Fault::StopCoordinator => {
                if let Some(life) = self.leader() {
                    life.stop();
                }
            }
            Fault::TakeOver => {
                if self.lives.len() == 1 {
                    self.restart_after(0);
                }
            }
            Fault::StallCoordinator => self.stall_life(long),
            Fault::BreakStream => self.machines[index].break_link(&mut self.scene),
            Fault::StallStream => {
                if let Some(connection) = self.machines[index].agent.as_ref().and_then(|agent| agent.connection()) {
                    self.scene.stall(connection, long);
                }
            }
            Fault::CutOff => self.machines[index].cut_off(&mut self.scene, long * 2),
            Fault::KillAgent => {
                self.machines[index].kill(&mut self.scene);
                self.scene.after(long, Happening::Boot(index));
            }
            Fault::StopAgent => self.machines[index].leave(&mut self.scene),
            Fault::StallAgent => self.machines[index].stall(&mut self.scene, long * 2),
            Fault::LoseState => {
                self.machines[index].lose_state(&mut self.scene);
                self.scene.after(long, Happening::Boot(index));
            }
            Fault::Damage => self.damage(),
            Fault::DamageMany => (0..5).for_each(|_| self.damage()),
            Fault::LoseLatest => {
                let count = 1 + self.scene.random.index(4);
                let lost = self.scene.objects.lose_latest(count);
                self.scene.line(format_args!("the last {lost} checkpoints are lost"));
            }
            Fault::Lie => self.lie(),
        }
    }

    fn damage(&mut self) {
        let random = self.scene.random.clone();
        if let Some(manifest) = self.scene.objects.damage(|length| random.index(length)) {
            self.scene.line(format_args!("checkpoint {} is damaged", manifest.short()));
        }
    }
}
