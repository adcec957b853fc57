//! The whole pipeline, the same scenarios on both sets of adapters: SQLite with the embedded log,
//! and MySQL with Kafka and Redis.

/// Instantiates every scenario for both sets of adapters.
macro_rules! scenarios {
    ($($name:ident)*) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::pipeline::backend::Backend::Embedded).await;
            })*
        }
        mod real {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::pipeline::backend::Backend::Real).await;
            })*
        }
    };
}

mod backend;
mod cancels;
mod cluster;
mod dead_letters;
mod deadlines;
mod drift;
mod faults;
mod flows;
mod groups;
mod load;
mod operators;
mod outages;
mod overload;
mod pauses;
mod process;
mod projection;
mod races;
mod recovery;
mod refusals;
mod repeats;
mod replays;
mod reversals;
mod traces;
mod velocity;
mod witness;
