//! `config` and exit code 64.

use super::program::Program;

const SECRET: &str = "s3cret";

fn with_secrets() -> Program {
    Program::new()
        .with("HOLDFAST_MYSQL_SHARDS", "mysql://app:s3cret@db0/h,mysql://app:s3cret@db1/h")
        .with("HOLDFAST_REDIS_URL", "redis://:s3cret@cache")
        .with("HOLDFAST_KAFKA_OPTIONS", "security.protocol=sasl_plaintext,sasl.password=s3cret")
}

#[test]
fn the_effective_configuration_names_origins_and_masks_secrets() {
    let program = with_secrets();
    program.file("holdfast.toml", "batch = 7\n");
    let json = program.json(&["config"]);
    let line = |name: &str| {
        let lines = json["data"].as_array().unwrap();
        lines.iter().find(|line| line["name"] == name).unwrap().clone()
    };
    assert_eq!(
        line("HOLDFAST_MYSQL_SHARDS")["value"],
        "mysql://app:***@db0/h,mysql://app:***@db1/h"
    );
    assert_eq!(line("HOLDFAST_BATCH")["value"], "7");
    assert_eq!(line("HOLDFAST_BATCH")["from"], "file holdfast.toml");
    assert_eq!(line("HOLDFAST_ROLES")["from"], "default");
    for args in [&["config"][..], &["config", "--format", "json"], &["config", "--check"]] {
        let output = program.run(args);
        assert_eq!(output.code, Some(0), "{output:?}");
        assert!(!format!("{output:?}").contains(SECRET), "{output:?}");
    }
}

#[test]
fn every_fault_is_named_at_once_and_no_secret_is_shown() {
    let faulty = with_secrets()
        .with("HOLDFAST_BATCH", "many")
        .with("HOLDFAST_HOLD_TIMEOUT", "300")
        .with("HOLDFAST_LISTN", "x")
        .with("HOLDFAST_MYSQL_REPLICAS", "postgres://app:s3cret@db/h")
        .with("HOLDFAST_TEST_ANYTHING", "x");
    faulty.file("holdfast.toml", "colour = \"red\"\n");
    for args in [&["config", "--check"][..], &["config"], &["serve"], &["dev"], &["status"]] {
        let output = faulty.run(args);
        assert_eq!(output.code, Some(64), "{args:?}: {output:?}");
        for name in [
            "HOLDFAST_BATCH is 'many'",
            "HOLDFAST_HOLD_TIMEOUT is '300'",
            "HOLDFAST_LISTN",
            "did you mean HOLDFAST_LISTEN?",
            "HOLDFAST_MYSQL_REPLICAS is 'postgres://app:***@db/h'",
            "colour in holdfast.toml",
        ] {
            assert!(output.stderr.contains(name), "{args:?} does not say {name}: {output:?}");
        }
        assert!(!format!("{output:?}").contains(SECRET), "{output:?}");
        assert!(!output.stderr.contains("HOLDFAST_TEST_"), "{output:?}");
    }
}

#[test]
fn a_setting_that_only_the_client_library_can_refuse_is_bad_configuration() {
    let program = with_secrets().with("HOLDFAST_KAFKA_OPTIONS", "no.such.option=1");
    let output = program.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.code, Some(64), "{output:?}");
    assert!(output.stderr.contains("HOLDFAST_KAFKA_OPTIONS"), "{output:?}");
}

#[test]
fn serving_without_shards_is_bad_configuration() {
    let output = Program::new().run(&["serve"]);
    assert_eq!(output.code, Some(64), "{output:?}");
    assert!(output.stderr.contains("HOLDFAST_MYSQL_SHARDS"), "{output:?}");
    assert!(output.stderr.contains("holdfast dev"), "{output:?}");
}

#[test]
fn what_kafka_needs_another_build_for_is_said() {
    for options in ["security.protocol=SSL", "sasl.mechanism=SCRAM-SHA-512", "ssl.ca.location=a"] {
        let output =
            Program::new().with("HOLDFAST_KAFKA_OPTIONS", options).run(&["config", "--check"]);
        if cfg!(feature = "kafka-tls") {
            assert_eq!(output.code, Some(0), "{output:?}");
        } else {
            assert_eq!(output.code, Some(64), "{output:?}");
            assert!(output.stderr.contains("--features kafka-tls"), "{output:?}");
        }
    }
}
