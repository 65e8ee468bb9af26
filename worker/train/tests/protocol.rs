//! The real program on a real socket.

mod common;

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use ceteris_shared::{
    spec::Trainable,
    trainer::{FailureCause, Report, Request, Start, Train},
};
use common::{attempt, epoch, request, small_dataset};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ceteris-train");

/// A trainer and the agent's end of its socket.
struct Trainer {
    child: Child,
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Trainer {
    fn start(folder: &Path) -> Self {
        let socket = folder.join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("--socket").arg(&socket).args(["--threads", "1"]).env_remove("LD_LIBRARY_PATH");
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut trainer = Self { child, reader: BufReader::new(stream.try_clone().unwrap()), writer: stream };
        let Report::Ready { environment } = trainer.hear() else { panic!("the first report is Ready") };
        assert_eq!((environment.device.as_str(), environment.threads), ("cpu", 1));
        trainer
    }

    fn say(&mut self, request: &Request) {
        writeln!(self.writer, "{}", serde_json::to_string(request).unwrap()).unwrap();
    }

    fn hear(&mut self) -> Report {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }

    /// All reports up to the one that ends an execution.
    fn hear_all(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        loop {
            reports.push(self.hear());
            if let Some(Report::Finished { .. } | Report::Stopped { .. } | Report::Failed { .. }) = reports.last() {
                return reports;
            }
        }
    }

    fn end(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("the trainer does not end"),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let mut said = String::new();
        self.child.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
        (status, said)
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        // Only reached with a live child when a test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn train(request: Train) -> Request {
    Request::Train(Box::new(request))
}

#[test]
fn a_trainer_trains_fails_goes_on_and_exits() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_dataset(&folder.path().join("data"));
    let mut trainer = Trainer::start(folder.path());

    let stage = vec![epoch(1, Trainable::Head, true), epoch(2, Trainable::Head, false)];
    trainer.say(&train(request(&folder.path().join("a"), &data, stage.clone())));
    let reports = trainer.hear_all();
    assert!(matches!(reports.first(), Some(Report::Started { .. })), "{reports:?}");
    assert!(matches!(reports.last(), Some(Report::Finished { attempt: a }) if *a == attempt(1)), "{reports:?}");
    assert_eq!(common::epochs(&reports).len(), 2);
    assert!(reports.iter().any(|report| matches!(report, Report::Progress { step: 3, steps: 3, .. })));

    let mut broken = request(&folder.path().join("b"), &data, stage.clone());
    broken.attempt = attempt(2);
    broken.start = Start::Weights { file: data.manifest.clone() };
    trainer.say(&train(broken));
    let Some(Report::Failed { attempt: failed, cause, message }) = trainer.hear_all().pop() else {
        panic!("a manifest is no weights file")
    };
    assert_eq!((failed, cause), (attempt(2), FailureCause::User));
    assert!(message.contains("not a safetensors file"), "{message}");

    let mut again = request(&folder.path().join("c"), &data, stage);
    again.attempt = attempt(3);
    trainer.say(&train(again));
    let again = trainer.hear_all();
    let same =
        common::epochs(&again).iter().zip(common::epochs(&reports)).all(|(a, b)| common::bytes(a) == common::bytes(b));
    assert!(same, "a warm trainer gives the bytes of a fresh one");

    trainer.say(&Request::Exit);
    let (status, log) = trainer.end();
    assert!(status.success(), "{status}: {log}");
}

#[test]
fn a_stop_is_heard_while_training() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_dataset(&folder.path().join("data"));
    let mut trainer = Trainer::start(folder.path());
    let forever: Vec<_> = (1..1000).map(|number| epoch(number, Trainable::Head, number == 1)).collect();
    for (number, now) in [(1, false), (2, true)] {
        let mut request = request(&folder.path().join(number.to_string()), &data, forever.clone());
        request.attempt = attempt(number);
        trainer.say(&train(request));
        while !matches!(trainer.hear(), Report::Epoch(_)) {}
        trainer.say(&Request::Stop { attempt: attempt(number), now });
        let last = trainer.hear_all().pop();
        assert!(matches!(last, Some(Report::Stopped { attempt: a }) if a == attempt(number)), "{last:?}");
    }
}

#[test]
fn a_trainer_ends_when_its_agent_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_dataset(&folder.path().join("data"));
    let mut trainer = Trainer::start(folder.path());
    let forever: Vec<_> = (1..1000).map(|number| epoch(number, Trainable::Head, number == 1)).collect();
    trainer.say(&train(request(&folder.path().join("out"), &data, forever)));
    while !matches!(trainer.hear(), Report::Epoch(_)) {}
    trainer.writer.shutdown(std::net::Shutdown::Both).unwrap();
    trainer.end();
}

#[test]
fn what_is_no_request_ends_the_trainer_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::start(folder.path());
    trainer.writer.write_all(b"{\"type\":\"dance\"}\n").unwrap();
    let (status, log) = trainer.end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("a line that is no request of this version") && log.contains("dance"), "{log}");
}

#[test]
fn check_prints_the_environment_as_json() {
    let output =
        Command::new(PROGRAM).args(["check", "--threads", "1"]).env_remove("LD_LIBRARY_PATH").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let environment: ceteris_shared::checkpoint::Environment = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(environment.threads, 1);

    let output = Command::new(PROGRAM).args(["check", "--device", "cuda:99"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cuda:99 was asked for"));
}
