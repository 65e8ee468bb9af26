//! The Python that results are compared with: the one that CETERIS_REFERENCE_PYTHON names, else `python3`.

use std::{
    env,
    ffi::OsStr,
    path::Path,
    process::{Command, Stdio},
};

/// A Python that can be asked, or a word on why the test is skipped.
pub fn python(test: &str) -> Option<String> {
    let python = env::var("CETERIS_REFERENCE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let imports = ["-c", "import safetensors.torch, torchvision"];
    let found = Command::new(&python).args(imports).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: {test} needs a Python with torch, torchvision and safetensors (CETERIS_REFERENCE_PYTHON)");
    }
    found.then_some(python)
}

/// Runs one of the suites' scripts to its end.
pub fn run(python: &str, script: &str, arguments: &[&OsStr]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
