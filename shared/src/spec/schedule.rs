//! The course of the learning rate over a stage, as a spec writes it, and what it means for one epoch.
//!
//! Semantics and defaults are those of `torch.optim.lr_scheduler`. All but one-cycle move from epoch to epoch, so an
//! epoch of them is a rate and nothing else: epochs that look alike are alike, whatever is planned after them.

use std::{f64::consts::PI, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor, value},
};

use super::optimization::Rates;

/// How the learning rate moves within a stage. Written as a name, or as a table with the name and settings.
///
/// `warm_up` epochs at the beginning of a stage let the rate grow linearly from 0 to the stage's rate; the rest of the
/// course begins after them (`torch.optim.lr_scheduler.SequentialLR`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// It does not move.
    Constant {
        /// Epochs.
        #[serde(default, skip_serializing_if = "is_zero")]
        warm_up: u32,
    },
    /// `StepLR`: times `factor` every so many epochs.
    Step {
        /// Epochs (`step_size`).
        every: u32,
        /// In (0, 1] (`gamma`; 0.1).
        #[serde(default = "tenth")]
        factor: f64,
        /// Epochs.
        #[serde(default, skip_serializing_if = "is_zero")]
        warm_up: u32,
    },
    /// `ExponentialLR`: times `factor` every epoch.
    Exponential {
        /// In (0, 1] (`gamma`).
        factor: f64,
        /// Epochs.
        #[serde(default, skip_serializing_if = "is_zero")]
        warm_up: u32,
    },
    /// `CosineAnnealingLR` over what the warm-up leaves of the stage (Loshchilov and Hutter, "SGDR", ICLR 2017).
    Cosine {
        /// The rate that the course leads to (`eta_min`; 0).
        #[serde(default)]
        minimum: f64,
        /// Epochs.
        #[serde(default, skip_serializing_if = "is_zero")]
        warm_up: u32,
    },
    /// See [`Rates::OneCycle`]: it moves from step to step.
    OneCycle {
        /// Share of the steps in which the rate grows, in (0, 1) (`pct_start`; 0.3).
        #[serde(default = "rise")]
        rise: f64,
        /// The first rate is the peak divided by this (`div_factor`; 25).
        #[serde(default = "start_divisor")]
        start_divisor: f64,
        /// The last rate is the first divided by this (`final_div_factor`; 1e4).
        #[serde(default = "end_divisor")]
        end_divisor: f64,
    },
}

fn is_zero(epochs: &u32) -> bool {
    *epochs == 0
}

fn tenth() -> f64 {
    0.1
}

fn rise() -> f64 {
    0.3
}

fn start_divisor() -> f64 {
    25.0
}

fn end_divisor() -> f64 {
    1e4
}

impl Default for Schedule {
    fn default() -> Self {
        Self::Constant { warm_up: 0 }
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;

        impl<'de> Visitor<'de> for NameOrTable {
            type Value = Schedule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a schedule's name, or a table with its `name` and settings")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Schedule, E> {
                Schedule::deserialize(value::MapDeserializer::new([("name", name)].into_iter()))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Schedule, A::Error> {
                Schedule::deserialize(value::MapAccessDeserializer::new(table))
            }
        }

        deserializer.deserialize_any(NameOrTable)
    }
}

/// The name, with the settings that are not the defaults in parentheses: `cosine(minimum=1e-6,warm_up=2)`.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, settings): (_, &[(_, f64, Option<f64>)]) = match self {
            Self::Constant { .. } => ("constant", &[]),
            Self::Step { every, factor, .. } => {
                ("step", &[("every", f64::from(*every), None), ("factor", *factor, Some(tenth()))])
            }
            Self::Exponential { factor, .. } => ("exponential", &[("factor", *factor, None)]),
            Self::Cosine { minimum, .. } => ("cosine", &[("minimum", *minimum, Some(0.0))]),
            Self::OneCycle { rise: up, start_divisor: start, end_divisor: end } => (
                "one-cycle",
                &[
                    ("rise", *up, Some(rise())),
                    ("start_divisor", *start, Some(start_divisor())),
                    ("end_divisor", *end, Some(end_divisor())),
                ],
            ),
        };
        let warm_up = ("warm_up", f64::from(self.warm_up()), Some(0.0));
        let told = settings.iter().chain([&warm_up]).filter(|(_, value, default)| Some(*value) != *default);
        let told: Vec<String> = told.map(|(name, value, _)| format!("{name}={}", super::number(*value))).collect();
        if told.is_empty() { f.write_str(name) } else { write!(f, "{name}({})", told.join(",")) }
    }
}

impl Schedule {
    /// Epochs in which the rate grows to the stage's; 0 for one-cycle, whose rise is its own.
    pub fn warm_up(&self) -> u32 {
        match *self {
            Self::Constant { warm_up }
            | Self::Step { warm_up, .. }
            | Self::Exponential { warm_up, .. }
            | Self::Cosine { warm_up, .. } => warm_up,
            Self::OneCycle { .. } => 0,
        }
    }

    /// Whether an epoch does not depend on how many come after it, so that reading a run early is the same as a
    /// shorter run.
    pub fn is_horizon_free(&self) -> bool {
        match self {
            Self::Constant { .. } | Self::Step { .. } | Self::Exponential { .. } => true,
            Self::Cosine { .. } | Self::OneCycle { .. } => false,
        }
    }

    /// The rate of the epoch `index` (from 0) of a stage of `epochs` epochs whose rate is `lr`, and its course within
    /// the epoch.
    pub fn epoch(&self, lr: f64, index: u32, epochs: u32) -> (f64, Rates) {
        let warm_up = self.warm_up();
        if index < warm_up {
            return (lr, Rates::WarmUp { done: index, epochs: warm_up });
        }
        let after = index - warm_up;
        let rate = match *self {
            Self::Constant { .. } => lr,
            Self::Step { every, factor, .. } => lr * power(factor, after / every.max(1)),
            Self::Exponential { factor, .. } => lr * power(factor, after),
            Self::Cosine { minimum, .. } => {
                let share = f64::from(after) / f64::from(epochs.saturating_sub(warm_up).max(1));
                if after == 0 { lr } else { minimum + (lr - minimum) * (1.0 + (PI * share).cos()) / 2.0 }
            }
            Self::OneCycle { rise, start_divisor, end_divisor } => {
                return (lr, Rates::OneCycle { done: index, epochs, rise, start_divisor, end_divisor });
            }
        };
        (rate, Rates::Constant)
    }

    /// Checks settings that need no stage.
    ///
    /// # Errors
    /// What is out of range, with the range.
    pub(super) fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: f64, good: bool, range: &str| {
            if good { Ok(()) } else { Err(format!("`{name}` {value} is not {range}")) }
        };
        let factor = |factor: f64| within("factor", factor, factor > 0.0 && factor <= 1.0, "above 0 and up to 1");
        match *self {
            Self::Constant { .. } => Ok(()),
            Self::Step { every: 0, .. } => Err("`every` is 0; write after how many epochs the rate falls".to_owned()),
            Self::Step { factor: of, .. } | Self::Exponential { factor: of, .. } => factor(of),
            Self::Cosine { minimum, .. } => {
                within("minimum", minimum, (0.0..=100.0).contains(&minimum), "between 0 and 100")
            }
            Self::OneCycle { rise, start_divisor, end_divisor } => {
                let divisor = |name, value: f64| within(name, value, (1.0..=1e12).contains(&value), "from 1 to 1e12");
                within("rise", rise, rise > 0.0 && rise < 1.0, "between 0 and 1")?;
                divisor("start_divisor", start_divisor)?;
                divisor("end_divisor", end_divisor)
            }
        }
    }

    /// Checks the schedule against the stage that it is for.
    ///
    /// # Errors
    /// When the stage ends before its warm-up does, or a cosine would rise.
    pub(super) fn check_stage(&self, lr: f64, epochs: u32) -> Result<(), String> {
        if self.warm_up() > 0 && self.warm_up() >= epochs {
            return Err(format!(
                "a warm-up of {} epochs leaves nothing of a stage of {epochs}; warm up for less, or give the stage a \
                 schedule of its own",
                self.warm_up()
            ));
        }
        match *self {
            Self::Cosine { minimum, .. } if minimum > lr => Err(format!(
                "`minimum` {} of the cosine is above the stage's learning rate {}; lower it, or give the stage a \
                 schedule of its own",
                super::number(minimum),
                super::number(lr)
            )),
            _ => Ok(()),
        }
    }
}

/// `base` to the power `exponent` by squaring: multiplications alone, so the same bits on every machine.
fn power(mut base: f64, mut exponent: u32) -> f64 {
    let mut product = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            product *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(schedule: Schedule, lr: f64, epochs: u32) -> Vec<f64> {
        (0..epochs)
            .map(|index| {
                let (rate, rates) = schedule.epoch(lr, index, epochs);
                assert_eq!(rates, Rates::Constant);
                rate
            })
            .collect()
    }

    fn close(ours: &[f64], pytorchs: &[f64]) {
        assert_eq!(ours.len(), pytorchs.len());
        for (ours, pytorchs) in ours.iter().zip(pytorchs) {
            assert!((ours - pytorchs).abs() <= 1e-15 * pytorchs.abs().max(1.0), "{ours} {pytorchs}");
        }
    }

    /// The recursions that `torch.optim.lr_scheduler` computes, epoch after epoch.
    fn recursion(lr: f64, epochs: u32, next: impl Fn(f64, u32) -> f64) -> Vec<f64> {
        (1..=epochs).scan(lr, |rate, epoch| Some(std::mem::replace(rate, next(*rate, epoch)))).collect()
    }

    #[test]
    fn step_and_exponential_are_pytorchs() {
        let step = Schedule::Step { every: 3, factor: 0.1, warm_up: 0 };
        let multiplied = |rate, epoch: u32| if epoch.is_multiple_of(3) { rate * 0.1 } else { rate };
        close(&rates(step, 0.5, 10), &recursion(0.5, 10, multiplied));
        let exponential = Schedule::Exponential { factor: 0.9, warm_up: 0 };
        close(&rates(exponential, 0.5, 50), &recursion(0.5, 50, |rate, _| rate * 0.9));
    }

    #[test]
    fn cosine_is_pytorchs() {
        let (lr, minimum, epochs) = (0.5, 1e-3, 20);
        let cosine = Schedule::Cosine { minimum, warm_up: 0 };
        let horizon = f64::from(epochs);
        let next = |rate: f64, epoch: u32| {
            let cos = |epoch: u32| 1.0 + (PI * f64::from(epoch) / horizon).cos();
            cos(epoch) / cos(epoch - 1) * (rate - minimum) + minimum
        };
        close(&rates(cosine, lr, epochs), &recursion(lr, epochs, next));
    }

    #[test]
    fn a_course_begins_after_its_warm_up() {
        let cosine = Schedule::Cosine { minimum: 0.0, warm_up: 2 };
        for (index, step) in [(0, 0), (0, 3), (1, 0), (1, 3)] {
            let (lr, rates) = cosine.epoch(0.8, index, 6);
            assert_eq!((lr, rates), (0.8, Rates::WarmUp { done: index, epochs: 2 }));
            let grown = f64::from(index * 4 + step + 1) / 8.0;
            close(&[rates.at(lr, step, 4)], &[0.8 * grown]);
        }
        let after: Vec<f64> = (2..6).map(|index| cosine.epoch(0.8, index, 6).0).collect();
        close(&after, &rates(Schedule::Cosine { minimum: 0.0, warm_up: 0 }, 0.8, 4));
        let step = Schedule::Step { every: 2, factor: 0.5, warm_up: 1 };
        close(&(1..6).map(|index| step.epoch(0.8, index, 6).0).collect::<Vec<_>>(), &[0.8, 0.8, 0.4, 0.4, 0.2]);
    }

    #[test]
    fn one_cycle_is_pytorchs() {
        let one_cycle = Schedule::OneCycle { rise: 0.3, start_divisor: 25.0, end_divisor: 1e4 };
        let at = |index: u32, step| {
            let (lr, rates) = one_cycle.epoch(0.1, index, 5);
            rates.at(lr, step, 4)
        };
        // OneCycleLR(max_lr=0.1, total_steps=20): 0.3 × 20 - 1 = 5 steps up, 14 down.
        let cosine = |from: f64, to: f64, share: f64| to + (from - to) / 2.0 * (1.0 + (PI * share).cos());
        close(&[at(0, 0), at(1, 1), at(4, 3)], &[0.004, 0.1, 4e-7]);
        close(&[at(0, 2), at(3, 0)], &[cosine(0.004, 0.1, 0.4), cosine(0.1, 4e-7, 0.5)]);
    }

    #[test]
    fn a_horizon_free_epoch_is_the_same_in_a_longer_stage() {
        let schedules = ["\"constant\"", r#"{"name":"step","every":2}"#, r#"{"name":"exponential","factor":0.9}"#]
            .map(|text| serde_json::from_str::<Schedule>(text).expect("a schedule"));
        for schedule in schedules {
            assert!(schedule.is_horizon_free());
            assert!((0..4).all(|index| schedule.epoch(0.1, index, 4) == schedule.epoch(0.1, index, 9)));
        }
        for name in ["\"cosine\"", "\"one-cycle\""] {
            let schedule: Schedule = serde_json::from_str(name).expect("a schedule");
            assert!(!schedule.is_horizon_free());
            assert_ne!(schedule.epoch(0.1, 3, 4), schedule.epoch(0.1, 3, 9));
        }
    }

    #[test]
    fn names_and_tables_are_read_and_told() {
        let told = |text: &str| serde_json::from_str::<Schedule>(text).expect("a schedule").to_string();
        assert_eq!(told("\"cosine\""), "cosine");
        assert_eq!(told(r#"{"minimum":1e-6,"name":"cosine","warm_up":2}"#), "cosine(minimum=1e-6,warm_up=2)");
        assert_eq!(told(r#"{"name":"step","every":30}"#), "step(every=30)");
        assert_eq!(told(r#"{"name":"one-cycle","rise":0.25}"#), "one-cycle(rise=0.25)");
        let error = |text: &str| serde_json::from_str::<Schedule>(text).expect_err("no schedule").to_string();
        insta::assert_snapshot!(
            [
                r#""step""#,
                r#""cosin""#,
                r#"{"name":"one-cycle","warm_up":2}"#,
                r#"{"name":"constant","minimum":2}"#,
                "3"
            ]
            .map(error)
            .join("\n")
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        let schedules = [
            Schedule::default(),
            Schedule::Step { every: 3, factor: 0.3, warm_up: 1 },
            Schedule::Exponential { factor: 0.97, warm_up: 0 },
            Schedule::Cosine { minimum: 1e-6, warm_up: 4 },
            Schedule::OneCycle { rise: 0.2, start_divisor: 10.0, end_divisor: 100.0 },
        ];
        for schedule in schedules {
            let text = serde_json::to_string(&schedule).expect("a table");
            assert_eq!(serde_json::from_str::<Schedule>(&text).expect("a schedule"), schedule);
        }
    }
}
