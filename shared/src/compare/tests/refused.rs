//! The table of pairs that are refused, each with the field that says why, and what is close to it and is not refused.

use std::fmt::Write as _;

use super::*;

/// What the fine-tuned arm has besides its stages, so that it differs from the frozen one in two settings.
const SECOND_SETTINGS: [(&str, &str); 13] = [
    ("batch_size", "batch_size = 16"),
    ("optimizer", "optimizer = { name = \"sgd\", momentum = 0.9 }"),
    ("weight_decay", "optimizer = { name = \"adam\", weight_decay = 0.01 }"),
    ("precision", "precision = \"bf16\""),
    ("augment", "augment = \"light\""),
    ("schedule", "schedule = \"cosine\""),
    ("lr", "lr = 0.01"),
    ("label_smoothing", "label_smoothing = 0.1"),
    ("class_weights", "class_weights = \"balanced\""),
    ("clip_norm", "clip_norm = 1.0"),
    ("accumulate", "accumulate = 2"),
    ("average", "average = 0.99"),
    ("memory", "memory = \"low\""),
];

/// The declared treatment, what the fine-tuned arm has besides its stages, and what it should not differ in.
const HIDDEN_TREATMENTS: [(&str, &str, &str); 4] = [
    ("an undeclared setting beside the declared one", "treatment = [\"stages\"]", "precision = \"bf16\""),
    ("an undeclared setting instead of the declared one", "treatment = [\"precision\"]", ""),
    ("two undeclared settings", "treatment = [\"lr\"]", "memory = \"low\""),
    ("an undeclared setting beside a bundle", "treatment = [\"lr\", \"stages\"]", "lr = 0.01\nclip_norm = 1.0"),
];

/// All arms' schedule, and the epoch of 4 that is read; the fine-tuned arm's first stage is over after 2.
const READ_EARLY: [(&str, &str, u32); 4] = [
    ("cosine read early", "schedule = \"cosine\"", 3),
    ("cosine read early, over in one arm", "schedule = \"cosine\"", 2),
    ("cosine read after its warm-up", "schedule = { name = \"cosine\", warm_up = 1 }", 2),
    ("one-cycle read early", "schedule = \"one-cycle\"", 1),
];

/// Each row: what happened, and the reasons that are given.
fn refused_cases() -> Vec<(&'static str, Case, Option<u32>, Vec<Reason>)> {
    use Reason::*;
    let case = || Case::done(spec("", 2), 4);
    let diverged = failed(FailureCause::Diverged, "the loss of step 7 is not finite");
    let disk = failed(FailureCause::Infrastructure, "no room left on the disk; gave up after 5 attempts.");
    let mut unpaired = case();
    unpaired.plan.runs.pop();
    let mut undefined = case();
    let one_class = Labelled::new(2, vec![0], vec![0.5, 0.5]).expect("well-formed");
    let of_one_class = Predicted { val: Some(one_class), ..Predicted::default() };
    undefined = undefined.with("frozen", 0, |facts| facts.metrics = score(&of_one_class, Threshold::Youden));
    let with = |extra: &str| Case::done(spec(extra, 2), 4);
    let mut by_design: Vec<(&'static str, Case, Option<u32>, Vec<Reason>)> = Vec::new();
    by_design.extend(SECOND_SETTINGS.map(|(factor, setting)| (factor, with(setting), None, vec![Confounded])));
    by_design.extend(HIDDEN_TREATMENTS.map(|(name, declared, setting)| {
        (name, with(&format!("{setting}\n[compare]\n{declared}")), None, vec![Confounded])
    }));
    by_design.extend(
        READ_EARLY
            .map(|(name, schedule, at)| (name, with(&format!("[controls]\n{schedule}")), Some(at), vec![Truncated])),
    );
    let mut cases = vec![
        (
            "still running",
            case().with("finetuned", 1, cut(3, Outcome::Unfinished)),
            None,
            vec![Unfinished, UnequalBudgets],
        ),
        (
            "never started",
            case().with("finetuned", 0, cut(0, Outcome::Unfinished)),
            None,
            vec![Unfinished, UnequalBudgets],
        ),
        ("failed", case().with("frozen", 0, cut(2, disk.clone())), None, vec![Failed, UnequalBudgets]),
        ("diverged", case().with("finetuned", 0, cut(2, diverged)), None, vec![Diverged, UnequalBudgets]),
        (
            "one arm cancelled half way",
            case().with("finetuned", 0, cut(2, Outcome::Cancelled)).with("finetuned", 1, cut(2, Outcome::Cancelled)),
            None,
            vec![Cancelled, UnequalBudgets],
        ),
        ("read beyond what was reached", case().with("frozen", 1, cut(2, disk)), Some(3), vec![Failed, UnequalBudgets]),
        ("a seed is missing", unpaired, None, vec![SeedsMissing]),
        (
            "computed elsewhere",
            case().with("finetuned", 1, |facts| facts.environments[3] = environment(8)),
            None,
            vec![Environment],
        ),
        ("an environment of an epoch in between", elsewhere(|other| other.threads = 8), None, vec![Environment]),
        ("another engine", elsewhere(|other| other.engine = "2".to_owned()), None, vec![Environment]),
        ("another libtorch", elsewhere(|other| other.libtorch = "2.9.1".to_owned()), None, vec![Environment]),
        ("another device", elsewhere(|other| other.device = "H100".to_owned()), None, vec![Environment]),
        ("other instructions", elsewhere(|other| other.instructions = "AVX2".to_owned()), None, vec![Environment]),
        (
            "other determinism",
            elsewhere(|other| other.determinism = "deterministic".to_owned()),
            None,
            vec![Environment],
        ),
        ("undefined", undefined, None, vec![MetricUndefined]),
    ];
    cases.extend(by_design);
    cases
}

/// One epoch of one run was computed in another environment.
fn elsewhere(change: fn(&mut crate::checkpoint::Environment)) -> Case {
    Case::done(spec("", 2), 4).with("frozen", 0, |facts| change(&mut facts.environments[1]))
}

#[test]
fn the_clean_pair_passes_and_at_least_thirty_others_do_not() {
    assert!(refused_cases().len() >= 30);
    let clean = Case::done(spec("", 2), 4).at(None, false);
    assert!(clean.refused.is_empty() && clean.contrasts.len() == 1);
    let Contrast { factors, single_factor, bundle, .. } = &clean.contrasts[0];
    assert_eq!((factors.join(" ").as_str(), single_factor, bundle), ("stages", &true, &false));
    let declared = Case::done(spec("[compare]\ntreatment = [\"stages\"]", 2), 4).at(None, false);
    assert_eq!((declared.refused, declared.contrasts), (Vec::new(), clean.contrasts));
}

#[test]
fn a_confounded_pair_names_both_settings_and_a_plan_says_so_before() {
    for (factor, setting) in SECOND_SETTINGS {
        let case = Case::done(spec(setting, 2), 4);
        let [refusal] = &case.at(None, false).refused[..] else { panic!("{factor}: one refusal") };
        let mut both = [factor, "stages"];
        both.sort_unstable();
        assert_eq!(refusal.fields.iter().map(|field| field.field.as_str()).collect::<Vec<_>>(), both);
        for field in &refusal.fields {
            assert_ne!(field.values["frozen"], field.values["finetuned"], "{factor}: {field:?}");
        }
        let planned = &planned_contrasts(&case.spec, &case.plan.arms)[0];
        let before = planned.refused.as_ref().expect("it is said before");
        assert_eq!((&before.fields, before.reason), (&refusal.fields, Reason::Confounded));
        assert!(refusal.message.starts_with(&before.message) && !planned.single_factor, "{}", before.message);
    }
}

#[test]
fn a_declared_bundle_is_compared_as_what_it_is() {
    let bundle = "lr = 0.01\nprecision = \"bf16\"\n[compare]\ntreatment = [\"precision\", \"stages\", \"lr\"]";
    let case = Case::done(spec(bundle, 6), 4);
    let comparison = case.at(None, false);
    let contrast = &comparison.contrasts[0];
    assert_eq!((contrast.factors.join(" ").as_str(), contrast.single_factor), ("lr precision stages", false));
    assert_eq!((contrast.bundle, contrast.verdict, comparison.refused.len()), (true, Verdict::Better, 0));
    let planned = &planned_contrasts(&case.spec, &case.plan.arms)[0];
    assert_eq!((planned.bundle, &planned.refused), (true, &None));
}

#[test]
fn a_confounded_arm_takes_only_its_own_contrast_with_it() {
    let third =
        "[[arm]]\nname = \"both\"\nlr = 0.01\nprecision = \"bf16\"\nstages = [{ epochs = 4, train = \"head\" }]";
    let comparison = Case::done(spec(third, 2), 4).at(None, false);
    assert_eq!(comparison.contrasts.iter().map(|contrast| contrast.arm.as_str()).collect::<Vec<_>>(), ["finetuned"]);
    let refused: Vec<_> = comparison.refused.iter().map(|refusal| (refusal.arms.join(" "), refusal.reason)).collect();
    assert_eq!(refused, [("frozen both".to_owned(), Reason::Confounded)]);
    let told: Vec<bool> = comparison.arms.iter().map(|arm| !arm.summary.val.is_empty()).collect();
    assert_eq!(told, [true, true, false]);
}

#[test]
fn a_schedule_with_a_horizon_is_read_when_it_is_over_or_has_not_begun() {
    let refused = |extra: &str, at: u32| Case::done(spec(extra, 2), 4).at(Some(at), false).refused;
    let none = Vec::new();
    // Only what is fine-tuned has a course, in the last two epochs.
    let stage = "schedule = \"constant\"\n[[arm]]\nname = \"course\"\n\
                 stages = [{ epochs = 2, train = \"head\" }, { epochs = 2, train = \"all\", schedule = \"one-cycle\" }]";
    assert_eq!((refused(stage, 2), refused(stage, 4)), (none.clone(), none.clone()));
    let [refusal] = &refused(stage, 3)[..] else { panic!("one refusal") };
    assert_eq!((&refusal.arms[1], refusal.fields.len()), (&"course".to_owned(), 1));
    let told = serde_json::to_string(&refusal.fields[0]).expect("plain data");
    assert_eq!(told, r#"{"field":"stages[1].schedule","values":{"course":"one-cycle","frozen":null}}"#);
    for at in 1..=4 {
        for schedule in ["\"constant\"", "{ name = \"step\", every = 1 }", "{ name = \"exponential\", factor = 0.9 }"] {
            assert_eq!(refused(&format!("[controls]\nschedule = {schedule}"), at), none, "{schedule} at {at}");
        }
    }
    let warm = "[controls]\nschedule = { name = \"cosine\", warm_up = 1 }";
    assert_eq!((refused(warm, 1), refused(warm, 4)), (none.clone(), none));
}

#[test]
fn no_epoch_is_proposed_that_would_be_refused() {
    let failed_at = |schedule: &str, epochs: usize| {
        let case = Case::done(spec(&format!("[controls]\nschedule = {schedule}"), 2), 4);
        let case = case.with("finetuned", 0, cut(epochs, failed(FailureCause::User, "out of memory")));
        case.at(None, false).refused.into_iter().map(|refusal| refusal.message).collect::<Vec<_>>()
    };
    let proposes = |messages: &[String], at: &str| messages.iter().map(|told| told.contains(at)).collect::<Vec<_>>();
    assert_eq!(proposes(&failed_at("\"constant\"", 3), "--at 3 or less"), [true, true]);
    // The fine-tuned arm's first stage is over after 2, the frozen arm's only one is not.
    assert_eq!(proposes(&failed_at("\"cosine\"", 3), "--at 2 or less"), [true, false]);
    assert_eq!(proposes(&failed_at("\"cosine\"", 1), "--at"), [false, false]);
}

/// The contrasts of one arm over a grid, as levels without the arm's name.
fn one_arm(grid: &str, compare: &str) -> Vec<(String, String)> {
    let text = format!(
        "name = \"x\"\ndata.dataset = \"d\"\nmodel.init = \"random\"\nbudget.epochs = 1\nseeds.count = 2\n\
         [[arm]]\nname = \"a\"\nstages = [{{ epochs = 1, train = \"head\" }}]\n[grid]\n{grid}\n[compare]\n{compare}"
    );
    let spec = parse(&text, Format::Toml).expect("a spec");
    let planned = planned_contrasts(&spec, &crate::spec::resolve(&spec));
    let levels = |name: &str| name.trim_start_matches("a ").to_owned();
    assert!(planned.iter().all(|contrast| contrast.single_factor && contrast.refused.is_none()), "{planned:?}");
    planned.iter().map(|contrast| (levels(&contrast.baseline), levels(&contrast.arm))).collect()
}

#[test]
fn the_levels_of_one_arm_are_contrasted_one_factor_at_a_time() {
    let pairs = |grid: &str, compare: &str| {
        let pairs = one_arm(grid, compare);
        pairs.iter().map(|(baseline, arm)| format!("{arm} / {baseline}")).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(pairs("lr = [1e-3, 1e-4, 1e-5]", ""), @"
    lr=1e-4 / lr=1e-3
    lr=1e-5 / lr=1e-3
    ");
    let two_by_two = "lr = [1e-3, 1e-4]\nprecision = [\"fp32\", \"bf16\"]";
    insta::assert_snapshot!(pairs(two_by_two, ""), @"
    lr=1e-3 precision=bf16 / lr=1e-3 precision=fp32
    lr=1e-4 precision=fp32 / lr=1e-3 precision=fp32
    lr=1e-4 precision=bf16 / lr=1e-3 precision=bf16
    lr=1e-4 precision=bf16 / lr=1e-4 precision=fp32
    ");
    let two_by_three = "batch_size = [32, 16]\nlr = [1e-3, 1e-4, 1e-2]";
    insta::assert_snapshot!(pairs(two_by_three, ""), @"
    batch_size=32 lr=1e-4 / batch_size=32 lr=1e-3
    batch_size=32 lr=1e-2 / batch_size=32 lr=1e-3
    batch_size=16 lr=1e-3 / batch_size=32 lr=1e-3
    batch_size=16 lr=1e-4 / batch_size=32 lr=1e-4
    batch_size=16 lr=1e-4 / batch_size=16 lr=1e-3
    batch_size=16 lr=1e-2 / batch_size=32 lr=1e-2
    batch_size=16 lr=1e-2 / batch_size=16 lr=1e-3
    ");
    // Rates are tried at each batch size; batch sizes are not what is asked about.
    insta::assert_snapshot!(pairs(two_by_three, "treatment = [\"lr\"]"), @"
    batch_size=32 lr=1e-4 / batch_size=32 lr=1e-3
    batch_size=32 lr=1e-2 / batch_size=32 lr=1e-3
    batch_size=16 lr=1e-4 / batch_size=16 lr=1e-3
    batch_size=16 lr=1e-2 / batch_size=16 lr=1e-3
    ");
    assert_eq!(pairs(two_by_three, "treatment = [\"lr\", \"batch_size\"]"), pairs(two_by_three, ""));
    assert_eq!(pairs("", ""), "");
}

#[test]
fn a_grid_of_nothing_that_is_declared_is_told_to_be_refused() {
    let text = "name = \"x\"\ndata.dataset = \"d\"\nmodel.init = \"random\"\nbudget.epochs = 1\nseeds.count = 2\n\
                [[arm]]\nname = \"a\"\nstages = [{ epochs = 1, train = \"head\" }]\n\
                [grid]\nlr = [1e-3, 1e-4]\n[compare]\ntreatment = [\"stages\"]";
    let spec = parse(text, Format::Toml).expect("a spec");
    let planned = planned_contrasts(&spec, &crate::spec::resolve(&spec));
    let reasons: Vec<_> = planned.iter().filter_map(|contrast| Some(contrast.refused.as_ref()?.reason)).collect();
    assert_eq!((planned.len(), reasons), (1, vec![Reason::Confounded]));
}

#[test]
fn what_is_not_comparable_is_refused_with_its_reason() {
    let mut told = String::new();
    for (name, case, at, reasons) in refused_cases() {
        let comparison = case.at(at, false);
        let found: Vec<Reason> = comparison.refused.iter().map(|refusal| refusal.reason).collect();
        assert_eq!(found, reasons, "{name}");
        assert!(comparison.contrasts.is_empty(), "{name}: a refused contrast was made");
        assert!(comparison.refused.iter().all(|refusal| !refusal.fields.is_empty()), "{name}: no field is named");
        let named = |arm: &&ComparisonArm| comparison.refused.iter().any(|refusal| refusal.arms.contains(&arm.name));
        let silent = |arm: &ComparisonArm| arm.runs.iter().all(|run| run.metrics == Metrics::default());
        assert!(comparison.arms.iter().filter(named).all(silent), "{name}: scores of a refused arm were told");
        for refusal in &comparison.refused {
            let fields = serde_json::to_string(&refusal.fields).expect("plain data");
            writeln!(told, "{name}: {:?} {:?}\n  {}\n  {fields}", refusal.reason, refusal.arms, refusal.message)
                .expect("a string");
        }
    }
    insta::assert_snapshot!(told);
}

#[test]
fn exploratory_computes_all_the_same_and_says_so() {
    for (name, case, at, reasons) in refused_cases() {
        let comparison = case.at(at, true);
        assert!(comparison.exploratory, "{name}");
        assert!(!comparison.refused.is_empty(), "{name}: the reasons are still told");
        for contrast in &comparison.contrasts {
            assert_eq!((contrast.verdict, contrast.difference.p), (Verdict::NotComparable, None), "{name}");
        }
        if !reasons.contains(&Reason::MetricUndefined) {
            assert_eq!(comparison.contrasts.len(), 1, "{name}");
        }
    }
}
