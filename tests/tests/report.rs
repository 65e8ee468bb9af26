//! What is told of an experiment can be computed again, and whoever changes a prediction, a label or a run is found out.

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Read, Write},
};

use ceteris_shared::{
    dataset::{Manifest, Split},
    digest::Digest,
    document::{Document, Evidence, Report},
    predictions::Predictions,
    trainer::Scored,
};
use ceteris_tests::{Cluster, Images, Place, Program, Spec, run};
use serde_json::Value;
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:9";

/// The files of a bundle by name.
#[derive(Clone)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    fn of(path: &str) -> Self {
        let mut archive = ZipArchive::new(fs::File::open(path).expect("a bundle")).expect("a zip file");
        let mut files = BTreeMap::new();
        for index in 0..archive.len() {
            let mut file = archive.by_index(index).expect("a file");
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).expect("its bytes");
            let name = file.name().expect("a name").into_owned();
            files.insert(name, bytes);
        }
        Self(files)
    }

    fn evidence(&self) -> Evidence {
        Evidence::from_json(&String::from_utf8_lossy(&self.0["evidence.json"])).expect("evidence")
    }

    /// Another evidence, with objects that it names.
    fn with(mut self, evidence: &Evidence, objects: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.0.insert("evidence.json".to_owned(), evidence.to_json().into_bytes());
        for bytes in objects {
            self.0.insert(object(&Digest::of(&bytes)), bytes);
        }
        self
    }

    fn write(&self, cluster: &Cluster, name: &str) -> String {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in &self.0 {
            archive.start_file(name.as_str(), SimpleFileOptions::default()).expect("memory takes every write");
            archive.write_all(bytes).expect("memory takes every write");
        }
        let path = cluster.folder().join(name);
        fs::write(&path, archive.finish().expect("memory takes every write").into_inner()).expect("a file");
        path.to_string_lossy().into_owned()
    }
}

fn object(digest: &Digest) -> String {
    format!("objects/{digest}")
}

/// Where the predictions of a run on test are, at its last epoch.
fn on_test(evidence: &mut Evidence, run: usize) -> &mut Digest {
    let epoch = evidence.runs[run].epochs.last_mut().expect("it is trained");
    let file = epoch.predictions.iter_mut().find(|file| file.scored == Scored::Split(Split::Test));
    &mut file.expect("test is predicted at the endpoint").digest
}

fn trained() -> (Cluster, Spec<'static>) {
    let cluster = Cluster::with_data(&Place::Folder, Images::TINY);
    let spec = Spec::frozen_and_finetuned();
    let text = spec.text().replace("[endpoint]\n", "[endpoint]\nmetric = \"test.auc\"\n");
    cluster.ceteris(&["submit", &cluster.write("spec.toml", &text), "--follow"]).ok();
    (cluster, spec)
}

#[test]
fn a_report_is_made_in_every_form_and_every_number_of_it_comes_out_again() {
    let (cluster, spec) = trained();
    let path = |name: &str| cluster.folder().join(name).to_string_lossy().into_owned();
    let page = path("report.html");
    let said = cluster.ceteris(&["report", spec.name, "-o", &page]).ok().stderr;
    assert!(said.contains("With 3 epochs each") && said.contains("wrote "), "{said}");
    let html = fs::read_to_string(&page).expect("it is written");
    assert!(html.starts_with("<!DOCTYPE html>") && html.contains("finetuned") && !html.contains("http://"));
    cluster.ceteris(&["report", spec.name, "-o", &page]).refused(2, &["exists", "--force"]);
    cluster.ceteris(&["report", spec.name, "-o", "report.pdf"]).refused(2, &[".html, .md, .json or .csv"]);
    cluster.ceteris(&["report", "nothing", "-o", "json"]).refused(2, &["nothing"]);
    assert!(cluster.ceteris(&["report", spec.name]).ok().stdout.starts_with("# "), "Markdown, for people");
    assert!(cluster.ceteris(&["report", spec.name, "-o", "csv"]).ok().stdout.starts_with("what,arm,"));
    let json = cluster.ceteris(&["report", spec.name, "-o", "json"]).ok().stdout;
    let report = Report::from_json(&json).expect("it is a report");
    assert_eq!(
        report.comparison,
        cluster.document(&["compare", spec.name]),
        "the coordinator reads runs in the same way"
    );
    assert_eq!(report.sweeps[0].points.iter().filter(|point| point.same).count(), 2);

    let verified = |arguments: &[&str]| cluster.ceteris(&[arguments, &["-o", "json"]].concat()).ok().json();
    let counts = |document: &Value| {
        let compared = document["compared"].as_array().expect("a list").iter();
        compared
            .map(|each| (each[0].as_str().unwrap_or_default().to_owned(), each[1].as_u64().unwrap_or(0)))
            .collect::<Vec<_>>()
    };
    let document = verified(&["verify", spec.name]);
    assert_eq!((&document["schema"], &document["equal"]), (&"ceteris.numbers/1".into(), &true.into()));
    // Four runs of three epochs, two values each.
    assert_eq!(counts(&document)[0], ("what workers measured".to_owned(), 4 * 3 * 2));
    assert!(counts(&document)[1].1 > 200, "{document}");
    assert!(counts(&verified(&["verify", spec.name, "--report", &page]))[2].1 > 2000);

    // Something else than epochs, and claims.
    let matched = cluster.ceteris(&["compare", spec.name, "--match", "flops", "-o", "json"]).ok().json();
    assert_eq!((&matched["schema"], &matched["contrasts"][0]["axis"]), (&"ceteris.matched/1".into(), &"flops".into()));
    assert!(cluster.ceteris(&["compare", spec.name, "--match", "gpu-seconds"]).ok().stdout.contains("equal seconds"));
    let claim = |says: &str| {
        cluster.write("claims.toml", &format!("experiment = {:?}\n[[claim]]\nsays = {says:?}\n", spec.name))
    };
    // Twenty patients and two seeds show nothing.
    let open = cluster.ceteris(&["check", &claim("finetuned > frozen in test.auc at 3 epochs by >= 0.3")]);
    assert!([3, 4].contains(&open.code), "{}", open.stdout);
    cluster.ceteris(&["check", &claim("finetuned > frozen in test.accuracy")]).refused(3, &["not declared"]);

    // A number that was improved by hand.
    let mut improved = report.clone();
    improved.comparison.contrasts[0].difference.mean_difference += 0.01;
    let improved = cluster.write("improved.json", &improved.to_json());
    let refused = cluster.ceteris(&["verify", spec.name, "--report", &improved]).refused(5, &["1 of "]);
    assert!(refused.stdout.contains("comparison.contrasts[0].mean_difference"), "{}", refused.stdout);

    // A page whose words were changed, and a field that was taken out.
    let edited = cluster.write("edited.html", &html.replacen("finetuned", "frozen", 1));
    let refused = cluster.ceteris(&["verify", spec.name, "--report", &edited]).refused(5, &["1 of "]);
    assert!(refused.stdout.contains("what the report shows"), "{}", refused.stdout);
    let mut without: Value = serde_json::from_str(&json).expect("JSON");
    without.as_object_mut().expect("an object").remove("caveats");
    let without = cluster.write("without.json", &without.to_string());
    let refused = cluster.ceteris(&["verify", spec.name, "--report", &without]).refused(5, &["1 of "]);
    assert!(refused.stdout.contains("caveats"), "{}", refused.stdout);

    // Predictions that were changed where they lie.
    let bundle = path("whole.zip");
    cluster.ceteris(&["bundle", spec.name, &bundle]).ok();
    let mut evidence = Files::of(&bundle).evidence();
    let digest = *on_test(&mut evidence, 3);
    let stored = find(cluster.store(), &digest);
    let mut bytes = fs::read(&stored).expect("an object");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&stored, bytes).expect("an object");
    let refused = cluster.ceteris(&["verify", spec.name]);
    assert_eq!(refused.code, 5, "{}{}", refused.stdout, refused.stderr);
    let told = refused.stdout + &refused.stderr;
    assert!(told.contains(&digest.to_string()[..8]) || told.contains("seed 1"), "{told}");
}

/// The file of an object in a store that is a folder.
fn find(store: &str, digest: &Digest) -> std::path::PathBuf {
    let name = digest.to_string();
    let mut folders = vec![std::path::PathBuf::from(store)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().replace('/', "").ends_with(&name) {
                return path;
            }
        }
    }
    panic!("{digest} is not in {store}");
}

#[test]
fn a_bundle_verifies_elsewhere_and_whoever_changes_it_is_found_out() {
    let (cluster, spec) = trained();
    let path = cluster.folder().join("whole.zip").to_string_lossy().into_owned();
    cluster.ceteris(&["bundle", spec.name, &path]).ok();
    cluster.ceteris(&["bundle", spec.name, &path]).refused(2, &["exists"]);
    let again = cluster.folder().join("again.zip").to_string_lossy().into_owned();
    cluster.ceteris(&["bundle", spec.name, &again]).ok();
    assert_eq!(
        fs::read(&path).expect("a bundle"),
        fs::read(&again).expect("a bundle"),
        "the same evidence gives the same bytes"
    );

    let verify = |path: &str| run(Program::Ceteris.command().args(["--coordinator", NOBODY, "verify", path]));
    let told = |files: &Files, name: &str| {
        let output = verify(&files.write(&cluster, name)).refused(5, &[]);
        output.stdout + &output.stderr
    };
    assert!(verify(&path).ok().stdout.contains("the bundle's report:"));
    let whole = Files::of(&path);
    let evidence = whole.evidence();
    let published = |digest: &Digest| {
        let digest = digest.to_string();
        run(Program::Ceteris.command().args(["--coordinator", NOBODY, "verify", &path, "--evidence", &digest]))
    };
    published(&Digest::of(evidence.to_json().as_bytes())).ok();
    published(&Digest::of(b"another")).refused(5, &["was published"]);
    let mut of = evidence.clone();
    let (first, other) = (*on_test(&mut of, 0), *on_test(&mut of, 2));

    // A prediction: one byte, and then with a digest that fits.
    let mut damaged = whole.clone();
    damaged.0.get_mut(&object(&first)).expect("it is in it").reverse();
    let text = told(&damaged, "damaged.zip");
    assert!(text.contains("frozen, seed 0") && text.contains("on test") && text.contains("other bytes"), "{text}");
    let mut predictions = Predictions::from_bytes(&whole.0[&object(&first)]).expect("predictions");
    predictions.probabilities.swap(0, 1);
    let (mut changed, bytes) = (evidence.clone(), predictions.to_bytes());
    *on_test(&mut changed, 0) = Digest::of(&bytes);
    let text = told(&whole.clone().with(&changed, [bytes]), "changed.zip");
    assert!(text.contains("comparison.arms[0].runs[0].metrics.test.loss"), "{text}");

    // A label: one byte of the data set's manifest, and then one that fits: every lineage begins with the data.
    let labels = evidence.pins.dataset.expect("it is pinned");
    let mut damaged = whole.clone();
    damaged.0.get_mut(&object(&labels)).expect("it is in it").reverse();
    assert!(told(&damaged, "labels.zip").contains("the labels of data set"));
    let mut manifest = Manifest::from_bytes(&whole.0[&object(&labels)]).expect("a manifest");
    // The last one of the first class, so that the order stays right.
    let last = manifest.split(Split::Test).filter(|&index| manifest.samples[index as usize].class == 0).last();
    manifest.samples[last.expect("test has both classes") as usize].class = 1;
    let mut changed = evidence.clone();
    let bytes = manifest.to_bytes();
    changed.pins.dataset = Some(Digest::of(&bytes));
    let text = told(&whole.clone().with(&changed, [bytes]), "relabelled.zip");
    assert!(text.contains("another lineage than its spec says"), "{text}");

    // Runs: predictions of two arms swapped, and all epochs of two seeds.
    let mut changed = evidence.clone();
    *on_test(&mut changed, 0) = other;
    *on_test(&mut changed, 2) = first;
    let text = told(&whole.clone().with(&changed, []), "swapped.zip");
    assert!(text.contains("comparison.arms[0].runs[0].metrics.test") && text.contains("DIFFER"), "{text}");
    let mut changed = evidence.clone();
    let (one, another) = (changed.runs[0].epochs.clone(), changed.runs[1].epochs.clone());
    (changed.runs[0].epochs, changed.runs[1].epochs) = (another, one);
    assert!(told(&whole.with(&changed, []), "seeds.zip").contains("another lineage than its spec says"));
    verify(&cluster.write("none.zip", "no zip file")).refused(2, &["no bundle"]);
}

/// What was published years ago must be computed again by whoever reads it now.
#[test]
fn the_studies_in_the_repository_verify() {
    let studies = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/studies");
    let mut verified = 0;
    for study in fs::read_dir(studies).expect("studies").flatten().filter(|entry| entry.path().is_dir()) {
        let evidence = study.path().join("evidence.zip");
        let output = run(Program::Ceteris.command().args(["--coordinator", NOBODY, "verify"]).arg(&evidence)).ok();
        assert!(output.stdout.contains("the bundle's report:"), "{}", output.stdout);
        let page = study.path().join("report.html");
        run(Program::Ceteris
            .command()
            .args(["--coordinator", NOBODY, "verify"])
            .arg(&evidence)
            .arg("--report")
            .arg(page))
        .ok();
        verified += 1;
    }
    assert!(verified > 0);
}
