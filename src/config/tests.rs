//! Layers, faults and masks of the configuration.

use super::*;
use std::collections::BTreeMap;

fn sources(env: &[(&str, &str)]) -> Sources {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Sources { env: env.collect(), ..Sources::default() }
}

fn config(env: &[(&str, &str)]) -> Config {
    load(&sources(env)).config.unwrap()
}

fn faults(env: &[(&str, &str)]) -> Vec<Fault> {
    load(&sources(env)).config.unwrap_err().0
}

fn shown<'a>(loaded: &'a Loaded, key: &str) -> (&'a str, &'a str) {
    let line = loaded.effective.iter().find(|line| line.setting.key == key).unwrap();
    (line.value.as_deref().unwrap_or(""), &line.origin)
}

#[test]
fn defaults_are_those_of_the_policy() {
    let instance = "here".to_owned();
    let read = config(&[("HOLDFAST_INSTANCE", "here")]).policy;
    let standard = Policy { instance, ..Policy::default() };
    assert_eq!(format!("{read:?}"), format!("{standard:?}"));
}

#[test]
fn nothing_set_means_embedded_and_all_roles() {
    let config = config(&[]);
    assert!(config.mysql.is_none() && config.redis.is_none() && !config.listen_given);
    assert_eq!(config.roles, Role::ALL);
    assert_eq!(config.shards, None);
}

#[test]
fn all_faults_are_reported_at_once() {
    let faults = faults(&[
        ("HOLDFAST_LISTEN", "nowhere"),
        ("HOLDFAST_ROLES", "hold,janitor"),
        ("HOLDFAST_SHARDS", "0,5"),
        ("HOLDFAST_HOLD_TIMEOUT", "300"),
        ("HOLDFAST_MYSQL_SHARDS", "mysql://app:s3cret@db/a,mysql://app:s3cret@db/a"),
        ("HOLDFAST_REDIS_URL", "http://cache"),
        ("HOLDFAST_LISTN", "x"),
        ("HOLDFAST_MYSQL_REPLICAS_FILE", "/nowhere/at/all"),
        ("DB_PORT", "x"),
        ("DB_HOST", "db"),
    ]);
    let names: Vec<&str> = faults.iter().map(|fault| fault.name.as_str()).collect();
    for name in [
        "HOLDFAST_LISTEN",
        "HOLDFAST_ROLES",
        "HOLDFAST_HOLD_TIMEOUT",
        "HOLDFAST_MYSQL_SHARDS",
        "HOLDFAST_REDIS_URL",
        "HOLDFAST_LISTN",
        "HOLDFAST_MYSQL_REPLICAS_FILE",
        "DB_PORT",
    ] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    assert!(!Faults(faults).to_string().contains("s3cret"));
}

#[test]
fn a_misspelt_name_is_answered_with_the_right_one() {
    let faults = faults(&[("HOLDFAST_MYSQL_SHARD", "x"), ("HOLDFAST_WEATHER", "fine")]);
    assert!(faults[0].problem.contains("HOLDFAST_MYSQL_SHARDS"), "{faults:?}");
    assert!(faults[1].problem.contains("holdfast config"), "{faults:?}");
}

#[test]
fn names_of_the_tests_are_left_alone() {
    config(&[("HOLDFAST_TEST_MYSQL", "x"), ("HOLDFAST_CACHE", "y"), ("HOLDFAST_LOG", "")]);
}

#[test]
fn a_shard_that_does_not_exist_is_a_fault() {
    let urls = "mysql://u@db/a,mysql://u@db/b";
    let faults = faults(&[("HOLDFAST_MYSQL_SHARDS", urls), ("HOLDFAST_SHARDS", "1,2")]);
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].name, "HOLDFAST_SHARDS");
}

#[test]
fn names_of_the_older_system_count_where_the_new_ones_are_absent() {
    let old = [
        ("DB_HOST", "db"),
        ("DB_PORT", "3307"),
        ("DB_NAME", "payments"),
        ("DB_USERNAME", "app"),
        ("DB_PASSWORD", "p@ss,w/rd"),
        ("REDIS_HOST", "cache"),
        ("REDIS_PORT", "6380"),
        ("KAFKA_SERVERS", "k1:9092,k2:9092"),
        ("CURRENT_SHARD", "0"),
        ("SERVER_PORT", "9000"),
    ];
    let config = config(&old);
    let mysql = config.mysql.unwrap();
    assert_eq!(mysql.shards[0].expose(), "mysql://app:p%40ss%2Cw%2Frd@db:3307/payments");
    assert_eq!(config.redis.unwrap().url.expose(), "redis://cache:6380");
    assert_eq!(config.kafka.brokers, ["k1:9092", "k2:9092"]);
    assert_eq!(config.shards, Some(vec![Shard(0)]));
    assert_eq!(config.listen, "0.0.0.0:9000");

    let mut both = old.to_vec();
    both.push(("HOLDFAST_LISTEN", "127.0.0.1:1"));
    both.push(("HOLDFAST_MYSQL_SHARDS", "mysql://u@new/a"));
    let loaded = load(&sources(&both));
    assert_eq!(shown(&loaded, "listen"), ("127.0.0.1:1", "environment"));
    assert_eq!(shown(&loaded, "mysql_shards"), ("mysql://u@new/a", "environment"));
    assert_eq!(shown(&loaded, "redis_url").1, "environment REDIS_HOST and REDIS_PORT");
}

#[test]
fn later_layers_win_and_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("h.toml");
    let text =
        "batch = 7\nhold_timeout = \"9m\"\nroles = [\"hold\", \"credit\"]\nlisten = \"a:1\"\n";
    std::fs::write(&file, text).unwrap();
    let mut sources = sources(&[("HOLDFAST_BATCH", "8"), ("HOLDFAST_LISTEN", "b:2")]);
    sources.file = Some(file.clone());
    sources.flags = vec![Flag { key: "listen", value: "c:3".to_owned() }];
    let loaded = load(&sources);
    let from_file = format!("file {}", file.display());
    assert_eq!(shown(&loaded, "hold_timeout"), ("9m", from_file.as_str()));
    assert_eq!(shown(&loaded, "batch"), ("8", "environment"));
    assert_eq!(shown(&loaded, "listen"), ("c:3", "flag --listen"));
    assert_eq!(shown(&loaded, "scan_lag"), ("1m", "default"));
    let config = loaded.config.unwrap();
    assert_eq!((config.policy.batch, config.listen.as_str()), (8, "c:3"));
    assert_eq!(config.roles, [Role::Hold, Role::Credit]);
}

#[test]
fn faults_of_a_file_name_it_and_never_quote_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("h.toml");
    let load_text = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let sources = Sources { file: Some(file.clone()), ..Sources::default() };
        load(&sources).config.unwrap_err().to_string()
    };
    let broken = load_text("batch = 1\nmysql_shards = \"mysql://u:s3cret@db/a\n");
    assert!(broken.contains("line 2") && !broken.contains("s3cret"), "{broken}");
    let wrong = load_text("bath = 1\nscan_lag = true\n[kafka]\nbrokers = \"a:1\"\n");
    assert!(wrong.contains("did you mean batch?") && wrong.contains("scan_lag in "), "{wrong}");
    assert_eq!(wrong.lines().count(), 3, "{wrong}");
    let missing = Sources { file: Some(dir.path().join("none.toml")), ..Sources::default() };
    assert!(load(&missing).config.is_err());
}

#[test]
fn secrets_can_be_read_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shards");
    std::fs::write(&path, "mysql://u:s3cret@db/a\n").unwrap();
    let path = path.to_str().unwrap();
    let loaded = load(&sources(&[("HOLDFAST_MYSQL_SHARDS_FILE", path)]));
    assert_eq!(shown(&loaded, "mysql_shards").0, "mysql://u:***@db/a");
    assert_eq!(loaded.config.unwrap().mysql.unwrap().shards[0].expose(), "mysql://u:s3cret@db/a");
    let both = [("HOLDFAST_REDIS_URL_FILE", path), ("HOLDFAST_REDIS_URL", "redis://c")];
    assert!(faults(&both)[0].problem.contains("set one of the two"));
    assert_eq!(faults(&[("HOLDFAST_BATCH_FILE", path)]).len(), 1);
}

#[test]
fn no_part_of_a_loaded_configuration_prints_a_secret() {
    let loaded = load(&sources(&[
        ("HOLDFAST_MYSQL_SHARDS", "mysql://u:s3cret@db/a"),
        ("HOLDFAST_REDIS_URL", "redis://:s3cret@c"),
        ("HOLDFAST_KAFKA_OPTIONS", "sasl.password=s3cret"),
    ]));
    assert!(loaded.config.is_ok());
    assert!(!format!("{loaded:?}").contains("s3cret"));
}

#[test]
fn keys_are_unique_and_their_words_fit_into_sentences() {
    let keys: BTreeMap<&str, &Setting> = SETTINGS.iter().map(|one| (one.key, one)).collect();
    assert_eq!(keys.len(), SETTINGS.len());
    for setting in SETTINGS {
        assert!(
            setting.purpose.ends_with('.') && !setting.allowed.ends_with('.'),
            "{}",
            setting.key
        );
    }
}

#[test]
fn options_of_a_database_that_nobody_knows_are_refused() {
    for (query, words) in [
        ("ssl_mode=VERIFY_IDENTITY", "an option that is none of ssl-mode"),
        ("ssl-mode=VERIFIED", "an ssl-mode that is none of DISABLED"),
        ("charset=utf8mb4&sslmode=REQUIRED", "an option that is none of"),
    ] {
        let url = format!("mysql://u:s3cret@db/a?{query}");
        let faults = Faults(faults(&[("HOLDFAST_MYSQL_SHARDS", &url)])).to_string();
        assert!(faults.contains(words) && !faults.contains("s3cret"), "{faults}");
    }
    config(&[("HOLDFAST_MYSQL_SHARDS", "mysql://u@db/a?ssl-mode=verify_identity&ssl-ca=/ca.pem")]);
}

#[test]
fn files_of_tls_come_in_pairs_and_with_what_they_are_for() {
    for (given, missing) in [
        (vec![("HOLDFAST_TLS_CERT", "/a")], "HOLDFAST_TLS_KEY"),
        (vec![("HOLDFAST_TLS_KEY", "/a")], "HOLDFAST_TLS_CERT"),
        (vec![("HOLDFAST_TLS_CLIENT_CA", "/a")], "HOLDFAST_TLS_CLIENT_CA"),
        (vec![("HOLDFAST_REDIS_TLS_CA", "/a")], "HOLDFAST_REDIS_TLS_CA"),
        (
            vec![("HOLDFAST_REDIS_TLS_CA", "/a"), ("HOLDFAST_REDIS_URL", "redis://c")],
            "HOLDFAST_REDIS_TLS_CA",
        ),
    ] {
        let faults = faults(&given);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].name, missing);
    }
    // Whether they can be read is asked where they are used.
    let both = [("HOLDFAST_TLS_CERT", "/nowhere/a"), ("HOLDFAST_TLS_KEY", "/nowhere/b")];
    assert!(config(&both).http.tls.is_some());
    assert_eq!(load_to_serve(&sources(&both)).config.unwrap_err().0.len(), 2);
}
