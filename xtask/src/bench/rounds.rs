//! Rounds: every program in turn does its stretch of work while the others wait.

use anyhow::Result;
use serde_json::{Value, json};

use super::process::{Answer, Process};

/// One stretch of work.
#[derive(Clone, Debug)]
pub struct Row {
    /// What the programs were set to, such as `batch 16`.
    pub setting: String,
    /// Who did it.
    pub label: String,
    pub round: u32,
    pub units: u32,
    pub answer: Answer,
}

impl Row {
    /// As it is kept on disk.
    pub fn to_json(&self) -> Value {
        json!({
            "setting": self.setting,
            "program": self.label,
            "round": self.round,
            "units": self.units,
            "answer": self.answer.line,
        })
    }
}

/// A program and how many units of work it does in a round.
pub type Turn = (Process, u32);

/// Goes `rounds` times through all programs, in turn forwards and backwards so that none is always first.
pub fn interleave(setting: &str, turns: &mut [Turn], rounds: u32) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..turns.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let (process, units) = &mut turns[index];
            let answer = process.go(*units)?;
            let label = process.label().to_owned();
            eprintln!("{setting}, round {}: {label}: {:.3} s", round + 1, answer.seconds);
            rows.push(Row { setting: setting.to_owned(), label, round, units: *units, answer });
        }
    }
    Ok(rows)
}

/// What `of` says of each stretch of work of one program, in the order of rounds.
pub fn values(rows: &[Row], setting: &str, label: &str, of: impl Fn(&Row) -> f64) -> Vec<f64> {
    rows.iter().filter(|row| row.setting == setting && row.label == label).map(of).collect()
}

/// Images per second of one program.
pub fn rates(rows: &[Row], setting: &str, label: &str) -> Vec<f64> {
    values(rows, setting, label, |row| row.answer.rate())
}

/// Seconds per unit of work of one program.
pub fn unit_seconds(rows: &[Row], setting: &str, label: &str) -> Vec<f64> {
    values(rows, setting, label, |row| row.answer.seconds / f64::from(row.units))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;
    use crate::bench::process::Launch;

    #[test]
    fn programs_take_turns_in_alternating_order_and_values_stay_in_the_order_of_rounds() {
        let script = r#"echo '{"ready": true}'; n=0
while read word units; do n=$((n + 1)); echo "{\"seconds\": $n, \"images\": 6}"; done"#;
        let start = |label: &str| {
            let launch = Launch::new(label, &["sh", "-c", script].map(OsStr::new));
            (launch.start().expect("sh speaks"), 2)
        };
        let rows = interleave("small", &mut [start("a"), start("b")], 3).expect("rounds");
        let order: Vec<&str> = rows.iter().map(|row| row.label.as_str()).collect();
        assert_eq!(order, ["a", "b", "b", "a", "a", "b"]);
        assert_eq!(rates(&rows, "small", "a"), [6.0, 3.0, 2.0]);
        assert_eq!(unit_seconds(&rows, "small", "b"), [0.5, 1.0, 1.5]);
        assert!(rates(&rows, "large", "a").is_empty());
        assert_eq!(rows[3].to_json()["answer"]["seconds"], 2);
    }
}
