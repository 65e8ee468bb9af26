//! Two coordinators on PostgreSQL: whatever happens to the one that leads, what was acknowledged is there, the other one
//! goes on, and one that comes back from the dead writes nothing and ends.

use std::{
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use ceteris_shared::document::{Document, Experiments};
use ceteris_tests::{
    Coordinator, Database, Direction, Images, Output, Process, Program, Proxy, Signal, Spec, eventually, free_address,
    run, signal,
};
use tempfile::TempDir;

const INFRASTRUCTURE: i32 = 5;
/// From a fault to calls that are answered again, on a machine that does other things too.
const SOON: Duration = Duration::from_secs(20);

/// A leader, one that stands by, and a client that knows both addresses.
struct Pair {
    // Processes before what they use.
    leader: Coordinator,
    standby: Coordinator,
    /// What the leader reaches the database through.
    link: Proxy,
    database: Database,
    folder: TempDir,
}

impl Pair {
    fn start(test: &str) -> Option<Self> {
        let database = Database::make(test)?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let link = Proxy::start(database.address());
        let start = |name, url: String| {
            Coordinator::start(name, Program::Ceteris.command(), folder.path(), &url, &free_address())
        };
        let mut leader = start("a", database.url_at(link.address()));
        leader.leads();
        let mut standby = start("b", database.url());
        standby.stands_by();
        let pair = Self { leader, standby, link, database, folder };
        pair.import();
        Some(pair)
    }

    /// `ceteris`, told both addresses.
    fn command(&self) -> Command {
        let mut command = Program::Ceteris.command();
        command.args(["--coordinator", &format!("{},{}", self.leader.url(), self.standby.url())]);
        command.current_dir(self.folder.path());
        command
    }

    fn ceteris(&self, arguments: &[&str]) -> Output {
        run(self.command().args(arguments))
    }

    fn import(&self) {
        let images = self.folder.path().join("images");
        Images::TINY.write(&images);
        let path = images.to_string_lossy().into_owned();
        self.ceteris(&["data", "import", &path, "--name", Spec::DATASET, "--image-size", "32"]).ok();
    }

    /// The file of a spec with this name.
    fn spec(&self, name: &'static str) -> String {
        let path = self.folder.path().join(format!("{name}.toml"));
        std::fs::write(&path, Spec { name, ..Spec::frozen_and_finetuned() }.text()).expect("it is writable");
        path.to_string_lossy().into_owned()
    }

    fn submit(&self, name: &'static str) {
        self.ceteris(&["submit", &self.spec(name)]).ok();
    }

    /// Names of experiments, the newest first, once somebody answers; how long that took.
    fn experiments(&self) -> (Vec<String>, Duration) {
        let asked = Instant::now();
        let listed = eventually("somebody to answer", || {
            let output = self.ceteris(&["ls", "-o", "json"]);
            (output.code == 0).then(|| Experiments::from_json(&output.stdout).expect("it is that document"))
        });
        (listed.experiments.into_iter().map(|experiment| experiment.name).collect(), asked.elapsed())
    }

    fn epoch(&self) -> String {
        self.database.value("SELECT epoch FROM leadership")
    }

    fn count(&self, table: &str) -> String {
        self.database.value(&format!("SELECT count(*) FROM {table}"))
    }
}

fn ended(process: &mut Process) -> i32 {
    eventually("a coordinator to end", || process.ended()).code().expect("no signal ended it")
}

#[test]
fn after_kill_9_the_standby_leads_with_all_that_was_acknowledged() {
    let Some(mut pair) = Pair::start("after_kill_9_the_standby_leads") else { return };
    TcpStream::connect(&pair.standby.address).expect_err("who stands by does not listen");
    pair.submit("first");
    signal(pair.leader.process.id(), Signal::KILL);
    let (names, waited) = pair.experiments();
    assert_eq!(names, ["first"]);
    assert!(waited < SOON, "{waited:?}");
    pair.standby.leads();
    assert_eq!(pair.epoch(), "2");
    pair.submit("second");
    assert_eq!(pair.experiments().0, ["second", "first"]);
    let dataset: serde_json::Value = pair.ceteris(&["data", "ls", "-o", "json"]).ok().json();
    assert!(dataset.to_string().contains(Spec::DATASET), "{dataset}");
}

#[test]
fn a_stopped_leader_that_wakes_up_writes_nothing_and_ends() {
    let Some(mut pair) = Pair::start("a_stopped_leader_that_wakes_up_writes_nothing") else { return };
    pair.submit("first");
    signal(pair.leader.process.id(), Signal::STOP);
    let (names, waited) = pair.experiments();
    assert_eq!(names, ["first"]);
    assert!(waited < SOON, "{waited:?}");
    pair.submit("second");
    let segments = pair.count("segments");

    // What is said to the stopped one lies in its socket until it wakes up.
    let mut late = Program::Ceteris.command();
    late.args(["--coordinator", &pair.leader.url(), "submit", &pair.spec("late")]).current_dir(pair.folder.path());
    let mut late = Process::start("a late client", late, &pair.folder.path().join("late.log"));
    std::thread::sleep(Duration::from_millis(500));
    assert!(late.ended().is_none(), "nobody answers it: {}", late.log());
    signal(pair.leader.process.id(), Signal::CONT);
    assert_eq!(ended(&mut pair.leader.process), INFRASTRUCTURE);
    let said = pair.leader.process.log();
    assert!(said.contains("no longer leads") && said.contains("to stand by"), "{said}");
    assert_ne!(ended(&mut late), 0, "{}", late.log());
    assert_eq!(pair.experiments().0, ["second", "first"]);
    assert_eq!((pair.epoch(), pair.count("experiments"), pair.count("segments")), ("2".into(), "2".into(), segments));

    // Started again, it stands by, and takes over in its turn.
    let program = Program::Ceteris.command();
    let database = pair.database.url();
    let mut again = Coordinator::start("c", program, pair.folder.path(), &database, &pair.leader.address);
    again.stands_by();
    signal(pair.standby.process.id(), Signal::KILL);
    again.leads();
    assert_eq!(pair.experiments().0, ["second", "first"]);
    assert_eq!(pair.epoch(), "3");
}

#[test]
fn a_leader_that_is_cut_off_from_its_database_ends_and_what_it_says_late_is_not_heard() {
    for directions in [&[Direction::ToServer][..], &[Direction::ToClient], &Direction::BOTH] {
        let Some(mut pair) = Pair::start("a_leader_that_is_cut_off_from_its_database_ends") else { return };
        pair.submit("first");
        directions.iter().for_each(|direction| pair.link.stall(*direction));
        // It is in the leader's hands, which cannot know what has become of it.
        let mut late = Program::Ceteris.command();
        late.args(["--coordinator", &pair.leader.url(), "submit", &pair.spec("late")]).current_dir(pair.folder.path());
        let mut late = Process::start("a late client", late, &pair.folder.path().join("late.log"));
        let (cut, asked) = (format!("{directions:?} stalled"), Instant::now());
        pair.standby.leads();
        assert!(asked.elapsed() < SOON, "{cut}: {:?}", asked.elapsed());
        assert_eq!(ended(&mut pair.leader.process), INFRASTRUCTURE, "{cut}: {}", pair.leader.process.log());
        assert_ne!(ended(&mut late), 0, "{cut}: {}", late.log());
        // What was on the way when the successor began was heard by then, or is not heard at all.
        let names = pair.experiments().0;
        pair.link.flow();
        std::thread::sleep(Duration::from_secs(1));
        pair.submit("second");
        let mut expected = vec!["second".to_owned()];
        expected.extend(names);
        assert_eq!(pair.experiments().0, expected, "{cut}");
        assert_eq!(pair.epoch(), "2", "{cut}");
        eprintln!("{cut}: another one led after {:.1} s", asked.elapsed().as_secs_f64());
    }
}

#[test]
fn a_leader_that_is_told_to_stop_hands_over_at_once() {
    let Some(mut pair) = Pair::start("a_leader_that_is_told_to_stop_hands_over") else { return };
    pair.submit("first");
    signal(pair.leader.process.id(), Signal::TERM);
    assert_eq!(ended(&mut pair.leader.process), 0);
    let asked = Instant::now();
    pair.standby.leads();
    assert!(asked.elapsed() < Duration::from_secs(4), "no longer than a leader may be silent: {:?}", asked.elapsed());
    assert_eq!(pair.experiments().0, ["first"]);
}

#[test]
fn a_leader_whose_database_is_silent_can_still_be_told_to_stop() {
    let Some(mut pair) = Pair::start("a_leader_whose_database_is_silent") else { return };
    pair.submit("first");
    pair.link.stall(Direction::ToClient);
    let mut late = Program::Ceteris.command();
    late.args(["--coordinator", &pair.leader.url(), "submit", &pair.spec("late")]).current_dir(pair.folder.path());
    let late = Process::start("a late client", late, &pair.folder.path().join("late.log"));
    // While what the client said is being committed.
    std::thread::sleep(Duration::from_millis(500));
    let asked = Instant::now();
    signal(pair.leader.process.id(), Signal::TERM);
    ended(&mut pair.leader.process);
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    eprintln!("it ended after {:.1} s", asked.elapsed().as_secs_f64());
    pair.standby.leads();
    assert!(pair.experiments().0.contains(&"first".to_owned()));
    drop(late);
}

#[test]
fn who_stands_by_ends_when_it_is_told_to() {
    let Some(mut pair) = Pair::start("who_stands_by_ends_when_it_is_told_to") else { return };
    signal(pair.standby.process.id(), Signal::TERM);
    assert_eq!(ended(&mut pair.standby.process), 0);
    assert_eq!(pair.epoch(), "1");
    pair.submit("first");
}

#[test]
fn a_database_that_cannot_be_used_is_named_without_its_password() {
    let refused = |database: &str, code: i32, words: &[&str]| {
        let mut command = Program::Ceteris.command();
        command.args(["coordinator", "--listen", "127.0.0.1:0", "--store", "store", "--database", database]);
        let output = run(&mut command).refused(code, words);
        assert!(!output.stderr.contains("hunter2"), "{}", output.stderr);
    };
    refused(
        "postgres://me:hunter2@127.0.0.1:1/x",
        INFRASTRUCTURE,
        &["postgres://me@127.0.0.1:1/x", "start its server"],
    );
    refused("postgres://me:hunter2@127.0.0.1/x?pasword=hunter2", 2, &["pasword", "PGPASSFILE"]);
}
