//! What is in the object store, and what was taken out of it.

use ceteris_shared::document::{Garbage, Objects, Storage};

use crate::output::{ReadOut, Table, bytes, count};

fn objects(objects: &Objects) -> String {
    format!("{} ({})", count(objects.objects, "object"), bytes(objects.bytes))
}

fn row(table: &mut Table, what: &str, objects: &Objects) {
    table.row([what.to_owned(), objects.objects.to_string(), objects.bytes.to_string()]);
}

impl ReadOut for Garbage {
    fn text(&self) -> String {
        let Self { dry_run, older_than_seconds, checkpoints_given_up, checkpoints_kept, deleted, kept, young } = self;
        let (given, gone) = if *dry_run { ("would be given up", "would be deleted") } else { ("given up", "deleted") };
        let mut text = format!("{} {given}, {checkpoints_kept} kept\n", count(*checkpoints_given_up, "checkpoint"));
        text += &format!("{} {gone}, {} kept\n", objects(deleted), objects(kept));
        if young.objects > 0 {
            let age = humantime::format_duration(std::time::Duration::from_secs(*older_than_seconds));
            text += &format!("{} named by nothing, but younger than {age}, left\n", objects(young));
        }
        text
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(["what", "objects", "bytes"]);
        row(&mut table, "deleted", &self.deleted);
        row(&mut table, "kept", &self.kept);
        row(&mut table, "young", &self.young);
        table
    }
}

impl ReadOut for Storage {
    fn text(&self) -> String {
        let mut text = format!("named by something  {}\n", objects(&self.named));
        text += &format!("named by nothing    {}\n", objects(&self.unnamed));
        if self.set_aside.objects > 0 {
            text += &format!("set aside, damaged  {}\n", objects(&self.set_aside));
        }
        if self.unusable.is_empty() {
            let how = if self.read { "whole" } else { "there, and as long as it should be" };
            return text + &format!("Everything that is named is {how}.\n");
        }
        text += &format!("\n{} missing or damaged:\n", count(self.unusable_in_all, "object"));
        let mut table = Table::new(["object", "what it is", "what is wrong"]);
        for object in &self.unusable {
            table.row([object.digest.short(), object.what.clone(), object.problem.clone()]);
        }
        text += &table.text();
        let left = self.unusable_in_all - self.unusable.len() as u64;
        if left > 0 {
            text += &format!("and {left} more\n");
        }
        text
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(["digest", "what", "problem"]);
        for object in &self.unusable {
            table.row([object.digest.to_string(), object.what.clone(), object.problem.clone()]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use ceteris_shared::{digest::Digest, document::Unusable};

    use super::*;

    fn of(objects: u64) -> Objects {
        Objects { objects, bytes: objects * 1_500_000 }
    }

    fn garbage(dry_run: bool) -> Garbage {
        let (checkpoints_given_up, checkpoints_kept, older_than_seconds) = (18, 6, 86_400);
        let (deleted, kept, young) = (of(37), of(21), of(if dry_run { 0 } else { 3 }));
        Garbage { dry_run, older_than_seconds, checkpoints_given_up, checkpoints_kept, deleted, kept, young }
    }

    #[test]
    fn what_was_deleted_and_what_would_be() {
        insta::assert_snapshot!(
            garbage(true).text() + "\n" + &garbage(false).text() + "\n" + &garbage(false).csv().csv()
        );
    }

    #[test]
    fn what_is_missing_or_damaged_is_named() {
        let unusable = Unusable {
            digest: Digest::of(b"part"),
            what: "part of checkpoint 05b3abf2579a".to_owned(),
            problem: "it is not in the store".to_owned(),
        };
        let (named, unnamed, none) = (of(40), of(2), Objects::default());
        let whole = Storage { read: true, named, unnamed, set_aside: none, unusable_in_all: 0, unusable: Vec::new() };
        let storage = Storage { unusable_in_all: 3, unusable: vec![unusable], set_aside: of(1), ..whole.clone() };
        insta::assert_snapshot!(whole.text() + "\n" + &storage.text() + "\n" + &storage.csv().csv());
    }
}
