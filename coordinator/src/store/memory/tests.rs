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

contract::all!(contract);

#[tokio::test]
async fn what_is_closed_answers_nothing() {
    let store = Memory::new();
    store.close().await;
    assert!(matches!(store.experiments().await, Err(Error::Database { .. })));
}
