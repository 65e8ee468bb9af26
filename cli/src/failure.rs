//! Why a command ends without doing what it was asked: one paragraph for people, one exit code for scripts.
//!
//! The code says who must act, and the mapping from gRPC statuses to codes is here and nowhere else.

use std::{fmt, process::ExitCode};

use tonic::Code;

/// What a script can branch on. 0, success, is the absence of a [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The command, the spec or the data is wrong: the user can mend it.
    Usage = 2,
    /// A comparison of what is not comparable.
    NotComparable = 3,
    /// The evidence decides nothing.
    Inconclusive = 4,
    /// A process, a disk or the network; also an experiment that did not complete.
    Infrastructure = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Printed as `error: CAUSE`, then `help: WAY OUT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The process's exit code.
    pub exit: Exit,
    cause: String,
    help: Option<String>,
}

impl Failure {
    /// The user can mend it.
    pub fn usage(cause: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, cause: cause.into(), help: None }
    }

    /// Something outside of the user's input is broken.
    pub fn infrastructure(cause: impl Into<String>) -> Self {
        Self { exit: Exit::Infrastructure, cause: cause.into(), help: None }
    }

    /// Arms are not comparable.
    pub fn not_comparable(cause: impl Into<String>) -> Self {
        Self { exit: Exit::NotComparable, cause: cause.into(), help: None }
    }

    /// No contrast was decided.
    pub fn inconclusive(cause: impl Into<String>) -> Self {
        Self { exit: Exit::Inconclusive, cause: cause.into(), help: None }
    }

    /// What went wrong.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// Adds the way out.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Says where it was.
    #[must_use]
    pub fn at(self, place: impl fmt::Display) -> Self {
        Self { cause: format!("{place}: {}", self.cause), ..self }
    }

    /// A file or folder that cannot be used as `doing` says.
    pub fn io(doing: impl fmt::Display, error: &std::io::Error) -> Self {
        let failure = Self::infrastructure(format!("cannot {doing}: {error}"));
        match error.kind() {
            std::io::ErrorKind::NotFound => Self { exit: Exit::Usage, ..failure },
            std::io::ErrorKind::PermissionDenied => {
                failure.help("check that this user may read and write there, or name another place")
            }
            std::io::ErrorKind::StorageFull => failure.help("free some space, or name a place on another disk"),
            _ => failure,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.cause)?;
        self.help.iter().try_for_each(|help| write!(f, "\nhelp: {help}"))
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let exit = match status.code() {
            Code::NotFound | Code::InvalidArgument | Code::AlreadyExists | Code::OutOfRange => Exit::Usage,
            Code::FailedPrecondition => Exit::NotComparable,
            _ => Exit::Infrastructure,
        };
        let said = status.message();
        let cause =
            if said.is_empty() { format!("the coordinator answered {:?}", status.code()) } else { said.to_owned() };
        // A server's message may bring its own way out on a line of its own.
        let (cause, own_help) = match cause.split_once("\nhelp: ") {
            Some((cause, help)) => (cause.to_owned(), Some(help.to_owned())),
            None => (cause, None),
        };
        let help = own_help.or_else(|| help_for(status.code()).map(str::to_owned));
        Self { exit, cause, help }
    }
}

fn help_for(code: Code) -> Option<&'static str> {
    match code {
        Code::Unauthenticated | Code::PermissionDenied => {
            Some("give the coordinator's token with --token-file FILE or the variable CETERIS_TOKEN")
        }
        Code::Unavailable => Some("the coordinator went away or cannot work just now; see its log, then try again"),
        Code::Unimplemented => Some("the coordinator is of another version than this command; install the same one"),
        Code::Internal | Code::Unknown | Code::DataLoss => Some("the coordinator's log says more"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_become_exit_codes() {
        let exit = |code| Failure::from(tonic::Status::new(code, "x")).exit;
        assert_eq!(exit(Code::NotFound), Exit::Usage);
        assert_eq!(exit(Code::InvalidArgument), Exit::Usage);
        assert_eq!(exit(Code::AlreadyExists), Exit::Usage);
        assert_eq!(exit(Code::FailedPrecondition), Exit::NotComparable);
        assert_eq!(exit(Code::Unavailable), Exit::Infrastructure);
        assert_eq!(exit(Code::Unauthenticated), Exit::Infrastructure);
    }

    #[test]
    fn the_servers_own_way_out_goes_before_ours() {
        let failure = Failure::from(tonic::Status::not_found("no data set is named \"x\"\nhelp: import it first"));
        assert_eq!(failure.to_string(), "error: no data set is named \"x\"\nhelp: import it first");
        let failure = Failure::from(tonic::Status::unauthenticated(""));
        insta::assert_snapshot!(failure, @r"
        error: the coordinator answered Unauthenticated
        help: give the coordinator's token with --token-file FILE or the variable CETERIS_TOKEN
        ");
    }
}
