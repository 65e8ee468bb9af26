//! The contract in memory.

use super::*;
use crate::store::contract;

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                contract::$name(&Memory::new()).await;
            }
        )*
    };
}

contract! {
    what_is_committed_is_restored,
    the_last_step_is_restored_until_its_epoch_is_committed,
    what_is_trained_again_takes_the_place_of_what_is_damaged,
    every_state_is_stored,
    a_commit_is_all_or_nothing,
    a_pause_is_stored_until_its_end,
    sharing_and_drains_are_restored,
    an_epoch_is_read_once,
    what_is_observed_is_stored_once_in_any_order,
    what_is_trained_counts_for_another_experiment,
    sequences_only_grow,
    logs_are_read_in_order_from_a_cursor,
    experiments_and_runs_are_found,
    a_name_means_one_thing_for_ever,
}

#[tokio::test]
async fn what_is_closed_answers_nothing() {
    let store = Memory::new();
    store.close().await;
    assert!(matches!(store.experiments().await, Err(Error::Database { .. })));
}
