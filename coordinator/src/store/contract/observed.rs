//! What workers measure and print.

use super::*;
use crate::store::{Observation, Observed};

pub(crate) async fn what_is_observed_is_stored_once_in_any_order(store: &impl Store) {
    let record = experiment(1, "example");
    let run = Run::of(store, &record).await;
    let attempt = run.attempt();
    let metrics = |sequence: u64, step: u32| {
        let points = (step..step + 600).map(|step| point(1, step, "auc", f64::from(step) / 7.0)).collect();
        Observed { sequence, attempt, what: Observation::Metrics(points) }
    };
    let log = |sequence: u64, line: &str| Observed { sequence, attempt, what: Observation::Log(vec![line.to_owned()]) };
    let unheard = Observed { attempt: Attempt { number: 9, ..attempt }, ..log(3, "nobody's") };
    let first = vec![metrics(1, 0), log(2, "a"), unheard, metrics(4, 600)];
    assert_eq!(store.append(WORKER, first.clone()).await.expect("it is answered"), [true, true, false, true]);
    assert_eq!(store.last_sequence(WORKER).await.expect("it is read"), 4);
    // A stream that broke: the same again while the next is on its way, in parts, and the later part first.
    let later = vec![metrics(6, 1200), log(7, "c")];
    let earlier = [&first[1..], &[log(5, "b")]].concat();
    for part in [store.append(WORKER, later), store.append(WORKER, earlier), store.append(WORKER, first)] {
        part.await.expect("it is answered");
    }
    assert_eq!(store.append(WORKER, vec![]).await.expect("nothing is nothing"), [] as [bool; 0]);
    assert_eq!(store.last_sequence(WORKER).await.expect("it is read"), 7);
    let query = SeriesQuery { segments: vec![attempt.segment], names: vec![], uncommitted: true };
    let found = store.series(&query).await.expect("they are read");
    let expected: Vec<_> = (0..1800).map(|step| (step, f64::from(step) / 7.0)).collect();
    assert_eq!(found.iter().map(|at| (at.point.step, at.point.value)).collect::<Vec<_>>(), expected);
    let logs = store.logs(&[attempt.segment], 0, 10).await.expect("they are read");
    let mut lines: Vec<_> = logs.into_iter().flat_map(|batch| batch.lines).collect();
    lines.sort();
    assert_eq!(lines, ["a", "b", "c"]);
}
