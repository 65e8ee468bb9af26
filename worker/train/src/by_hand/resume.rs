//! Whose a folder of checkpoints is, and which of them is the newest that is complete.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use ceteris_shared::{
    ids::Epoch,
    lineage::LineageKey,
    plan::{EpochWork, Work},
    trainer::Position,
};
use serde::{Deserialize, Serialize};

use super::{choice::Chosen, make, tell::METRICS};
use crate::{
    checkpoint::{Parts, Progress},
    files,
    tensors::{self, Source},
};

/// Says which run a folder holds.
const RUN: &str = "run.json";
const MAX_RUN_BYTES: u64 = 1 << 16;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Owner {
    arm: String,
    seed: u64,
    /// The lineage key of its end.
    key: LineageKey,
}

/// A complete checkpoint.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its folder.
    pub folder: PathBuf,
    /// The epoch that it ends, or that it is in.
    pub epoch: Epoch,
    /// Its files.
    pub parts: Parts,
    /// Where in the epoch; None at its end.
    pub position: Option<Position>,
}

/// Makes `out` the folder of a run, or sees that it is.
///
/// # Errors
/// When it is not empty and not to be resumed, or holds another run.
pub fn claim(out: &Path, chosen: &Chosen, resume: bool) -> Result<()> {
    make(out)?;
    let owner = Owner { arm: chosen.arm.clone(), seed: chosen.work.seed, key: chosen.key };
    let file = out.join(RUN);
    let read = || format!("{} cannot be read", out.display());
    let is_empty = fs::read_dir(out).with_context(read)?.next().is_none();
    if is_empty {
        let bytes = serde_json::to_vec(&owner).context("names and numbers are plain data")?;
        return Ok(files::write(&file, &bytes)?);
    }
    if !resume {
        bail!("{} is not empty; name another folder as --out, or go on in this one with --resume", out.display());
    }
    let bytes = files::read(&file, MAX_RUN_BYTES)?;
    let found: Owner =
        serde_json::from_slice(&bytes).with_context(|| format!("{}: not what this program writes", file.display()))?;
    if found != owner {
        let same = if (&found.arm, found.seed) == (&owner.arm, owner.seed) { " under other settings" } else { "" };
        bail!(
            "{} holds arm {}, seed {}{same}, not arm {}, seed {}: name another folder as --out",
            out.display(),
            found.arm,
            found.seed,
            owner.arm,
            owner.seed
        );
    }
    Ok(())
}

/// The newest checkpoint of `work` in `out` that is complete. Newer ones, which are not, are told and removed.
///
/// # Errors
/// When the folder cannot be read, or what is incomplete cannot be removed.
pub fn newest(out: &Path, work: &Work, classes: usize, device: &Device) -> Result<Option<Found>> {
    let mut candidates: Vec<(Place, PathBuf)> = Vec::new();
    for entry in fs::read_dir(out).with_context(|| format!("{} cannot be read", out.display()))? {
        let path = entry?.path();
        let place = path.file_name().and_then(|name| name.to_str()).and_then(Place::parse);
        candidates.extend(place.map(|place| (place, path)));
    }
    candidates.sort_unstable_by(|one, other| other.cmp(one));
    for (place, folder) in candidates {
        let planned = work.epochs.iter().find(|work| work.epoch == place.epoch);
        let whole = planned
            .context("the run has no such epoch")
            .and_then(|epoch| verify(&folder, place, work, epoch, classes, device));
        match whole {
            Ok(found) => return Ok(Some(found)),
            Err(error) => {
                eprintln!("{} is not complete and is removed: {error:#}", folder.display());
                fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
            }
        }
    }
    Ok(None)
}

/// When a checkpoint was made: after steps of an epoch, or last of all at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    epoch: Epoch,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    After(u32),
    End,
}

impl Place {
    /// From a folder's name: `epoch-E`, or `epoch-E-step-S`.
    fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix("epoch-")?;
        let (epoch, step) = match rest.split_once("-step-") {
            Some((epoch, step)) => (epoch, Step::After(step.parse().ok()?)),
            None => (rest, Step::End),
        };
        Some(Self { epoch: Epoch(epoch.parse().ok()?), step })
    }
}

/// Reads everything that training would go on with.
fn verify(
    folder: &Path,
    place: Place,
    work: &Work,
    epoch: &EpochWork,
    classes: usize,
    device: &Device,
) -> Result<Found> {
    let parts = Parts::in_folder(folder);
    let state = parts.state()?;
    let layout = work.arch.layout(classes);
    let expected: Vec<_> = layout.iter().map(|entry| (entry.name.clone(), entry.shape.as_slice())).collect();
    tensors::check(&state, &expected)?;
    for (name, shape) in &expected {
        state.copy(name, &mut vec![std::mem::MaybeUninit::uninit(); shape.iter().product()])?;
    }
    parts.optimizer(&work.optimization, work.arch, epoch.train.part(), classes, device)?;
    let position = match place.step {
        Step::After(step) => {
            let progress = folder.join("progress.json");
            Progress::read(&progress, step)?;
            Some(Position { step, progress })
        }
        Step::End => {
            let metrics = folder.join(METRICS);
            fs::metadata(&metrics).with_context(|| format!("{} is missing", metrics.display()))?;
            None
        }
    };
    Ok(Found { folder: folder.to_owned(), epoch: place.epoch, parts, position })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epochs_end_is_newer_than_its_steps_and_older_than_the_next() {
        let names = ["epoch-2-step-3", "epoch-2-step-10", "epoch-2", "epoch-10-step-1"];
        let places: Vec<_> = names.iter().map(|name| Place::parse(name).expect("a checkpoint's name")).collect();
        assert!(places.is_sorted_by(|one, other| one < other), "{places:?}");
    }

    #[test]
    fn other_names_are_no_checkpoints() {
        for name in ["run.json", "epoch-", "epoch-x", "epoch-1-step-", "frozen-below-head.safetensors"] {
            assert_eq!(Place::parse(name), None, "{name}");
        }
    }
}
