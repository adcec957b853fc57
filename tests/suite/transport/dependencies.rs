//! MySQL and Redis that refuse whoever comes without TLS.

use super::authority::Authority;
use crate::cli::program::{Program, answer};
use crate::services::{Services, own_services_with_tls, unique};
use holdfast::cache::{BalanceCache, CacheError};
use holdfast::store::StoreError;
use holdfast::store::mysql::{self, MySqlSettings};
use sqlx::{Connection, Executor, MySqlConnection};
use tempfile::TempDir;

const PASSWORD: &str = "s3cret";

/// Services whose certificate is for `localhost` alone.
struct World {
    files: TempDir,
    services: Services,
}

impl World {
    async fn new(only: &str) -> Self {
        let authority = Authority::new();
        let server = authority.issue(&["localhost"]);
        let files = TempDir::new().unwrap();
        for (name, text) in [
            ("ca.pem", authority.pem),
            ("cert.pem", server.cert),
            ("key.pem", server.key),
            ("other.pem", Authority::new().pem),
            ("kafka-password", PASSWORD.to_owned()),
        ] {
            std::fs::write(files.path().join(name), text).unwrap();
        }
        let services = own_services_with_tls(only, files.path()).await;
        Self { files, services }
    }

    fn file(&self, name: &str) -> String {
        self.files.path().join(name).to_str().unwrap().to_owned()
    }

    /// By the name that the certificate has.
    fn redis(&self) -> String {
        self.services.redis.replace("127.0.0.1", "localhost")
    }

    /// The same, with a database that is empty.
    async fn mysql(&self) -> String {
        let server = &self.services.mysql[0];
        let mut connection =
            MySqlConnection::connect(&format!("{server}/?ssl-mode=REQUIRED")).await.unwrap();
        let name = format!("holdfast_{}", unique());
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        connection.execute(create).await.unwrap();
        format!("{}/{name}", server.replace("127.0.0.1", "localhost"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_reached_with_tls_and_only_with_the_right_authority() {
    let world = World::new("redis").await;
    let ask = async |url: &str, ca: Option<&str>| {
        let ca = ca.map(|name| std::fs::read(world.file(name)).unwrap());
        BalanceCache::with_ca(url, "tls:", ca).unwrap().ping().await
    };
    let url = world.redis();
    ask(&url, Some("ca.pem")).await.unwrap();
    let misnamed = url.replace("localhost", "127.0.0.1");
    for (url, ca) in [(&url, Some("other.pem")), (&url, None), (&misnamed, Some("ca.pem"))] {
        let error = ask(url, ca).await.unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    let plain = ask(&url.replace("rediss://", "redis://"), None).await.unwrap_err();
    assert!(matches!(plain, CacheError::Redis(_) | CacheError::Silent), "{plain}");
    let damaged = b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n".to_vec();
    assert!(BalanceCache::with_ca(&url, "tls:", Some(damaged)).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_is_reached_with_tls_and_only_with_the_right_authority() {
    let world = World::new("mysql").await;
    let url = world.mysql().await;
    let misnamed = url.replace("localhost", "127.0.0.1");
    let look = async |url: &str, query: &str| {
        let settings = MySqlSettings::new(vec![format!("{url}?{query}")]);
        mysql::pending(&settings).await.map(|_| ())
    };
    let (right, other) = (world.file("ca.pem"), world.file("other.pem"));
    for (url, query) in [
        (&url, format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={right}")),
        // Who names an authority and no mode means to have it asked.
        (&url, format!("ssl-ca={right}")),
        (&misnamed, format!("ssl-mode=VERIFY_CA&ssl-ca={right}")),
        (&misnamed, "ssl-mode=REQUIRED".to_owned()),
    ] {
        look(url, &query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    }
    for (url, query, words) in [
        (&url, format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={other}"), "certificate"),
        (&url, format!("ssl-ca={other}"), "certificate"),
        (&url, "ssl-mode=VERIFY_IDENTITY".to_owned(), "certificate"),
        (&misnamed, format!("ssl-ca={right}"), "certificate"),
        (&url, format!("ssl-ca={right}.gone"), "No such file"),
        (&url, "ssl-mode=DISABLED".to_owned(), "require_secure_transport"),
    ] {
        let error = look(url, &query).await.unwrap_err();
        let known = matches!(error, StoreError::Unavailable { .. } | StoreError::Failed { .. });
        assert!(known && error.to_string().contains(words), "{query}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_runs_on_services_that_require_tls() {
    let world = World::new("mysql,kafka,redis").await;
    let database = world.mysql().await;
    let program = |ca: &str| {
        Program::new()
            .with("HOLDFAST_MYSQL_SHARDS", &format!("{database}?ssl-ca={}", world.file(ca)))
            .with("HOLDFAST_KAFKA_BROKERS", &world.services.kafka)
            .with("HOLDFAST_KAFKA_PARTITIONS", "1")
            .with("HOLDFAST_REDIS_URL", &world.redis())
            .with("HOLDFAST_REDIS_TLS_CA", &world.file(ca))
            .with("HOLDFAST_START_TIMEOUT", "2s")
            .with("HOLDFAST_LISTEN", "127.0.0.1:0")
    };
    program("ca.pem").succeed(&["migrate"]);
    let program_with_ca = program("ca.pem");
    let mut running = program_with_ca.start(&["serve"]);
    let ready = answer(&format!("{}/readyz", running.listening()), 200).await;
    for dependency in ready["dependencies"].as_array().unwrap() {
        assert_eq!(dependency["status"], "up", "{ready}");
    }
    running.signal("TERM");
    assert_eq!(running.ended().code, Some(0));

    let refused = program("other.pem").run(&["serve"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("certificate"), "{refused:?}");
    let absent = program("absent.pem").run(&["serve"]);
    assert_eq!(absent.code, Some(64), "{absent:?}");
    assert!(absent.stderr.contains("HOLDFAST_REDIS_TLS_CA"), "{absent:?}");
}

/// Needs a build with the feature; without it such options are refused, which is tested elsewhere.
#[cfg(feature = "kafka-tls")]
#[tokio::test(flavor = "multi_thread")]
async fn kafka_is_reached_with_tls_and_scram() {
    let world = World::new("mysql,kafka").await;
    let database = world.mysql().await;
    let program = |ca: &str, password: &str| {
        let options = format!(
            "security.protocol=sasl_ssl,sasl.mechanism=SCRAM-SHA-512,sasl.username=holdfast,\
             sasl.password={password},ssl.ca.location={}",
            world.file(ca)
        );
        Program::new()
            .with("HOLDFAST_MYSQL_SHARDS", &format!("{database}?ssl-ca={}", world.file("ca.pem")))
            .with("HOLDFAST_KAFKA_BROKERS", &world.services.kafka_secure)
            .with("HOLDFAST_KAFKA_OPTIONS", &options)
            .with("HOLDFAST_KAFKA_PARTITIONS", "1")
            .with("HOLDFAST_START_TIMEOUT", "5s")
            .with("HOLDFAST_LISTEN", "127.0.0.1:0")
    };
    program("ca.pem", PASSWORD).succeed(&["migrate"]);
    let program_with_all = program("ca.pem", PASSWORD);
    let mut running = program_with_all.start(&["serve"]);
    let ready = answer(&format!("{}/readyz", running.listening()), 200).await;
    for dependency in ready["dependencies"].as_array().unwrap() {
        assert_eq!(dependency["status"], "up", "{ready}");
    }
    running.signal("TERM");
    assert_eq!(running.ended().code, Some(0));
    for (refused, words) in [
        (program("other.pem", PASSWORD), "SSL handshake failed"),
        (program("ca.pem", "other"), "SASL authentication error"),
    ] {
        let output = refused.run(&["serve"]);
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.stderr.contains(words), "{output:?}");
        assert!(!output.stderr.contains(PASSWORD), "{output:?}");
    }
}
