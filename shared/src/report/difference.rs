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

/// What came of holding one document against another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Differences {
    /// All values that differ, in the order of the document.
    pub found: Vec<NumberDifference>,
    /// How many values were held against each other.
    pub compared: u64,
    /// Fields that were computed and that the document does not have.
    pub unsaid: Vec<String>,
}

/// Holds what `said` says against what was computed. What is under one of the `except` keys at the top is not looked at.
pub fn differences(said: &Value, computed: &Value, except: &[&str]) -> Differences {
    let mut differences = Differences::default();
    let without = |value: &Value| {
        let mut value = value.clone();
        if let Value::Object(object) = &mut value {
            except.iter().for_each(|key| drop(object.remove(*key)));
        }
        value
    };
    differences.look(String::new(), &without(said), &without(computed));
    differences
}

impl Differences {
    fn look(&mut self, path: String, said: &Value, computed: &Value) {
        match (said, computed) {
            (Value::Object(said), Value::Object(computed)) => {
                let under = |key: &String| if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                self.unsaid.extend(computed.keys().filter(|key| !said.contains_key(*key)).map(under));
                for (key, said) in said {
                    self.look(under(key), said, computed.get(key).unwrap_or(&Value::Null));
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
                    self.found.push(NumberDifference { path, said: said.clone(), computed: computed.clone() });
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
        differences(said, computed, &["version"]).found.into_iter().map(|found| found.path).collect()
    }

    #[test]
    fn what_differs_is_named_by_its_path() {
        let computed =
            json!({ "version": "1", "arms": [{ "auc": 0.5, "name": "a" }, { "auc": null }], "more": { "x": 1 } });
        let same = json!({ "version": "2", "arms": [{ "auc": 0.500_000_000_000_1, "name": "a" }, { "auc": null }], "more": { "x": 1 } });
        let compared = differences(&same, &computed, &["version"]);
        assert_eq!(compared, Differences { found: Vec::new(), compared: 4, unsaid: Vec::new() });
        let other = json!({ "arms": [{ "auc": 0.500_001, "name": "b" }, { "auc": 1 }, 7], "less": 1 });
        assert_eq!(paths(&other, &computed), ["arms[0].auc", "arms[0].name", "arms[1].auc", "arms[2]", "less"]);
        assert_eq!(differences(&other, &computed, &["version"]).unsaid, ["more"], "what it leaves out");
    }
}
