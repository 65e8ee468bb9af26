//! A Python with MLflow's client and its store on SQL databases, to compare with. The package without user interface and
//! server has both; what it needs of others for the store has to be named.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{is_complete, need_space, python, stamp};
use crate::{command::headline, workspace::Workspace};

const SPACE: u64 = 400_000_000;
const SOURCE: &str = "mlflow-skinny==3.17.2 sqlalchemy==2.1.9 alembic==1.20.1";

/// The Python: the one that `CETERIS_MLFLOW_PYTHON` names, or one that is made.
pub fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("CETERIS_MLFLOW_PYTHON") {
        return Ok(named.into());
    }
    let directory = workspace.toolchain.join("mlflow");
    let program = directory.join("bin/python");
    if !(is_complete(&directory, SOURCE) && program.exists()) {
        headline("Setting up MLflow, to compare with");
        need_space(&workspace.toolchain, SPACE)?;
        let packages: Vec<&str> = SOURCE.split(' ').collect();
        python::environment(&directory, &packages).context("set-up of MLflow failed")?;
        stamp(&directory, SOURCE)?;
    }
    Ok(program)
}
