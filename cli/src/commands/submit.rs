//! `ceteris submit`

use std::path::PathBuf;

use ceteris_proto::v1;
use ceteris_shared::{
    compare::planned_contrasts,
    document::Experiment,
    ids::ExperimentId,
    spec::{self, ExperimentSpec},
};
use clap::Args;

use super::watch;
use crate::{
    client,
    context::Global,
    failure::Failure,
    output::{self, Format},
    render, spec_file,
};

/// Submit an experiment and print its id.
///
/// The names of data sets and weights are pinned to digests, so the experiment means the same for ever.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris submit examples/kermany.toml --follow
  id=$(ceteris submit grid.toml); ceteris watch \"$id\" && ceteris compare \"$id\"
  generate-spec | ceteris submit -

With --follow, the exit code is 5 if the experiment does not complete.")]
pub struct Options {
    /// The spec: TOML, JSON or YAML by its extension; - is TOML on stdin.
    pub file: PathBuf,
    /// Stay and show how far it is, until it ends.
    #[arg(long)]
    pub follow: bool,
}

impl Options {
    /// # Errors
    /// When the spec is refused, or the coordinator cannot be asked; with `--follow`, when the experiment fails.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let file = spec_file::read(&self.file)?;
        let mut client = global.connect().await?;
        let id = ExperimentId(uuid::Uuid::new_v4());
        let spec = spec_file::to_json(&file.spec);
        let request = v1::SubmitRequest { experiment: id.to_string(), spec, source: file.source };
        let experiment = client::parse::<Experiment>(client.rpc.submit(request).await?)?;
        warnings(&file.spec).iter().for_each(|warning| global.note(warning));
        submitted(global, &experiment, self.follow).await
    }
}

/// What `compare` will refuse however training goes. The runs may be wanted all the same, so it is no error.
fn warnings(spec: &ExperimentSpec) -> Vec<String> {
    const SHOWN: usize = 3;
    let refused = planned_contrasts(spec, &spec::resolve(spec)).into_iter().filter_map(|contrast| contrast.refused);
    let mut warnings: Vec<String> =
        refused.map(|refusal| format!("warning: compare will refuse this: {}", refusal.message)).collect();
    if warnings.len() > SHOWN {
        let more = warnings.len() - SHOWN;
        warnings.truncate(SHOWN);
        warnings.push(format!("warning: and {more} contrasts more; `ceteris plan` tells each"));
    }
    warnings
}

/// Prints the id of what was submitted and, with `follow`, stays until it ends.
pub(super) async fn submitted(global: &Global, experiment: &Experiment, follow: bool) -> Result<(), Failure> {
    let id = experiment.id;
    match global.output {
        Format::Table => output::print_text(&format!("{id}\n"))?,
        Format::Json | Format::Csv => output::print(experiment, global.output)?,
    }
    if experiment.epochs_reused > 0 {
        let (reused, all) = (experiment.epochs_reused, experiment.epochs_to_train);
        global.note(format!("{reused} of {all} epochs are trained already and are taken"));
    }
    if !follow {
        global.note(render::experiment::headline(experiment));
        global.note(format!("follow it with: ceteris watch {}", id.short()));
        return Ok(());
    }
    let end = watch::follow(global, &id.to_string()).await?;
    watch::ended(global, &end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compare_will_refuse_is_told_and_the_rest_counted() {
        let told = |arms: usize, compare: &str| {
            let mut text = format!(
                "name = \"x\"\ndata.dataset = \"d\"\nmodel.init = \"random\"\nbudget.epochs = 1\nseeds.count = 2\n\
                 {compare}\n[[arm]]\nname = \"frozen\"\nstages = [{{ epochs = 1, train = \"head\" }}]\n"
            );
            for arm in 0..arms {
                text += &format!(
                    "[[arm]]\nname = \"all{arm}\"\nclip_norm = 1.0\nstages = [{{ epochs = 1, train = \"all\" }}]\n"
                );
            }
            warnings(&spec::parse(&text, spec::Format::Toml).expect("a spec"))
        };
        insta::assert_snapshot!(told(5, "").join("\n"));
        assert_eq!(told(3, "").len(), 3);
        assert!(told(5, "compare.treatment = [\"stages\", \"clip_norm\"]").is_empty());
    }
}
