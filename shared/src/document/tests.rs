//! Schema names, times, and the refusal of what is not meant.
use super::*;

#[test]
fn a_document_says_its_schema_and_is_read_again() {
    let document = Datasets { datasets: Vec::new() };
    assert_eq!(document.to_json(), r#"{"schema":"ceteris.datasets/1","datasets":[]}"#);
    assert_eq!(Datasets::from_json(&document.to_json()), Ok(document));
}

#[test]
fn another_schema_and_no_json_are_refused() {
    let workers = Workers { workers: Vec::new() }.to_json();
    assert!(matches!(Datasets::from_json(&workers), Err(Error::Schema { found, .. }) if found == "ceteris.workers/1"));
    assert!(matches!(Datasets::from_json("<html>"), Err(Error::Malformed { .. })));
    assert!(matches!(Datasets::from_json(r#"{"schema":"ceteris.datasets/1"}"#), Err(Error::Malformed { .. })));
}

#[test]
fn times_are_written_as_rfc_3339_and_read_again() {
    let moment = Timestamp(1_732_292_100_250);
    assert_eq!(moment.to_string(), "2024-11-22T16:15:00.250Z");
    let text = serde_json::to_string(&moment).expect("a string");
    assert_eq!(serde_json::from_str::<Timestamp>(&text).expect("the same"), moment);
    assert_eq!(Timestamp(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
}
