//! What a measurement depends on besides the programs.

use std::{fs, process::Command, thread};

use anyhow::{Result, bail};
use serde_json::Value;

use super::process::Process;
use crate::command;

/// The processor, its cores, memory and the date.
pub fn facts() -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, key: &str| field(text, key).unwrap_or("unknown").to_owned();
    let cores = thread::available_parallelism().map_or(0, |count| count.get());
    let date = command::output(Command::new("date").args(["-u", "+%Y-%m-%d"])).unwrap_or_default();
    let mut facts = vec![
        ("processor", value(&read("/proc/cpuinfo"), "model name")),
        ("cores", cores.to_string()),
        ("memory", value(&read("/proc/meminfo"), "MemTotal")),
        ("date", date.trim().to_owned()),
    ];
    let gpu =
        command::output(Command::new("nvidia-smi").args(["--query-gpu=name,driver_version", "--format=csv,noheader"]));
    facts.extend(gpu.ok().map(|gpu| ("GPU", gpu.lines().next().unwrap_or_default().to_owned())));
    facts
}

/// What both sides say about themselves; refused if they cannot be compared.
pub fn sides(ours: &Process, peer: &Process) -> Result<Vec<(&'static str, String)>> {
    let (ours, peer) = (ours.ready(), peer.ready());
    same_libtorch(ours, peer)?;
    if ours["threads"] != peer["threads"] {
        bail!("ceteris uses {} threads and PyTorch {}: give both the same", ours["threads"], peer["threads"]);
    }
    Ok(vec![
        ("ceteris", word(ours, "program")),
        ("peer", word(peer, "program")),
        ("libtorch", word(ours, "libtorch")),
        ("threads", ours["threads"].to_string()),
    ])
}

fn same_libtorch(ours: &Value, peer: &Value) -> Result<()> {
    let version = |ready: &Value| word(ready, "libtorch").split('+').next().unwrap_or_default().to_owned();
    let (ours, peer) = (version(ours), version(peer));
    if ours.is_empty() || ours != peer {
        bail!(
            "ceteris runs on libtorch {ours:?} and the peer on {peer:?}: build ceteris against the peer's (LIBTORCH), \
             or name a Python with that PyTorch in CETERIS_REFERENCE_PYTHON"
        );
    }
    Ok(())
}

fn word(ready: &Value, name: &str) -> String {
    ready[name].as_str().unwrap_or_default().to_owned()
}

fn field<'text>(text: &'text str, key: &str) -> Option<&'text str> {
    text.lines().find_map(|line| Some(line.strip_prefix(key)?.trim_start().strip_prefix(':')?.trim()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_sides_must_run_on_one_libtorch() {
        let ready = |version: &str| json!({ "libtorch": version });
        assert!(same_libtorch(&ready("2.9.1"), &ready("2.9.1+cu128")).is_ok());
        assert!(same_libtorch(&ready("2.9.1"), &ready("2.11.0")).is_err());
        assert!(same_libtorch(&json!({}), &json!({})).is_err());
    }

    #[test]
    fn fields_of_proc_are_found() {
        assert_eq!(field("a\t: 1\nmodel name\t: AMD EPYC\n", "model name"), Some("AMD EPYC"));
        assert_eq!(field("MemTotal:       24000 kB\n", "MemTotal"), Some("24000 kB"));
        assert_eq!(field("MemTotals: 1\n", "MemTotal"), None);
    }
}
