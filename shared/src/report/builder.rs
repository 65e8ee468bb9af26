//! A report in the making: which files it wants of which epoch, what is added up from epoch to epoch, and what becomes of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use super::{
    Error, Told, answer, checklist, curves, ensembles, external, facts, fields,
    matched::{self, AXES, Costed, Match},
    reader::{Depth, Facts, Reader},
    shapes, subgroups,
    sweep::{self, Course},
    tree,
};
use crate::{
    architecture::Part,
    compare::{self, ArmPair, DataSets, Input, RunFacts},
    dataset::Split,
    digest::Digest,
    document::{CurvePoint, Declared, Document, Evidence, EvidenceRun, PredictionFile, Report, ReportArm, Sweep},
    flops,
    ids::{Epoch, RunId},
    lineage::LineageKey,
    plan::{self, Plan},
    spec::{Metric, Score},
};

/// The files of one run after one epoch, and the runs that share them.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The files.
    pub files: Vec<&'a PredictionFile>,
    /// Indices into the evidence's runs.
    pub runs: Vec<usize>,
}

/// A report in the making.
#[derive(Debug)]
pub struct Builder<'a> {
    evidence: &'a Evidence,
    data: &'a DataSets,
    plan: Plan,
    at: Epoch,
    exploratory: bool,
    told: Told,
    groups: Arc<Vec<subgroups::Group>>,
    pairs: Vec<ArmPair>,
    scores: Vec<Score>,
    points: Vec<Vec<Vec<CurvePoint>>>,
    windows: Vec<Option<curves::Window>>,
    slopes: Vec<curves::Slope>,
    courses: Vec<Course>,
    matches: Vec<Vec<Vec<Match>>>,
    kept: BTreeMap<(usize, Epoch), Arc<Facts>>,
    to_keep: BTreeSet<(usize, Epoch)>,
}

impl<'a> Builder<'a> {
    /// A report that reads all runs at epoch `at`; none is the endpoint.
    ///
    /// # Errors
    /// When there is no such epoch, and when the evidence contradicts itself: its runs, or an epoch's lineage, are not what its spec
    /// says.
    pub fn new(
        evidence: &'a Evidence,
        data: &'a DataSets,
        at: Option<Epoch>,
        exploratory: bool,
    ) -> Result<Self, Error> {
        let spec = &evidence.spec;
        let at = compare::epoch_to_read(spec, at)?;
        let plan = plan::plan(evidence.experiment, spec, &evidence.pins)?;
        check(evidence, &plan)?;
        let told = Told::up_to(at);
        let pairs = compare::arm_pairs(spec, &plan.arms);
        let inherited = spec.model.init.inherited_epochs();
        let split = compare::metric_to_read(spec, at).split;
        let groups = Arc::new(subgroups::groups(&data.attributes, data, split));
        let mut builder = Self {
            scores: curves::drawn(spec.endpoint.metric.score),
            points: Vec::new(),
            windows: plan.arms.iter().map(|arm| curves::Window::of(arm, &told, inherited)).collect(),
            slopes: vec![curves::Slope::default(); plan.runs.len()],
            courses: Vec::new(),
            matches: Vec::new(),
            kept: BTreeMap::new(),
            to_keep: BTreeSet::new(),
            evidence,
            data,
            plan,
            at,
            exploratory,
            told,
            groups,
            pairs,
        };
        builder.points = vec![vec![Vec::new(); builder.scores.len()]; builder.plan.arms.len()];
        builder.plan_contrasts();
        Ok(builder)
    }

    fn plan_contrasts(&mut self) {
        let (alpha, patients) = (self.evidence.spec.compare.alpha, self.data.patients.val.count());
        let flops: Vec<Vec<f64>> = (0..self.plan.arms.len()).map(|arm| self.flops(arm)).collect();
        let seeds = self.evidence.spec.seeds.list().len();
        let drawing = sweep::worth_drawing(self.pairs.len(), self.told.epochs.len(), seeds, patients);
        for index in 0..self.pairs.len() {
            let seeds = self.seeds(index);
            let differing = self.told.epochs.iter().filter(|epoch| !self.same(&seeds, **epoch)).count();
            self.courses.push(Course::new(alpha, differing, drawing));
            let run =
                |index: usize| Costed { run: &self.evidence.runs[index], flops: &flops[self.plan.runs[index].arm] };
            let of_axis = |axis| -> Vec<Match> {
                seeds.iter().map(|&(baseline, arm)| Match::of(axis, run(baseline), run(arm), self.at)).collect()
            };
            let of_axes: Vec<Vec<Match>> = AXES.map(of_axis).into();
            for (found, &(baseline, arm)) in of_axes.iter().flat_map(|found| found.iter().zip(&seeds)) {
                self.to_keep.extend(found.baseline.map(|epoch| (baseline, epoch)));
                self.to_keep.extend(found.arm.map(|epoch| (arm, epoch)));
            }
            self.matches.push(of_axes);
        }
    }

    /// The operations that training on one sample costs in each epoch of an arm.
    fn flops(&self, arm: usize) -> Vec<f64> {
        let (arch, classes) = (self.evidence.spec.model.arch, self.data.own.classes.len());
        let mut known: BTreeMap<Part, f64> = BTreeMap::new();
        let mut cost = |from: Part| {
            *known.entry(from).or_insert_with(|| flops::training(arch, classes, self.data.own.image_size, from))
        };
        let Some(run) = self.plan.runs.get(self.stretch(arm).start) else { return Vec::new() };
        let work = run.path.iter().flat_map(|&index| &self.plan.segments[index].work.epochs);
        work.map(|epoch| cost(epoch.train.part())).collect()
    }

    /// The indices of an arm's runs: a plan lists runs arm by arm, and the evidence has them in the same order.
    fn stretch(&self, arm: usize) -> Range<usize> {
        let runs = &self.plan.runs;
        runs.partition_point(|run| run.arm < arm)..runs.partition_point(|run| run.arm <= arm)
    }

    /// The runs of each seed that both arms of a contrast have: baseline and arm, as indices into the evidence's runs.
    fn seeds(&self, contrast: usize) -> Vec<(usize, usize)> {
        let ArmPair { baseline, arm } = self.pairs[contrast];
        let of = |arm: usize| self.stretch(arm).map(|index| (self.plan.runs[index].seed, index));
        let of_arm: BTreeMap<u64, usize> = of(arm).collect();
        of(baseline).filter_map(|(seed, baseline)| Some((baseline, *of_arm.get(&seed)?))).collect()
    }

    /// Whether the two runs of every seed have the same lineage up to `epoch`.
    fn same(&self, seeds: &[(usize, usize)], epoch: Epoch) -> bool {
        let key = |run: usize| Some(self.evidence.runs[run].epochs.get(epoch.0 as usize - 1)?.key);
        seeds.iter().all(|&(baseline, arm)| key(baseline).is_some() && key(baseline) == key(arm))
    }

    /// The epochs to add, in their order: those that are told, and those at which something else than epochs is equal.
    pub fn epochs(&self) -> Vec<Epoch> {
        let matched = self.to_keep.iter().map(|(_, epoch)| *epoch);
        self.told.epochs.iter().copied().chain(matched).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What reads runs after `epoch`.
    pub fn reader(&self, epoch: Epoch) -> Reader {
        let depth = match (epoch == self.at, ensembles::worth_keeping(self.plan.runs.len(), self.data)) {
            (false, _) => Depth::Curve,
            (true, false) => Depth::Last,
            (true, true) => Depth::Predictions,
        };
        Reader { at: self.at, depth, groups: self.groups.clone() }
    }

    /// What is to be read of an epoch, each set of files once. Of the last epoch also the last one of runs that did not get there.
    ///
    /// # Errors
    /// When predictions are not there that every epoch has.
    pub fn wanted(&self, epoch: Epoch) -> Result<Vec<Wanted<'a>>, Error> {
        let mut wanted: BTreeMap<Vec<Digest>, Wanted<'a>> = BTreeMap::new();
        for (index, run) in self.evidence.runs.iter().enumerate() {
            let Some((read, files)) = compare::files_to_read(self.evidence, run, epoch)? else { continue };
            if read != epoch && epoch != self.at {
                continue;
            }
            if !self.told.epochs.contains(&epoch) && !self.to_keep.contains(&(index, epoch)) {
                continue;
            }
            let key = files.iter().map(|file| file.digest).collect();
            wanted.entry(key).or_insert_with(|| Wanted { files, runs: Vec::new() }).runs.push(index);
        }
        Ok(wanted.into_values().collect())
    }

    /// Adds what was read of an epoch, by index of the run.
    pub fn add(&mut self, epoch: Epoch, read: &BTreeMap<usize, Arc<Facts>>) {
        let there = |run: &usize| self.evidence.runs[*run].epochs.len() >= epoch.0 as usize;
        let of_epoch = |run: usize| read.get(&run).filter(|_| there(&run));
        for run in (0..self.plan.runs.len()).filter(|run| self.to_keep.contains(&(*run, epoch))) {
            self.kept.extend(of_epoch(run).map(|facts| ((run, epoch), facts.clone())));
        }
        if !self.told.epochs.contains(&epoch) {
            return;
        }
        let stretches: Vec<Range<usize>> = (0..self.plan.arms.len()).map(|arm| self.stretch(arm)).collect();
        for (runs, points) in stretches.into_iter().zip(&mut self.points) {
            let scores: Vec<_> = runs.filter_map(|run| of_epoch(run)?.reading.metrics.val.as_ref()).collect();
            for (score, points) in self.scores.iter().zip(points) {
                points.extend(curves::point(epoch, *score, scores.iter().copied()));
            }
        }
        for run in 0..self.plan.runs.len() {
            let Some(facts) = of_epoch(run) else { continue };
            if let Some(window) = &self.windows[self.plan.runs[run].arm] {
                self.slopes[run].add(window, epoch, facts);
            }
        }
        for contrast in 0..self.pairs.len() {
            let seeds = self.seeds(contrast);
            let pairs: Option<Vec<(&Facts, &Facts)>> = seeds
                .iter()
                .map(|&(baseline, arm)| Some((of_epoch(baseline)?.as_ref(), of_epoch(arm)?.as_ref())))
                .collect();
            let same = self.same(&seeds, epoch);
            self.courses[contrast].add(epoch, same, &pairs.unwrap_or_default());
        }
    }

    /// The report, once all epochs are added; `last` is what was read of the last one.
    ///
    /// # Errors
    /// When the comparison cannot be made.
    pub fn finish(self, last: &BTreeMap<usize, Arc<Facts>>, version: &str) -> Result<Report, Error> {
        let spec = &self.evidence.spec;
        let runs: BTreeMap<RunId, RunFacts> = (0..)
            .zip(&self.evidence.runs)
            .map(|(index, run): (usize, &EvidenceRun)| {
                let reading = last.get(&index).map(|facts| facts.reading.clone()).unwrap_or_default();
                (run.run, RunFacts::of(self.evidence, run, reading))
            })
            .collect();
        let comparison = compare::compare(&Input {
            experiment: self.evidence.experiment,
            spec,
            plan: &self.plan,
            classes: &self.data.own.classes,
            runs: &runs,
            at: Some(self.at),
            exploratory: self.exploratory,
        })?;
        let arms = (0..self.plan.arms.len()).map(|arm| self.arm(arm, last)).collect();
        let sweeps = (0..self.pairs.len()).map(|contrast| self.sweep(contrast)).collect();
        let report = Report {
            experiment: self.evidence.experiment,
            name: spec.name.clone(),
            submitted_at: self.evidence.submitted_at,
            version: version.to_owned(),
            evidence: Digest::of(self.evidence.to_json().as_bytes()),
            declared: self.declared(),
            answer: Vec::new(),
            caveats: Vec::new(),
            comparison,
            data: facts::data_summaries(self.evidence, self.data),
            arms,
            sweeps,
            matched: (0..self.pairs.len()).flat_map(|contrast| self.matched(contrast)).collect(),
            attributes: (!self.data.attributes.is_empty()).then(|| self.data.attributes.digest()),
            subgroups: (0..self.pairs.len()).flat_map(|contrast| self.subgroups(contrast, last)).collect(),
            ensembles: self.ensembles(last),
            fields: fields::fields(self.evidence, &self.plan, self.data),
            ledger: self.evidence.ledger,
            environments: self.evidence.environments.clone(),
            tree: tree::tree(&self.plan),
            checklist: Vec::new(),
        };
        // What is refused is taken out first, so that no sentence can tell of it.
        let mut report = withhold(report);
        report.answer = answer::answer(&report);
        report.caveats = answer::caveats(&report, self.evidence);
        report.caveats.extend(self.left_out());
        report.checklist = checklist::checklist(&report, self.evidence);
        Ok(report)
    }

    fn declared(&self) -> Declared {
        let spec = &self.evidence.spec;
        let before = self.evidence.ledger.reused.epochs > 0 || !self.evidence.pins.inherited.is_empty();
        if self.exploratory {
            Declared::Exploratory
        } else if self.at.0 < spec.budget.epochs {
            Declared::PostHoc
        } else if before || spec.budget.extends.is_some() || !self.evidence.earlier_looks.is_empty() {
            Declared::AfterSomeTraining
        } else {
            Declared::BeforeTraining
        }
    }

    /// What was not computed because there is too much of it.
    fn left_out(&self) -> Vec<String> {
        let mut left_out = Vec::new();
        if self.courses.iter().any(|course| !course.is_drawn()) {
            left_out.push(
                "Too many contrasts, epochs and patients to say how sure it is when arms changed sides.".to_owned(),
            );
        }
        if self.plan.runs.len() > 1 && !ensembles::worth_keeping(self.plan.runs.len(), self.data) {
            left_out.push("Too many predictions to make ensembles of them.".to_owned());
        }
        left_out
    }

    fn runs_of(&self, arm: usize) -> impl Iterator<Item = (usize, &EvidenceRun)> + '_ {
        self.stretch(arm).map(|index| (index, &self.evidence.runs[index]))
    }

    fn val_metric(&self) -> Metric {
        Metric { split: Split::Val, ..self.evidence.spec.endpoint.metric }
    }

    fn arm(&self, arm: usize, last: &BTreeMap<usize, Arc<Facts>>) -> ReportArm {
        let alpha = self.evidence.spec.compare.alpha;
        let resolved = &self.plan.arms[arm];
        let slopes: Vec<&curves::Slope> = self.runs_of(arm).map(|(index, _)| &self.slopes[index]).collect();
        let plateau = self.windows[arm].as_ref();
        let plateau = plateau.and_then(|window| curves::plateau(self.val_metric(), window, &slopes, alpha));
        let read: Vec<(u64, &Facts)> =
            self.runs_of(arm).filter_map(|(index, run)| Some((run.seed, last.get(&index)?.as_ref()))).collect();
        let shapes: Vec<_> = read.iter().map(|(seed, facts)| (*seed, facts.shapes.as_slice())).collect();
        let facts: Vec<&Facts> = read.iter().map(|(_, facts)| *facts).collect();
        ReportArm {
            name: resolved.name.clone(),
            stages: resolved.stages.clone(),
            spent: facts::mean_spent(self.runs_of(arm).map(|(_, run)| run), self.at),
            curves: curves::curves(&self.scores, self.points[arm].clone()),
            plateau,
            shapes: shapes::over_seeds(&shapes),
            external: external::drops(self.evidence, &facts),
        }
    }

    fn subgroups(
        &self,
        contrast: usize,
        last: &BTreeMap<usize, Arc<Facts>>,
    ) -> Vec<crate::document::SubgroupDifference> {
        let seeds = self.seeds(contrast);
        let there = |run: usize| last.get(&run).filter(|_| self.evidence.runs[run].epochs.len() >= self.at.0 as usize);
        let pairs: Option<Vec<(&Facts, &Facts)>> =
            seeds.iter().map(|&(baseline, arm)| Some((there(baseline)?.as_ref(), there(arm)?.as_ref()))).collect();
        let metric = compare::metric_to_read(&self.evidence.spec, self.at);
        let alpha = self.evidence.spec.compare.alpha;
        subgroups::differences(&self.groups, metric, alpha, self.names(contrast), &pairs.unwrap_or_default())
    }

    /// Of runs that got to the epoch that the comparison reads.
    fn ensembles(&self, last: &BTreeMap<usize, Arc<Facts>>) -> Vec<crate::document::Ensemble> {
        let member = |(index, run): (usize, &'a EvidenceRun)| {
            let epochs = run.epochs.len() as u64;
            let there = epochs >= u64::from(self.at.0);
            let facts = last.get(&index).filter(|_| there)?;
            Some(ensembles::Member { arm: &run.arm, seed: run.seed, epochs: u64::from(self.at.0), facts })
        };
        let runs = (0..).zip(&self.evidence.runs);
        let members: Vec<ensembles::Member<'_>> = runs.filter_map(member).collect();
        ensembles::ensembles(self.evidence, self.data, &members, self.at)
    }

    fn names(&self, contrast: usize) -> (&str, &str) {
        let ArmPair { baseline, arm } = self.pairs[contrast];
        (&self.plan.arms[baseline].name, &self.plan.arms[arm].name)
    }

    fn sweep(&self, contrast: usize) -> Sweep {
        let (baseline, arm) = self.names(contrast);
        let ArmPair { baseline: of_baseline, arm: of_arm } = self.pairs[contrast];
        let stages = [of_baseline, of_arm].into_iter().flat_map(|arm| &self.plan.arms[arm].stages);
        Sweep {
            baseline: baseline.to_owned(),
            arm: arm.to_owned(),
            metric: self.val_metric(),
            truncated: stages.into_iter().any(|stage| !stage.schedule.is_horizon_free())
                || [of_baseline, of_arm].iter().any(|&arm| self.plan.arms[arm].stages.len() > 1),
            points: self.courses[contrast].points.clone(),
            crossing: self.courses[contrast].crossing(),
        }
    }

    fn matched(&self, contrast: usize) -> Vec<crate::document::Matched> {
        let seeds = self.seeds(contrast);
        let at_equal_epochs = self.courses[contrast].points.last().and_then(|point| point.interval);
        let of_axis = |(axis, found): (matched::Axis, &Vec<Match>)| {
            let kept = |run: usize, epoch: Option<Epoch>| self.kept.get(&(run, epoch?)).map(Arc::as_ref);
            let pairs: Vec<(Match, Option<(&Facts, &Facts)>)> = found
                .iter()
                .zip(&seeds)
                .map(|(found, &(baseline, arm))| (*found, kept(baseline, found.baseline).zip(kept(arm, found.arm))))
                .collect();
            let alpha = self.evidence.spec.compare.alpha;
            let untreated =
                found.iter().zip(&seeds).all(|(found, &pair)| found.arm.is_some_and(|epoch| self.same(&[pair], epoch)));
            matched::matched(self.val_metric(), alpha, axis, self.names(contrast), &pairs, at_equal_epochs, untreated)
        };
        AXES.into_iter().zip(&self.matches[contrast]).filter_map(of_axis).collect()
    }
}

/// The evidence's runs are those that its spec plans, and every epoch has the lineage that it says.
fn check(evidence: &Evidence, plan: &Plan) -> Result<(), Error> {
    if evidence.runs.len() != plan.runs.len() {
        return Err(Error::Runs(format!("there are {} and it plans {}", evidence.runs.len(), plan.runs.len())));
    }
    for (run, planned) in evidence.runs.iter().zip(&plan.runs) {
        let arm = &plan.arms[planned.arm].name;
        if (run.run, &run.arm, run.seed) != (planned.id, arm, planned.seed) {
            return Err(Error::Runs(format!(
                "where it has run {} of arm {:?} with seed {}, run {} of arm {arm:?} with seed {} is planned",
                run.run, run.arm, run.seed, planned.id, planned.seed
            )));
        }
        let keys: Vec<(Epoch, LineageKey)> = plan.keys(planned).collect();
        if run.epochs.len() > keys.len() {
            return Err(Error::Runs(format!("run {} has {} epochs of {}", run.run, run.epochs.len(), keys.len())));
        }
        if let Some((epoch, _)) =
            keys.iter().zip(&run.epochs).map(|((epoch, key), known)| (epoch, *key == known.key)).find(|(_, same)| !same)
        {
            return Err(Error::Lineage { run: run.run, arm: run.arm.clone(), seed: run.seed, epoch: *epoch });
        }
    }
    Ok(())
}

/// Takes everything from arms that a refusal names and that no contrast is left for: the comparison has taken their scores already.
fn withhold(mut report: Report) -> Report {
    let comparison = &report.comparison;
    if comparison.exploratory || comparison.refused.is_empty() {
        return report;
    }
    let told: BTreeSet<&str> = comparison
        .arms
        .iter()
        .filter(|arm| arm.runs.iter().any(|run| run.metrics.val.is_some()))
        .map(|arm| arm.name.as_str())
        .collect();
    let contrasted: BTreeSet<(&str, &str)> =
        comparison.contrasts.iter().map(|contrast| (contrast.baseline.as_str(), contrast.arm.as_str())).collect();
    report.sweeps.retain(|sweep| contrasted.contains(&(sweep.baseline.as_str(), sweep.arm.as_str())));
    // Put together they would be the comparison that was refused.
    report.ensembles.clear();
    report.subgroups.retain(|group| contrasted.contains(&(group.baseline.as_str(), group.arm.as_str())));
    report.matched.retain(|matched| contrasted.contains(&(matched.baseline.as_str(), matched.arm.as_str())));
    for arm in report.arms.iter_mut().filter(|arm| !told.contains(arm.name.as_str())) {
        (arm.curves, arm.plateau, arm.shapes, arm.external) = (Vec::new(), None, Vec::new(), Vec::new());
    }
    report
}
