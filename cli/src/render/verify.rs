//! What came of training a run again.

use ceteris_shared::{digest::Digest, document::Verification};

use crate::output::{ReadOut, Table, count};

fn digest(digest: Option<Digest>) -> String {
    digest.map_or_else(|| "-".to_owned(), |digest| digest.short())
}

impl ReadOut for Verification {
    fn text(&self) -> String {
        let verdict = match self.equal {
            Some(true) => "every epoch came out the same".to_owned(),
            Some(false) => "it did not come out the same".to_owned(),
            None => format!("nothing differs so far; {}", self.state.name()),
        };
        let mut text = format!("run {}: {verdict}\n", self.run);
        if let Some(environment) = &self.environment {
            text += &format!("trained in {environment}\n");
        }
        text += &format!("{} trained again by {}\n", count(self.epochs.len() as u64, "epoch"), self.by);
        if let Some(difference) = &self.first_difference {
            text += &format!("{difference}\n");
        }
        let mut table = Table::new([">epoch", "weights on record", "weights again", "equal"]);
        for epoch in &self.epochs {
            let equal = if epoch.equal { "yes" } else { "NO" };
            table.row([epoch.epoch.to_string(), digest(epoch.recorded), digest(epoch.trained), equal.to_owned()]);
        }
        text + "\n" + &table.text()
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(["run", "by", "epoch", "recorded", "trained", "equal"]);
        let whole = |digest: Option<Digest>| digest.map_or_else(String::new, |digest| digest.to_string());
        for epoch in &self.epochs {
            table.row([
                self.run.to_string(),
                self.by.to_string(),
                epoch.epoch.to_string(),
                whole(epoch.recorded),
                whole(epoch.trained),
                epoch.equal.to_string(),
            ]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use ceteris_shared::{
        document::{State, VerifiedEpoch},
        ids::{Epoch, ExperimentId, RunId},
    };
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_came_out_the_same_and_what_did_not() {
        let epoch = |number: u32, equal: bool| {
            let recorded = Some(Digest::of(&number.to_le_bytes()));
            let trained = if equal { recorded } else { Some(Digest::of(b"other")) };
            VerifiedEpoch { epoch: Epoch(number), recorded, trained, equal }
        };
        let same = Verification {
            run: RunId(Uuid::from_u128(1)),
            experiment: ExperimentId(Uuid::from_u128(2)),
            by: ExperimentId(Uuid::from_u128(3)),
            state: State::Done,
            environment: None,
            equal: Some(true),
            epochs: vec![epoch(2, true), epoch(3, true)],
            first_difference: None,
        };
        let other = Verification {
            equal: Some(false),
            epochs: vec![epoch(2, true), epoch(3, false)],
            first_difference: Some("epoch 3: the trained part differs first in tensor classifier.weight".to_owned()),
            ..same.clone()
        };
        insta::assert_snapshot!(same.text() + "\n" + &other.text() + "\n" + &other.csv().csv());
    }
}
