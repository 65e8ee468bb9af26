//! Models that were trained elsewhere: verdicts first, then scores, differences and tests. That their budgets are not known stands
//! over every table.

use ceteris_shared::{
    document::{BootstrapInterval, ModelContrast, ModelSummary, Models, Scope, Subgroup},
    spec::Score,
};

use super::{compare::details, difference, number, p_value, score};
use crate::output::{ReadOut, Table, count};

/// Stands over every table.
const WATERMARK: &str = "BUDGET NOT VERIFIED: how long each model was trained, and with what, is not known here";

impl ReadOut for Models {
    fn text(&self) -> String {
        let mut text = head(self);
        text +=
            &section("verdicts", &self.contrasts.iter().map(|each| contrast(each, self.metric)).collect::<String>());
        text += &section("scores, mean over seeds [interval] (bootstrap)", &scores(self).text());
        let name =
            "differences from the baseline [interval], p after correction over models (exact sign-flip over seeds)";
        text += &section(name, &differences(self).text());
        text += &section(
            "tests of each seed, not corrected: they take the seed as given, McNemar's each sample as another patient's",
            &tests(self).text(),
        );
        if self.contrasts.iter().any(|contrast| !contrast.subgroups.is_empty()) {
            let name = format!("{} within subgroups, p after correction over subgroups", self.metric.name());
            text += &section(&name, &subgroups(self).text());
        }
        text
    }

    fn csv(&self) -> Table {
        let mut table = Table::new([
            "baseline",
            "model",
            "score",
            "baseline mean",
            "model mean",
            "difference",
            "low",
            "high",
            "standard error",
            "degrees of freedom",
            "p",
            "p corrected",
            "sign-flip p",
            "equivalence p",
            "verdict",
        ]);
        for contrast in &self.contrasts {
            for (name, of) in &contrast.differences {
                let of = &of.difference;
                let mean = |side: fn(&ceteris_shared::document::Pair) -> f64| {
                    of.pairs.iter().map(side).sum::<f64>() / of.pairs.len() as f64
                };
                let uncertainty = of.uncertainty.as_ref();
                let judged = *name == self.metric.name();
                table.row([
                    contrast.baseline.clone(),
                    contrast.model.clone(),
                    name.clone(),
                    number(Some(mean(|pair| pair.baseline))),
                    number(Some(mean(|pair| pair.arm))),
                    number(Some(of.mean_difference)),
                    number(uncertainty.map(|of| of.interval[0])),
                    number(uncertainty.map(|of| of.interval[1])),
                    number(uncertainty.map(|of| of.standard_error)),
                    number(uncertainty.and_then(|of| of.degrees_of_freedom)),
                    number(of.p),
                    number(of.p_corrected),
                    number(of.sign_flip_p),
                    number(of.equivalence_p),
                    if judged { contrast.verdict.name().to_owned() } else { String::new() },
                ]);
            }
        }
        table
    }
}

fn head(models: &Models) -> String {
    let seeds = models.models.first().map_or(0, |model| model.seeds.len()) as u64;
    let scope = match models.scope {
        Scope::Models => {
            "one seed: what is said is about these very models on other patients, not about how they were trained"
        }
        Scope::Treatments => "what is said is about models trained in these ways with other seeds, on other patients",
    };
    let alone = if models.patients == models.samples {
        "each sample counts as another patient's; where it is not, intervals are too narrow\n"
    } else {
        ""
    };
    format!(
        "{} of {}, {}, {} each; positive class {}, called from {} on\n{scope}\n{alone}",
        count(models.samples, "sample"),
        count(models.patients, "patient"),
        count(models.models.len() as u64, "model"),
        count(seeds, "seed"),
        models.positive_class,
        models.threshold
    )
}

fn section(name: &str, body: &str) -> String {
    format!("\n{name}\n{WATERMARK}\n{body}")
}

fn contrast(contrast: &ModelContrast, metric: Score) -> String {
    let ModelContrast { baseline, model, verdict, because, differences, .. } = contrast;
    let details = differences.get(metric.name()).map(|of| details(&of.difference)).unwrap_or_default();
    format!("{model} against {baseline}, {}: {}\n  {because}\n{details}", metric.name(), verdict.name())
}

fn interval(of: Option<[f64; 2]>) -> String {
    of.map(|[low, high]| format!(" [{low:.4}, {high:.4}]")).unwrap_or_default()
}

fn scores(models: &Models) -> Table {
    let names = models.models.iter().map(|model| model.name.as_str());
    let mut table = Table::new(["score"].into_iter().chain(names));
    let bootstrapped = |of: &BootstrapInterval| format!(" ({:.4}, {:.4})", of.interval[0], of.interval[1]);
    let cell = |of: &ModelSummary| {
        format!(
            "{:.4}{}{}",
            of.mean,
            interval(of.interval),
            of.bootstrap.as_ref().map(bootstrapped).unwrap_or_default()
        )
    };
    for name in Score::ALL.map(Score::name).into_iter().chain(["calibration_slope"]) {
        let of_model = |model: &ceteris_shared::document::Model| model.summary.get(name).map_or("-".to_owned(), cell);
        table.row([name.to_owned()].into_iter().chain(models.models.iter().map(of_model)));
    }
    table
}

fn differences(models: &Models) -> Table {
    let mut table = Table::new(["model", "score", "difference", ">p", ">sign-flip"]);
    for contrast in &models.contrasts {
        for (name, of) in &contrast.differences {
            let of = &of.difference;
            table.row([
                contrast.model.clone(),
                name.clone(),
                format!(
                    "{}{}",
                    difference(of.mean_difference),
                    interval(of.uncertainty.as_ref().map(|of| of.interval))
                ),
                p_value(of.p_corrected),
                p_value(of.sign_flip_p),
            ]);
        }
    }
    table
}

fn tests(models: &Models) -> Table {
    let mut table = Table::new([
        "model",
        ">seed",
        ">auc differs by",
        ">delong z",
        ">p",
        ">only baseline right",
        ">only model right",
        ">mcnemar p",
    ]);
    for (contrast, test) in
        models.contrasts.iter().flat_map(|contrast| contrast.tests.iter().map(move |test| (contrast, test)))
    {
        table.row([
            contrast.model.clone(),
            test.seed.to_string(),
            test.delong.map_or("-".to_owned(), |test| difference(test.difference)),
            score(test.delong.and_then(|test| test.z)),
            p_value(test.delong.and_then(|test| test.p)),
            test.mcnemar.baseline_only.to_string(),
            test.mcnemar.model_only.to_string(),
            p_value(Some(test.mcnemar.p)),
        ]);
    }
    table
}

fn subgroups(models: &Models) -> Table {
    let mut table = Table::new(["model", "subgroup", ">samples", ">positive", "difference", ">p"]);
    for (contrast, group) in
        models.contrasts.iter().flat_map(|each| each.subgroups.iter().map(move |group| (each, group)))
    {
        let Subgroup { name, samples, positives, difference: of } = group;
        let told = of.as_ref().map_or("-".to_owned(), |of| {
            format!("{}{}", difference(of.mean_difference), interval(of.uncertainty.as_ref().map(|of| of.interval)))
        });
        table.row([
            contrast.model.clone(),
            name.clone(),
            samples.to_string(),
            positives.to_string(),
            told,
            p_value(of.as_ref().and_then(|of| of.p_corrected)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures;

    #[test]
    fn verdicts_come_first_and_no_table_hides_that_budgets_are_unknown() {
        let models = fixtures::models();
        let text = models.text();
        let tables: Vec<&str> = text.split("\n\n").skip(1).collect();
        assert!(tables.len() == 5 && tables.iter().all(|table| table.contains(WATERMARK)), "{text}");
        insta::assert_snapshot!(text);
        // All digits are in it, and the last ones are the processor's.
        let csv = models.csv().csv();
        assert!(csv.starts_with("baseline,model,score,baseline_mean,"), "{csv}");
        assert_eq!(csv.lines().count(), 1 + Score::ALL.len(), "{csv}");
    }
}
