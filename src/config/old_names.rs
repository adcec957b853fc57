//! Names of an older system, taken where no newer name says anything.

use super::fault::Fault;
use super::mask::masked;
use super::settings::Secrecy;
use std::collections::BTreeMap;
use url::Url;

/// What old names say about one setting.
pub(super) struct OldValue {
    /// The setting's key.
    pub key: &'static str,
    /// The value as the new name would hold it.
    pub text: String,
    /// The names it was made of.
    pub names: &'static str,
}

type Env = BTreeMap<String, String>;

/// The settings that old names in this environment stand for, and what is wrong with them.
pub(super) fn read(env: &Env) -> Vec<Result<OldValue, Fault>> {
    let values = [listen(env), shard(env), mysql(env), kafka(env), redis(env)];
    values.into_iter().flatten().collect()
}

fn get<'a>(env: &'a Env, name: &str) -> Option<&'a str> {
    env.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
}

fn fault(name: &str, value: &str, problem: &str) -> Fault {
    Fault {
        name: name.to_owned(),
        value: Some(masked(Secrecy::Open, value)),
        problem: problem.to_owned(),
    }
}

fn port(env: &Env, name: &str, default: u16) -> Result<u16, Fault> {
    match get(env, name) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| fault(name, text, "must be a port number")),
    }
}

fn listen(env: &Env) -> Option<Result<OldValue, Fault>> {
    get(env, "SERVER_PORT")?;
    let value = port(env, "SERVER_PORT", 0);
    Some(value.map(|port| OldValue {
        key: "listen",
        text: format!("0.0.0.0:{port}"),
        names: "SERVER_PORT",
    }))
}

fn shard(env: &Env) -> Option<Result<OldValue, Fault>> {
    let text = get(env, "CURRENT_SHARD")?.to_owned();
    Some(Ok(OldValue { key: "shards", text, names: "CURRENT_SHARD" }))
}

fn kafka(env: &Env) -> Option<Result<OldValue, Fault>> {
    let text = get(env, "KAFKA_SERVERS")?.to_owned();
    Some(Ok(OldValue { key: "kafka_brokers", text, names: "KAFKA_SERVERS" }))
}

fn redis(env: &Env) -> Option<Result<OldValue, Fault>> {
    let host = get(env, "REDIS_HOST")?;
    Some(port(env, "REDIS_PORT", 6379).map(|port| OldValue {
        key: "redis_url",
        text: format!("redis://{host}:{port}"),
        names: "REDIS_HOST and REDIS_PORT",
    }))
}

fn mysql(env: &Env) -> Option<Result<OldValue, Fault>> {
    get(env, "DB_HOST")?;
    Some(mysql_url(env).map(|text| OldValue {
        key: "mysql_shards",
        text,
        names: "DB_HOST and others",
    }))
}

fn mysql_url(env: &Env) -> Result<String, Fault> {
    let host = get(env, "DB_HOST").unwrap_or_default();
    let refused = |()| fault("DB_HOST", host, "must be the name or address of a host");
    let mut url = Url::parse("mysql://host/").expect("this is a URL");
    url.set_host(Some(host)).map_err(|_| refused(()))?;
    url.set_port(Some(port(env, "DB_PORT", 3306)?)).map_err(refused)?;
    url.set_username(get(env, "DB_USERNAME").unwrap_or("root")).map_err(refused)?;
    url.set_password(password(env)?.as_deref()).map_err(refused)?;
    url.set_path(get(env, "DB_NAME").unwrap_or("holdfast"));
    // The list is comma-separated; the URL standard leaves commas as they are.
    Ok(url.to_string().replace(',', "%2C"))
}

fn password(env: &Env) -> Result<Option<String>, Fault> {
    if let Some(text) = get(env, "DB_PASSWORD") {
        return Ok(Some(text.to_owned()));
    }
    let Some(path) = get(env, "DB_PASSWORD_FILE") else { return Ok(None) };
    std::fs::read_to_string(path).map(|text| Some(text.trim().to_owned())).map_err(|error| {
        fault("DB_PASSWORD_FILE", path, &format!("must be a file that can be read: {error}"))
    })
}
