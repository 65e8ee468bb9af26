//! The `ceteris` program as a user meets it, where no coordinator is needed: what goes to stdout, what to stderr, and
//! which exit code a script sees.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// Runs `ceteris` where there is no coordinator and no variable of the caller's decides.
fn ceteris(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ceteris"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CETERIS_")) {
        command.env_remove(name);
    }
    // Port 9 discards; nothing of ours listens there.
    command.env("CETERIS_COORDINATOR", "http://127.0.0.1:9").current_dir(examples());
    command.args(arguments).output().expect("the program was built")
}

/// Exit code, stdout and stderr, one under the other.
fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    format!("exit {:?}\n--- stdout\n{}--- stderr\n{}", output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn without_a_coordinator_it_says_how_to_get_one() {
    insta::assert_snapshot!(told(&ceteris(&["ls"])));
    for command in [&["submit", "kermany.toml"][..], &["workers"], &["compare", "x"], &["watch", "x"]] {
        let output = ceteris(command);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(5), 0), "{command:?}");
    }
}

#[test]
fn the_examples_are_planned_without_a_coordinator() {
    insta::assert_snapshot!(told(&ceteris(&["plan", "frozen-vs-finetuned.toml", "--offline"])));
    insta::assert_snapshot!(told(&ceteris(&["plan", "kermany.toml"])));
    let quiet = ceteris(&["plan", "kermany.toml", "-q", "-o", "json"]);
    assert_eq!((quiet.status.code(), quiet.stderr.len()), (Some(0), 0));
    let plan: serde_json::Value = serde_json::from_slice(&quiet.stdout).expect("JSON");
    assert_eq!((&plan["schema"], &plan["runs"]), (&"ceteris.plan/1".into(), &4.into()));
}

#[test]
fn the_seed_study_trains_55_of_80_epochs_of_each_tree() {
    let output = ceteris(&["plan", "seed-study.toml", "-o", "json"]);
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let figures = ["runs", "epochs_asked", "epochs_to_train", "epochs_in_store"].map(|name| plan[name].clone());
    assert_eq!(figures, [64.into(), 1280.into(), 880.into(), serde_json::Value::Null]);
    let single = |contrast: &serde_json::Value| (contrast["arm"].clone(), contrast["single_factor"].clone());
    let contrasts: Vec<_> = plan["contrasts"].as_array().expect("contrasts").iter().map(single).collect();
    assert_eq!(contrasts[0], ("late augment=none".into(), true.into()));
    assert_eq!(contrasts[4], ("finetuned augment=none".into(), true.into()), "the rate is that of what is trained");
    assert!(plan["contrasts"].as_array().expect("contrasts").iter().all(|contrast| contrast["refused"].is_null()));
}

#[test]
fn the_guides_spec_can_be_planned_and_compared() {
    let guide = std::fs::read_to_string(examples().join("../docs/guide/spec.md")).expect("the guide");
    let spec = guide.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the first example");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("guide.toml");
    std::fs::write(&path, spec).expect("written");
    let output = ceteris(&["plan", path.to_str().expect("UTF-8"), "--offline", "-o", "json"]);
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let contrasts = plan["contrasts"].as_array().expect("contrasts");
    let told: Vec<_> = contrasts.iter().map(|contrast| (&contrast["arm"], &contrast["refused"])).collect();
    assert!(told.len() == 4 && told.iter().all(|(_, refused)| refused.is_null()), "{told:?}");
}

#[test]
fn a_refused_spec_names_the_file_and_the_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = std::fs::read_to_string(examples().join("kermany.toml")).expect("the example");
    let refuse = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("written");
        let output = ceteris(&["plan", folder.path().join(name).to_str().expect("UTF-8"), "--offline"]);
        told(&output).replace(folder.path().to_str().expect("UTF-8"), "FOLDER")
    };
    insta::assert_snapshot!(refuse("misspelled.toml", &good.replace("batch_size", "batchsize")));
    insta::assert_snapshot!(refuse("sum.toml", &good.replace("epochs = 4, train", "epochs = 5, train")));
    insta::assert_snapshot!(refuse("binary.toml", "\u{0}"));
    std::fs::write(folder.path().join("latin1.toml"), b"name = \"\xe9\"").expect("written");
    let output = ceteris(&["plan", folder.path().join("latin1.toml").to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(told(&ceteris(&["plan", "no-such-file.toml"])));
}

#[test]
fn a_spec_is_read_from_stdin() {
    use std::io::Write as _;
    let mut child = Command::new(env!("CARGO_BIN_EXE_ceteris"))
        .args(["plan", "-", "--offline", "-o", "csv"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the program was built");
    let spec = std::fs::read(examples().join("kermany.toml")).expect("the example");
    child.stdin.take().expect("piped").write_all(&spec).expect("written");
    let output = child.wait_with_output().expect("ended");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("experiment,arm,"), "{output:?}");
}

#[test]
fn mistakes_on_the_command_line_exit_with_2() {
    for arguments in [
        &["no-such-command"][..],
        &["plan"],
        &["ls", "-o", "xml"],
        &["compare", "x", "--at", "0"],
        &["data", "import", ".", "--name", "no good"],
        &["data", "import", ".", "--name", "x", "--split", "0.5,0.5"],
        &["data", "import", ".", "--name", "x", "--patient-pattern", "("],
        &["weights", "import", "x", "--name", "-"],
        &["ls", "--coordinator", "localhost:7417"],
        &["ls", "--token-file", "no-such-file"],
        &["coordinator", "--database", "d", "--store", "s", "--listen", "0.0.0.0:0"],
        &["coordinator", "--database", "d", "--store", "s", "--lease", "1", "--heartbeat", "1"],
    ] {
        let output = ceteris(arguments);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}: {}", told(&output));
    }
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = ceteris(&["completions", shell]);
        let script = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && script.contains("ceteris") && script.contains("compare"), "{shell}");
    }
}

#[test]
fn a_preview_of_a_folder_is_a_picture_that_is_not_overwritten() {
    let root = tempfile::tempdir().expect("a folder");
    for (class, grey) in [("NORMAL", 40), ("SICK", 200)] {
        let folder = root.path().join("images/train").join(class);
        std::fs::create_dir_all(&folder).expect("a folder");
        image::GrayImage::from_pixel(20, 20, image::Luma([grey])).save(folder.join("1.png")).expect("written");
    }
    let path = |name: &str| root.path().join(name).to_str().expect("UTF-8").to_owned();
    let preview = |to: &str, more: &[&str]| {
        let (images, to) = (path("images"), path(to));
        let policy = if more.is_empty() { "strong@1" } else { more[0] };
        let arguments = ["data", "preview", &images, "--augment", policy, "--image-size", "32", "-o", &to];
        told(&ceteris(&[&arguments, more.get(1..).unwrap_or_default()].concat()))
            .replace(root.path().to_str().expect("UTF-8"), "FOLDER")
    };
    insta::assert_snapshot!(
        preview("sheet.png", &["light@1", "--epochs", "3", "--output", "json"]).replace(char::is_numeric, "0")
    );
    let sheet = image::open(path("sheet.png")).expect("a picture");
    assert_eq!((sheet.width(), sheet.height()), (4 + 4 * 36, 4 + 2 * 36));
    insta::assert_snapshot!(preview("sheet.png", &[]));
    insta::assert_snapshot!(preview("sheet.jpeg", &[]));
    insta::assert_snapshot!(preview("other.png", &["weak"]));
}

/// A file of predictions of twenty samples, four seeds; `shift` is what a positive one has more.
fn predictions(folder: &Path, name: &str, shift: f64) -> String {
    let mut text = "sample,label,score,seed\n".to_owned();
    for (seed, index) in (0..4).flat_map(|seed| (0..20).map(move |index| (seed, index))) {
        let positive = index % 2;
        let score = 0.2 + f64::from((index * 7 + seed * 5) % 20) / 50.0 + shift * f64::from(positive);
        text += &format!("{index},{positive},{score},{seed}\n");
    }
    let path = folder.join(name);
    std::fs::write(&path, text).expect("the test's folder");
    path.to_string_lossy().into_owned()
}

#[test]
fn models_that_were_trained_elsewhere_are_compared_by_their_predictions() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let old = predictions(folder.path(), "old.csv", 0.1);
    let new = predictions(folder.path(), "new.csv", 0.3);
    let output = ceteris(&["compare", "--predictions", &old, &new, "-o", "json", "--draws", "50"]);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
    let models: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&models["schema"], &models["budget_verified"]), (&"ceteris.models/1".into(), &false.into()));
    assert_eq!(
        (&models["contrasts"][0]["model"], &models["contrasts"][0]["verdict"]),
        (&"new".into(), &"better".into())
    );
    let undecided = ceteris(&["compare", "--predictions", &old, &old.replace("old", "./old"), "--verdict", "-q"]);
    assert_eq!(undecided.status.code(), Some(4), "{}", told(&undecided));

    let other = folder.path().join("other.csv");
    std::fs::write(&other, std::fs::read_to_string(&new).expect("it is written").replace("\n7,", "\nseven,"))
        .expect("the test's folder");
    let refused = ceteris(&["compare", "--predictions", &old, &other.to_string_lossy()]);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(3), 0), "{}", told(&refused));
    for arguments in [
        &["compare"][..],
        &["compare", "E", "--predictions", &old, &new],
        &["compare", "--predictions", &old],
        &["compare", "--predictions", &old, "/does/not/exist.csv"],
        &["compare", "--predictions", &old, &new, "--metric", "auk"],
        &["compare", "--predictions", &old, &new, "--alpha", "1"],
        &["compare", "--predictions", &old, &new, "--margin", "0"],
        &["compare", "E", "--margin", "0.1"],
    ] {
        let output = ceteris(arguments);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}: {}", told(&output));
    }
}

#[test]
fn a_database_is_backed_up_and_restored_without_a_coordinator() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (database, backup) = (at("c.db"), at("backup"));
    let run = |arguments: &[&str]| told(&ceteris(arguments)).replace(folder.path().to_str().expect("UTF-8"), "FOLDER");
    insta::assert_snapshot!(run(&["backup", "--database", &database, "-o", &backup]), @"");

    // A coordinator makes its database before anything is refused.
    let mut coordinator = Command::new(env!("CARGO_BIN_EXE_ceteris"));
    let (store, ready) = (at("store"), at("ready"));
    coordinator.args(["coordinator", "-q", "--listen", "127.0.0.1:0", "--database", &database]);
    let mut coordinator =
        coordinator.args(["--store", &store, "--ready-file", &ready]).spawn().expect("the program was built");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !Path::new(&ready).exists() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let used = run(&["backup", "--database", &database, "-o", &backup, "--output", "json"]);
    let refused = run(&["restore", &backup, "--database", &database, "--force"]);
    coordinator.kill().expect("it runs");
    coordinator.wait().expect("it ends");
    assert!(used.starts_with("exit Some(0)") && used.contains("\"schema\": \"ceteris.backup/1\""), "{used}");
    insta::assert_snapshot!(refused, @"");

    insta::assert_snapshot!(run(&["backup", "--database", &database, "-o", &backup]), @"");
    insta::assert_snapshot!(run(&["restore", &backup, "--database", &database]), @"");
    let restored = run(&["restore", &backup, "--database", &database, "--force", "-o", "json"]);
    assert!(restored.starts_with("exit Some(0)") && restored.contains("FOLDER/c.db.replaced-1"), "{restored}");
    let whole = std::fs::read(&backup).expect("it is there");
    std::fs::write(&backup, &whole[..whole.len() - 1]).expect("written");
    insta::assert_snapshot!(run(&["restore", &backup, "--database", &at("d.db")]), @"");
    insta::assert_snapshot!(run(&["restore", &database, "--database", &at("d.db")]), @"");
}
