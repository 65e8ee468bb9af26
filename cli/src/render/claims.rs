//! `ceteris.claims/1`: claims, and what each is worth.

use ceteris_shared::{
    compare::claims::{Claim, Judgement, Status},
    ids::{Epoch, ExperimentId},
};
use serde::Serialize;

use crate::output::{ReadOut, Table, count};

/// Claims of a file, in its order.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "schema", rename = "ceteris.claims/1")]
pub struct Claims {
    /// Whether every one holds.
    pub all_hold: bool,
    /// Each with what it is worth.
    pub claims: Vec<CheckedClaim>,
}

/// A claim that was held against its experiment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckedClaim {
    /// What is claimed.
    pub says: Claim,
    /// Of which experiment.
    pub experiment: ExperimentId,
    /// What people call it.
    pub name: String,
    /// The epoch that was read.
    pub at: Epoch,
    /// What it is worth.
    #[serde(flatten)]
    pub judgement: Judgement,
}

impl Claims {
    /// In the order of the file.
    pub fn new(claims: Vec<CheckedClaim>) -> Self {
        Self { all_hold: claims.iter().all(|claim| claim.judgement.status == Status::Holds), claims }
    }
}

impl ReadOut for Claims {
    fn text(&self) -> String {
        let mut table = Table::new(["experiment", "claim", "status", "because"]);
        for CheckedClaim { says, name, judgement, .. } in &self.claims {
            let Judgement { status, because } = judgement;
            table.row([name.clone(), says.to_string(), status.name().to_owned(), because.clone()]);
        }
        let hold = self.claims.iter().filter(|claim| claim.judgement.status == Status::Holds).count();
        let all = count(self.claims.len() as u64, "claim");
        format!("{}\n{hold} of {all} {}\n", table.text(), if hold == 1 { "holds" } else { "hold" })
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(["experiment", "name", "says", "at", "status", "because"]);
        for CheckedClaim { says, experiment, name, at, judgement } in &self.claims {
            let Judgement { status, because } = judgement;
            let status = status.name().replace(' ', "_");
            let (experiment, at) = (experiment.to_string(), at.to_string());
            table.row([experiment, name.clone(), says.to_string(), at, status, because.clone()]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        output::{Format, render},
        render::fixtures,
    };

    #[test]
    fn each_claim_is_told_with_its_reason() {
        insta::assert_snapshot!(fixtures::claims().text());
        insta::assert_snapshot!(fixtures::claims().csv().csv());
    }

    #[test]
    fn the_guide_shows_what_is_written() {
        let json = render(&fixtures::claims(), Format::Json);
        let guide = include_str!("../../../docs/guide/json.md");
        assert!(guide.contains(&format!("```json\n{json}```\n")), "docs/guide/json.md should have the example\n{json}");
    }
}
