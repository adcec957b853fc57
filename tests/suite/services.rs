//! Where real services come from: an address in the environment, else a container where an engine
//! answers, else `scripts/services`. Each is started once and serves the whole test process. One that
//! cannot be had fails every test that asks for it; nothing is skipped.

use sqlx::{Connection, Executor, MySqlConnection};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use testcontainers_modules::kafka::apache::{KAFKA_PORT, Kafka};
use testcontainers_modules::mysql::Mysql;
use testcontainers_modules::redis::{REDIS_PORT, Redis};
use testcontainers_modules::testcontainers::runners::AsyncRunner;
use testcontainers_modules::testcontainers::{ContainerAsync, Image, ImageExt};
use tokio::sync::OnceCell;

/// MySQL servers that the suite asks for: one can go down while the other goes on.
const MYSQL_SERVERS: usize = 2;
const NAMES: [&str; 3] = ["mysql", "kafka", "redis"];

/// Addresses of running services.
#[derive(Debug)]
pub struct Services {
    /// URLs without a database.
    pub mysql: Vec<String>,
    /// `host:port`.
    pub kafka: String,
    /// `host:port` for who comes with TLS and SCRAM, where there is one.
    pub kafka_secure: String,
    /// URL.
    pub redis: String,
    /// Where `scripts/services` runs them, if it does.
    run: Option<PathBuf>,
}

/// The services of this test process.
pub async fn services() -> &'static Services {
    static SERVICES: OnceCell<Services> = OnceCell::const_new();
    SERVICES.get_or_init(obtain).await
}

/// The address of a Keycloak whose administrator is `admin`, with that password: from the
/// environment or from `scripts/services`, and started only where a test asks for it.
pub async fn keycloak() -> &'static str {
    static KEYCLOAK: OnceCell<String> = OnceCell::const_new();
    const NAME: &str = "keycloak";
    let start = || async {
        let (origin, address) = match std::env::var(variable(NAME)) {
            Ok(address) => ("the environment", Some(address)),
            Err(_) => {
                let started = from_script(NAME, 1, None).await;
                ("scripts/services", started.get(&variable(NAME)).cloned())
            }
        };
        let address = address.expect("the script prints what it started");
        say(NAME, origin, &address);
        address.trim_end_matches('/').to_owned()
    };
    KEYCLOAK.get_or_init(start).await
}

/// Services that no other test uses, to be stopped and killed at will; `only` as the script takes
/// it. What was not asked for has no address.
pub async fn own_services(only: &str, mysql_servers: usize) -> Services {
    let found = from_script(only, mysql_servers, None).await;
    Services::from_lines(&found, &found)
}

/// Services for one test alone that refuse whoever comes without TLS; they show `cert.pem`, with
/// `key.pem` and from `ca.pem`, of this directory. Kafka does at a second address, and wants the
/// password in `kafka-password`.
pub async fn own_services_with_tls(only: &str, files: &Path) -> Services {
    let found = from_script(only, 1, Some(("SERVICES_TLS", text(files)))).await;
    Services::from_lines(&found, &found)
}

/// All services, for one test alone; Kafka sends its clients to this address.
pub async fn own_services_through(kafka_advertised: &str) -> Services {
    let advertised = Some(("KAFKA_ADVERTISED", kafka_advertised.to_owned()));
    let found = from_script(&NAMES.join(","), MYSQL_SERVERS, advertised).await;
    Services::from_lines(&found, &found)
}

/// A name that no other test has, also not one of another process.
pub fn unique() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// The URL of a new database on one of the servers, for one test.
pub async fn fresh_database(server: usize) -> String {
    let url = services().await.mysql[server].trim_end_matches('/').to_owned();
    let name = format!("holdfast_{}", unique());
    let mut connection = MySqlConnection::connect(&url).await.expect("MySQL answers");
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    connection.execute(create).await.expect("a database can be created");
    connection.close().await.expect("MySQL answers");
    format!("{url}/{name}")
}

impl Services {
    /// Runs `scripts/services start|stop|kill` for `mysql0`, `mysql1`, `kafka` or `redis` and waits
    /// for it. None where the services are not the script's.
    pub async fn control(&self, name: &str, action: &str) -> Option<()> {
        let dir = self.run.clone()?;
        let arguments = [action.to_owned(), name.to_owned(), "--dir".to_owned(), text(&dir)];
        run_script(arguments.to_vec(), None).await;
        Some(())
    }

    /// From the values of `HOLDFAST_TEST_MYSQL` and the like; `script` holds those of the script.
    fn from_lines(found: &HashMap<String, String>, script: &HashMap<String, String>) -> Self {
        let value = |key: &str| found.get(key).cloned().unwrap_or_default();
        let mysql = value(&variable("mysql"));
        Self {
            mysql: mysql.split(',').filter(|url| !url.is_empty()).map(str::to_owned).collect(),
            kafka: value(&variable("kafka")),
            kafka_secure: value(&variable("kafka_secure")),
            redis: value(&variable("redis")),
            run: script.get("HOLDFAST_TEST_SERVICES_DIR").map(PathBuf::from),
        }
    }
}

fn variable(name: &str) -> String {
    format!("HOLDFAST_TEST_{}", name.to_uppercase())
}

/// libtest captures what is printed with macros; this is seen.
fn say(name: &str, origin: &str, address: &str) {
    let line = format!("services: {name} from {origin}: {address}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("standard error is open");
}

async fn obtain() -> Services {
    let given: HashMap<String, String> = NAMES
        .into_iter()
        .filter_map(|name| Some((variable(name), std::env::var(variable(name)).ok()?)))
        .collect();
    let missing: Vec<&str> =
        NAMES.into_iter().filter(|name| !given.contains_key(&variable(name))).collect();
    let (origin, started) = if missing.is_empty() {
        ("", HashMap::new())
    } else if docker_answers().await {
        ("a container", from_containers(&missing).await)
    } else {
        ("scripts/services", from_script(&missing.join(","), MYSQL_SERVERS, None).await)
    };
    for name in NAMES {
        match (given.get(&variable(name)), started.get(&variable(name))) {
            (Some(address), _) => say(name, "the environment", address),
            (None, Some(address)) => say(name, origin, address),
            (None, None) => panic!("{name} was not started"),
        }
    }
    // Whoever set the addresses may have got them from the script.
    let run = std::env::var("HOLDFAST_TEST_SERVICES_DIR").ok().filter(|_| missing.is_empty());
    let mut found = started;
    found.extend(given);
    found.extend(run.map(|dir| ("HOLDFAST_TEST_SERVICES_DIR".to_owned(), dir)));
    let services = Services::from_lines(&found, &found);
    assert!(services.mysql.len() >= MYSQL_SERVERS, "HOLDFAST_TEST_MYSQL: two servers are needed");
    services
}

// ---- scripts/services

async fn from_script(
    only: &str,
    mysql_servers: usize,
    how: Option<(&'static str, String)>,
) -> HashMap<String, String> {
    let dir = std::env::temp_dir().join(format!("holdfast-{}", unique()));
    let process = std::process::id().to_string();
    let servers = mysql_servers.max(1).to_string();
    let arguments =
        ["up", "--dir", &text(&dir), "--mysql", &servers, "--only", only, "--for-pid", &process];
    let output = run_script(arguments.map(str::to_owned).to_vec(), how).await;
    let pairs = output.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Runs the script, with a variable of its environment, and returns what it prints; what it says goes to standard error.
async fn run_script(arguments: Vec<String>, how: Option<(&'static str, String)>) -> String {
    let run = tokio::task::spawn_blocking(move || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services");
        let output = Command::new(&script)
            .args(&arguments)
            .envs(how)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        let command = arguments.join(" ");
        assert!(output.status.success(), "scripts/services {command} failed; it says why above");
        String::from_utf8(output.stdout).expect("the script prints text")
    });
    run.await.expect("the script succeeds")
}

fn text(path: &Path) -> String {
    path.to_str().expect("the temporary directory has a printable name").to_owned()
}

// ---- containers

/// Whether there is an engine behind the client; the client alone proves nothing.
async fn docker_answers() -> bool {
    let ask = || {
        let mut command = Command::new("docker");
        let command = command.args(["version", "--format", "{{.Server.Version}}"]);
        command.output().is_ok_and(|output| output.status.success())
    };
    tokio::task::spawn_blocking(ask).await.expect("asking does not panic")
}

async fn from_containers(names: &[&str]) -> HashMap<String, String> {
    let mut found = HashMap::new();
    for name in names {
        let address = match *name {
            "mysql" => {
                let mut urls = Vec::new();
                for _ in 0..MYSQL_SERVERS {
                    let image = Mysql::default().with_tag("9");
                    urls.push(format!("mysql://root@{}", container(image.start(), 3306).await));
                }
                urls.join(",")
            }
            "kafka" => {
                let image = Kafka::default()
                    .with_jvm_image()
                    .with_tag("4.1.1")
                    .with_env_var("KAFKA_NODE_ID", "1")
                    .with_env_var("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
                    .with_env_var("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0");
                container(image.start(), KAFKA_PORT.as_u16()).await
            }
            "redis" => {
                let image = Redis::default().with_tag("7");
                format!("redis://{}", container(image.start(), REDIS_PORT).await)
            }
            other => unreachable!("{other} is none of {NAMES:?}"),
        };
        found.insert(variable(name), address);
    }
    found
}

/// Waits for a container and says its address. It is removed when this process has ended, however
/// that happens.
async fn container<I: Image>(
    start: impl Future<
        Output = testcontainers_modules::testcontainers::core::error::Result<ContainerAsync<I>>,
    >,
    port: u16,
) -> String {
    let container = start.await.unwrap_or_else(|error| panic!("no container: {error}"));
    let port = container.get_host_port_ipv4(port).await.expect("the port is mapped");
    let watch = format!(
        "(while kill -0 {}; do sleep 1; done; docker rm --force --volumes {}) &",
        std::process::id(),
        container.id()
    );
    Command::new("sh")
        .args(["-c", &watch])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("there is a shell");
    // Its drop would remove it at the end of the test that happened to ask first.
    std::mem::forget(container);
    format!("127.0.0.1:{port}")
}

#[tokio::test]
async fn every_service_answers() {
    let services = services().await;
    for server in 0..services.mysql.len() {
        let database = fresh_database(server).await;
        let mut connection = MySqlConnection::connect(&database).await.expect("MySQL answers");
        let tables = connection.fetch_all("SHOW TABLES").await.expect("the database is there");
        assert!(tables.is_empty());
    }
    let redis = redis::Client::open(services.redis.as_str()).expect("a URL");
    let mut connection = redis.get_multiplexed_async_connection().await.expect("Redis answers");
    let _: () = redis::cmd("PING").query_async(&mut connection).await.expect("Redis answers");
}
