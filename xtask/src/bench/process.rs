//! The programs that are measured: started, told to go, and their answers read. The protocol is in [`super`].

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command;

/// How a program is started.
#[derive(Clone, Debug)]
pub struct Launch {
    label: String,
    words: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    core: Option<u32>,
}

impl Launch {
    /// A program with its first arguments, under the name that tables show.
    pub fn new(label: &str, words: &[&OsStr]) -> Self {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Self { label: label.to_owned(), words, environment: vec![], core: None }
    }

    /// Sets the number of threads, for the program and for every library that asks the environment.
    pub fn threads(mut self, threads: u32) -> Self {
        let count = threads.to_string();
        for name in ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"] {
            self.environment.push((name, count.clone().into()));
        }
        // Threads that wait for the next round must not take the processor from whose turn it is.
        self.environment.push(("OMP_WAIT_POLICY", "passive".into()));
        self.flag("--threads", count)
    }

    /// Adds a flag with its value.
    pub fn flag(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.words.push(name.into());
        self.words.push(value.as_ref().to_owned());
        self
    }

    /// Adds a flag that has no value.
    pub fn switch(mut self, name: &str) -> Self {
        self.words.push(name.into());
        self
    }

    /// Sets a variable of the environment.
    pub fn variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Keeps the program, with all its threads, on one core.
    pub fn on_core(mut self, core: u32) -> Self {
        self.core = Some(core);
        self
    }

    fn command(&self) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(core) = self.core {
            words.extend(["taskset".into(), "--cpu-list".into(), core.to_string().into()]);
        }
        words.extend(self.words.iter().cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it and waits for its first line.
    pub fn start(&self) -> Result<Process> {
        let mut command = self.command();
        let shown = command::shown(&command);
        eprintln!("starting {}: {shown}", self.label);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().with_context(|| format!("cannot start `{shown}`"))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("`{shown}` has no pipes");
        };
        let lines = BufReader::new(stdout);
        let label = self.label.clone();
        let mut process = Process { label, shown, child, stdin: Some(stdin), lines, ready: Value::Null };
        process.ready = process.read()?;
        if process.ready["ready"] != true {
            bail!("`{}` did not begin with a line that says it is ready: {}", process.shown, process.ready);
        }
        Ok(process)
    }

    /// Runs one stretch of work in a process of its own and says what it answered and its peak of resident memory.
    pub fn once(&self, units: u32) -> Result<Once> {
        let mut process = self.start()?;
        let answer = process.go(units)?;
        let peak_bytes = process.peak_bytes()?;
        let ready = process.ready.clone();
        process.end()?;
        Ok(Once { ready, answer, peak_bytes })
    }
}

/// What a process said that did one thing.
#[derive(Clone, Debug)]
pub struct Once {
    /// Its first line.
    pub ready: Value,
    pub answer: Answer,
    /// `VmHWM`.
    pub peak_bytes: f64,
}

/// What a program did when it was told to go.
#[derive(Clone, Debug)]
pub struct Answer {
    pub seconds: f64,
    pub images: f64,
    /// The whole line.
    pub line: Value,
}

impl Answer {
    fn parse(line: Value) -> Option<Self> {
        let (seconds, images) = (line["seconds"].as_f64()?, line["images"].as_f64()?);
        (seconds > 0.0).then_some(Self { seconds, images, line })
    }

    /// Images per second.
    pub fn rate(&self) -> f64 {
        self.images / self.seconds
    }

    /// A number of the line; not a number if it is missing.
    pub fn number(&self, name: &str) -> f64 {
        self.line[name].as_f64().unwrap_or(f64::NAN)
    }
}

/// The numbers of a list; empty if it is missing, and not a number where an element is none.
pub fn numbers(list: &Value) -> Vec<f64> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|value| value.as_f64().unwrap_or(f64::NAN)).collect()
}

/// A program that is running; killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    label: String,
    shown: String,
    child: Child,
    /// Closed when it has been told to end.
    stdin: Option<ChildStdin>,
    lines: BufReader<ChildStdout>,
    ready: Value,
}

impl Process {
    /// The name that tables show.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its first line.
    pub fn ready(&self) -> &Value {
        &self.ready
    }

    /// Has it do `units` units of work.
    pub fn go(&mut self, units: u32) -> Result<Answer> {
        let told = self.stdin.as_mut().context("it was told to end")?;
        let sent = writeln!(told, "go {units}").and_then(|()| told.flush());
        if sent.is_err() {
            // It ended; reading says how.
            self.stdin = None;
        }
        let line = self.read()?;
        let text = line.to_string();
        Answer::parse(line).with_context(|| format!("`{}` answered without seconds or images: {text}", self.shown))
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.lines.read_line(&mut line).with_context(|| format!("cannot read from `{}`", self.shown))?;
        if line.is_empty() {
            let status = self.child.wait()?;
            bail!("`{}` ended with {status}; what it said is above", self.shown);
        }
        serde_json::from_str(&line).with_context(|| format!("`{}` printed no JSON: {}", self.shown, line.trim_end()))
    }

    /// The peak of its resident memory so far.
    pub fn peak_bytes(&self) -> Result<f64> {
        let path = Path::new("/proc").join(self.child.id().to_string()).join("status");
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        peak_bytes(&status).with_context(|| format!("{} has no VmHWM", path.display()))
    }

    /// Lets it end.
    pub fn end(mut self) -> Result<()> {
        self.stdin = None;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { bail!("`{}` ended with {status}", self.shown) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn peak_bytes(status: &str) -> Option<f64> {
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?;
    Some(kibibytes.trim().parse::<f64>().ok()? * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Launch {
        Launch::new("shell", &["sh", "-c", script].map(OsStr::new))
    }

    const SPEAKER: &str = r#"echo '{"ready": true}'
while read word units; do echo "{\"seconds\": 0.5, \"images\": $units, \"losses\": [1, null]}"; done"#;

    #[test]
    fn a_program_answers_round_after_round_and_ends_when_it_is_let() {
        let mut process = shell(SPEAKER).start().expect("sh speaks");
        assert_eq!(process.go(3).expect("an answer").rate(), 6.0);
        let answer = process.go(4).expect("an answer");
        assert_eq!((answer.seconds, answer.images), (0.5, 4.0));
        assert!(numbers(&answer.line["losses"])[1].is_nan());
        assert!(process.peak_bytes().expect("it runs") > 1e5);
        process.end().expect("it exits with 0");
    }

    #[test]
    fn what_goes_wrong_names_the_program_and_how_it_ended() {
        let ended = shell("exit 3").start().expect_err("it says nothing").to_string();
        assert!(ended.contains("sh -c 'exit 3'") && ended.contains("exit status: 3"), "{ended}");
        let silent = shell("echo '{}'").start().expect_err("it is not ready").to_string();
        assert!(silent.contains("did not begin"), "{silent}");
        let chatty = shell("echo hello").start().expect_err("it is not JSON").to_string();
        assert!(chatty.contains("printed no JSON: hello"), "{chatty}");
        let mut dies = shell(r#"echo '{"ready": true}'; read line; exit 4"#).start().expect("it is ready");
        let died = dies.go(1).expect_err("it ends").to_string();
        assert!(died.contains("exit status: 4"), "{died}");
    }

    #[test]
    fn an_answer_without_time_is_refused() {
        let lines = [r#"{"images": 1}"#, r#"{"seconds": 0, "images": 1}"#, r#"{"seconds": 1}"#, "7"];
        for line in lines {
            assert!(Answer::parse(serde_json::from_str(line).expect("JSON")).is_none(), "{line}");
        }
    }

    #[test]
    fn the_peak_is_read_in_bytes() {
        assert_eq!(peak_bytes("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), Some(2_097_152.0));
        assert_eq!(peak_bytes("Name:\tx\n"), None);
    }
}
