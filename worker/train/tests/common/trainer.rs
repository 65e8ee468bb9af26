//! The agent's side of the protocol: the real program on a real socket.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use ceteris_shared::trainer::{Report, Request};
use ceteris_train::backend::DeviceName;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_ceteris-train");

/// A trainer and the agent's end of its socket.
pub struct Trainer {
    child: Child,
    reader: BufReader<UnixStream>,
    pub writer: UnixStream,
}

impl Trainer {
    /// Starts it on a socket in `folder` and hears that it is ready.
    pub fn start(folder: &Path) -> Self {
        let socket = folder.join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("--socket").arg(&socket).args(["--threads", "1"]).env_remove("LD_LIBRARY_PATH");
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut trainer = Self { child, reader: BufReader::new(stream.try_clone().unwrap()), writer: stream };
        let Report::Ready { environment, memory_bytes } = trainer.hear() else { panic!("the first report is Ready") };
        assert_eq!((environment.device, environment.threads), (DeviceName::default().to_string(), 1));
        assert_eq!(memory_bytes, None, "the processor has the machine's");
        trainer
    }

    /// Sends a request.
    pub fn say(&mut self, request: &Request) {
        writeln!(self.writer, "{}", serde_json::to_string(request).unwrap()).unwrap();
    }

    /// The next report.
    pub fn hear(&mut self) -> Report {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }

    /// All reports up to the one that ends an execution.
    pub fn hear_all(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        loop {
            reports.push(self.hear());
            if let Some(Report::Finished { .. } | Report::Stopped { .. } | Report::Failed { .. }) = reports.last() {
                return reports;
            }
        }
    }

    /// Ends it as `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        assert!(!self.child.wait().unwrap().success());
    }

    /// Waits for its end: how it ended and what it said on stderr.
    pub fn end(&mut self) -> (ExitStatus, String) {
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
