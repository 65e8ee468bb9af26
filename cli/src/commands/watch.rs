//! `ceteris watch`: one bar per run on a terminal, one line per committed epoch elsewhere.

use std::time::{Duration, Instant};

use ceteris_proto::v1;
use ceteris_shared::{
    document::{Experiment, State},
    ids::RunId,
};
use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};

use crate::{
    client::{self, Client},
    context::Global,
    failure::{Exit, Failure},
    output, progress,
    render::{self, watch},
};

/// Bars on the screen at once, besides the total.
const BARS: usize = 16;
/// How long a coordinator may be away, as while it is restarted.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// Follow an experiment until it ends: epochs, steps, loss and validation AUC of each run, and the time that is left.
///
/// Where stderr is not a terminal, a line is printed for each committed epoch. The coordinator may be restarted
/// meanwhile. At the end the experiment is printed as `ceteris show` does.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris watch kermany
  ceteris watch 1c3a6e5f -q && ceteris compare 1c3a6e5f
  ceteris watch kermany -o json > end.json

Exit codes: 0 if it is done · 5 if it failed or was cancelled.")]
pub struct Options {
    /// Its id, the beginning of one, or a name (the newest of that name).
    pub experiment: String,
}

impl Options {
    /// # Errors
    /// When there is no such experiment, when it fails, or when the coordinator stays away.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let end = follow(global, &self.experiment).await?;
        output::print(&end, global.output)?;
        ended(global, &end)
    }
}

/// Shows how far an experiment is until it ends; returns its last state.
///
/// # Errors
/// When there is no such experiment, or when the coordinator stays away.
pub async fn follow(global: &Global, experiment: &str) -> Result<Experiment, Failure> {
    let mut client = global.connect().await?;
    let mut following = Following { global, display: Display::new(global), last_heard: Instant::now(), away: false };
    loop {
        let lost = match following.stream(&mut client, experiment).await {
            Ok(Some(end)) => {
                following.display.finish();
                return Ok(end);
            }
            Ok(None) => Failure::infrastructure("the coordinator ended the stream before the experiment ended"),
            Err(failure) => failure,
        };
        if lost.exit != Exit::Infrastructure || following.last_heard.elapsed() > PATIENCE {
            following.display.finish();
            return Err(lost);
        }
        if !following.away {
            following.say("the coordinator is away; trying again");
            following.away = true;
        }
        tokio::time::sleep(RETRY_EVERY).await;
        if let Ok(again) = global.connect().await {
            client = again;
        }
    }
}

/// What outlives a lost connection.
struct Following<'a> {
    global: &'a Global,
    display: Display,
    last_heard: Instant,
    away: bool,
}

impl Following<'_> {
    /// Until the experiment ends; none where the stream ended before.
    async fn stream(&mut self, client: &mut Client, experiment: &str) -> Result<Option<Experiment>, Failure> {
        let request = v1::ExperimentRequest { experiment: experiment.to_owned() };
        let mut documents = client.rpc.watch_experiment(request).await?.into_inner();
        while let Some(document) = documents.message().await? {
            let state = client::read::<Experiment>(&document)?;
            self.last_heard = Instant::now();
            if std::mem::take(&mut self.away) {
                self.say("the coordinator is back");
            }
            self.display.update(&state);
            if state.state.is_terminal() {
                return Ok(Some(state));
            }
        }
        Ok(None)
    }

    fn say(&self, text: &str) {
        match &self.display {
            Display::Bars(bars) => bars.all.println(text).unwrap_or_default(),
            Display::Nothing | Display::Lines(_) => self.global.note(text),
        }
    }
}

/// Says how it ended and where to go on.
///
/// # Errors
/// When the experiment is not done.
pub fn ended(global: &Global, experiment: &Experiment) -> Result<(), Failure> {
    let id = experiment.id.short();
    match experiment.state {
        State::Done => {
            global.note(render::experiment::headline(experiment));
            global.note(format!("compare its arms with: ceteris compare {id}"));
            Ok(())
        }
        State::Queued | State::Running | State::Failed | State::Cancelled => {
            Err(Failure::infrastructure(render::experiment::headline(experiment)).help(format!(
                "see why with `ceteris show {id}`; what is trained can be read with `ceteris compare {id} --at EPOCH`"
            )))
        }
    }
}

/// What stderr shows.
enum Display {
    Nothing,
    Lines(watch::Lines),
    Bars(Bars),
}

impl Display {
    fn new(global: &Global) -> Self {
        match (global.quiet, global.draws()) {
            (true, _) => Self::Nothing,
            (false, true) => Self::Bars(Bars::new()),
            (false, false) => Self::Lines(watch::Lines::default()),
        }
    }

    fn update(&mut self, experiment: &Experiment) {
        match self {
            Self::Nothing => {}
            Self::Lines(lines) => {
                lines.next(experiment).iter().for_each(|line| eprintln!("{}", output::printable(line)))
            }
            Self::Bars(bars) => bars.update(experiment),
        }
    }

    fn finish(&self) {
        if let Self::Bars(bars) = self {
            bars.runs.iter().for_each(|(_, bar)| bar.abandon());
            bars.total.finish_and_clear();
        }
    }
}

struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    runs: Vec<(RunId, ProgressBar)>,
    /// When watching began, and how much was trained then.
    began: Option<(Instant, u64)>,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let total = all.add(ProgressBar::new(1));
        total.set_style(progress::style("{prefix} [{bar:30}] {msg}"));
        Self { all, total, runs: Vec::new(), began: None }
    }

    fn update(&mut self, experiment: &Experiment) {
        let runs: Vec<_> = experiment.arms.iter().flat_map(|arm| &arm.runs).collect();
        let width = runs.iter().map(|run| watch::name(run).chars().count()).max().unwrap_or(0).min(40);
        // Where there are more runs than room, those that ended give their place to those that train.
        if runs.len() > BARS {
            let all = &self.all;
            self.runs.retain(|(id, bar)| {
                let ended = runs.iter().any(|run| run.run == *id && run.state.is_terminal());
                if ended {
                    all.remove(bar);
                }
                !ended
            });
        }
        for run in &runs {
            let shown = self.runs.iter().position(|(id, _)| *id == run.run);
            let wanted = runs.len() <= BARS || (run.state == State::Running && self.runs.len() < BARS);
            let bar = match shown {
                Some(index) => &self.runs[index].1,
                None if wanted => {
                    let bar = self.all.insert_before(&self.total, ProgressBar::new(u64::from(run.epochs) * 1000));
                    bar.set_style(progress::style("{prefix} [{bar:30}] {msg}"));
                    bar.set_prefix(format!("{:<width$}", watch::name(run)));
                    self.runs.push((run.run, bar));
                    &self.runs[self.runs.len() - 1].1
                }
                None => continue,
            };
            bar.set_position(watch::run_position(run));
            bar.set_message(format!("{}/{} {}", run.epoch, run.epochs, watch::status(run)));
        }
        self.update_total(experiment, width);
    }

    fn update_total(&mut self, experiment: &Experiment, width: usize) {
        let (position, length) = (watch::position(experiment), experiment.epochs_to_train * 1000);
        let (began, at) = *self.began.get_or_insert_with(|| (Instant::now(), position));
        let left = watch::seconds_left(
            position.saturating_sub(at),
            began.elapsed().as_secs_f64(),
            length.saturating_sub(position),
        );
        let left = left.map(|left| format!(", about {} left", render::duration(left))).unwrap_or_default();
        self.total.set_length(length);
        self.total.set_position(position);
        self.total.set_prefix(format!("{:<width$}", "all epochs"));
        self.total.set_message(format!("{}/{}{left}", experiment.epochs_done, experiment.epochs_to_train));
    }
}
