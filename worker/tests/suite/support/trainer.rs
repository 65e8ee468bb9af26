//! A trainer that trains nothing but keeps to the protocol: this test program, started again.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use ceteris_shared::{
    checkpoint::Environment,
    dataset::{Manifest, Split},
    digest::Digest,
    features::{Dtype, FeatureKey, MANIFEST_FILE, SCHEMA, Shard, shard_file},
    ids::Attempt,
    plan::EpochWork,
    predictions::Predictions,
    trainer::{EpochReport, MetricPoint, Position, Report, Request, Scored, Spent, Start, StepReport, Train},
};
use serde::{Deserialize, Serialize};

/// Steps of an epoch.
const STEPS: u32 = 6;

/// How it behaves; read anew for every attempt.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Behaviour {
    /// Waits in this epoch until it is told to stop, or killed, or the behaviour changes.
    pub hold_in: Option<u32>,
    /// Steps done before it waits.
    pub hold_at: u32,
    /// Checkpoints after every so many steps.
    pub checkpoint_every: Option<u32>,
    /// Forgets to write what it checkpoints within an epoch.
    pub forgetful: bool,
    /// Uses the features of this name.
    pub features: Option<String>,
    /// Waits there even where it is told to stop after the epoch.
    pub patient: bool,
    /// What it says that each epoch took, unless the fake's own.
    pub seconds: Option<f64>,
    /// Pays no attention to requests to stop.
    pub deaf: bool,
    /// Reports epochs with a wrong lineage.
    pub lies: bool,
    /// Says that its device has so much memory of its own; read when it starts.
    pub memory_bytes: Option<u64>,
    /// Lines printed in every epoch.
    pub lines: usize,
}

/// The fake trainer, as a program.
pub struct FakeTrainer {
    folder: PathBuf,
}

impl FakeTrainer {
    pub fn new(folder: &Path) -> Self {
        let trainer = Self { folder: folder.join("fake") };
        fs::create_dir_all(&trainer.folder).expect("it is made");
        trainer.behave(&Behaviour::default());
        let program = std::env::current_exe().expect("this program");
        let script = format!(
            "#!/bin/sh\nFAKE_TRAINER_SOCKET=\"$2\" FAKE_TRAINER_FOLDER='{}' exec '{}' --exact support::trainer::process --ignored --nocapture\n",
            trainer.folder.display(),
            program.display()
        );
        fs::write(trainer.program(), script).expect("it is written");
        fs::set_permissions(trainer.program(), fs::Permissions::from_mode(0o755)).expect("it is executable");
        trainer
    }

    pub fn program(&self) -> PathBuf {
        self.folder.join("ceteris-train")
    }

    /// What it did about features, in order: `found`, `made` or `none`.
    pub fn features(&self) -> String {
        fs::read_to_string(self.folder.join("features")).unwrap_or_default()
    }

    pub fn behave(&self, behaviour: &Behaviour) {
        let aside = self.folder.join("behaviour.new");
        fs::write(&aside, serde_json::to_vec(behaviour).expect("plain data")).expect("it is written");
        fs::rename(aside, self.folder.join("behaviour")).expect("it is renamed");
    }

    /// Waits for another process than that.
    pub async fn another(&self, than: i32) -> i32 {
        let another = async {
            while self.pid() == than {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), another).await.expect("another trainer is started");
        self.pid()
    }

    /// Waits until a process is gone.
    pub async fn gone(&self, pid: i32) {
        let pid = rustix::process::Pid::from_raw(pid).expect("a process");
        let gone = async {
            while rustix::process::test_kill_process(pid).is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the trainer ends");
    }

    /// The newest process.
    pub fn pid(&self) -> i32 {
        fs::read_to_string(self.folder.join("pid")).expect("one was started").parse().expect("a number")
    }

    pub fn kill(&self) {
        let pid = rustix::process::Pid::from_raw(self.pid()).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
    }
}

/// What the fake writes for the trained part: a function of where it started and what was asked.
pub fn trained(start: &str, work: &EpochWork) -> Vec<u8> {
    format!("{start} then {}", work.key).into_bytes()
}

/// What the fake writes for the trained part within an epoch.
fn trained_so_far(start: &str, work: &EpochWork, step: u32) -> String {
    format!("{start} then {} at {step}", work.key)
}

/// What the fake remembers of an epoch's figures.
fn progress_of(step: u32) -> String {
    format!("{{\"steps\":{step}}}")
}

/// The key of the features of that name.
pub fn feature_key(name: &str) -> FeatureKey {
    FeatureKey(Digest::of(name.as_bytes()))
}

#[test]
#[ignore = "the process that other tests start"]
fn process() {
    let socket = std::env::var_os("FAKE_TRAINER_SOCKET").expect("started by an agent");
    let folder = PathBuf::from(std::env::var_os("FAKE_TRAINER_FOLDER").expect("started by an agent"));
    fs::write(folder.join("pid.new"), std::process::id().to_string()).expect("it is written");
    fs::rename(folder.join("pid.new"), folder.join("pid")).expect("it is renamed");
    let stream = UnixStream::connect(socket).expect("the agent listens");
    let (answer, answers) = channel();
    let mut fake = Fake { stream: stream.try_clone().expect("a socket"), folder, stop: Arc::default(), answers };
    let environment = Environment {
        engine: "fake".to_owned(),
        libtorch: "none".to_owned(),
        device: "cpu".to_owned(),
        instructions: "none".to_owned(),
        threads: 1,
        determinism: "default".to_owned(),
    };
    fake.say(&Report::Ready { environment, memory_bytes: fake.behaviour().memory_bytes });
    let requests = read(stream, Arc::clone(&fake.stop), answer);
    while let Ok(train) = requests.recv() {
        fake.train(&train);
    }
}

type StopRequest = Arc<Mutex<Option<(Attempt, bool)>>>;

/// Reads requests; the process ends with the socket.
fn read(stream: UnixStream, stop: StopRequest, answer: Sender<(FeatureKey, bool)>) -> Receiver<Train> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { break };
            match serde_json::from_str(&line).expect("a request") {
                Request::Train(train) => sender.send(*train).expect("it listens"),
                Request::Stop { attempt, now } => *stop.lock().expect("no panic holds it") = Some((attempt, now)),
                Request::Features { key, found, .. } => answer.send((key, found)).expect("it listens"),
                Request::Exit => break,
            }
        }
        std::process::exit(0);
    });
    receiver
}

struct Fake {
    stream: UnixStream,
    folder: PathBuf,
    stop: StopRequest,
    answers: Receiver<(FeatureKey, bool)>,
}

impl Fake {
    fn say(&mut self, report: &Report) {
        let mut line = serde_json::to_vec(report).expect("plain data");
        line.push(b'\n');
        self.stream.write_all(&line).expect("the agent listens");
    }

    fn behaviour(&self) -> Behaviour {
        serde_json::from_slice(&fs::read(self.folder.join("behaviour")).expect("it is there")).expect("it is whole")
    }

    /// None: go on. Otherwise whether to stop now.
    fn stop(&self, attempt: Attempt) -> Option<bool> {
        let stop = *self.stop.lock().expect("no panic holds it");
        stop.filter(|(of, _)| *of == attempt && !self.behaviour().deaf).map(|(_, now)| now)
    }

    fn train(&mut self, train: &Train) {
        let attempt = train.attempt;
        let manifest = Manifest::from_bytes(&fs::read(&train.dataset.manifest).expect("verified")).expect("verified");
        for (shard, path) in manifest.shards.iter().zip(&train.dataset.shards) {
            assert_eq!(Digest::of(&fs::read(path).expect("verified")), shard.digest);
        }
        assert_eq!(fs::read_dir(&train.directory).expect("it exists").count(), 0);
        let mut state = match &train.start {
            Start::Random => "random".to_owned(),
            Start::Weights { file } | Start::Checkpoint { trained: file, .. } => {
                fs::read_to_string(file).expect("verified")
            }
        };
        let mut behind = 0;
        if let Start::Checkpoint { position: Some(Position { step, progress }), .. } = &train.start {
            assert_eq!(fs::read_to_string(progress).expect("verified"), progress_of(*step));
            let so_far = trained_so_far("", &train.work.epochs[0], *step);
            state = state.strip_suffix(&so_far).expect("it is of that step of the first epoch").to_owned();
            behind = *step;
        }
        self.say(&Report::Started { attempt });
        if let Some(name) = self.behaviour().features {
            self.use_features(train, feature_key(&name));
        }
        for work in &train.work.epochs {
            if !self.steps(train, work, std::mem::take(&mut behind), &manifest, &state) {
                return self.say(&Report::Stopped { attempt });
            }
            self.epoch(train, work, &manifest, &mut state);
            if self.stop(attempt).is_some() && work.epoch != train.work.last_epoch() {
                return self.say(&Report::Stopped { attempt });
            }
        }
        self.say(&Report::Finished { attempt });
    }

    /// The steps of an epoch after those that are behind; false where it is to stop now.
    fn steps(&mut self, train: &Train, work: &EpochWork, behind: u32, manifest: &Manifest, state: &str) -> bool {
        let attempt = train.attempt;
        let progress = |step| Report::Progress { attempt, epoch: work.epoch, step, steps: STEPS, loss: 0.5 };
        self.say(&progress(behind.max(1)));
        for line in 0..self.behaviour().lines {
            println!("line {line} of epoch {}", work.epoch);
        }
        let mut told = behind;
        for step in behind..=STEPS {
            let every = self.behaviour().checkpoint_every.is_some_and(|every| step > 0 && step % every == 0);
            if every && step > told && step < STEPS {
                self.checkpoint(train, work, step, manifest, state);
                told = step;
            }
            loop {
                let behaviour = self.behaviour();
                match (self.stop(attempt), behaviour.hold_in) {
                    (Some(true), _) => {
                        if step > told {
                            self.checkpoint(train, work, step, manifest, state);
                        }
                        return false;
                    }
                    (stop, Some(epoch))
                        if (stop.is_none() || behaviour.patient)
                            && epoch == work.epoch.0
                            && step == behaviour.hold_at.max(behind) =>
                    {
                        thread::sleep(Duration::from_millis(10));
                    }
                    _ => break,
                }
            }
        }
        true
    }

    fn checkpoint(&mut self, train: &Train, work: &EpochWork, step: u32, manifest: &Manifest, state: &str) {
        let folder = train.directory.join(format!("epoch-{}-step-{step}", work.epoch));
        fs::create_dir(&folder).expect("the folder is new");
        let behaviour = self.behaviour();
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            if !behaviour.forgetful {
                fs::write(&path, text).expect("it is written");
            }
            path
        };
        self.say(&Report::Step(Box::new(StepReport {
            attempt: train.attempt,
            epoch: work.epoch,
            step,
            key: if behaviour.lies { super::key(999) } else { work.key },
            classes: manifest.classes.clone(),
            frozen: write("frozen.safetensors", "frozen"),
            trained: write("trained.safetensors", &trained_so_far(state, work, step)),
            optimizer: write("optimizer.safetensors", &format!("{} at {step}", work.key)),
            progress: write("progress.json", &progress_of(step)),
        })));
    }

    fn use_features(&mut self, train: &Train, key: FeatureKey) {
        let attempt = train.attempt;
        let mut log =
            fs::File::options().create(true).append(true).open(self.folder.join("features")).expect("it opens");
        let Some(folder) = &train.features else { return writeln!(log, "none").expect("it is written") };
        self.say(&Report::FeaturesWanted { attempt, key });
        let (answered, found) = self.answers.recv().expect("the agent answers");
        assert_eq!(answered, key);
        let folder = folder.directory.join(key.folder());
        let bytes = [7; 40];
        if found {
            assert_eq!(fs::read(folder.join(shard_file(0))).expect("it is there"), bytes);
            return writeln!(log, "found").expect("it is written");
        }
        let shard = Shard { digest: Digest::of(&bytes), samples: 10, bytes: 40 };
        let manifest = ceteris_shared::features::Manifest {
            schema: SCHEMA.to_owned(),
            key,
            shape: vec![1],
            dtype: Dtype::F32,
            samples_per_shard: 10,
            shards: vec![shard],
        };
        fs::create_dir_all(&folder).expect("it is made");
        fs::write(folder.join(shard_file(0)), bytes).expect("it is written");
        fs::write(folder.join(MANIFEST_FILE), manifest.to_bytes()).expect("it is written");
        writeln!(log, "made").expect("it is written");
        self.say(&Report::FeaturesMade { attempt, key });
    }

    fn epoch(&mut self, train: &Train, work: &EpochWork, manifest: &Manifest, state: &mut String) {
        let folder = train.directory.join(format!("epoch-{}", work.epoch));
        fs::create_dir(&folder).expect("the folder was empty");
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            fs::write(&path, bytes).expect("it is written");
            path
        };
        let bytes = trained(state, work);
        *state = String::from_utf8(bytes.clone()).expect("text");
        let samples: Vec<u32> = manifest.split(Split::Val).collect();
        let predictions = Predictions { probabilities: vec![0.5; samples.len() * 2], samples, classes: 2 };
        let point = |step, name: &str| MetricPoint {
            epoch: work.epoch,
            step,
            split: if name == "step_loss" { Split::Train } else { Split::Val },
            name: name.to_owned(),
            value: 0.25,
        };
        let key = if self.behaviour().lies { super::key(999) } else { work.key };
        self.say(&Report::Epoch(Box::new(EpochReport {
            attempt: train.attempt,
            epoch: work.epoch,
            key,
            metrics: vec![point(1, "step_loss"), point(2, "step_loss"), point(2, "auc")],
            classes: manifest.classes.clone(),
            frozen: write("frozen.safetensors", b"frozen"),
            trained: write("trained.safetensors", &bytes),
            optimizer: write("optimizer.safetensors", work.key.to_string().as_bytes()),
            predictions: vec![(Scored::Split(Split::Val), write("val.safetensors", &predictions.to_bytes()))],
            spent: Spent { steps: 2, samples: 2, seconds: self.behaviour().seconds.unwrap_or(0.1) },
        })));
    }
}
