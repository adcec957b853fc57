//! What is deployed, held against the program: variables that it does not know would keep it from
//! starting, and settings that the chart does not know could not be set.

use super::source::{files, name, root};
use super::{fs, none_of};
use holdfast::config::{self, SETTINGS, Secrecy, Setting, Sources};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Settings that values of the chart have their own names for, or that make no sense there, each
/// with what says it.
const OF_THE_CHART: [(&str, &str); 15] = [
    ("listen", "http"),
    ("roles", "groups"),
    ("shards", "groups"),
    ("kafka_brokers", "kafka.brokers"),
    ("kafka_topic_prefix", "kafka.topicPrefix"),
    ("kafka_partitions", "kafka.partitions"),
    ("data", "there is no embedded store"),
    ("instance", "the pod's name"),
    ("drain_delay", "drainDelaySeconds"),
    ("stop_timeout", "stopTimeoutSeconds"),
    ("insecure_no_auth", "never beyond one machine"),
    ("tls_cert", "tls.secretName"),
    ("tls_key", "tls.secretName"),
    ("tls_client_ca", "tls.clientCa"),
    ("redis_tls_ca", "trust.redisCa"),
];

fn deployed() -> Vec<PathBuf> {
    let mut paths = files(&root().join("deploy"));
    paths.extend(["docker-compose.yml", "Dockerfile"].map(|file| root().join(file)));
    paths
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every whole name of a variable of ours in a text; a template's `HOLDFAST_{{ … }}` is none.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("HOLDFAST_").filter_map(|(at, prefix)| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
        let whole = &rest[..end.unwrap_or(rest.len())];
        (whole.len() > prefix.len()).then_some(whole)
    })
}

fn known() -> BTreeSet<String> {
    let file = |setting: &Setting| {
        (setting.secrecy != Secrecy::Open).then(|| format!("{}_FILE", setting.env()))
    };
    SETTINGS.iter().flat_map(|setting| [Some(setting.env()), file(setting)]).flatten().collect()
}

#[test]
fn what_is_deployed_names_only_variables_that_the_program_has() {
    let known = known();
    let mut faults = Vec::new();
    let mut found = 0;
    for path in deployed() {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for variable in variables(&text) {
            found += 1;
            if !known.contains(variable) {
                faults.push(format!("{}: {variable} is no setting", name(&path)));
            }
        }
    }
    assert!(found > 40, "only {found} variables were looked at");
    none_of(&faults);
}

#[test]
fn the_chart_knows_every_setting() {
    let schema: Value = serde_json::from_str(&read("deploy/helm/holdfast/values.schema.json"))
        .expect("the schema is JSON");
    let keys = |pointer: &str| -> BTreeSet<&str> {
        let object = schema.pointer(pointer).and_then(Value::as_object);
        object.expect("the schema has it").keys().map(String::as_str).collect()
    };
    let own: BTreeSet<&str> = OF_THE_CHART.iter().map(|(key, _)| *key).collect();
    let (open, secret): (Vec<&Setting>, Vec<&Setting>) =
        SETTINGS.iter().partition(|setting| setting.secrecy == Secrecy::Open);
    let open: BTreeSet<&str> =
        open.iter().map(|setting| setting.key).filter(|key| !own.contains(key)).collect();
    let secret: BTreeSet<&str> = secret.iter().map(|setting| setting.key).collect();
    assert_eq!(
        keys("/$defs/settings/properties"),
        open,
        "values.schema.json, $defs.settings: a setting is there as \"key\": {{\"$ref\": \"#/$defs/setting\"}}"
    );
    assert_eq!(
        keys("/properties/secrets/properties"),
        secret,
        "values.schema.json, secrets: one is there as \"key\": {{\"$ref\": \"#/$defs/secret\"}}"
    );
    for pointer in ["/$defs/settings", "/properties/secrets", ""] {
        let closed = schema.pointer(pointer).unwrap().get("additionalProperties");
        assert_eq!(closed, Some(&Value::Bool(false)), "{pointer} takes whatever it is given");
    }
}

#[test]
fn every_example_of_a_unit_is_a_configuration_that_starts() {
    let folder = root().join("deploy/systemd/examples");
    let shared: toml::Table = read("deploy/systemd/examples/holdfast.toml").parse().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let urls = "mysql://holdfast@db0/holdfast,mysql://holdfast@db1/holdfast";
    let mut file = toml::Table::new();
    for (key, value) in shared {
        // The machine that the example is for has these files.
        let (key, value) = match key.strip_suffix("_file") {
            None => (key, value),
            Some("mysql_shards") => ("mysql_shards".to_owned(), urls.into()),
            Some("redis_url") => ("redis_url".to_owned(), "redis://redis:6379".into()),
            Some(other) => panic!("what stands for {other} here?"),
        };
        file.insert(key, value);
    }
    let path = scratch.path().join("holdfast.toml");
    fs::write(&path, toml::to_string(&file).unwrap()).unwrap();

    let mut roles = BTreeSet::new();
    for example in files(&folder).iter().filter(|path| path.extension().is_some_and(|e| e == "env"))
    {
        let text = fs::read_to_string(example).unwrap();
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let pair = |line: &str| {
            let (name, value) = line.split_once('=').expect("NAME=VALUE");
            (name.to_owned(), value.to_owned())
        };
        let env: BTreeMap<String, String> = lines.map(pair).collect();
        let sources = Sources { file: Some(path.clone()), env, flags: Vec::new() };
        let config = config::load(&sources).config;
        let config = config.unwrap_or_else(|faults| panic!("{}: {faults}", name(example)));
        assert!(config.listen_given, "{} has no probes", name(example));
        roles.extend(config.roles);
    }
    assert_eq!(roles.len(), holdfast::roles::Role::ALL.len(), "the examples run {roles:?}");
}

/// The number of seconds behind `key` in one of our units or files.
fn seconds(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(key)).expect(key);
    let digits: String = line.chars().skip_while(|c| !c.is_ascii_digit()).collect();
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect(key)
}

#[test]
fn nobody_is_killed_before_the_program_has_ended() {
    let by_default = Setting::by_key("stop_timeout").unwrap().default.unwrap();
    let by_default = seconds(by_default, "");
    let unit = seconds(&read("deploy/systemd/holdfast@.service"), "TimeoutStopSec=");
    let example = seconds(&read("deploy/systemd/examples/holdfast.toml"), "stop_timeout =");
    assert!(unit > example && unit > by_default, "{unit} s, and {example} s are asked for");
    let compose = seconds(&read("docker-compose.yml"), "stop_grace_period:");
    assert!(compose > by_default, "{compose} s");
}

#[test]
fn the_chart_is_of_this_release_and_its_document_shows_what_is_checked() {
    let chart = read("deploy/helm/holdfast/Chart.yaml");
    let version = format!("\nappVersion: \"{}\"\n", env!("CARGO_PKG_VERSION"));
    assert!(chart.contains(&version), "Chart.yaml should say {version}");
    let example = read("deploy/helm/holdfast/ci/four-shards.yaml");
    let document = read("deploy/helm/holdfast/README.md");
    assert!(
        document.contains(&format!("```yaml\n{example}```")),
        "deploy/helm/holdfast/README.md should have the whole of ci/four-shards.yaml"
    );
}
