//! kill -9: the built program, killed at any moment under load, loses nothing that it accepted and
//! does nothing twice.

use crate::callers::{Callers, Load};
use crate::cli::program::{Program, answer, nowhere};
use crate::services::{fresh_database, services, unique};
use crate::wait::{setting, within};
use futures::future::join_all;
use holdfast::crash::Place;
use holdfast::roles::Role;
use rand::Rng;
use rand::seq::SliceRandom;
use sqlx::{Connection, Executor, MySqlConnection};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::spawn_blocking;

/// Everything in one process, with its data in files.
#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_process_is_killed_again_and_again() {
    let _turn = crate::turn().await;
    let program = Program::new().with("HOLDFAST_SCAN_LAG", "1s");
    let start = || {
        let mut running = program.start(&["dev", "--data", "data", "--listen", "127.0.0.1:0"]);
        let line = running.line_of_stdout("Holdfast listens on ");
        let address = line.split(' ').nth(3).unwrap().to_owned();
        (running, address)
    };
    let (mut running, address) = start();
    let callers = Callers::start(&address, Load { callers: 8, rate: None }).await;
    for round in 0..6 {
        callers.accept(10 + 25 * round).await;
        running.signal("KILL");
        assert_eq!(running.ended().code, None, "it was killed");
        let (again, address) = start();
        running = again;
        callers.turn_to(&address);
    }
    callers.accept(50).await;
    let audited = callers.audit().await;
    assert!(!audited.ends.contains_key("cancelled"), "{audited:?}");
    assert_clean(&program, &["--data", "data"]);
    running.signal("TERM");
    assert_eq!(running.ended().code, Some(0));
    assert_clean(&program, &["--data", "data"]);
}

fn assert_clean(program: &Program, args: &[&str]) {
    let output = program.run(&[&["reconcile", "check"], args].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
}

/// One process a role on MySQL, Kafka and Redis. Each is killed with SIGKILL at every place between
/// two of its effects, all at the same time and under load; events are lost on top, so that the
/// reconciler has work of its own. `HOLDFAST_TEST_KILLS` and `HOLDFAST_TEST_RATE`
/// make it longer and harder.
#[tokio::test(flavor = "multi_thread")]
async fn every_role_dies_at_every_place_between_two_effects() {
    let _turn = crate::turn().await;
    let urls = [fresh_database(0).await, fresh_database(1).await];
    let name = unique();
    let program = Program::new()
        .with("HOLDFAST_MYSQL_SHARDS", &urls.join(","))
        .with("HOLDFAST_KAFKA_BROKERS", &services().await.kafka)
        .with("HOLDFAST_KAFKA_PARTITIONS", "3")
        .with("HOLDFAST_KAFKA_TOPIC_PREFIX", &format!("crash-{name}."))
        // A dead member's partitions are given away after this time; the broker takes no less.
        .with("HOLDFAST_KAFKA_OPTIONS", "session.timeout.ms=6000")
        .with("HOLDFAST_REDIS_URL", &services().await.redis)
        .with("HOLDFAST_REDIS_PREFIX", &format!("crash-{name}:"))
        .with("HOLDFAST_SCAN_LAG", "2s");
    assert_eq!(program.run(&["migrate"]).code, Some(0));
    lose_events(&urls).await;
    let (program, listen) = (Arc::new(program), nowhere());
    let address = format!("http://{listen}");
    let first = program.start(&serving(Role::Ingress, &listen));
    answer(&format!("{address}/readyz"), 200).await;
    let load = Load { callers: 32, rate: Some(rate()) };
    let callers = Callers::start(&address, load).await;
    drop(first);

    let places: usize = Role::ALL.into_iter().map(|role| Place::of(role).len()).sum();
    let rounds = setting("HOLDFAST_TEST_KILLS", places).div_ceil(places);
    let kills = Arc::new(AtomicUsize::new(0));
    let victims = Role::ALL.into_iter().map(|role| {
        let (program, listen, kills) = (Arc::clone(&program), listen.clone(), Arc::clone(&kills));
        spawn_blocking(move || {
            for _ in 0..rounds {
                die_everywhere(&program, role, &listen, &kills);
            }
            program.start(&serving(role, &listen))
        })
    });
    let running = join_all(victims).await;

    answer(&format!("{address}/readyz"), 200).await;
    callers.accept(40).await;
    let answers = callers.answers();
    let audited = callers.audit().await;
    assert_eq!(kills.load(Ordering::Relaxed), rounds * places);
    eprintln!("{} kills; callers saw {answers}; {audited:?}", rounds * places);
    assert_clean(&program, &[]);
    for process in running {
        let process = process.unwrap();
        process.signal("TERM");
        let output = process.ended();
        assert_eq!(output.code, Some(0), "{output:?}");
    }
}

/// Transfers a second.
fn rate() -> u32 {
    setting("HOLDFAST_TEST_RATE", 60)
}

fn serving(role: Role, listen: &str) -> Vec<&str> {
    let mut args = vec!["serve", "--roles", role.as_str()];
    if role == Role::Ingress {
        args.extend(["--listen", listen]);
    }
    args
}

/// A process of this role dies at each of its places, in any order and at any early visit.
fn die_everywhere(program: &Program, role: Role, listen: &str, kills: &AtomicUsize) {
    let mut places = Place::of(role).to_vec();
    places.shuffle(&mut rand::rng());
    for place in places {
        // A round of the reconciler that has something to emit is rare. The others live as long as
        // it takes them to get through what came while their partitions waited for a new owner.
        let most = if role == Role::Reconciler { 1 } else { rate().div_ceil(20) };
        let visits = rand::rng().random_range(1..=most);
        let name = place.name(role);
        let running =
            program.start_to_die(&serving(role, listen), &format!("{name}={visits}*off->return"));
        let output = running.ended();
        assert_eq!(output.code, None, "{role} was killed at {name}: {output:?}");
        assert!(output.stderr.contains(&format!("killed at {name}")), "{output:?}");
        kills.fetch_add(1, Ordering::Relaxed);
    }
}

/// From now on some rows of the outboxes hold nothing, as if their events had been lost.
async fn lose_events(urls: &[String]) {
    let lose = "CREATE TRIGGER lose BEFORE INSERT ON outbox FOR EACH ROW
        SET NEW.payload = IF(RAND() < 0.05, '[]', NEW.payload)";
    for url in urls {
        let mut shard = MySqlConnection::connect(url).await.unwrap();
        within("the trigger", shard.execute(lose)).await.unwrap();
    }
}
