//! The one table of settings: names, defaults, what is allowed and what each is for. Environment
//! names, keys of `holdfast.toml`, messages and `docs/CONFIGURATION.md` all come from it.

/// Which part of a value is never shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// None of it.
    Open,
    /// The passwords of a list of URLs.
    Urls,
    /// The values of those `name=value` pairs whose name speaks of a secret.
    Pairs,
    /// All of it.
    Whole,
}

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its key in `holdfast.toml`; in upper case behind `HOLDFAST_`, its environment name.
    pub key: &'static str,
    /// What holds where nobody says otherwise; none where it is then unset.
    pub default: Option<&'static str>,
    /// What a value must be, to follow the words "must be".
    pub allowed: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Whether it holds a secret; such a setting can also be read from a file.
    pub secrecy: Secrecy,
    /// The name that the flag of `serve` or `dev` has, where there is one.
    pub flag: Option<&'static str>,
}

impl Setting {
    /// The setting with this key.
    pub fn by_key(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// `HOLDFAST_` and the key in upper case.
    pub fn env(&self) -> String {
        format!("HOLDFAST_{}", self.key.to_ascii_uppercase())
    }
}

const fn setting(
    key: &'static str,
    default: Option<&'static str>,
    allowed: &'static str,
    purpose: &'static str,
) -> Setting {
    Setting { key, default, allowed, purpose, secrecy: Secrecy::Open, flag: None }
}

const fn secret(secrecy: Secrecy, setting: Setting) -> Setting {
    Setting { secrecy, ..setting }
}

const fn flagged(flag: &'static str, setting: Setting) -> Setting {
    Setting { flag: Some(flag), ..setting }
}

/// Every setting, in the order in which they are shown.
pub const SETTINGS: &[Setting] = &[
    flagged(
        "--listen",
        setting(
            "listen",
            Some("127.0.0.1:8080"),
            "host:port, such as 0.0.0.0:8080",
            "Where HTTP is served. A process without the ingress role serves only /healthz, /readyz and /metrics there, and only where this is set.",
        ),
    ),
    flagged(
        "--roles",
        setting(
            "roles",
            Some("all"),
            "all, or any of ingress, relay, hold, credit, commit, projector, reconciler, comma-separated",
            "What `serve` does.",
        ),
    ),
    flagged(
        "--shards",
        setting(
            "shards",
            Some("all"),
            "all, or shard numbers from 0, comma-separated",
            "For which shards `serve` runs the roles other than ingress; ingress serves all.",
        ),
    ),
    secret(
        Secrecy::Urls,
        setting(
            "mysql_shards",
            None,
            "URLs such as mysql://user:password@host:3306/database, comma-separated, each another database",
            "The shards; a URL's place in the list is the shard's number. Where it is unset, commands work on the embedded store.",
        ),
    ),
    secret(
        Secrecy::Urls,
        setting(
            "mysql_replicas",
            None,
            "URLs such as mysql://user:password@host:3306/database, comma-separated, one for each shard",
            "A read replica of each shard, from which ingress reads lists, histories and projected balances. The servers need gtid_mode=ON.",
        ),
    ),
    setting(
        "replica_staleness",
        Some("1s"),
        "a duration from 100ms to 1h, such as 1s",
        "How old may be what is read from a replica. One that is further behind, or does not answer, is not read from, and the shard is.",
    ),
    setting(
        "mysql_max_connections",
        Some("32"),
        "a whole number from 2 to 10000",
        "Most connections that one process keeps to one shard.",
    ),
    setting(
        "mysql_acquire_timeout",
        Some("2s"),
        "a duration from 10ms to 1m, such as 2s",
        "How long to wait for a connection before a shard counts as not answering.",
    ),
    setting(
        "mysql_statement_timeout",
        Some("10s"),
        "a duration from 100ms to 5m, such as 10s",
        "How long one statement may take.",
    ),
    setting(
        "kafka_brokers",
        Some("127.0.0.1:9092"),
        "host:port, comma-separated",
        "Kafka brokers to begin with.",
    ),
    setting(
        "kafka_topic_prefix",
        Some(""),
        "up to 100 characters of A-Z a-z 0-9 . _ -",
        "Put before the name of every topic and consumer group, so that clusters can share brokers.",
    ),
    setting(
        "kafka_partitions",
        Some("4"),
        "a whole number from 1 to 4096",
        "Partitions of every topic: as many members of a role can share a shard, and each costs requests of its own. Counts when `migrate` first creates the shards, and is stored with them.",
    ),
    setting(
        "kafka_replication_factor",
        Some("-1"),
        "a whole number from 1 to 10, or -1 for the brokers' own default",
        "Replicas of the topics that `migrate` creates.",
    ),
    secret(
        Secrecy::Pairs,
        setting(
            "kafka_options",
            None,
            "name=value pairs of librdkafka's options, comma-separated, such as security.protocol=ssl",
            "More options for the Kafka client: TLS and SASL, which need a build with `--features kafka-tls`.",
        ),
    ),
    secret(
        Secrecy::Urls,
        setting(
            "redis_url",
            None,
            "a URL such as redis://:password@host:6379/0, or rediss:// for TLS",
            "Redis for balances; without it they are read from MySQL.",
        ),
    ),
    setting(
        "redis_prefix",
        Some("holdfast:"),
        "up to 100 visible ASCII characters",
        "Put before every key in Redis, so that clusters can share it.",
    ),
    flagged(
        "--data",
        setting(
            "data",
            Some("./holdfast-data"),
            "a directory",
            "Where the embedded store and log are.",
        ),
    ),
    setting(
        "log",
        None,
        "json or pretty",
        "Form of the log, which goes to stderr: pretty on a terminal and json elsewhere, where unset. RUST_LOG filters it.",
    ),
    setting(
        "otlp_endpoint",
        None,
        "a URL such as http://collector:4318, without credentials",
        "The OpenTelemetry collector that is sent traces, by OTLP over HTTP; `/v1/traces` is added to its path. No traces are made where it is unset.",
    ),
    secret(
        Secrecy::Whole,
        setting(
            "otlp_headers",
            None,
            "name=value pairs of HTTP headers, comma-separated, such as authorization=Bearer abc",
            "Sent to the collector with every request; beyond this machine only over https.",
        ),
    ),
    setting(
        "trace_sample",
        Some("0.01"),
        "a number from 0 to 1, such as 0.01",
        "The share of requests that begin a trace and are followed; where a caller sent a `traceparent`, its flag decides. What ends badly is exported whatever this says.",
    ),
    setting(
        "hold_timeout",
        Some("5m"),
        "a duration from 1s to 30d, such as 5m",
        "How long a hold stands before it may be given up.",
    ),
    setting(
        "foreign_shard_timeout",
        Some("2s"),
        "a duration from 10ms to 1m, such as 2s, and shorter than the hold timeout",
        "How long a step waits for a shard other than its own that answers nobody before it lets a transfer go, to be driven again; five times as long for one that is busy.",
    ),
    setting(
        "outbox_limit",
        Some("100000"),
        "a whole number from 1 to 1000000000",
        "Unsent outbox records of a shard from which on ingress answers `overloaded`.",
    ),
    setting(
        "outbox_poll",
        Some("4ms"),
        "a duration from 1ms to 1m, such as 4ms",
        "How soon a relay looks for outbox records that ingress in another process may have written; up to 16 times as long while it finds none.",
    ),
    setting(
        "batch",
        Some("1000"),
        "a whole number from 1 to 5000",
        "Most records that a worker takes at once, and most transfers of one transaction.",
    ),
    setting(
        "reconcile_interval",
        Some("1s"),
        "a duration from 10ms to 1h, such as 1s",
        "How often the reconciler looks for transfers that stand still.",
    ),
    setting(
        "scan_lag",
        Some("1m"),
        "a duration from 0s to 1h, such as 1m",
        "How far behind the database's time the reconciler's scan stays.",
    ),
    setting(
        "full_sweep_interval",
        Some("1d"),
        "a duration from 1s to 30d, such as 1d",
        "How often the reconciler looks at all transfers.",
    ),
    setting(
        "drift_interval",
        Some("10s"),
        "a duration from 10ms to 1h, such as 10s",
        "How often the drift check compares what changed since.",
    ),
    setting(
        "drift_full_interval",
        Some("1d"),
        "a duration from 1s to 30d, such as 1d",
        "How often the drift check compares everything, at its ease.",
    ),
    setting(
        "redrive_backoff",
        Some("2s"),
        "a duration from 10ms to 1h, such as 2s",
        "How long the reconciler waits before it drives a transfer a second time; doubles each time.",
    ),
    setting(
        "claim_retention",
        Some("30d"),
        "a duration from 1h to 3650d, such as 30d",
        "How long idempotency keys are kept.",
    ),
    setting(
        "default_currency",
        Some("USD"),
        "an ISO 4217 code such as USD",
        "Currency of requests on the compatibility paths that name none.",
    ),
    setting(
        "instance",
        None,
        "1 to 64 visible ASCII characters",
        "Name of this process among others; made up at each start where unset.",
    ),
    setting(
        "start_timeout",
        Some("1m"),
        "a duration from 0s to 1d, such as 1m",
        "How long a process waits at its start for a service that does not answer, before it ends with exit code 1.",
    ),
    setting(
        "drain_delay",
        Some("0s"),
        "a duration from 0s to 5m, such as 5s",
        "How long a process that was told to stop still takes requests while `/readyz` says that it is not ready: as long as a load balancer needs to notice. Comes before `stop_timeout`. Only for the role ingress.",
    ),
    setting(
        "stop_timeout",
        Some("30s"),
        "a duration from 1s to 10m, such as 30s",
        "How long a process that was told to stop finishes what it has begun.",
    ),
    setting(
        "auth",
        Some("keys"),
        "keys, oidc, or both, comma-separated",
        "How callers of the API say who they are: by API keys (`holdfast key`), by tokens of an OpenID provider, or by either. `dev` asks nobody unless this is set.",
    ),
    flagged(
        "--insecure-no-auth",
        setting(
            "insecure_no_auth",
            Some("false"),
            "true or false, and true only where HTTP is served on a loopback address",
            "Lets everybody do everything, as one principal: for trying out on one machine.",
        ),
    ),
    setting(
        "oidc_issuer",
        None,
        "an https URL, or an http URL of a loopback address, as it stands in the tokens' `iss`",
        "The OpenID provider; its keys are found through `/.well-known/openid-configuration`.",
    ),
    setting(
        "oidc_audience",
        None,
        "1 to 255 visible ASCII characters",
        "What tokens must be for: one of their `aud`.",
    ),
    setting(
        "oidc_algorithms",
        Some("RS256,ES256"),
        "any of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, comma-separated",
        "Signature algorithms of tokens that are taken; no other, whatever a token or a key says.",
    ),
    setting(
        "oidc_roles_claim",
        Some("roles"),
        "1 to 255 visible ASCII characters",
        "Where tokens have their roles: names of members with dots between them, such as realm_access.roles.",
    ),
    setting(
        "oidc_leeway",
        Some("10s"),
        "a duration from 0s to 1m, such as 10s",
        "By how much the clocks of the provider and of this process may differ.",
    ),
    setting(
        "oidc_client_id",
        None,
        "1 to 255 visible ASCII characters",
        "This service at the provider: where it is set, the provider is asked about tokens (RFC 7662), so that one that was revoked is refused.",
    ),
    secret(
        Secrecy::Whole,
        setting(
            "oidc_client_secret",
            None,
            "1 to 1024 characters",
            "The secret that goes with oidc_client_id.",
        ),
    ),
    setting(
        "oidc_introspection_interval",
        Some("10s"),
        "a duration from 1s to 1m, such as 10s",
        "How long the provider's word on a token is taken before it is asked again.",
    ),
    setting(
        "rate_limits",
        None,
        "rules such as merchant:write=100/s+200, @shop:*=50/s, *:read=600/m, strangers=10/m, comma-separated",
        "How often a principal (@name), a role or everybody (*) may call what reads or writes: so many a second, minute or hour, and how many can be saved up beyond. `strangers` are addresses whose credentials do not hold. Buckets are in Redis, which is needed for it.",
    ),
    setting(
        "rate_limits_without_redis",
        Some("open"),
        "open or closed",
        "Whether callers are let through while Redis does not say how much is left, or refused as overloaded.",
    ),
    setting(
        "http_max_connections",
        Some("10000"),
        "a whole number from 1 to 1000000",
        "Most HTTP connections that are open at once; who comes then waits to be let in.",
    ),
    setting(
        "http_header_timeout",
        Some("10s"),
        "a duration from 100ms to 5m, such as 10s",
        "How long the head of an HTTP request may take to arrive, and a TLS handshake; then the connection is closed.",
    ),
    setting(
        "http_idle_timeout",
        Some("75s"),
        "a duration from 1s to 1h, such as 75s",
        "How long an HTTP connection is kept open between two requests; longer than the load balancer keeps its own, so that it is never the one to find it closed.",
    ),
    setting(
        "tls_cert",
        None,
        "a PEM file with a certificate and those that vouch for it, the server's own first",
        "Has HTTP served with TLS; read again when it changes. Set together with the key.",
    ),
    setting(
        "tls_key",
        None,
        "a PEM file with the private key of that certificate, without a passphrase",
        "Read again when it changes. Only `serve` and `dev` need to be able to read it.",
    ),
    setting(
        "tls_client_ca",
        None,
        "a PEM file with the certificates of those who vouch for callers",
        "Has only callers in who show a certificate from one of these, on every path; read again when it changes.",
    ),
    setting(
        "redis_tls_ca",
        None,
        "a PEM file with certificates, for a redis_url that begins with rediss://",
        "Whose word is taken for the certificate of Redis; those whom browsers trust where it is unset.",
    ),
    setting(
        "core_dumps",
        Some("off"),
        "on or off",
        "Whether a process that crashes may leave its memory, with all secrets in it, on the disk.",
    ),
    setting(
        "proposal_expiry",
        Some("1d"),
        "a duration from 1m to 30d, such as 1d",
        "How long a proposal can be approved.",
    ),
    secret(
        Secrecy::Whole,
        setting(
            "encryption_keys",
            None,
            "keys such as 2026-01:BASE64, each a name and 32 bytes in base64, comma-separated, the one that wraps first",
            "Has descriptions, references and metadata encrypted at rest: the first key wraps new data keys, all of them open those that they have wrapped. Unset, nothing is encrypted.",
        ),
    ),
];
