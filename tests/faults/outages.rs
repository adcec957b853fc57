//! MySQL, Kafka and Redis stopped, started again, slowed and cut under load, beneath the built
//! program: whatever callers see meanwhile, all that was accepted becomes final without a hand, and
//! the audit is clean. `HOLDFAST_TEST_OUTAGE` (seconds) makes the outages longer.

use crate::callers::{Callers, Load};
use crate::cli::program::{Program, Running, answer};
use crate::proxy::{Line, Proxy};
use crate::services::{Services, own_services_through, unique};
use crate::wait::setting;
use sqlx::{Connection, Executor, MySqlConnection};
use std::time::Duration;
use tokio::time::Instant;

/// Less than the outage of a shard lasts.
const HOLD_TIMEOUT: u64 = 4;

/// Own services, each behind a proxy, and one process with every role.
struct World {
    services: Services,
    mysql: [Proxy; 2],
    kafka: Proxy,
    redis: Proxy,
    program: Program,
    running: Running,
    callers: Callers,
    /// How long an outage lasts.
    outage: Duration,
}

impl World {
    async fn start() -> Self {
        let mysql = [Proxy::to_nowhere(0).await, Proxy::to_nowhere(0).await];
        let (kafka, redis) = (Proxy::to_nowhere(0).await, Proxy::to_nowhere(0).await);
        let services = own_services_through(&kafka.address()).await;
        let mut urls = Vec::new();
        for (proxy, server) in mysql.iter().zip(&services.mysql) {
            let address = url::Url::parse(server).unwrap();
            proxy.leads_to(&format!("127.0.0.1:{}", address.port().unwrap()));
            let mut connection = MySqlConnection::connect(server).await.unwrap();
            connection.execute("CREATE DATABASE holdfast").await.unwrap();
            urls.push(proxy.url(&format!("{}/holdfast", server.trim_end_matches('/'))));
        }
        kafka.leads_to(&services.kafka);
        redis.leads_to(services.redis.trim_start_matches("redis://"));
        let program = Program::new()
            .with("HOLDFAST_MYSQL_SHARDS", &urls.join(","))
            .with("HOLDFAST_KAFKA_BROKERS", &kafka.address())
            .with("HOLDFAST_KAFKA_PARTITIONS", "3")
            .with("HOLDFAST_KAFKA_TOPIC_PREFIX", &format!("outages-{}.", unique()))
            .with("HOLDFAST_REDIS_URL", &format!("redis://{}", redis.address()))
            .with("HOLDFAST_HOLD_TIMEOUT", &format!("{HOLD_TIMEOUT}s"))
            .with("HOLDFAST_SCAN_LAG", "2s");
        let migrated = program.run(&["migrate"]);
        assert_eq!(migrated.code, Some(0), "{migrated:?}");
        let mut running = program.start(&["serve", "--listen", "127.0.0.1:0"]);
        let address = running.listening();
        answer(&format!("{address}/readyz"), 200).await;
        let rate = Some(setting("HOLDFAST_TEST_RATE", 60));
        let callers = Callers::start(&address, Load { callers: 32, rate }).await;
        let outage = Duration::from_secs(setting("HOLDFAST_TEST_OUTAGE", HOLD_TIMEOUT + 2));
        Self { services, mysql, kafka, redis, program, running, callers, outage }
    }

    /// Transfers are accepted before, the fault lasts for the length of an outage, and transfers
    /// are accepted after it.
    async fn through(
        &self,
        what: &str,
        fault: impl AsyncFnOnce(&Self),
        end: impl AsyncFnOnce(&Self),
    ) {
        self.callers.accept(40).await;
        self.callers.answers();
        fault(self).await;
        // Not waited for a condition: the outage is this long, whatever happens in it.
        tokio::time::sleep_until(Instant::now() + self.outage).await;
        end(self).await;
        let meanwhile = self.callers.answers();
        assert!(meanwhile.of("202") > 0, "{what} stopped everything: {meanwhile}");
        self.callers.accept(40).await;
        eprintln!("{what}: {meanwhile}; after it: {}", self.callers.answers());
    }

    async fn control(&self, name: &str, action: &str) {
        self.services.control(name, action).await.expect("own services are the script's");
    }

    async fn is_down(&self, name: &str) {
        self.through(
            &format!("{name} is stopped for {:?}", self.outage),
            async |world| world.control(name, "kill").await,
            async |world| world.control(name, "start").await,
        )
        .await;
    }

    async fn is_restarted(&self, name: &str) {
        self.callers.accept(40).await;
        self.callers.answers();
        self.control(name, "stop").await;
        self.control(name, "start").await;
        let meanwhile = self.callers.answers();
        self.callers.accept(40).await;
        eprintln!("{name} is restarted: {meanwhile}; after it: {}", self.callers.answers());
    }

    async fn has_line(&self, name: &str, proxy: impl Fn(&Self) -> &Proxy, line: Line) {
        self.through(
            &format!("{name}: {line:?}"),
            async |world| proxy(world).line(line),
            async |world| proxy(world).line(Line::Up),
        )
        .await;
    }

    async fn ends_clean(self) {
        self.callers.accept(40).await;
        let audited = self.callers.audit().await;
        eprintln!("{audited:?}");
        let check = self.program.run(&["reconcile", "check"]);
        assert_eq!(check.code, Some(0), "{check:?}");
        self.running.signal("TERM");
        let output = self.running.ended();
        assert_eq!(output.code, Some(0), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_stop_and_come_back_cost_nothing_that_was_accepted() {
    let _turn = crate::turn().await;
    let world = World::start().await;
    world.is_down("redis").await;
    world.is_down("kafka").await;
    // For longer than a hold lasts: what was held for it is given up only if it has said so.
    world.is_down("mysql1").await;
    for name in ["mysql0", "kafka", "redis"] {
        world.is_restarted(name).await;
    }
    world.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_are_slow_hang_or_are_cut_off_cost_nothing_that_was_accepted() {
    let _turn = crate::turn().await;
    let world = World::start().await;
    let slow = Line::Slow(Duration::from_millis(50));
    for line in [slow, Line::Silent, Line::Cut] {
        world.has_line("redis", |world| &world.redis, line).await;
        world.has_line("kafka", |world| &world.kafka, line).await;
        world.has_line("mysql1", |world| &world.mysql[1], line).await;
    }
    world.ends_clean().await;
}
