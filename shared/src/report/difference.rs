//! Where two documents differ, number by number: how a report is held against one that was computed again.

use serde_json::Value;

/// A value that is not what it was computed to be.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberDifference {
    /// Its path in the document, such as `comparison.arms[1].runs[0].metrics.test.auc`.
    pub path: String,
    /// What the document says; null where it does not have it.
    pub said: Value,
    /// What was computed; null where it is too much.
    pub computed: Value,
}

/// Numbers that differ by no more than this part of the larger one are equal: another processor may round the last digits of
/// logarithms and quantiles otherwise.
const TOLERANCE: f64 = 1e-9;

/// All values in which `said` differs from `computed`, in the order of the document, and how many were held against each other. What is
/// under one of the `except` keys at the top is not looked at.
pub fn differences(said: &Value, computed: &Value, except: &[&str]) -> (Vec<NumberDifference>, u64) {
    let mut found = Found::default();
    match (said, computed) {
        (Value::Object(said), Value::Object(computed)) => {
            for (key, computed) in computed.iter().filter(|(key, _)| !except.contains(&key.as_str())) {
                found.look(key.clone(), said.get(key).unwrap_or(&Value::Null), computed);
            }
            for (key, said) in said.iter().filter(|(key, _)| !except.contains(&key.as_str())) {
                if !computed.contains_key(key) {
                    found.look(key.clone(), said, &Value::Null);
                }
            }
        }
        _ => found.look(String::new(), said, computed),
    }
    (found.differences, found.compared)
}

#[derive(Default)]
struct Found {
    differences: Vec<NumberDifference>,
    compared: u64,
}

impl Found {
    fn look(&mut self, path: String, said: &Value, computed: &Value) {
        match (said, computed) {
            (Value::Object(said), Value::Object(computed)) => {
                let more = said.keys().filter(|key| !computed.contains_key(*key));
                let keys: Vec<&String> = computed.keys().chain(more).collect();
                for key in keys {
                    let side =
                        |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or(Value::Null);
                    self.look(format!("{path}.{key}"), &side(said), &side(computed));
                }
            }
            (Value::Array(said), Value::Array(computed)) => {
                for index in 0..said.len().max(computed.len()) {
                    let side = |array: &[Value]| array.get(index).cloned().unwrap_or(Value::Null);
                    self.look(format!("{path}[{index}]"), &side(said), &side(computed));
                }
            }
            _ => {
                self.compared += 1;
                if !equal(said, computed) {
                    self.differences.push(NumberDifference { path, said: said.clone(), computed: computed.clone() });
                }
            }
        }
    }
}

fn equal(said: &Value, computed: &Value) -> bool {
    match (said.as_f64(), computed.as_f64()) {
        (Some(said), Some(computed)) => (said - computed).abs() <= TOLERANCE * said.abs().max(computed.abs()).max(1e-3),
        _ => said == computed,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths(said: &Value, computed: &Value) -> Vec<String> {
        differences(said, computed, &["version"]).0.into_iter().map(|found| found.path).collect()
    }

    #[test]
    fn what_differs_is_named_by_its_path() {
        let computed =
            json!({ "version": "1", "arms": [{ "auc": 0.5, "name": "a" }, { "auc": null }], "more": { "x": 1 } });
        let same = json!({ "version": "2", "arms": [{ "auc": 0.500_000_000_000_1, "name": "a" }, { "auc": null }], "more": { "x": 1 } });
        assert_eq!(differences(&same, &computed, &["version"]), (Vec::new(), 4));
        let other = json!({ "arms": [{ "auc": 0.500_001, "name": "b" }, { "auc": 1 }, 7], "less": 1 });
        assert_eq!(paths(&other, &computed), ["arms[0].auc", "arms[0].name", "arms[1].auc", "arms[2]", "more", "less"]);
    }
}
