//! What claims say, what is refused, and what each is worth on small made-up experiments.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::{
    compare::{
        Outcome,
        tests::{Case, cut, spec},
    },
    document::Uncertainty,
    spec::{Format, Score},
};

fn read(says: &str) -> Claim {
    says.parse().unwrap_or_else(|error| panic!("{says}: {error}"))
}

#[test]
fn a_claim_names_two_arms_a_metric_an_epoch_and_a_size() {
    let claim = read("finetuned-5  > frozen in test.auc at 20 epochs by >= 0.005");
    let metric = Metric { split: Split::Test, score: Score::Auc };
    let relation = Relation::Larger { least: Some(0.005) };
    let [left, right] = ["finetuned-5", "frozen"].map(str::to_owned);
    assert_eq!(claim, Claim { left, relation, right, metric, at: Some(Epoch(20)) });
    assert_eq!(claim.to_string(), "finetuned-5 > frozen in test.auc at 20 epochs by >= 0.005");
    for (written, told) in [
        ("a>b in val.f1 by>=1e-3", "a > b in val.f1 by >= 0.001"),
        ("a < b in test.loss at 1 epoch", "a < b in test.loss at 1 epoch"),
        (
            "frozen augment=none = frozen augment=light in val.auc by <= 0.01",
            "frozen augment=none = frozen augment=light in val.auc by <= 0.01",
        ),
        ("'frozen augment=none' > \"b\" in val.auc", "frozen augment=none > b in val.auc"),
        ("\"a in b\" < 'x \"y\"' in val.auc", "\"a in b\" < 'x \"y\"' in val.auc"),
    ] {
        assert_eq!(read(written).to_string(), told);
    }
}

#[test]
fn what_is_not_understood_is_told_with_how_to_write_it() {
    let mut told = String::new();
    for says in [
        "",
        "a is better than b in val.auc",
        "a >= b in val.auc",
        "a=b in val.auc by <= 0.1",
        "a > b > c in val.auc",
        "a > b in val.auc by > 0.1",
        "> b in val.auc",
        "a > in val.auc",
        "\"\" > b in val.auc",
        "a in b > c in val.auc",
        "a > b at 3 epochs in val.auc",
        "a > \"b in val.auc",
        "a > b\"c\" in val.auc",
        "a > b",
        "a > b in",
        "a > b in auc",
        "a > b in train.auc",
        "a > b in c in val.auc",
        "a > b in val.auc at epochs",
        "a > b in val.auc at 0 epochs",
        "a > b in val.auc at 20",
        "a > b in val.auc at 20 steps",
        "a > b in val.auc by 0.1",
        "a > b in val.auc by >= 0",
        "a > b in val.auc by >= 1 %",
        "a > b in val.auc by >= inf",
        "a > b in val.auc by <= 0.1",
        "a = b in val.auc",
        "a = b in val.auc by >= 0.1",
        "a > a in val.auc",
        "a > b in val.auc by >= 0.1 at 20 epochs",
    ] {
        writeln!(told, "{says}\n  {}", says.parse::<Claim>().expect_err(says)).expect("text");
    }
    insta::assert_snapshot!(told);
}

/// Any name that one of the two quotes can stand around.
fn name() -> impl Strategy<Value = String> {
    let odd = "[^\"]{1,12}|[^']{1,12}";
    let of_a_grid = "[a-z][a-z0-9.+-]{0,6}( [a-z_]{2,6}=[a-z0-9().,@-]{1,6}){0,2}";
    let of_the_language = prop::sample::select(vec!["in", "at", "by", "=", "a in b", ">", "x >= y", "epochs"]);
    prop_oneof![odd.prop_map(|name: String| name), of_a_grid, of_the_language.prop_map(str::to_owned)]
}

fn claim() -> impl Strategy<Value = Claim> {
    let size = || prop::num::f64::POSITIVE.prop_filter("a number above 0", |size| *size > 0.0 && size.is_finite());
    let relation = prop_oneof![
        prop::option::of(size()).prop_map(|least| Relation::Larger { least }),
        prop::option::of(size()).prop_map(|least| Relation::Smaller { least }),
        size().prop_map(|margin| Relation::Equivalent { margin }),
    ];
    let metric = (prop::sample::select(vec![Split::Val, Split::Test]), prop::sample::select(Score::ALL.to_vec()))
        .prop_map(|(split, score)| Metric { split, score });
    let at = prop::option::of((1..=u32::MAX).prop_map(Epoch));
    (name(), relation, name(), metric, at)
        .prop_filter("two arms", |(left, _, right, ..)| left != right)
        .prop_map(|(left, relation, right, metric, at)| Claim { left, relation, right, metric, at })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_again(claim in claim()) {
        prop_assert_eq!(claim.to_string().parse::<Claim>(), Ok(claim));
    }

    #[test]
    fn no_text_panics(text in ".{0,60}", words in prop::collection::vec("[ab<>=\"']|in|at|by|>=|<=|val.auc|[0-9]|epochs", 0..14)) {
        for says in [text, words.join(" "), words.concat()] {
            // What is understood says the same when it is printed.
            if let Ok(claim) = says.parse::<Claim>() {
                prop_assert_eq!(claim.to_string().parse::<Claim>(), Ok(claim));
            }
        }
    }
}

/// Six seeds, with this verdict and interval in the place of their own.
fn with(metric: &str, verdict: Verdict, interval: Option<[f64; 2]>, margin: Option<f64>) -> Comparison {
    let mut comparison = Case::done(spec(&format!("[endpoint]\nmetric = \"{metric}\""), 6), 4).at(None, false);
    let contrast = &mut comparison.contrasts[0];
    (contrast.verdict, contrast.because) = (verdict, "as measured".to_owned());
    contrast.difference.margin = margin;
    contrast.difference.uncertainty = interval.map(|interval| {
        let measured = contrast.difference.uncertainty.expect("it varies over patients");
        Uncertainty { interval, ..measured }
    });
    comparison
}

#[test]
fn a_claim_is_worth_what_the_verdict_and_the_interval_say() {
    let (larger, smaller) = ("finetuned > frozen in val.auc", "frozen < finetuned in val.auc");
    let sized = "finetuned > frozen in val.auc at 4 epochs by >= 0.005";
    let mirrored = "frozen < finetuned in val.auc by >= 0.005";
    let wrong = "frozen > finetuned in val.auc";
    let same = "finetuned = frozen in val.auc by <= 0.005";
    let auc = |verdict, interval| with("val.auc", verdict, Some(interval), None);
    let loss = |verdict, interval| with("test.loss", verdict, Some(interval), None);
    let equivalent = |margin| with("val.auc", Verdict::Equivalent, Some([-0.002, 0.006]), Some(margin));
    let (above, across, within) = ([0.0058, 0.02], [0.002, 0.02], [0.001, 0.004]);
    use Status::{Fails, Holds, Undecided};
    use Verdict::{Better, Inconclusive, Worse};
    let cases = [
        (Holds, larger, auc(Better, above)),
        (Holds, smaller, auc(Better, above)),
        (Fails, wrong, auc(Better, above)),
        (Fails, larger, auc(Worse, [-0.02, -0.001])),
        (Holds, wrong, auc(Worse, [-0.02, -0.001])),
        (Undecided, larger, auc(Inconclusive, [-0.001, 0.02])),
        (Fails, larger, equivalent(0.01)),
        (Fails, wrong, equivalent(0.01)),
        // The smaller loss is the better one, and claims are about values.
        (Holds, "finetuned < frozen in test.loss", loss(Better, [-0.2, -0.1])),
        (Fails, "finetuned > frozen in test.loss", loss(Better, [-0.2, -0.1])),
        (Holds, "finetuned < frozen in test.loss by >= 0.1", loss(Better, [-0.2, -0.1])),
        (Undecided, "frozen > finetuned in test.loss by >= 0.15", loss(Better, [-0.2, -0.1])),
        (Holds, sized, auc(Better, above)),
        (Holds, mirrored, auc(Better, above)),
        (Holds, sized, auc(Better, [0.005, 0.02])),
        (Undecided, sized, auc(Better, across)),
        (Undecided, mirrored, auc(Better, [0.0049999, 0.02])),
        (Fails, sized, auc(Better, within)),
        (Fails, sized, auc(Worse, [-0.02, -0.001])),
        // It is corrected over the contrasts that there is a difference, and then the interval is not asked.
        (Undecided, sized, auc(Inconclusive, above)),
        (Undecided, sized, auc(Inconclusive, [-0.001, 0.02])),
        (Fails, sized, auc(Inconclusive, [-0.01, 0.004])),
        (Undecided, sized, with("val.auc", Inconclusive, None, None)),
        (Holds, same, auc(Inconclusive, [-0.004, 0.005])),
        (Holds, same, auc(Better, within)),
        (Holds, same, equivalent(0.004)),
        (Undecided, same, equivalent(0.01)),
        (Undecided, same, auc(Inconclusive, [-0.001, 0.02])),
        (Undecided, same, auc(Better, across)),
        (Fails, same, auc(Better, above)),
        (Fails, same, auc(Worse, [-0.02, -0.0051])),
        (Undecided, same, with("val.auc", Inconclusive, None, None)),
    ];
    let mut told = String::new();
    for (expected, says, comparison) in cases {
        let judgement = judge(&read(says), &comparison);
        let [contrast] = &comparison.contrasts[..] else { panic!("one contrast") };
        let interval = contrast.difference.uncertainty.as_ref().map(|uncertainty| uncertainty.interval);
        let (name, verdict) = (judgement.status.name(), contrast.verdict.name());
        writeln!(told, "{says} | {verdict} {interval:?} -> {name}\n  {}", judgement.because).expect("text");
        assert_eq!(judgement.status, expected, "{says} by {verdict} {interval:?}");
    }
    insta::assert_snapshot!(told);
}

#[test]
fn what_was_not_fixed_before_training_is_not_answered() {
    let grid = "[grid]\naugment = [\"none\", \"light\"]";
    let done = |extra: &str| Case::done(spec(extra, 6), 4);
    let running = || done("").with("finetuned", 1, cut(3, Outcome::Unfinished));
    let on_test = "[endpoint]\nmetric = \"test.auc\"";
    let says = "finetuned > frozen in val.auc";
    use Status::{Fails, Holds, NotComparable, NotDeclared, Undecided};
    let cases = [
        (Holds, says, done("").at(None, false)),
        (NotDeclared, "finetuned > froze in val.auc", done("").at(None, false)),
        (NotDeclared, "finetuned > frozen in val.f1", done("").at(None, false)),
        (NotDeclared, "finetuned > frozen in test.auc", done("").at(None, false)),
        (NotDeclared, says, done(on_test).at(None, false)),
        (NotDeclared, "finetuned > frozen in val.auc at 5 epochs", done("").at(None, false)),
        (Undecided, "finetuned > frozen in test.auc at 2 epochs", done(on_test).at(Some(2), false)),
        (Undecided, "finetuned > frozen in val.auc at 2 epochs by >= 0.1", done(on_test).at(Some(2), false)),
        (Undecided, "finetuned = frozen in val.auc at 2 epochs by <= 1", done("").at(Some(2), false)),
        (NotDeclared, "finetuned > frozen in val.f1 at 2 epochs", done("").at(Some(2), false)),
        (NotComparable, says, running().at(None, false)),
        (NotComparable, says, running().at(None, true)),
        (NotDeclared, "finetuned > frozen in val.f1", running().at(None, false)),
        (Undecided, "finetuned > frozen in val.auc at 3 epochs", running().at(Some(3), false)),
        (Holds, "frozen augment=none < finetuned augment=none in val.auc", done(grid).at(None, false)),
        (NotDeclared, "finetuned augment=light > frozen augment=none in val.auc", done(grid).at(None, false)),
        // One seed says nothing about training, however narrow its interval is.
        (Undecided, says, Case::done(spec("", 1), 4).at(None, false)),
        (Undecided, "finetuned = frozen in val.auc by <= 1", Case::done(spec("", 1), 4).at(None, false)),
        (Undecided, "finetuned > frozen in val.auc by >= 1", Case::done(spec("", 1), 4).at(None, false)),
        (Fails, says, Case::done(spec("", 6), 0).at(None, false)),
    ];
    let mut told = String::new();
    for (expected, says, comparison) in cases {
        let Judgement { status, because } = judge(&read(says), &comparison);
        writeln!(told, "{says} -> {}\n  {because}", status.name()).expect("text");
        assert_eq!(status, expected, "{says}: {because}");
    }
    insta::assert_snapshot!(told);
}

#[test]
fn only_an_epoch_before_the_endpoint_is_read_apart() {
    let at = |says: &str| read(says).before_endpoint(4);
    assert_eq!(at("a > b in val.auc"), None);
    assert_eq!(at("a > b in val.auc at 3 epochs"), Some(Epoch(3)));
    assert_eq!(at("a > b in val.auc at 4 epochs"), None);
    assert_eq!(at("a > b in val.auc at 5 epochs"), None);
}

#[test]
fn a_file_lists_claims_about_one_experiment_or_several() {
    let text = "experiment = \"study\"\n[[claim]]\nsays = \"a > b in val.auc\"\n[[claim]]\nexperiment = \"8f14\"\nsays = 'a < b in val.loss'\n";
    let told: Vec<String> = parse(text)
        .expect("well-formed")
        .iter()
        .map(|stated| format!("{}: {}", stated.experiment, stated.claim))
        .collect();
    assert_eq!(told, ["study: a > b in val.auc", "8f14: a < b in val.loss"]);
}

#[test]
fn a_file_that_cannot_be_meant_is_told_with_its_place() {
    let entry = "[[claim]]\nsays = \"a > b in val.auc\"\n";
    let mut told = String::new();
    for text in [
        "",
        entry,
        "experiment = \"\"\n[[claim]]\nsays = \"a > b in val.auc\"\n",
        "experiment = \"x\"\n[[claims]]\nsays = \"a > b in val.auc\"\n",
        "experiment = \"x\"\n[[claim]]\nsay = \"a > b in val.auc\"\n",
        "experiment = \"x\"\n[[claim]]\nsays = \"a > b in val.auc\"\n[[claim]]\nsays = \"a better b\"\n",
        "experiment = \"x\"\n[[claim]]\n",
    ] {
        writeln!(told, "{}\n", parse(text).expect_err(text)).expect("text");
    }
    insta::assert_snapshot!(told);
    assert_eq!(parse(&" ".repeat(MAX_CLAIMS_BYTES + 1)), Err(Error::TooLong(MAX_CLAIMS_BYTES + 1)));
    let many = format!("experiment = \"x\"\n{}", entry.repeat(MAX_CLAIMS + 1));
    assert_eq!(parse(&many), Err(Error::TooMany(MAX_CLAIMS + 1)));
}

#[test]
fn the_example_is_about_the_arms_and_the_endpoint_of_its_experiment() {
    let spec = crate::spec::parse(include_str!("../../../../examples/kermany.toml"), Format::Toml).expect("a spec");
    for stated in parse(include_str!("../../../../examples/claims.toml")).expect("claims") {
        assert_eq!(stated.experiment, spec.name);
        for name in [&stated.claim.left, &stated.claim.right] {
            assert!(spec.arm.iter().any(|arm| arm.name == *name), "{name}");
        }
        assert_eq!(stated.claim.metric, spec.endpoint.metric);
        assert_eq!(stated.claim.before_endpoint(spec.budget.epochs), None);
    }
}
