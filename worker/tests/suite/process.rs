//! The agent as a process: killed, started again, told to end, and told nonsense.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::support::{World, attempt, story, trainer::Behaviour};
use ceteris_proto::fleet::{CoordinatorMessage, EventKind};
use ceteris_shared::ids::Epoch;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

fn command(world: &World) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ceteris-worker"));
    command
        .args(["--coordinator", &world.coordinator.url(), "--store", world.blobs.place(), "--name", "test"])
        .arg("--state")
        .arg(world.state())
        // A flag that a test adds goes before it.
        .env("CETERIS_TRAINER", world.trainer.program())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Ended with the test, whatever happens.
struct Agent(Child);

impl Agent {
    fn start(world: &World) -> Self {
        Self::start_with(world, &[])
    }

    fn start_with(world: &World, more: &[&str]) -> Self {
        Self(command(world).args(more).stderr(Stdio::null()).spawn().expect("it starts"))
    }

    /// Waits until it has ended by itself.
    async fn ended(mut self) -> (Option<i32>, Option<i32>) {
        let status = tokio::task::spawn_blocking(move || self.0.wait()).await.expect("it runs").expect("it ends");
        (status.code(), status.signal())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it runs");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn run(world: &World, more: &[&str]) -> Output {
    let mut command = command(world);
    command.args(more);
    tokio::task::spawn_blocking(move || command.output()).await.expect("it runs").expect("it starts")
}

#[tokio::test]
async fn a_killed_agent_takes_its_trainer_along_and_its_events_are_told_later() {
    let world = World::new().await;
    world.trainer.behave(&Behaviour { hold_in: Some(2), ..Behaviour::default() });
    world.coordinator.acknowledge(false);
    let agent = Agent::start(&world);
    world.coordinator.say(CoordinatorMessage::Start(Box::new(world.start(1, 1..=3)))).await;
    world.coordinator.event("the first epoch", |event| matches!(event.kind, EventKind::EpochCommitted(_))).await;
    world.coordinator.heartbeat(|running| running.iter().any(|progress| progress.epoch == Epoch(2))).await;
    let trainer = Pid::from_raw(world.trainer.pid()).expect("a process");
    agent.signal(Signal::KILL);
    drop(agent);
    let gone = Instant::now() + Duration::from_secs(10);
    while test_kill_process(trainer).is_ok() {
        assert!(Instant::now() < gone, "the trainer outlives its agent");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let told = world.coordinator.arrivals().len();

    world.coordinator.acknowledge(true);
    world.trainer.behave(&Behaviour::default());
    let _agent = Agent::start(&world);
    let register = world.coordinator.registered(2).await;
    assert!(register.running.is_empty());
    assert_eq!(register.worker, world.coordinator.registered(1).await.worker);
    world.coordinator.say(CoordinatorMessage::Start(Box::new(world.start(2, 2..=3)))).await;
    let second = world.coordinator.ended(attempt(2)).await;
    assert_eq!(story(&second).last().expect("an end"), "finished");
    let arrivals = world.coordinator.arrivals();
    assert_eq!(story(&arrivals[told..][..told]), story(&arrivals[..told]), "all of it is told again, in order");
}

#[tokio::test]
async fn a_signal_ends_it_in_good_order() {
    let world = World::new().await;
    world.trainer.behave(&Behaviour { hold_in: Some(1), ..Behaviour::default() });
    let agent = Agent::start(&world);
    world.coordinator.say(CoordinatorMessage::Start(Box::new(world.start(1, 1..=3)))).await;
    world.coordinator.heartbeat(|running| running.iter().any(|progress| progress.epoch == Epoch(1))).await;
    agent.signal(Signal::TERM);
    assert_eq!(story(&world.coordinator.ended(attempt(1)).await), ["started", "stopped"]);
    assert_eq!(agent.ended().await, (Some(0), None));
}

#[tokio::test]
async fn each_signal_is_more_urgent() {
    let world = World::new().await;
    // It hears nothing, and so ends only when it is killed or its agent is gone.
    world.trainer.behave(&Behaviour { hold_in: Some(1), patient: true, deaf: true, ..Behaviour::default() });
    let agent = Agent::start_with(&world, &["--on-terminate", "finish-epoch"]);
    world.coordinator.say(CoordinatorMessage::Start(Box::new(world.start(1, 1..=3)))).await;
    world.holds(1, 1).await;
    let trainer = world.trainer.pid();
    for signal in [Signal::TERM, Signal::INT] {
        agent.signal(signal);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(test_kill_process(Pid::from_child(&agent.0)).is_ok(), "it waits for its attempt");
    }
    agent.signal(Signal::TERM);
    assert_eq!(agent.ended().await, (Some(130), None));
    world.trainer.gone(trainer).await;
}

#[tokio::test]
async fn an_agent_with_nothing_to_do_exits_well() {
    let world = World::new().await;
    let agent = Agent::start_with(&world, &["--idle-timeout", "1s", "--time-limit", "1h"]);
    world.coordinator.registered(1).await;
    assert_eq!(agent.ended().await, (Some(0), None));
}

#[tokio::test]
async fn what_is_missing_is_told_in_a_paragraph() {
    let world = World::new().await;
    let output = run(&world, &["--trainer", "/bin/false"]).await;
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{message}");
    assert!(message.contains("did not become ready on cpu: exited with status 1"), "{message}");

    let output = run(&world, &["--slots", "0"]).await;
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("--slots"), "{message}");
}

#[tokio::test]
async fn help_has_examples() {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_ceteris-worker")).arg("--help").output().await;
    let help = String::from_utf8(output.expect("it starts").stdout).expect("text");
    assert!(help.contains("Examples:") && help.contains("--coordinator http://head:7417"), "{help}");
    for flag in ["--idle-timeout", "--time-limit", "--on-terminate", "--spool-bytes", "--cache-bytes", "--trainer-idle"]
    {
        assert!(help.contains(flag), "{flag} in {help}");
    }
    assert!(help.contains("Exit codes: 0 ended in order"), "{help}");
}
