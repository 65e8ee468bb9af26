//! Which run of a plan is meant.

use anyhow::{Context, Result, bail};
use ceteris_shared::{
    ids::SegmentId,
    lineage::LineageKey,
    plan::{Plan, Work},
};

use crate::local;

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// The arm's name.
    pub arm: String,
    /// All its epochs.
    pub work: Work,
    /// The segment that it ends with.
    pub segment: SegmentId,
    /// The lineage key of its end.
    pub key: LineageKey,
}

/// The run of `plan` with this arm and this seed, each of which may be left out where there is one.
///
/// # Errors
/// When there is no such run, or several; the arms and seeds that there are, are listed.
pub fn choose(plan: &Plan, arm: Option<&str>, seed: Option<u64>) -> Result<Chosen> {
    let arms: Vec<&str> = plan.arms.iter().map(|arm| arm.name.as_str()).collect();
    let index = one("arm", "--arm NAME", &arms, arm)?;
    let of_arm = || plan.runs.iter().filter(|run| run.arm == index);
    let seeds: Vec<String> = of_arm().map(|run| run.seed.to_string()).collect();
    let wanted = seed.map(|seed| seed.to_string());
    let seeds: Vec<&str> = seeds.iter().map(String::as_str).collect();
    let run = of_arm().nth(one("seed", "--seed N", &seeds, wanted.as_deref())?);
    let run = run.context("the plan has an arm without runs")?;
    let work = local::work(plan, run).context("the plan has a run without epochs")?;
    let (Some(last), Some(end)) = (work.epochs.last(), run.path.last()) else { bail!("the run has no epochs") };
    Ok(Chosen { arm: arms[index].to_owned(), segment: plan.segments[*end].id, key: last.key, work })
}

/// The place in `known` of the one that is wanted.
fn one(what: &str, flag: &str, known: &[&str], wanted: Option<&str>) -> Result<usize> {
    let list = known.join(", ");
    match (wanted, known.len()) {
        (None, 1) => Ok(0),
        (None, _) => bail!("the spec has more than one {what}; choose with {flag}: {list}"),
        (Some(wanted), _) => known
            .iter()
            .position(|name| *name == wanted)
            .with_context(|| format!("the spec has no {what} {wanted}; it has: {list}")),
    }
}
