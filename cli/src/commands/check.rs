//! `ceteris check`: claims of a paper or a README, held against experiments.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ceteris_proto::v1;
use ceteris_shared::{
    compare::claims::{self, MAX_CLAIMS_BYTES, Stated, Status},
    document::Comparison,
};
use clap::Args;

use crate::{
    client::{self, Client},
    context::Global,
    failure::Failure,
    output,
    render::{CheckedClaim, Claims},
    spec_file,
};

/// Check claims of a paper or a README against experiments.
///
/// A file lists claims, each a sentence ARM RELATION ARM in METRIC [at N epochs] [by >= NUMBER]. The relations >, < and = are about
/// values of the metric, so a < b in test.loss says that a's loss is smaller; = says that the arms are equivalent, and needs by <= MARGIN.
/// Names of arms may have spaces; those with the words in, at, by or a sign go in quotes.
///
/// A claim holds where arms and metric are a contrast that was declared before training, the arms are comparable, and the verdict
/// at the endpoint says the same; with by, where the interval of the difference says so too. Arms and metrics that were not declared
/// are not answered, and epochs before the endpoint have no verdict.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris check claims.toml
  ceteris check examples/claims.toml
  ceteris check claims.toml -o json | jq '.claims[] | select(.status != \"holds\")'

A file:
  experiment = \"kermany\"          # an id, the beginning of one, or a name; a claim can have its own

  [[claim]]
  says = \"finetuned > frozen in val.auc at 4 epochs by >= 0.005\"

Exit codes: 0 all claims hold · 3 the evidence does not support a claim: it fails, its arms are not
            comparable, or it was not declared · 4 a claim is undecided, and none is worse")]
pub struct Options {
    /// The claims, in TOML; - is stdin.
    pub file: PathBuf,
}

impl Options {
    /// # Errors
    /// When the file is refused, when an experiment cannot be compared, and when a claim does not hold.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let name = self.file.display();
        let stated = read(&self.file)?;
        let mut by_experiment: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, stated) in stated.iter().enumerate() {
            by_experiment.entry(&stated.experiment).or_default().push(index);
        }
        let mut client = global.connect().await?;
        let mut checked = BTreeMap::new();
        for (experiment, indices) in by_experiment {
            // One comparison at a time: those of large experiments are large.
            let in_file = |failure: Failure| failure.at(format_args!("{name}: experiment {experiment:?}"));
            let endpoint = comparison(&mut client, experiment, 0).await.map_err(in_file)?;
            let mut early: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
            for index in indices {
                match stated[index].claim.before_endpoint(endpoint.budget) {
                    None => drop(checked.insert(index, judged(&stated[index], &endpoint))),
                    Some(at) => early.entry(at.0).or_default().push(index),
                }
            }
            drop(endpoint);
            for (at, indices) in early {
                let comparison = comparison(&mut client, experiment, at).await.map_err(in_file)?;
                checked.extend(indices.into_iter().map(|index| (index, judged(&stated[index], &comparison))));
            }
        }
        let claims = Claims::new(checked.into_values().collect());
        output::print(&claims, global.output)?;
        judge(&claims)
    }
}

fn read(path: &Path) -> Result<Vec<Stated>, Failure> {
    let text = spec_file::text(path, "the claims", MAX_CLAIMS_BYTES)?;
    claims::parse(&text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

async fn comparison(client: &mut Client, experiment: &str, at: u32) -> Result<Comparison, Failure> {
    let request = v1::CompareRequest { experiment: experiment.to_owned(), at, exploratory: false };
    client::parse(client.rpc.compare_experiment(request).await?)
}

fn judged(stated: &Stated, comparison: &Comparison) -> CheckedClaim {
    CheckedClaim {
        says: stated.claim.clone(),
        experiment: comparison.experiment,
        name: comparison.name.clone(),
        at: comparison.at,
        judgement: claims::judge(&stated.claim, comparison),
    }
}

/// The exit code that claims deserve.
fn judge(claims: &Claims) -> Result<(), Failure> {
    let which = |statuses: &[Status]| -> Option<String> {
        let found: Vec<String> = claims
            .claims
            .iter()
            .filter(|claim| statuses.contains(&claim.judgement.status))
            .map(|claim| format!("{} ({})", claim.says, claim.judgement.status.name()))
            .collect();
        let all = claims.claims.len() as u64;
        let first = found.first()?;
        let more = if found.len() > 1 { format!(" and {} more", found.len() - 1) } else { String::new() };
        Some(format!("{} of {}: {first}{more}", found.len(), output::count(all, "claim")))
    };
    if let Some(which) = which(&[Status::Fails, Status::NotComparable, Status::NotDeclared]) {
        return Err(Failure::not_comparable(format!("the evidence does not support {which}"))
            .help("each claim is listed with its reason; claim what was declared and came out, or nothing"));
    }
    match which(&[Status::Undecided]) {
        Some(which) => Err(Failure::inconclusive(format!("nothing can be said about {which}"))
            .help("each claim is listed with what is missing; `ceteris compare` says how many seeds would show it")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use ceteris_shared::compare::claims::Judgement;

    use super::*;
    use crate::{failure::Exit, render::fixtures};

    #[test]
    fn the_worst_claim_decides_the_exit_code() {
        let with = |statuses: &[Status]| {
            let claims = fixtures::claims().claims;
            let claim = |status: &Status| {
                let judgement = Judgement { status: *status, because: String::new() };
                CheckedClaim { judgement, ..claims[0].clone() }
            };
            Claims::new(statuses.iter().map(claim).collect())
        };
        let exit = |statuses: &[Status]| judge(&with(statuses)).err().map(|failure| failure.exit);
        assert_eq!(exit(&[Status::Holds, Status::Holds]), None);
        assert_eq!(exit(&[Status::Holds, Status::Undecided]), Some(Exit::Inconclusive));
        for worse in [Status::Fails, Status::NotComparable, Status::NotDeclared] {
            assert_eq!(exit(&[Status::Undecided, worse, Status::Holds]), Some(Exit::NotComparable));
        }
        let told = [
            judge(&with(&[Status::Undecided, Status::Fails, Status::NotDeclared])),
            judge(&with(&[Status::Undecided, Status::Holds])),
        ];
        let told = told.map(|result| result.expect_err("not all hold").to_string());
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_claim_is_judged_by_the_comparison_that_is_read() {
        let claim = "finetuned > frozen in val.auc".parse().expect("a claim");
        let stated = Stated { experiment: "kermany".to_owned(), claim };
        let status = |comparison: &Comparison| judged(&stated, comparison).judgement.status;
        assert_eq!(status(&fixtures::comparison()), Status::Undecided);
        assert_eq!(status(&fixtures::refused()), Status::NotComparable);
    }

    #[test]
    fn a_file_is_refused_with_its_name_and_the_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("claims.toml");
        std::fs::write(&path, "experiment = \"x\"\n[[claim]]\nsaid = \"a > b in val.auc\"\n").expect("a file");
        let told = read(&path).expect_err("there is no such key").to_string();
        assert!(told.contains("claims.toml: ") && told.contains("line 3") && told.contains("`says`"), "{told}");
        assert_eq!(read(&folder.path().join("none.toml")).expect_err("no file").exit, Exit::Usage);
    }
}
