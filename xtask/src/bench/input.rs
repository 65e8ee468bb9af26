//! `bench input`: from packed pixels to batches, and from image files to packed pixels. One core on both sides.

use std::path::{Path, PathBuf};

use anyhow::Result;
use xtask::radiographs;

use super::{
    Bench,
    checks::Required::{AtLeast, AtMost},
    machine,
    process::{Launch, Process},
    report::{Report, Table},
    rounds::{Row, interleave, rates},
    spread::{Spread, largest_difference, ratios},
    text,
};

const ABOUT: &str = "Reading: shuffled batches of flipped and normalised images of 224 × 224 pixels from packed data, \
                     against torchvision's DataLoader(ImageFolder) on the same images as PNG files. Importing: decoding \
                     and resizing JPEG files, which ceteris also checks to be whole. Every program is kept on one \
                     core.";
const OURS: &str = "ceteris";
const PEER: &str = "torchvision";
const AS_FOLDERS: &str = "torchvision's ImageFolder";
const WITH_PIL: &str = "torchvision with PIL, grey at once";
const WITH_IO: &str = "torchvision.io";
const BATCH: &str = "32";
/// Moments of a whole pass, summed in another order.
const MOMENTS: f64 = 1e-4;
/// Grey levels: resizing with and without integer arithmetic rounds differently, and so do JPEG decoders.
const GREY_LEVELS: f64 = 2.0;

/// Runs the benchmark.
pub fn run(bench: &Bench) -> Result<Report> {
    let mut report =
        Report { name: "bench input", file: "input", about: ABOUT, machine: machine::facts(), ..Report::default() };
    read(bench, &mut report)?;
    import(bench, &mut report)?;
    Ok(report)
}

/// One program on the first core.
fn alone(launch: Launch) -> Launch {
    launch.on_core(0).threads(1)
}

fn read(bench: &Bench, report: &mut Report) -> Result<()> {
    let (size, count, rounds) = if bench.quick { (64, 16, 2) } else { (224, 1024, 7) };
    let plan = radiographs::Plan { size, per_class: [count, 1, 1], ..radiographs::Plan::demo() };
    let images = bench.radiographs(&plan)?;
    let data = bench.packed(&images, size)?;
    let ours = bench.ours(OURS, "input").flag("--data", data).flag("--batch", BATCH).flag("--seed", "0");
    let peer = bench.peer(PEER, "read_images.py").flag("--folder", images.join("train")).flag("--batch", BATCH);
    let ours = alone(ours).flag("--warm-up", "1").start()?;
    let peer = alone(peer).start()?;
    report.machine.extend(machine::sides(&ours, &peer)?);
    let right = same_pass(&ours, &peer);
    // A pass of ours is over in a fraction of a second.
    let mut turns = [(ours, 10), (peer, 1)];
    let rows = interleave("read", &mut turns, rounds)?;
    for (process, _) in turns {
        process.end()?;
    }
    let [ours, theirs] = [OURS, PEER].map(|label| rates(&rows, "read", label));
    report.tables.push(rate_table("Reading", &rows, "read", &[OURS, PEER]));
    report.checks.require("reading: images/s on a core", AtLeast(10_000.0), Spread::of(&ours), right);
    let speed = Spread::of(&ratios(&ours, &theirs));
    report.checks.require("reading: images/s against torchvision", AtLeast(20.0), speed, right);
    report.keep(&rows);
    Ok(())
}

/// Whether both saw the same pixels, normalised alike, about half of them flipped.
fn same_pass(ours: &Process, peer: &Process) -> bool {
    let moments = |process: &Process| {
        ["mean", "mean_square", "row_moment"].map(|name| process.ready()[name].as_f64().unwrap_or(f64::NAN))
    };
    let flipped = ours.ready()["flipped"].as_f64().unwrap_or(f64::NAN);
    largest_difference(&moments(ours), &moments(peer)) <= MOMENTS && (0.2..=0.8).contains(&flipped)
}

fn import(bench: &Bench, report: &mut Report) -> Result<()> {
    let rounds = if bench.quick { 2 } else { 7 };
    let folder = jpegs(bench, report)?;
    let scratch = bench.scratch("import")?;
    let ours = alone(bench.importer(OURS, &folder, 224, &scratch)).start()?;
    let mut turns = vec![(ours, 2)];
    for (label, decoder) in [(AS_FOLDERS, "folder"), (WITH_PIL, "pil"), (WITH_IO, "io")] {
        let peer = bench.peer(label, "import_images.py").flag("--folder", &folder).flag("--image-size", "224");
        let peer = peer.flag("--packed", scratch.join("packed")).flag("--decoder", decoder).flag("--warm-up", "1");
        turns.push((alone(peer).start()?, 2));
    }
    let rows = interleave("import", &mut turns, rounds)?;
    let differences: Vec<f64> =
        turns[1..].iter().map(|(peer, _)| peer.ready()["difference"].as_f64().unwrap_or(f64::NAN)).collect();
    for (process, _) in turns {
        process.end()?;
    }
    let worst = Spread::of(&differences).high;
    let [ours, folder, pil, io] = [OURS, AS_FOLDERS, WITH_PIL, WITH_IO].map(|label| rates(&rows, "import", label));
    let faster = if Spread::of(&pil).median > Spread::of(&io).median { pil } else { io };
    report.tables.push(rate_table("Importing", &rows, "import", &[OURS, AS_FOLDERS, WITH_PIL, WITH_IO]));
    let right = worst <= GREY_LEVELS;
    let figure = "importing: images/s on a core against torchvision's ImageFolder and Resize";
    report.checks.require(figure, AtLeast(1.5), Spread::of(&ratios(&ours, &folder)), right);
    let figure = "importing: images/s on a core against the faster of torchvision's ways to grey alone";
    report.checks.stretch(figure, AtLeast(1.5), Spread::of(&ratios(&ours, &faster)), right);
    let figure = "importing: largest mean difference of an image from torchvision, in grey levels";
    report.checks.require(figure, AtMost(GREY_LEVELS), Spread::one(worst), true);
    report.keep(&rows);
    Ok(())
}

/// Real radiographs at their original size where they are, synthetic ones of that size elsewhere.
fn jpegs(bench: &Bench, report: &mut Report) -> Result<PathBuf> {
    let real = bench.shared.join("kermany-original");
    if real.is_dir() && !bench.quick {
        report.notes.push("Imported: 16 chest radiographs at their original size, from JPEG files.".to_owned());
        return Ok(real);
    }
    let (size, count) = (if bench.quick { 256 } else { 1280 }, 8);
    let plan = radiographs::Plan { size, per_class: [count, 1, 1], ..radiographs::Plan::demo() };
    let drawn = bench.jpegs(&bench.radiographs(&plan)?)?;
    report.notes.push(format!("Imported: {} synthetic radiographs of {size} pixels, from JPEG files.", 2 * count));
    Ok(Path::new(&drawn).join("train"))
}

fn rate_table(heading: &str, rows: &[Row], setting: &str, labels: &[&str]) -> Table {
    let row = |label: &&str| vec![(*label).to_owned(), text::spread(Spread::of(&rates(rows, setting, label)))];
    let rows = labels.iter().map(row).collect();
    Table { heading: heading.to_owned(), head: vec!["program", "images/s"], rows }
}
