//! Contract of the store port: one set of behaviours, run against both adapters, two shards each.

mod accounts;
mod world;

use world::World;

/// Each behaviour against each adapter.
macro_rules! contract {
    ($($group:ident: $($behaviour:ident),+ $(,)?;)+) => {
        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$group::$behaviour(super::World::sqlite().await).await;
                }
            )+)+
        }

        mod mysql {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$group::$behaviour(super::World::mysql().await).await;
                }
            )+)+
        }
    };
}

contract! {
    accounts:
        created_accounts_read_back_with_their_projection,
        a_hold_a_credit_and_a_commit_move_money;
}
