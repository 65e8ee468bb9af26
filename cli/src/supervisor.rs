//! The worker of `ceteris up`: started, watched, started again with growing pauses when it crashes, and stopped.
//!
//! A worker that cannot run (no libtorch, no trainer) does not take the coordinator with it: what it said last is
//! shown, and its log has the rest.

use std::{
    ffi::OsStr,
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use ceteris_coordinator::Token;
use tokio::process::{Child, Command};

use crate::{context::Global, failure::Failure};

/// The first pause before a crashed worker is started again; it doubles with each crash.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A worker that ran this long did not crash at its start: pauses begin anew.
const STABLE: Duration = Duration::from_secs(60);
/// How long a worker may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(30);
/// How long a process may be without a command line before it is taken for one that has ended.
const STARTING: Duration = Duration::from_secs(1);
/// How much of the log's end is shown, at most.
const SHOWN_BYTES: u64 = 4096;
const SHOWN_LINES: usize = 8;

/// How a worker is started.
#[derive(Clone, Debug)]
pub struct Worker {
    /// The program.
    pub program: PathBuf,
    /// Its own folder.
    pub state: PathBuf,
    /// Its other arguments.
    pub arguments: Vec<String>,
    /// Handed over in the environment, where other users do not see it.
    pub token: Option<Token>,
    /// Where its messages go.
    pub log: PathBuf,
    /// Where its process id is written, so that the next start finds it if this process is killed.
    pub pid: PathBuf,
}

/// A program of ceteris: beside this one, else on the PATH.
///
/// # Errors
/// When it is in neither place.
pub fn find_program(name: &str) -> Result<PathBuf, Failure> {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = beside.into_iter().chain(std::env::split_paths(&path).map(|folder| folder.join(name)));
    places.into_iter().find(|place| place.is_file()).ok_or_else(|| {
        Failure::infrastructure(format!("the program {name} is neither beside this one nor on the PATH"))
            .help("build it with `cargo build -p ceteris-worker` and its trainer with `cargo xtask setup`, or install both beside `ceteris`")
    })
}

/// Keeps a worker running until `stop` is ready.
///
/// # Errors
/// When it cannot be started at all.
pub async fn keep(global: &Global, worker: &Worker, stop: impl Future<Output = ()>) -> Result<(), Failure> {
    let mut stop = std::pin::pin!(stop);
    let mut pause = FIRST_PAUSE;
    end_orphan(global, worker).await;
    loop {
        let mut child = spawn(worker)?;
        let began = Instant::now();
        let ended = tokio::select! {
            () = &mut stop => return end(child).await,
            ended = child.wait() => ended.map_err(|error| Failure::io("wait for the worker", &error))?,
        };
        pause = if began.elapsed() > STABLE { FIRST_PAUSE } else { pause };
        global.note(crashed(ended, &last_words(&worker.log), pause, &worker.log));
        tokio::select! {
            () = &mut stop => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn spawn(worker: &Worker) -> Result<Child, Failure> {
    let opening = |error: std::io::Error| Failure::io(format!("write {}", worker.log.display()), &error);
    let log = File::options().create(true).append(true).open(&worker.log).map_err(opening)?;
    let mut command = Command::new(&worker.program);
    command
        .args(&worker.arguments)
        .arg("--state")
        .arg(&worker.state)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(opening)?)
        .stderr(log)
        // Of its own group, so that Ctrl-C reaches it through this process, in order.
        .process_group(0)
        .kill_on_drop(true);
    if let Some(token) = &worker.token {
        command.env(crate::context::TOKEN_VARIABLE, token.expose());
    }
    let child = command.spawn().map_err(|error| Failure::io(format!("start {}", worker.program.display()), &error))?;
    let id = child.id().map(|id| id.to_string()).unwrap_or_default();
    std::fs::write(&worker.pid, id).map_err(|error| Failure::io(format!("write {}", worker.pid.display()), &error))?;
    Ok(child)
}

/// Ends the worker of a predecessor that was killed: it holds the state folder that the new one needs. A process that
/// merely has its number by now is left alone, which is known by its command line.
async fn end_orphan(global: &Global, worker: &Worker) {
    let text = std::fs::read_to_string(&worker.pid).unwrap_or_default();
    let Some(pid) = text.parse().ok().and_then(rustix::process::Pid::from_raw) else { return };
    let command_line = format!("/proc/{text}/cmdline");
    let runs = || std::fs::read(&command_line).is_ok_and(|line| is_worker(&line, worker));
    let began = Instant::now();
    // A process that is just becoming another program has an empty one for a moment.
    while std::fs::read(&command_line).is_ok_and(|line| line.is_empty()) && began.elapsed() < STARTING {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    if !runs() {
        return;
    }
    global.note("ending the worker that an earlier `ceteris up` left behind");
    let began = Instant::now();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    while runs() && began.elapsed() < GRACE {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether a command line, as /proc has it, is that of a worker on the same state folder.
fn is_worker(command_line: &[u8], worker: &Worker) -> bool {
    let arguments: Vec<&OsStr> = command_line.split(|byte| *byte == 0).map(OsStr::from_bytes).collect();
    let program = arguments.first().and_then(|program| Path::new(program).file_name());
    program == worker.program.file_name()
        && arguments.windows(2).any(|pair| pair[0] == "--state" && pair[1] == worker.state.as_os_str())
}

/// Asks the worker to end and waits; kills it if it takes too long.
async fn end(mut child: Child) -> Result<(), Failure> {
    let pid = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.try_into().ok()?));
    if let Some(pid) = pid {
        // It may have ended meanwhile, which is what is wanted.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        child.kill().await.map_err(|error| Failure::io("stop the worker", &error))?;
    }
    Ok(())
}

fn crashed(status: ExitStatus, last_words: &str, pause: Duration, log: &Path) -> String {
    let words = if last_words.is_empty() { String::new() } else { format!("; it said last:\n{last_words}") };
    format!(
        "the worker ended ({status}){words}\nit is started again in {} s; its log is {}",
        pause.as_secs(),
        log.display()
    )
}

/// The end of the log, indented.
fn last_words(log: &Path) -> String {
    let read = || {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(SHOWN_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(SHOWN_BYTES).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..]
        .iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global() -> Global {
        Global {
            coordinator: String::new(),
            output: crate::output::Format::Table,
            token_file: None,
            quiet: true,
            verbose: 0,
        }
    }

    fn shell(script: &str, log: &Path) -> Worker {
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        let beside = |name| log.with_file_name(name);
        Worker {
            program: "/bin/sh".into(),
            state: beside("state"),
            arguments,
            token: None,
            log: log.to_owned(),
            pid: beside("pid"),
        }
    }

    #[tokio::test]
    async fn a_crashed_worker_is_started_again_and_a_running_one_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let (log, mark) = (folder.path().join("log"), folder.path().join("mark"));
        // Crashes at first; the second time it runs until it is asked to end, and says so.
        let script = format!(
            "if [ -e {0} ]; then trap 'echo asked to end; exit 0' TERM; touch {0}.2; while :; do sleep 0.05; done; \
             else touch {0}; echo no libtorch; exit 7; fi",
            mark.display()
        );
        let second = folder.path().join("mark.2");
        let started_again = async {
            while !second.exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let (global, worker) = (global(), shell(&script, &log));
        let keeping = keep(&global, &worker, started_again);
        tokio::time::timeout(Duration::from_secs(30), keeping).await.unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "no libtorch\nasked to end\n");
    }

    #[tokio::test]
    async fn what_a_killed_predecessor_left_is_ended_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        // A loop, so that the shell does not become its last command.
        let (global, worker) = (global(), shell("while :; do sleep 0.1; done", &folder.path().join("log")));
        let mut orphan = spawn(&worker).unwrap();
        let another = Worker { state: folder.path().join("other"), ..worker.clone() };
        end_orphan(&global, &another).await;
        assert!(orphan.try_wait().unwrap().is_none(), "another's worker was ended");
        let ended = tokio::join!(end_orphan(&global, &worker), orphan.wait()).1;
        assert!(!ended.unwrap().success());
    }

    #[test]
    fn a_crash_is_told_with_the_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let lines: String = (0..20).map(|line| format!("line {line}\n")).collect();
        std::fs::write(&log, lines).unwrap();
        let status = std::os::unix::process::ExitStatusExt::from_raw(5 << 8);
        insta::assert_snapshot!(crashed(status, &last_words(&log), Duration::from_secs(2), Path::new("/s/worker.log")));
    }

    #[test]
    fn a_missing_program_is_named() {
        let failure = find_program("ceteris-no-such-program").unwrap_err().to_string();
        assert!(failure.contains("ceteris-no-such-program"), "{failure}");
    }
}
