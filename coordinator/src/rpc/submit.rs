//! Planning and submission: the spec is read and validated again, its names are pinned to digests, and what only the
//! coordinator knows is checked, so that what cannot end in a comparison is refused before a minute of training is paid.

use ceteris_shared::{
    checkpoint::Environment,
    dataset::Split,
    document,
    ids::ExperimentId,
    plan::{self, Pins, Plan},
    spec::{self, Arch, ClassWeights, ExperimentSpec, Init, MAX_SPEC_BYTES, Score, Sizes},
};

use super::{Error, Service, verify::refuse_verification};
use crate::{
    driver::{self, SubmitRequest},
    store::DatasetRecord,
};

/// Most epochs, shared ones once, of one experiment that is submitted; more can be planned.
const MAX_EPOCHS_TO_TRAIN: u64 = 2_000_000;

impl Service {
    /// What a spec would do, with its names pinned.
    pub(super) async fn plan_spec(&self, spec: &str) -> Result<document::Plan, Error> {
        let (spec, pins, plan) = self.planned(ExperimentId(uuid::Uuid::nil()), read(spec)?).await?;
        let workers = self.driver.workers().await?;
        let connected: Vec<Environment> = workers.into_iter().map(|worker| worker.environment).collect();
        let reused = driver::reusable(self.store.as_ref(), &spec, &plan, &connected).await?.epochs();
        Ok(document::Plan::new(&spec, &plan, Some((&pins, reused))))
    }

    /// Submits a spec under the client's id; sending it again changes nothing.
    pub(super) async fn submit_spec(
        &self,
        experiment: ExperimentId,
        spec: &str,
        source: String,
    ) -> Result<document::Experiment, Error> {
        if source.len() > MAX_SPEC_BYTES {
            return Err(spec::Error::TooLong(source.len()).into());
        }
        self.submit_planned(experiment, read(spec)?, source).await
    }

    /// Submits the spec of an experiment with a longer budget; everything else stays as it is pinned by its names.
    pub(super) async fn extend(
        &self,
        reference: &str,
        epochs: u32,
        extension: ExperimentId,
        name: &str,
    ) -> Result<document::Experiment, Error> {
        let known = self.store.find_experiment(reference).await?;
        if known.cancelled_at.is_some() {
            let cause = format!("experiment {} was cancelled, so its budget is not spent", known.id);
            let help = "submit its spec again with the longer budget: what it trained is taken";
            return Err(Error::invalid(cause, help));
        }
        refuse_verification(&known.spec, "extend")?;
        let mut spec = spec::extended(known.id, &known.spec, epochs)?;
        if !name.is_empty() {
            spec.name = name.to_owned();
        }
        let source = serde_json::to_string_pretty(&spec).map_err(|error| Error::Damaged(error.to_string()))?;
        self.submit_planned(extension, spec, source).await
    }

    async fn submit_planned(
        &self,
        experiment: ExperimentId,
        spec: ExperimentSpec,
        source: String,
    ) -> Result<document::Experiment, Error> {
        let (spec, pins, plan) = self.planned(experiment, spec).await?;
        let epochs = plan.epochs_to_train();
        if epochs > MAX_EPOCHS_TO_TRAIN {
            return Err(Error::invalid(
                format!(
                    "the plan has {epochs} epochs to train, and a coordinator takes at most {MAX_EPOCHS_TO_TRAIN} at once"
                ),
                "use fewer runs, or split the experiment into several: what they have in common is trained once all the same",
            ));
        }
        self.driver.submit(SubmitRequest { experiment, spec, source, pins, plan, reused: None }).await?;
        self.show(&experiment.to_string()).await
    }

    async fn planned(
        &self,
        experiment: ExperimentId,
        mut spec: ExperimentSpec,
    ) -> Result<(ExperimentSpec, Pins, Plan), Error> {
        spec::validate(&spec)?;
        if let Some(extended) = spec.budget.extends {
            self.store.find_experiment(&extended.to_string()).await?;
        }
        let pins = self.pin(&mut spec).await?;
        // Up to a hundred thousand runs: more than a turn of the event loop.
        let planning = move || plan::plan(experiment, &spec, &pins).map(|plan| (spec, pins, plan));
        Ok(tokio::task::spawn_blocking(planning).await??)
    }

    async fn pin(&self, spec: &mut ExperimentSpec) -> Result<Pins, Error> {
        let dataset = self.find_dataset(&spec.data.dataset).await?;
        check_dataset(spec, &dataset)?;
        // What an extension goes on from was judged when it was submitted.
        if spec.budget.extends.is_none() {
            spec::check_sizes(&spec.endpoint, sizes(&dataset))?;
        }
        check_class_weights(spec, &dataset)?;
        let mut external = Vec::new();
        for name in &spec.data.external {
            let found = self.find_dataset(name).await?;
            check_external(&dataset, name, &found)?;
            external.push((name.clone(), found.manifest));
        }
        let mut pins = Pins { dataset: Some(dataset.manifest), external, ..Pins::default() };
        match spec.model.init.clone() {
            Init::Random => {}
            Init::Weights(name) => {
                let weights = self.find_weights(&name).await?;
                check_arch(spec, &name, weights.arch)?;
                pins.init = Some(weights.digest);
            }
            Init::Run(point) => {
                let fork = self.fork(spec, &dataset, &point).await?;
                (pins.init, pins.inherited) = (fork.init, fork.inherited);
                spec.model.init = Init::Run(fork.point);
            }
        }
        Ok(pins)
    }
}

fn read(spec: &str) -> Result<ExperimentSpec, Error> {
    if spec.len() > MAX_SPEC_BYTES {
        return Err(spec::Error::TooLong(spec.len()).into());
    }
    serde_json::from_str(spec)
        .map_err(|error| Error::Field { field: "spec", problem: format!("{error}; use a ceteris of this version") })
}

/// Whether the named initial weights are the network's.
fn check_arch(spec: &ExperimentSpec, name: &str, found: Arch) -> Result<(), Error> {
    let (arch, found) = (spec.model.arch.name(), found.name());
    if arch == found {
        return Ok(());
    }
    let cause = format!("model.init: the weights {name:?} are {found}'s, and `model.arch` is {arch}");
    Err(Error::invalid(cause, format!("write arch = \"{found}\", name weights of {arch}, or write init = \"random\"")))
}

/// Whether listed class weights are as many as the classes.
fn check_class_weights(spec: &ExperimentSpec, dataset: &DatasetRecord) -> Result<(), Error> {
    let controls = ("controls".to_owned(), Some(&spec.controls.class_weights));
    let arms = spec.arm.iter().map(|arm| (format!("arm {:?}", arm.name), arm.class_weights.as_ref()));
    for (place, weights) in [controls].into_iter().chain(arms) {
        if let Some(ClassWeights::Listed(weights)) = weights
            && weights.len() != dataset.classes.len()
        {
            let cause = format!(
                "{place}: class_weights: there are {}, and {:?} has the {} classes {}",
                weights.len(),
                dataset.name,
                dataset.classes.len(),
                dataset.classes.join(", ")
            );
            return Err(Error::invalid(cause, "write one weight for each class, in this order, or \"balanced\""));
        }
    }
    Ok(())
}

/// Whether arms can be trained on the data set and judged on it.
fn check_dataset(spec: &ExperimentSpec, dataset: &DatasetRecord) -> Result<(), Error> {
    let name = &dataset.name;
    if let Some(size) = spec.data.image_size
        && size != dataset.image_size
    {
        let cause =
            format!("data.image_size: it is {size}, and the data set {name:?} was imported at {}", dataset.image_size);
        let help = format!(
            "write {} or leave it out, or import the images again at {size} under another name",
            dataset.image_size
        );
        return Err(Error::invalid(cause, help));
    }
    let present = |split: Split| -> Vec<&str> {
        let counts = dataset.counts.get(&split).map_or(&[][..], Vec::as_slice);
        let nonempty = dataset.classes.iter().zip(counts).filter(|(_, count)| **count > 0);
        nonempty.map(|(class, _)| class.as_str()).collect()
    };
    let refuse = |split: Split, needs: &str| {
        let found = match present(split).as_slice() {
            [] => "has no sample".to_owned(),
            classes => format!("has samples of {} only", classes.join(", ")),
        };
        let cause = format!("data.dataset: the {split} split of {name:?} {found}, and {needs}");
        let help = "import it again under another name with a split that has every class in train, val and test, for example \
                    with --split 0.7,0.1,0.2";
        Err(Error::invalid(cause, help))
    };
    let classes = dataset.classes.len();
    if present(Split::Train).len() < classes {
        return refuse(Split::Train, "a network cannot learn a class that it never sees");
    }
    if present(Split::Val).len() < 2 {
        return refuse(Split::Val, "thresholds are chosen on val, which needs two classes or more");
    }
    if present(Split::Test).is_empty() {
        return refuse(Split::Test, "arms are scored on test at the endpoint");
    }
    let judged = spec.endpoint.metric;
    if judged.score == Score::Auc && present(judged.split).len() < classes {
        return refuse(judged.split, "an area under the ROC curve needs every class");
    }
    Ok(())
}

fn sizes(dataset: &DatasetRecord) -> Sizes<'_> {
    Sizes {
        name: &dataset.name,
        classes: &dataset.classes,
        counts: &dataset.counts,
        has_patients: dataset.patients.is_some(),
    }
}

/// Whether a network trained on `dataset` can be scored on `external`.
fn check_external(dataset: &DatasetRecord, name: &str, external: &DatasetRecord) -> Result<(), Error> {
    let refuse = |cause: String, help: &str| Err(Error::invalid(format!("data.external: {cause}"), help));
    if external.image_size != dataset.image_size {
        let cause = format!(
            "{name:?} was imported at {} and {:?} at {}",
            external.image_size, dataset.name, dataset.image_size
        );
        return refuse(cause, "import one of them again at the size of the other, under another name");
    }
    if external.classes != dataset.classes {
        let cause = format!(
            "{name:?} has classes {} and {:?} has {}",
            external.classes.join(", "),
            dataset.name,
            dataset.classes.join(", ")
        );
        return refuse(cause, "both need the same class names: rename the folders and import again under another name");
    }
    if external.counts.values().flatten().all(|count| *count == 0) {
        return refuse(format!("{name:?} has no sample"), "leave it out, or import it again");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ceteris_scheduler::Timestamp;
    use ceteris_shared::{digest::Digest, spec::Format};

    use super::*;

    fn dataset() -> DatasetRecord {
        DatasetRecord {
            name: "kermany".to_owned(),
            manifest: Digest([1; 32]),
            image_size: 224,
            classes: ["NORMAL", "PNEUMONIA"].map(str::to_owned).to_vec(),
            counts: Split::ALL.map(|split| (split, vec![5, 5])).into(),
            patients: None,
            registered_at: Timestamp(0),
        }
    }

    fn spec(data: &str) -> ExperimentSpec {
        let text = format!(
            "name = \"e\"\ndata = {{ dataset = \"kermany\"{data} }}\nmodel.init = \"random\"\nbudget.epochs = 1\n\
             seeds.count = 1\n[[arm]]\nname = \"a\"\nstages = [{{ epochs = 1, train = \"head\" }}]"
        );
        spec::parse(&text, Format::Toml).expect("a valid spec")
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        assert!(check_dataset(&spec(""), &dataset()).is_ok());
        assert!(check_dataset(&spec(", image_size = 224"), &dataset()).is_ok());
        let with = |split, counts: &[u64]| {
            let mut dataset = dataset();
            dataset.counts.insert(split, counts.to_vec());
            dataset
        };
        let mut untested = dataset();
        untested.counts.remove(&Split::Test);
        let refused = [
            (", image_size = 320", dataset()),
            ("", with(Split::Train, &[5, 0])),
            ("", with(Split::Val, &[0, 5])),
            ("", untested),
        ];
        let told: Vec<String> = refused
            .iter()
            .map(|(data, dataset)| check_dataset(&spec(data), dataset).expect_err("not judgeable").to_string())
            .collect();
        insta::assert_snapshot!(told.join("\n\n"), @r#"
        data.image_size: it is 320, and the data set "kermany" was imported at 224
        help: write 224 or leave it out, or import the images again at 320 under another name

        data.dataset: the train split of "kermany" has samples of NORMAL only, and a network cannot learn a class that it never sees
        help: import it again under another name with a split that has every class in train, val and test, for example with --split 0.7,0.1,0.2

        data.dataset: the val split of "kermany" has samples of PNEUMONIA only, and thresholds are chosen on val, which needs two classes or more
        help: import it again under another name with a split that has every class in train, val and test, for example with --split 0.7,0.1,0.2

        data.dataset: the test split of "kermany" has no sample, and arms are scored on test at the endpoint
        help: import it again under another name with a split that has every class in train, val and test, for example with --split 0.7,0.1,0.2
        "#);
    }

    #[test]
    fn weights_of_another_network_are_refused() {
        let spec = spec("");
        assert!(check_arch(&spec, "imagenet", Arch::Densenet121).is_ok());
        let told = check_arch(&spec, "imagenet", Arch::Resnet50).expect_err("another network").to_string();
        insta::assert_snapshot!(told, @r#"
        model.init: the weights "imagenet" are resnet50's, and `model.arch` is densenet121
        help: write arch = "resnet50", name weights of densenet121, or write init = "random"
        "#);
    }

    #[test]
    fn class_weights_are_as_many_as_classes() {
        let with = |weights: &[f64]| {
            let mut spec = spec("");
            spec.arm[0].class_weights = Some(ClassWeights::Listed(weights.to_vec()));
            check_class_weights(&spec, &dataset())
        };
        assert!(with(&[1.0, 2.0]).is_ok());
        insta::assert_snapshot!(with(&[1.0, 2.0, 3.0]).expect_err("one too many").to_string(), @r#"
        arm "a": class_weights: there are 3, and "kermany" has the 2 classes NORMAL, PNEUMONIA
        help: write one weight for each class, in this order, or "balanced"
        "#);
    }

    #[test]
    fn what_cannot_be_scored_is_refused() {
        assert!(check_external(&dataset(), "nih", &dataset()).is_ok());
        let refused = [
            DatasetRecord { image_size: 320, ..dataset() },
            DatasetRecord { classes: ["A", "B"].map(str::to_owned).to_vec(), ..dataset() },
            DatasetRecord { counts: Default::default(), ..dataset() },
        ];
        let told: Vec<String> = refused
            .iter()
            .map(|external| check_external(&dataset(), "nih", external).expect_err("not scorable").to_string())
            .collect();
        insta::assert_snapshot!(told.join("\n\n"), @r#"
        data.external: "nih" was imported at 320 and "kermany" at 224
        help: import one of them again at the size of the other, under another name

        data.external: "nih" has classes A, B and "kermany" has NORMAL, PNEUMONIA
        help: both need the same class names: rename the folders and import again under another name

        data.external: "nih" has no sample
        help: leave it out, or import it again
        "#);
    }
}
