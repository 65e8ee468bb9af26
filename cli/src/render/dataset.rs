//! One data set: what is in it, and what an import left out.

use ceteris::import::summary::{DuplicateGroup, Duplicates, Summary};
use serde::Serialize;

use crate::output::{Column, ReadOut, Table, count};

/// Names that are listed before "and n more".
const LISTED: usize = 5;

impl ReadOut for Summary {
    fn text(&self) -> String {
        let mut text = format!("digest    {}\n", self.digest);
        text += &format!("images    {} of {}×{} pixels, 8-bit grey\n", self.samples, self.image_size, self.image_size);
        text += &match self.patients {
            0 => "patients  not known\n".to_owned(),
            patients => format!("patients  {patients}\n"),
        };
        text += "\n";
        text += &splits(self).text();
        text += &leaks(self);
        text += &duplicates(&self.duplicates);
        text
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(["digest", "split", "class", "samples"]);
        for split in &self.splits {
            for (class, samples) in &split.classes {
                table.row([self.digest.to_string(), split.split.to_string(), class.clone(), samples.to_string()]);
            }
        }
        table
    }
}

fn splits(summary: &Summary) -> Table {
    let classes = summary.classes.iter().map(|class| Column::of_class("", class));
    let ends = [">total", ">patients"].map(Column::from);
    let mut table = Table::new([Column::from("split")].into_iter().chain(classes).chain(ends));
    for split in &summary.splits {
        let counts =
            summary.classes.iter().map(|class| split.classes.get(class).copied().unwrap_or_default().to_string());
        let patients = match (split.patients, split.without_patient) {
            (0, _) => "-".to_owned(),
            (patients, 0) => patients.to_string(),
            (patients, unknown) => format!("{patients} (+ {unknown} images without)"),
        };
        let ends = [split.samples.to_string(), patients];
        table.row([split.split.to_string()].into_iter().chain(counts).chain(ends));
    }
    table
}

fn leaks(summary: &Summary) -> String {
    let shared = &summary.patients_in_several_splits;
    if shared.is_empty() {
        return if summary.patients == 0 { String::new() } else { "\nNo patient is in two splits.\n".to_owned() };
    }
    let listed = list(shared.iter().map(|patient| {
        let splits = patient.splits.iter().map(|(split, images)| format!("{split} {images}"));
        format!("{} ({})", patient.patient, splits.collect::<Vec<_>>().join(", "))
    }));
    format!(
        "\nwarning: {} in more than one split, so evaluation sees patients of the training: {listed}\n",
        if shared.len() == 1 { "1 patient is".to_owned() } else { format!("{} patients are", shared.len()) },
    )
}

fn duplicates(duplicates: &Duplicates) -> String {
    let within = &duplicates.within_splits;
    let across = &duplicates.across_splits;
    if within.is_empty() && across.is_empty() {
        return "\nNo two images have the same pixels.\n".to_owned();
    }
    let group = |group: &DuplicateGroup| {
        let files = group.files.iter().map(|file| format!("{} [{}, {}]", file.file, file.split, file.class));
        let differ = if group.classes_differ { " with different classes" } else { "" };
        files.collect::<Vec<_>>().join(" = ") + differ
    };
    let mut text = String::new();
    for (place, groups) in [("within a split", within), ("across splits", across)] {
        text += &format!("\n{} of pixel-identical images {place}\n", count(groups.len() as u64, "group"));
        text.extend(groups.iter().take(LISTED).map(|each| format!("  {}\n", group(each))));
        if groups.len() > LISTED {
            text += &format!("  and {} more (all of them with -o json)\n", groups.len() - LISTED);
        }
    }
    text
}

/// The first few, and how many more there are.
fn list(items: impl ExactSizeIterator<Item = String>) -> String {
    let more = items.len().saturating_sub(LISTED);
    let mut text = items.take(LISTED).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}

/// `ceteris.import/1`: what an import made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "schema", rename = "ceteris.import/1")]
pub struct Import {
    /// What the data set was named.
    pub name: String,
    /// What is in it.
    pub dataset: Summary,
    /// What was left out, by file name.
    pub refused: Vec<ImportRefusal>,
    /// 16-bit images whose values all fit into 12 bits.
    pub narrow_range: Vec<String>,
}

/// A file that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImportRefusal {
    /// The path below the imported folder.
    pub file: String,
    /// Why.
    pub reason: String,
}

impl Import {
    /// What a person has to know about what went wrong: every refused file and their number; empty where nothing did.
    pub fn warnings(&self) -> String {
        let mut text: String =
            self.refused.iter().map(|refused| format!("refused {}: {}\n", refused.file, refused.reason)).collect();
        if !self.refused.is_empty() {
            text += &format!(
                "{} refused, {} imported\n",
                count(self.refused.len() as u64, "file"),
                count(self.dataset.samples, "image")
            );
        }
        if !self.narrow_range.is_empty() {
            text += &format!(
                "warning: {} of 16 bits with only 12 in use, nearly black as imported; stretch to the full range first: {}\n",
                count(self.narrow_range.len() as u64, "image"),
                list(self.narrow_range.iter().cloned())
            );
        }
        text
    }
}

impl ReadOut for Import {
    fn text(&self) -> String {
        format!("name      {}\n{}", self.name, self.dataset.text())
    }

    fn csv(&self) -> Table {
        self.dataset.csv()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures;

    #[test]
    fn counts_leaks_and_duplicates() {
        insta::assert_snapshot!(fixtures::summary().text());
        insta::assert_snapshot!(fixtures::summary().csv().csv());
    }

    #[test]
    fn a_clean_data_set_says_so() {
        let clean = Summary {
            patients_in_several_splits: Vec::new(),
            duplicates: Duplicates::default(),
            ..fixtures::summary()
        };
        insta::assert_snapshot!(clean.text());
    }

    #[test]
    fn an_import_lists_what_it_refused() {
        insta::assert_snapshot!(fixtures::import().warnings());
        assert_eq!(Import { refused: Vec::new(), narrow_range: Vec::new(), ..fixtures::import() }.warnings(), "");
    }
}
