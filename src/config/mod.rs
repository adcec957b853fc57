//! The configuration: read once, from defaults, `holdfast.toml`, the environment and flags, into
//! plain structs; everything that is wrong is reported at once.

mod access;
mod fault;
mod layers;
mod mask;
mod old_names;
mod parse;
mod reader;
mod settings;
#[cfg(test)]
mod tests;
mod traces;
mod vault;

pub use access::Access;
pub use fault::{Fault, Faults};
pub use layers::{DEFAULT_FILE, Flag, Sources};
pub use mask::Secret;
pub use settings::{SETTINGS, Secrecy, Setting};

use crate::context::Policy;
use crate::domain::Shard;
use crate::roles::Role;
use crate::sealing::MasterKeys;
use crate::tls::TlsFiles;
use crate::trace::TraceSettings;
use reader::Reader;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// What a process is to do and with what.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port` for HTTP.
    pub listen: String,
    /// Whether somebody asked for that address, or it is the default.
    pub listen_given: bool,
    /// The roles of `serve`, in the order of the pipeline.
    pub roles: Vec<Role>,
    /// The shards of the roles other than ingress; none for all.
    pub shards: Option<Vec<Shard>>,
    /// The databases; none where the embedded store is to be used.
    pub mysql: Option<MySql>,
    /// The broker that goes with the databases.
    pub kafka: Kafka,
    /// Redis, if there is one.
    pub redis: Option<Redis>,
    /// The directory of the embedded store and log.
    pub data: PathBuf,
    /// Who is let in.
    pub access: Access,
    /// Form of the log; none for what suits stderr.
    pub log: Option<LogFormat>,
    /// Where traces go; none where they are off.
    pub traces: Option<TraceSettings>,
    /// Times and bounds of the pipeline.
    pub policy: Policy,
    /// How long to wait for services at the start.
    pub start_timeout: Duration,
    /// How long to finish what has begun when told to stop.
    pub stop_timeout: Duration,
    /// How long it takes requests before that, while it says that it is not ready.
    pub drain_delay: Duration,
    /// How HTTP is served.
    pub http: Http,
    /// Whether a crash may leave the process's memory on the disk.
    pub core_dumps: bool,
    /// What personal fields are encrypted with at rest; none for not at all.
    pub encryption: Option<Arc<MasterKeys>>,
}

/// How HTTP is served.
#[derive(Clone, Debug)]
pub struct Http {
    /// Most connections at once.
    pub max_connections: usize,
    /// How long a request's head may take, and a TLS handshake.
    pub header_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// Certificate and key; none for plain HTTP.
    pub tls: Option<TlsFiles>,
}

/// The databases.
#[derive(Clone, Debug)]
pub struct MySql {
    /// One URL a shard.
    pub shards: Vec<Secret>,
    /// One URL a shard, or none at all.
    pub replicas: Vec<Secret>,
    /// How old may be what is read from a replica.
    pub replica_staleness: Duration,
    /// Most connections to one shard.
    pub max_connections: u32,
    /// How long to wait for a connection.
    pub acquire_timeout: Duration,
    /// How long a statement may take.
    pub statement_timeout: Duration,
}

/// The broker.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// `host:port` of some brokers.
    pub brokers: Vec<String>,
    /// Put before topics and groups.
    pub topic_prefix: String,
    /// Partitions of every topic, where `migrate` creates the first shard.
    pub partitions: u32,
    /// Replicas of new topics; -1 for the broker's default.
    pub replication_factor: i32,
    /// librdkafka's options.
    pub options: Vec<(String, Secret)>,
}

/// Redis.
#[derive(Clone, Debug)]
pub struct Redis {
    /// Its URL.
    pub url: Secret,
    /// Put before keys.
    pub prefix: String,
    /// Who vouches for its certificate, where that is not somebody whom everybody trusts.
    pub tls_ca: Option<PathBuf>,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "json" => Ok(Self::Json),
            "pretty" => Ok(Self::Pretty),
            _ => Err(()),
        }
    }
}

/// One line of the listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The setting.
    pub setting: &'static Setting,
    /// Its value, secrets masked; none where it is unset.
    pub value: Option<String>,
    /// `default`, `file …`, `environment`, `flag …`; empty where it is unset.
    pub origin: String,
}

/// A configuration that was read, and where its values came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values, or everything that is wrong with them.
    pub config: Result<Config, Faults>,
    /// Every setting in the order of the table.
    pub effective: Vec<Effective>,
}

/// Reads a configuration.
pub fn load(sources: &Sources) -> Loaded {
    load_with(sources, |_, _| ())
}

/// Reads a configuration with what only a server has to be able to read: its certificate and key.
pub fn load_to_serve(sources: &Sources) -> Loaded {
    load_with(sources, |reader, config| {
        let Some(Err(faults)) = config.http.tls.as_ref().map(TlsFiles::server) else { return };
        for fault in faults {
            reader.refuse(fault.setting, &fault.problem);
        }
    })
}

fn load_with(sources: &Sources, check: impl FnOnce(&mut Reader, &Config)) -> Loaded {
    let mut reader = Reader::new(sources);
    let config = read(&mut reader);
    check(&mut reader, &config);
    let effective = reader.effective();
    Loaded { config: reader.finish(config), effective }
}

fn read(reader: &mut Reader) -> Config {
    let mysql = read_mysql(reader);
    let config = Config {
        listen: reader.get("listen", parse::address),
        listen_given: reader.is_given("listen"),
        roles: reader.get("roles", parse::roles),
        shards: reader.get("shards", parse::shards),
        mysql,
        kafka: read_kafka(reader),
        redis: read_redis(reader),
        data: reader.get("data", parse::any::<PathBuf>),
        access: access::read(reader),
        log: reader.get_optional("log", parse::any::<LogFormat>),
        traces: traces::read(reader),
        policy: read_policy(reader),
        start_timeout: reader.get("start_timeout", parse::duration(ZERO..=DAY)),
        stop_timeout: reader.get("stop_timeout", parse::duration(SECOND..=MINUTE * 10)),
        drain_delay: reader.get("drain_delay", parse::duration(ZERO..=MINUTE * 5)),
        http: read_http(reader),
        core_dumps: reader.get("core_dumps", parse::on_or_off),
        encryption: reader.get_optional("encryption_keys", parse::master_keys),
    };
    check_together(reader, &config);
    config
}

const ZERO: Duration = Duration::ZERO;
const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const TEN_MILLIS: Duration = Duration::from_millis(10);

fn read_mysql(reader: &mut Reader) -> Option<MySql> {
    let replicas = reader.get_optional("mysql_replicas", parse::mysql_urls);
    let max_connections = reader.get("mysql_max_connections", parse::number(2..=10_000));
    let acquire_timeout = reader.get("mysql_acquire_timeout", parse::duration(TEN_MILLIS..=MINUTE));
    let statement = parse::duration(MILLI * 100..=MINUTE * 5);
    let statement_timeout = reader.get("mysql_statement_timeout", statement);
    let staleness = parse::duration(MILLI * 100..=HOUR);
    let replica_staleness = reader.get("replica_staleness", staleness);
    let shards = reader.get_optional("mysql_shards", parse::mysql_urls)?;
    let replicas = replicas.unwrap_or_default();
    Some(MySql {
        shards,
        replicas,
        replica_staleness,
        max_connections,
        acquire_timeout,
        statement_timeout,
    })
}

fn read_kafka(reader: &mut Reader) -> Kafka {
    let topic = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let factor = |text: &str| match text {
        "-1" => Ok(-1),
        _ => parse::number(1..=10)(text),
    };
    Kafka {
        brokers: reader.get("kafka_brokers", parse::addresses),
        topic_prefix: reader.get("kafka_topic_prefix", parse::text(100, topic)),
        partitions: reader.get("kafka_partitions", parse::number(1..=4096)),
        replication_factor: reader.get("kafka_replication_factor", factor),
        options: read_kafka_options(reader),
    }
}

/// librdkafka says of what it was built without that there is no such thing; this says what to do.
fn read_kafka_options(reader: &mut Reader) -> Vec<(String, Secret)> {
    let options = reader.get_optional("kafka_options", parse::pairs).unwrap_or_default();
    let needs_tls = |(name, value): &(String, Secret)| {
        let value = value.expose().to_ascii_lowercase();
        match name.as_str() {
            "security.protocol" => value == "ssl" || value == "sasl_ssl",
            "sasl.mechanism" | "sasl.mechanisms" => value.starts_with("scram"),
            name => name.starts_with("ssl."),
        }
    };
    if !cfg!(feature = "kafka-tls") && options.iter().any(needs_tls) {
        let words = "asks for TLS or SCRAM, which this build of holdfast does not have: take one that was made with `cargo build --features kafka-tls`, such as that of the Dockerfile";
        reader.refuse("kafka_options", words);
    }
    options
}

fn read_redis(reader: &mut Reader) -> Option<Redis> {
    let prefix = reader.get("redis_prefix", parse::text(100, |b| b.is_ascii_graphic()));
    let tls_ca = reader.get_optional("redis_tls_ca", parse::any::<PathBuf>);
    let url = reader.get_optional("redis_url", parse::redis_url);
    if tls_ca.is_some() && !url.as_ref().is_some_and(|url| url.expose().starts_with("rediss:")) {
        reader.refuse("redis_tls_ca", "needs a redis_url that begins with rediss://");
    }
    url.map(|url| Redis { url, prefix, tls_ca })
}

fn read_policy(reader: &mut Reader) -> Policy {
    let standard = Policy::default();
    let instance = |text: &str| {
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(text.to_owned()) } else { Err(None) }
    };
    Policy {
        hold_timeout: reader.get("hold_timeout", parse::duration(SECOND..=DAY * 30)),
        foreign_shard_timeout: reader
            .get("foreign_shard_timeout", parse::duration(TEN_MILLIS..=MINUTE)),
        outbox_limit: reader.get("outbox_limit", parse::number(1..=1_000_000_000)),
        scan_lag: reader.get("scan_lag", parse::duration(ZERO..=HOUR)),
        reconcile_interval: reader.get("reconcile_interval", parse::duration(TEN_MILLIS..=HOUR)),
        full_sweep_interval: reader.get("full_sweep_interval", parse::duration(SECOND..=DAY * 30)),
        drift_interval: reader.get("drift_interval", parse::duration(TEN_MILLIS..=HOUR)),
        drift_full_interval: reader.get("drift_full_interval", parse::duration(SECOND..=DAY * 30)),
        redrive_backoff: reader.get("redrive_backoff", parse::duration(TEN_MILLIS..=HOUR)),
        claim_retention: reader.get("claim_retention", parse::duration(HOUR..=DAY * 3650)),
        default_currency: reader.get("default_currency", parse::any),
        batch: reader.get("batch", parse::number(1..=5000)),
        outbox_poll: reader.get("outbox_poll", parse::duration(MILLI..=MINUTE)),
        proposal_expiry: reader.get("proposal_expiry", parse::duration(MINUTE..=DAY * 30)),
        instance: reader.get_optional("instance", instance).unwrap_or(standard.instance),
    }
}

const LOOPBACK: &str = "must be a loopback address, such as 127.0.0.1:8080, where nobody has to say who they are; create a key (`holdfast key create`) and say auth = keys to listen elsewhere";

impl Config {
    /// The configuration of `dev`, where nobody has to say who they are unless somebody asked for
    /// it.
    pub fn for_dev(mut self) -> Result<Self, Faults> {
        self.access.open = self.access.open || !self.access.given;
        if self.access.open && !parse::is_loopback(&self.listen) {
            return Err(Faults(vec![Fault {
                name: "--listen".to_owned(),
                value: Some(self.listen),
                problem: LOOPBACK.to_owned(),
            }]));
        }
        Ok(self)
    }
}

fn read_http(reader: &mut Reader) -> Http {
    let mut path = |key| reader.get_optional(key, parse::any::<PathBuf>);
    let [cert, key, client_ca] = ["tls_cert", "tls_key", "tls_client_ca"].map(&mut path);
    let tls = match (cert, key) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert, key, client_ca }),
        (Some(_), None) => {
            reader.refuse("tls_key", "must be set together with tls_cert");
            None
        }
        (None, Some(_)) => {
            reader.refuse("tls_cert", "must be set together with tls_key");
            None
        }
        (None, None) => {
            if client_ca.is_some() {
                reader.refuse("tls_client_ca", "needs tls_cert and tls_key");
            }
            None
        }
    };
    Http {
        max_connections: reader.get("http_max_connections", parse::number(1..=1_000_000)),
        header_timeout: reader
            .get("http_header_timeout", parse::duration(MILLI * 100..=MINUTE * 5)),
        idle_timeout: reader.get("http_idle_timeout", parse::duration(SECOND..=HOUR)),
        tls,
    }
}

/// What each value allows alone and no two together.
fn check_together(reader: &mut Reader, config: &Config) {
    if config.policy.foreign_shard_timeout >= config.policy.hold_timeout {
        reader.refuse("foreign_shard_timeout", "must be shorter than the hold timeout");
    }
    if config.access.open && !parse::is_loopback(&config.listen) {
        reader.refuse("listen", LOOPBACK);
    }
    if !config.access.limits.is_empty() && config.redis.is_none() {
        reader.refuse("rate_limits", "needs redis_url: that is where what is left is kept");
    }
    let Some(mysql) = &config.mysql else { return };
    let count = mysql.shards.len();
    if !mysql.replicas.is_empty() && mysql.replicas.len() != count {
        let words = format!("must be {count} URLs, one for each of the shards, or none");
        reader.refuse("mysql_replicas", &words);
    }
    let beyond = |shard: &Shard| usize::from(shard.0) >= count;
    if config.shards.as_ref().is_some_and(|shards| shards.iter().any(beyond)) {
        let words = format!("must be numbers below {count}, which is how many shards there are");
        reader.refuse("shards", &words);
    }
}
