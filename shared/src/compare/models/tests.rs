//! Models of the same samples are compared; what is not of the same samples is refused.

use super::*;
use crate::document::Verdict;

/// Sixty samples of forty patients, every other one positive; `shift` is what a positive one has more.
fn model(name: &str, seeds: u64, shift: f64) -> PredictedModel {
    let one = |(seed, index): (u64, u32)| {
        let positive = index.is_multiple_of(2);
        let noise = f64::from((index * 37 + 11 * seed as u32) % 60) / 100.0;
        Prediction {
            sample: format!("{index:02}"),
            patient: Some(format!("p{}", index % 40)),
            label: u32::from(positive).to_string(),
            score: 0.2 + noise + if positive { shift } else { 0.0 },
            seed,
            subgroup: (index < 30).then(|| "first".to_owned()),
        }
    };
    let predictions = (0..seeds).flat_map(|seed| (0..60).map(move |index| (seed, index))).map(one).collect();
    PredictedModel { name: name.to_owned(), predictions }
}

fn rules() -> Rules {
    let compare = Compare { margin: None, ..Compare::default() };
    Rules { metric: Score::Auc, threshold: 0.5, positive: None, compare, draws: 100 }
}

fn compared(models: &[PredictedModel]) -> Models {
    compare_models(models, &rules()).expect("they are comparable")
}

#[test]
fn a_better_model_is_found_better_and_itself_no_different() {
    let found = compared(&[model("old", 3, 0.1), model("new", 3, 0.2), model("old again", 3, 0.1)]);
    assert_eq!((found.samples, found.patients, found.positive_class.as_str()), (60, 40, "1"));
    let [new, again] = &found.contrasts[..] else { panic!("two contrasts") };
    assert_eq!((new.verdict, again.verdict), (Verdict::Better, Verdict::Inconclusive));
    assert_eq!((new.baseline.as_str(), again.model.as_str()), ("old", "old again"));
    let same = &again.differences["auc"].difference;
    assert_eq!((same.mean_difference, same.p, same.sign_flip_p), (0.0, None, Some(1.0)), "nothing varies");
    assert!(again.tests.iter().all(|test| test.mcnemar.p == 1.0 && test.delong.and_then(|test| test.p) == Some(1.0)));
    let difference = &new.differences["auc"];
    let [low, high] = difference.difference.uncertainty.as_ref().expect("enough patients").interval;
    assert!(low > 0.0 && low < difference.difference.mean_difference && difference.difference.mean_difference < high);
    let p = difference.difference.p.expect("it varies");
    assert_eq!(difference.difference.p_corrected, Some(2.0 * p), "of two contrasts the smaller p counts twice");
    assert!(difference.bootstrap.is_some() && new.differences.len() == Score::ALL.len());
    let [group] = &new.subgroups[..] else { panic!("one subgroup") };
    assert_eq!((group.name.as_str(), group.samples, group.positives), ("first", 30, 15));
    assert!(group.difference.is_some());
}

#[test]
fn one_seed_is_about_the_two_models() {
    let found = compared(&[model("old", 1, 0.1), model("new", 1, 0.2)]);
    let contrast = &found.contrasts[0];
    assert_eq!((found.scope, contrast.verdict), (Scope::Models, Verdict::Better));
    let (overall, delong) = (&contrast.differences["auc"].difference, contrast.tests[0].delong.expect("areas"));
    assert_eq!((overall.p, Some(overall.mean_difference)), (delong.p, Some(delong.difference)), "it is DeLong's test");
    assert!(!contrast.because.contains("sign-flip"), "{}", contrast.because);
}

#[test]
fn neither_the_order_of_rows_nor_who_names_the_patients_matters() {
    let (old, mut new) = (model("old", 2, 0.1), model("new", 2, 0.2));
    let expected = compared(&[old.clone(), new.clone()]);
    new.predictions.reverse();
    new.predictions.iter_mut().for_each(|prediction| prediction.patient = None);
    assert_eq!(compared(&[old, new]), expected);
}

#[test]
fn what_is_not_of_the_same_samples_is_refused() {
    let changed = |change: &dyn Fn(&mut Vec<Prediction>)| {
        let mut new = model("new", 2, 0.2);
        change(&mut new.predictions);
        compare_models(&[model("old", 2, 0.1), new], &rules()).expect_err("not comparable")
    };
    let refused = [
        changed(&|rows| rows[3].label = "1".to_owned()),
        changed(&|rows| rows[3].patient = Some("other".to_owned())),
        changed(&|rows| rows[3].subgroup = Some("other".to_owned())),
        changed(&|rows| drop(rows.remove(3))),
        changed(&|rows| rows[3].sample = "other".to_owned()),
        changed(&|rows| rows.retain(|row| row.seed == 1)),
        changed(&|rows| rows.iter_mut().for_each(|row| row.seed += 1)),
    ];
    assert!(refused.iter().all(|error| matches!(error, ModelsError::NotComparable(_))), "{refused:?}");
    let input = [
        changed(&|rows| rows[3] = rows[4].clone()),
        changed(&|rows| rows[3].score = 1.5),
        changed(&|rows| rows[3].score = f64::NAN),
        changed(&|rows| rows.clear()),
        compare_models(&[model("old", 2, 0.1)], &rules()).expect_err("alone"),
        compare_models(&[model("old", 2, 0.1), model("old", 2, 0.2)], &rules()).expect_err("one name"),
    ];
    assert!(input.iter().all(|error| matches!(error, ModelsError::Input(_))), "{input:?}");
    let told: Vec<String> = refused.iter().chain(&input).map(ToString::to_string).collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    not comparable: sample "03" has the label "0" in old and "1" in new
    not comparable: sample "03" has the patient "p3" in old and "other" in new
    not comparable: sample "03" has the subgroup "first" in old and "other" in new
    not comparable: new has predictions of 59 of 60 samples with seed 0; 1 are missing, such as "03"
    not comparable: old has predictions of 60 of 61 samples with seed 0; 1 are missing, such as "other"
    not comparable: old has the seeds 0, 1 and new has 1; models are compared in pairs of one seed
    not comparable: old has the seeds 0, 1 and new has 1, 2; models are compared in pairs of one seed
    new: sample "04" is there twice for seed 0; each sample has one row for each seed
    new: the score 1.5 of sample "03" is no probability of the positive class, between 0 and 1
    new: the score NaN of sample "03" is no probability of the positive class, between 0 and 1
    new has no predictions
    it takes the predictions of two models or more to compare
    two models are called "old"; rename a file
    "#);
}

#[test]
fn the_positive_label_is_the_one_that_people_mean() {
    let with = |labels: [&str; 2], positive: Option<&str>| {
        let relabelled = |name, shift| {
            let mut model = model(name, 1, shift);
            let label = |row: &mut Prediction| row.label = labels[usize::from(row.label == "1")].to_owned();
            model.predictions.iter_mut().for_each(label);
            model
        };
        let rules = Rules { positive: positive.map(str::to_owned), draws: 0, ..rules() };
        compare_models(&[relabelled("old", 0.1), relabelled("new", 0.2)], &rules).map(|found| found.positive_class)
    };
    assert_eq!(with(["NORMAL", "PNEUMONIA"], None).as_deref(), Ok("PNEUMONIA"));
    assert_eq!(with(["PNEUMONIA", "NORMAL"], Some("NORMAL")).as_deref(), Ok("NORMAL"));
    assert_eq!(with(["9", "10"], None).as_deref(), Ok("10"), "numbers are compared as numbers");
    assert_eq!(with(["0.0", "1.0"], None).as_deref(), Ok("1.0"));
    assert!(matches!(with(["a", "b"], Some("c")), Err(ModelsError::Input(_))));
    assert!(matches!(with(["same", "same"], None), Err(ModelsError::Input(_))), "which one is it?");
    assert!(matches!(with(["0", "0"], None), Err(ModelsError::NotComparable(_))), "no area of one class");
    assert!(matches!(with(["1", "1"], None), Err(ModelsError::NotComparable(_))), "no area of one class");
}
