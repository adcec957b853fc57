//! `reconcile recover` as an operator has it.

use super::embedded::start;
use super::program::Program;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Executor};

/// Does to both shards what the product never does.
async fn sql(program: &Program, statement: &'static str) {
    for shard in 0..2 {
        let file = program.dir().join(format!("holdfast-data/shard-{shard}.db"));
        let mut connection = SqliteConnectOptions::new()
            .filename(file)
            .busy_timeout(crate::wait::DEADLINE)
            .connect()
            .await
            .unwrap();
        connection.execute(statement).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_role_starts_while_a_recovery_is_not_finished() {
    let dev = start(Program::new());
    dev.fund();
    let (program, _) = dev.stop("TERM");
    let recover = |more: &[&str]| program.run(&[&["reconcile", "recover"], more].concat());
    let early = recover(&["--shard", "1"]);
    assert_eq!(early.code, Some(1), "its leases stand for some seconds: {early:?}");
    assert!(early.stderr.contains("end every role first"), "{early:?}");
    sql(&program, "UPDATE leases SET expires_at = 0").await;
    assert_eq!(recover(&["--shard", "2"]).code, Some(2), "there is no such shard");
    let looked = recover(&["--shard", "1", "--dry-run"]);
    assert_eq!(looked.code, Some(0), "{looked:?}");
    assert!(looked.stdout.contains("Both sides of every transfer agree"), "{looked:?}");
    assert!(
        looked.stdout.contains("generation 1") && looked.stdout.contains("Nothing was changed")
    );

    // As an interrupted run leaves it: one shard is raised, the other is not.
    let begun = "INSERT OR REPLACE INTO leases (name, holder, expires_at) \
        VALUES ('recovery', '', 9223372036854775807)";
    sql(&program, begun).await;
    let refused = program.run(&["dev", "--listen", "127.0.0.1:0"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("reconcile recover"), "{refused:?}");

    let why = ["--shard", "0", "--shard", "1", "--operator", "zoe", "--reason", "disk"];
    let done = program.json(&[&["reconcile", "recover"][..], &why].concat());
    assert_eq!((&done["generation"], &done["finished"]), (&2.into(), &true.into()), "{done}");
    assert_eq!(done["ends"], 0, "every end was announced before it stopped: {done}");
    let acts = program.json(&["audit", "list", "--action", "reconcile.recover"]);
    let acts = acts["data"].as_array().unwrap();
    assert_eq!(acts.len(), 2, "one on each shard that was recovered");
    assert_eq!((&acts[0]["operator"], &acts[0]["reason"]), (&"zoe".into(), &"disk".into()));
    let dev = start(program);
    let paid = dev.transfer("alice", "bank", "3.00", "after");
    assert_eq!(paid["status"], "committed", "{paid}");
    let (program, _) = dev.stop("TERM");
    program.succeed(&["reconcile", "check"]);
}
