//! The trainer's side of the protocol in [`ceteris_shared::trainer`].
//!
//! The calling thread reads requests and does nothing else, so that a wish to stop is heard while training goes on. One
//! other thread owns the device and trains everything, one request after the other: libtorch's thread count and burn's
//! graph belong to a thread.

use std::{
    any::Any,
    io::{self, BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process,
    sync::mpsc::{Receiver, channel},
    thread,
};

use ceteris_shared::{
    ids::Attempt,
    trainer::{FailureCause, MAX_LINE_BYTES, Report, Request, Train},
};

use crate::{
    backend::{self, DeviceName},
    engine::{self, Control, Outcome},
};

/// The training thread's stack: the graph of a deep network is walked recursively.
pub(crate) const STACK_BYTES: usize = 64 << 20;
/// How much of libtorch's own words a failure's message carries.
const MAX_MESSAGE_CHARS: usize = 1000;

/// Why the trainer cannot go on listening.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("{}: the agent's socket cannot be used: {source}", socket.display())]
    Socket { socket: PathBuf, source: io::Error },
    #[error("the agent sent a line that is no request of this version: {0}")]
    Request(#[from] serde_json::Error),
    #[error("the agent sent a line of more than {MAX_LINE_BYTES} bytes")]
    TooLong,
}

/// Connects to the agent's `socket` and serves it until it closes.
///
/// # Errors
/// When the socket cannot be used, or the agent sends what is no request.
pub fn serve(socket: &Path, device: DeviceName, threads: u32) -> Result<(), Error> {
    let failed = |source| Error::Socket { socket: socket.to_owned(), source };
    let stream = UnixStream::connect(socket).map_err(failed)?;
    let writer = stream.try_clone().map_err(failed)?;
    let (sender, requests) = channel();
    let control = Control::default();
    let heard = control.clone();
    let training = move || {
        // A panic outside a request has no one to be reported to: the device did not answer.
        let body = AssertUnwindSafe(|| train_all(device, threads, &requests, &heard, writer));
        if let Err(panic) = catch_unwind(body) {
            fail(&message(&*panic));
        }
    };
    thread::Builder::new().name("training".to_owned()).stack_size(STACK_BYTES).spawn(training).map_err(failed)?;

    let mut reader = BufReader::new(stream);
    let mut sender = Some(sender);
    while let Some(request) = read(&mut reader).map_err(|error| error.at(socket))? {
        match request {
            Request::Train(train) => {
                if sender.as_ref().is_none_or(|sender| sender.send(*train).is_err()) {
                    tracing::warn!("a request to train came after the one to exit; ignored");
                }
            }
            Request::Stop { attempt, now } => control.request(attempt, now),
            Request::Features { attempt, key, found } => control.answer(attempt, key, found),
            // The training thread ends when it has done all requests, and closes the socket.
            Request::Exit => sender = None,
        }
    }
    Ok(())
}

enum ReadError {
    Io(io::Error),
    Request(serde_json::Error),
    TooLong,
}

impl ReadError {
    fn at(self, socket: &Path) -> Error {
        match self {
            Self::Io(source) => Error::Socket { socket: socket.to_owned(), source },
            Self::Request(error) => Error::Request(error),
            Self::TooLong => Error::TooLong,
        }
    }
}

/// The next request. None when the agent is gone: a line that it could not finish is not a request.
fn read(reader: &mut impl BufRead) -> Result<Option<Request>, ReadError> {
    let mut line = Vec::new();
    match reader.by_ref().take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut line) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        Err(error) => return Err(ReadError::Io(error)),
    }
    match line.strip_suffix(b"\n") {
        Some(line) => serde_json::from_slice(line).map(Some).map_err(ReadError::Request),
        None if line.len() > MAX_LINE_BYTES => Err(ReadError::TooLong),
        None => Ok(None),
    }
}

/// Everything that the training thread does.
fn train_all(name: DeviceName, threads: u32, requests: &Receiver<Train>, control: &Control, mut writer: UnixStream) {
    let opened = match backend::open(name, threads) {
        Ok(opened) => opened,
        Err(error) => fail(&error.to_string()),
    };
    tracing::info!(environment = ?opened.environment, "ready");
    send(&mut writer, &Report::Ready { environment: opened.environment.clone(), memory_bytes: opened.memory_bytes });
    for request in requests {
        let attempt = request.attempt;
        tracing::info!(%attempt, seed = request.work.seed, epochs = request.work.epochs.len(), "training");
        let last = last_report(attempt, || {
            engine::train(&request, &opened, control, &mut |report| send(&mut writer, &report))
        });
        tracing::info!(%attempt, outcome = ?last, "done");
        send(&mut writer, &last);
    }
    // The reading thread sees the end of the stream and ends the process.
    if let Err(error) = writer.shutdown(Shutdown::Both) {
        fail(&format!("the agent's socket cannot be closed: {error}"));
    }
}

/// How an execution ended. burn and tch panic where libtorch reports an error, out of memory included: that ends this
/// execution and not the trainer.
fn last_report(attempt: Attempt, execution: impl FnOnce() -> Result<Outcome, engine::Error>) -> Report {
    match catch_unwind(AssertUnwindSafe(execution)) {
        Ok(Ok(Outcome::Finished)) => Report::Finished { attempt },
        Ok(Ok(Outcome::Stopped)) => Report::Stopped { attempt },
        Ok(Err(error)) => Report::Failed { attempt, cause: error.cause(), message: error.to_string() },
        Err(panic) => {
            let message = describe(&message(&*panic));
            Report::Failed { attempt, cause: FailureCause::Infrastructure, message }
        }
    }
}

/// What failed and, where memory ran out, on a GPU or on the processor, the way out.
fn describe(said: &str) -> String {
    let lowered = said.to_lowercase();
    if lowered.contains("out of memory") || lowered.contains("can't allocate memory") {
        format!(
            "out of memory: use a smaller batch_size, memory = \"low\" or precision = \"bf16\" (libtorch said: {said})"
        )
    } else {
        format!("libtorch or the trainer failed: {said}")
    }
}

/// What a panic said, without libtorch's C++ stack.
fn message(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let said = said.unwrap_or("a panic without words");
    let end = said.find("\\nException raised from").unwrap_or(said.len());
    said[..end].chars().take(MAX_MESSAGE_CHARS).collect()
}

fn send(writer: &mut UnixStream, report: &Report) {
    let mut line = serde_json::to_vec(report).expect("a report is plain data with string keys");
    line.push(b'\n');
    if let Err(error) = writer.write_all(&line) {
        fail(&format!("the agent does not take reports: {error}"));
    }
}

/// Ends the process from the training thread: without a device or an agent there is nothing left to do.
fn fail(message: &str) -> ! {
    tracing::error!("{message}");
    process::exit(1)
}

#[cfg(test)]
mod tests {
    use ceteris_shared::ids::SegmentId;

    use super::*;

    #[test]
    fn requests_are_lines() {
        let mut input: &[u8] = b"{\"type\":\"exit\"}\n{\"type\":\"exit\"}\n{\"type\":";
        assert!(matches!(read(&mut input), Ok(Some(Request::Exit))));
        assert!(matches!(read(&mut input), Ok(Some(Request::Exit))));
        assert!(matches!(read(&mut input), Ok(None)), "an unfinished line is the end");
        assert!(matches!(read(&mut &b"{}\n"[..]), Err(ReadError::Request(_))));
        assert!(matches!(read(&mut &b"\xff\n"[..]), Err(ReadError::Request(_))));
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut endless = BufReader::new(io::repeat(b' '));
        assert!(matches!(read(&mut endless), Err(ReadError::TooLong)));
    }

    fn told(execution: impl FnOnce() -> Result<Outcome, engine::Error>) -> Report {
        last_report(Attempt { segment: SegmentId(uuid::Uuid::nil()), number: 1 }, execution)
    }

    #[test]
    fn an_execution_ends_in_one_report_whatever_happens() {
        assert!(matches!(told(|| Ok(Outcome::Finished)), Report::Finished { .. }));
        assert!(matches!(told(|| Ok(Outcome::Stopped)), Report::Stopped { .. }));
        let unfit = told(|| Err(engine::Error::Unfit("why".to_owned())));
        assert!(matches!(unfit, Report::Failed { cause: FailureCause::User, message, .. } if message == "why"));
    }

    #[test]
    #[cfg(feature = "libtorch")]
    fn an_error_of_libtorch_is_told_without_its_stack() {
        let report = told(|| {
            let _ = tch::Tensor::zeros([2], (tch::Kind::Float, tch::Device::Cpu)).reshape([3]);
            Ok(Outcome::Finished)
        });
        let Report::Failed { cause: FailureCause::Infrastructure, message, .. } = report else { panic!("{report:?}") };
        assert!(message.contains("shape '[3]' is invalid for input of size 2"), "{message}");
        assert!(!message.contains("Exception raised"), "{message}");
    }

    #[test]
    #[cfg(feature = "libtorch")]
    fn an_exhausted_memory_is_told_with_the_way_out() {
        let report = told(|| {
            let _ = tch::Tensor::zeros([1 << 60], (tch::Kind::Uint8, tch::Device::Cpu));
            Ok(Outcome::Finished)
        });
        let Report::Failed { cause: FailureCause::Infrastructure, message, .. } = report else { panic!("{report:?}") };
        let hint = "out of memory: use a smaller batch_size, memory = \"low\" or precision = \"bf16\"";
        assert!(message.starts_with(hint), "{message}");
        assert!(message.contains("tried to allocate 1152921504606846976 bytes"), "{message}");
        // As libtorch's allocator for GPUs says it.
        let gpu = describe("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB");
        assert!(gpu.starts_with(hint) && gpu.contains("2.00 GiB"), "{gpu}");
    }
}
