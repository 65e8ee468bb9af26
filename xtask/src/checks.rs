//! `cargo xtask test`: everything that must hold before a change is merged. CI runs exactly this.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, IsTerminal},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use xtask::seaweedfs::Server;

use crate::{
    command,
    command::headline,
    programs::{self, cargo},
    setup::{self, faketime, postgres, seaweedfs, small_disk::SmallDisk},
    workspace::Workspace,
};

#[derive(Args, Debug)]
pub struct Options {
    /// Go on after a step that failed, and fail at the end
    #[arg(long)]
    keep_going: bool,
    /// Leave out the tests that compare with PyTorch and torchvision (a download of 930 MB the first time)
    #[arg(long)]
    no_reference: bool,
    /// Run only the tests whose names contain one of these, and no other check
    filters: Vec<String>,
}

/// How a step ended.
enum Outcome {
    Passed,
    Failed(anyhow::Error),
    /// Could not be set up: the tests that need it are skipped. On CI this is a failure.
    Missing(anyhow::Error),
}

/// What was done so far.
struct Session<'a> {
    workspace: &'a Workspace,
    keep_going: bool,
    /// Where tests find what was set up.
    environment: Vec<(&'static str, OsString)>,
    done: Vec<(&'static str, Outcome, Duration)>,
    /// The S3-compatible server, while tests may need it.
    server: Option<Server>,
    /// The PostgreSQL server, while tests may need it.
    postgres: Option<postgres::Server>,
    /// A disk that tests can fill, while they may need it.
    small_disk: Option<SmallDisk>,
    /// What the test runner said last.
    closing: Vec<String>,
}

/// Runs all steps in order.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut session = Session {
        workspace,
        keep_going: options.keep_going,
        environment: vec![],
        done: vec![],
        server: None,
        postgres: None,
        small_disk: None,
        closing: vec![],
    };
    let outcome = session.steps(options);
    (session.server, session.postgres, session.small_disk) = (None, None, None);
    session.summary();
    outcome?;
    let failed: Vec<&str> = session.done.iter().filter(|step| step.1.is_failure()).map(|step| step.0).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    session.closing.iter().for_each(|line| eprintln!("{line}"));
    Ok(())
}

impl Session<'_> {
    fn steps(&mut self, options: &Options) -> Result<()> {
        let everything = options.filters.is_empty();
        if everything {
            self.step("formatting", |session| command::run(session.cargo().args(["fmt", "--all", "--check"])))?;
        }
        self.step("libtorch", |session| setup::libtorch::ensure(session.workspace))?;
        self.optional("SeaweedFS", |session| {
            let program = seaweedfs::ensure(session.workspace)?;
            let server = seaweedfs::start(&program, session.workspace)?;
            session.environment.extend(server.environment().into_iter().map(|(name, value)| (name, value.into())));
            session.environment.push(("CETERIS_TEST_S3_URL", server.place("tests").into()));
            // For the tests that have one of their own, and kill it.
            session.environment.push(("CETERIS_TEST_WEED", program.into()));
            session.server = Some(server);
            Ok(())
        })?;
        self.optional("PostgreSQL", |session| {
            let server = postgres::Server::start(&postgres::ensure()?, false)?;
            session.environment.push(("CETERIS_TEST_POSTGRES", server.url().into()));
            session.postgres = Some(server);
            Ok(())
        })?;
        let faketime = |session: &mut Self| {
            session.environment.push(("CETERIS_TEST_FAKETIME", faketime::ensure()?.into()));
            Ok(())
        };
        // Installing a package and mounting need root, which CI may not be.
        self.record("faketime", faketime, Outcome::Missing)?;
        let mount = |session: &mut Self| {
            let disk = SmallDisk::mount()?;
            let (name, folder) = disk.environment();
            session.environment.push((name, folder.into()));
            session.small_disk = Some(disk);
            Ok(())
        };
        self.record("small disk", mount, Outcome::Missing)?;
        if !options.no_reference {
            self.optional("reference", |session| {
                let python = setup::reference::ensure(session.workspace)?;
                session.environment.push(("CETERIS_REFERENCE_PYTHON", python.into()));
                Ok(())
            })?;
        }
        if everything {
            self.step("clippy", |session| {
                let arguments = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
                command::run(session.cargo().args(arguments))
            })?;
        }
        if everything {
            self.step("trainer without libtorch", |session| {
                // In a folder of its own: with other features burn is another build, and the two would evict each other.
                let target = programs::target(session.workspace)?.join("flex");
                let arguments = ["clippy", "-p", "ceteris-train", "--no-default-features", "--features", "flex"];
                let mut clippy = session.cargo();
                // Not its tests: what they are built on would be most of the work.
                clippy.args(arguments).args(["--lib", "--bins", "--", "-D", "warnings"]);
                command::run(clippy.env("CARGO_TARGET_DIR", target))
            })?;
        }
        self.step("programs", |session| programs::for_tests(session.workspace).map(drop))?;
        if everything {
            self.step("documentation tests", |session| {
                command::run(session.cargo().args(["test", "--workspace", "--doc", "--quiet"]))
            })?;
        }
        if everything {
            self.step("planted mistakes", |session| {
                // The whole workspace, so that everything but what is planted in is what was built before.
                let arguments = ["--workspace", "--features", "ceteris-simulation/planted-bugs", "--test", "planted"];
                let nextest = command::exists("cargo-nextest", &["nextest", "--version"]);
                let mut tests = session.cargo();
                // Which mistake is made is the whole process's, so each has a process, or all have one thread.
                match nextest {
                    true => tests.args(["nextest", "run"]).args(arguments),
                    false => tests.arg("test").args(arguments).args(["--", "--test-threads", "1"]),
                };
                command::run(&mut tests)
            })?;
        }
        self.step("tests", |session| session.tests(&options.filters))
    }

    /// A step that must pass.
    fn step(&mut self, name: &'static str, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.record(name, work, Outcome::Failed)
    }

    /// A step without which some tests are skipped, but not on CI.
    fn optional(&mut self, name: &'static str, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let on_ci = env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
        self.record(name, work, if on_ci { Outcome::Failed } else { Outcome::Missing })
    }

    fn record(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&mut Self) -> Result<()>,
        otherwise: fn(anyhow::Error) -> Outcome,
    ) -> Result<()> {
        headline(name);
        let start = Instant::now();
        let outcome = work(self).map_or_else(otherwise, |()| Outcome::Passed);
        if let Outcome::Failed(error) | Outcome::Missing(error) = &outcome {
            eprintln!("{name}: {error:#}");
        }
        let stop = outcome.is_failure() && !self.keep_going;
        self.done.push((name, outcome, start.elapsed()));
        if stop { bail!("{name} failed; what comes after it was not run (--keep-going runs it)") } else { Ok(()) }
    }

    fn cargo(&self) -> Command {
        let mut cargo = cargo(self.workspace);
        cargo.envs(self.environment.iter().map(|(name, value)| (name, value)));
        cargo
    }

    /// Every test of every crate, the end-to-end suite among them.
    fn tests(&mut self, filters: &[String]) -> Result<()> {
        let mut tests = self.cargo();
        let nextest = command::exists("cargo-nextest", &["nextest", "--version"]);
        if nextest {
            tests.args(["nextest", "run", "--workspace", "--"]).args(filters);
        } else {
            eprintln!("cargo-nextest is not installed; `cargo test` does the same, more slowly");
            tests.args(["test", "--workspace", "--all-targets", "--no-fail-fast", "--", "--show-output"]).args(filters);
        }
        if std::io::stderr().is_terminal() {
            tests.env("CARGO_TERM_COLOR", "always");
        }
        let outcome = self.watch(&mut tests, nextest);
        if nextest {
            let report = programs::target(self.workspace)?.join("nextest/default/junit.xml");
            let report = fs::read_to_string(&report).unwrap_or_default();
            skipped(&report).iter().for_each(|line| eprintln!("{line}"));
        }
        outcome
    }

    /// Runs the test runner, shows what it says as it says it, and keeps its closing lines.
    fn watch(&mut self, tests: &mut Command, nextest: bool) -> Result<()> {
        let (stdout, stderr) =
            if nextest { (Stdio::inherit(), Stdio::piped()) } else { (Stdio::piped(), Stdio::inherit()) };
        let mut child = tests.stdout(stdout).stderr(stderr).spawn().context("cannot start the test runner")?;
        let lines: Box<dyn BufRead> = match (child.stdout.take(), child.stderr.take()) {
            (Some(stdout), _) => Box::new(BufReader::new(stdout)),
            (None, Some(stderr)) => Box::new(BufReader::new(stderr)),
            (None, None) => bail!("the test runner has no output"),
        };
        for line in lines.split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            eprintln!("{line}");
            let closes = if nextest { line.contains("Summary [") } else { line.contains("test result:") };
            if closes || (nextest && !self.closing.is_empty()) {
                self.closing.push(line);
            }
        }
        let status = child.wait()?;
        if status.success() { Ok(()) } else { bail!("`{}` failed with {status}", command::shown(tests)) }
    }

    fn summary(&self) {
        headline("summary");
        for (name, outcome, time) in &self.done {
            let word = match outcome {
                Outcome::Passed => "passed",
                Outcome::Failed(_) => "FAILED",
                Outcome::Missing(_) => "MISSING, so the tests that need it were skipped",
            };
            eprintln!("{:>7.1} s  {name}: {word}", time.as_secs_f64());
        }
    }
}

impl Outcome {
    fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

/// The lines in which tests say that they were skipped. A runner shows no output of tests that pass, but its report
/// keeps it.
fn skipped(report: &str) -> Vec<String> {
    let mut lines: Vec<String> =
        report.lines().filter_map(|line| Some(unescape(&line[line.find("skipped: ")?..]))).collect();
    lines.sort();
    lines.dedup();
    lines
}

/// Undoes XML's escapes, and drops what follows the text on its line.
fn unescape(text: &str) -> String {
    let text = text.split("</").next().unwrap_or(text);
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")]
        .into_iter()
        .fold(text.to_owned(), |text, (escape, character)| text.replace(escape, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_tests_are_found_in_the_report() {
        let report = "<testcase><system-err>skipped: parity needs &lt;PyTorch&gt;</system-err></testcase>\n<a/>\n";
        assert_eq!(skipped(report), ["skipped: parity needs <PyTorch>"]);
    }
}
