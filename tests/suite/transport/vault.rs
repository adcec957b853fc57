//! Secrets from Vault. What answers here is a server that speaks as Vault does.

use crate::cli::program::Program;
use axum::Json;
use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use holdfast::runtime::{Door, HttpLimits};
use serde_json::{Value, json};
use std::time::Duration;

const TOKEN: &str = "t0ken";
const SECRET: &str = "s3cret";
const MINUTE: Duration = Duration::from_secs(60);

/// A Vault with one secret, for who has the token and is in the right namespace.
async fn vault() -> String {
    let limits = HttpLimits { connections: 10, head: MINUTE, idle: MINUTE, answer: MINUTE };
    let router = Router::new().route("/v1/{*path}", get(answer));
    let door = Door::open_plain("127.0.0.1:0", limits, router).await.unwrap();
    format!("http://{}", door.address())
}

async fn answer(Path(path): Path<String>, headers: HeaderMap) -> Response {
    let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap());
    let errors = |status: StatusCode| (status, Json(json!({"errors": []}))).into_response();
    if header("x-vault-token") != TOKEN || header("x-vault-namespace") != "payments" {
        return errors(StatusCode::FORBIDDEN);
    }
    let body = |data: Value| Json(json!({"request_id": "a", "data": data})).into_response();
    match path.as_str() {
        "secret/data/holdfast" => body(json!({
            "data": {
                "mysql_shards": format!("mysql://app:{SECRET}@127.0.0.1:1/a"),
                "redis_url": format!("redis://:{SECRET}@127.0.0.1:1\n"),
                "wrong": format!("http://{SECRET}"),
                "number": 7,
            },
            "metadata": {"version": 1},
        })),
        // What an older store answers.
        "kv/holdfast" => body(json!({"redis_url": SECRET})),
        "secret/data/sealed" => errors(StatusCode::SERVICE_UNAVAILABLE),
        "secret/data/broken" => format!("<{SECRET}>").into_response(),
        _ => errors(StatusCode::NOT_FOUND),
    }
}

fn program(address: &str) -> Program {
    Program::new()
        .with("VAULT_ADDR", address)
        .with("VAULT_TOKEN", TOKEN)
        .with("VAULT_NAMESPACE", "payments")
}

/// The program's end with code 64, and what it said, which is never the secret or the token.
fn refused(program: &Program) -> String {
    let output = program.run(&["config", "--check"]);
    assert_eq!(output.code, Some(64), "{output:?}");
    let said = format!("{output:?}");
    assert!(!said.contains(SECRET) && !said.contains(TOKEN), "{said}");
    output.stderr
}

#[tokio::test(flavor = "multi_thread")]
async fn values_come_from_vault_and_are_not_shown() {
    let program = program(&vault().await)
        .with("HOLDFAST_MYSQL_SHARDS", "vault:secret/data/holdfast#mysql_shards")
        .with("HOLDFAST_REDIS_URL", "vault:secret/data/holdfast#redis_url");
    program.succeed(&["config", "--check"]);
    let json = program.json(&["config"]);
    for name in ["HOLDFAST_MYSQL_SHARDS", "HOLDFAST_REDIS_URL"] {
        let lines = json["data"].as_array().unwrap();
        let line = lines.iter().find(|line| line["name"] == name).unwrap();
        assert_eq!(line["value"], "***");
        assert_eq!(line["from"], "vault secret/data/holdfast");
    }
    // It is the value that is used: nobody is at that address.
    let output = program.run(&["account", "list"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("127.0.0.1:1/a"), "{output:?}");
    assert!(!format!("{output:?}").contains(SECRET), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_can_be_in_a_file() {
    let program = Program::new()
        .with("VAULT_ADDR", &vault().await)
        .with("VAULT_NAMESPACE", "payments")
        .with("HOLDFAST_REDIS_URL", "vault:secret/data/holdfast#redis_url");
    let file = program.file("token", &format!("{TOKEN}\n"));
    let program = program.with("VAULT_TOKEN_FILE", file.to_str().unwrap());
    program.succeed(&["config", "--check"]);
    let said = refused(&program.with("VAULT_TOKEN", TOKEN));
    assert!(said.contains("VAULT_TOKEN is set too"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_said_without_what_was_had() {
    let address = vault().await;
    for (reference, words) in [
        ("vault:secret/data/holdfast#wrong", "must be a URL such as redis://"),
        ("vault:secret/data/holdfast#number", "is not a text"),
        ("vault:secret/data/holdfast#absent", "has no field absent"),
        ("vault:secret/holdfast#redis_url", "nothing at secret/holdfast"),
        ("vault:kv/holdfast#redis_url", "version 2"),
        ("vault:secret/data/sealed#a", "sealed"),
        ("vault:secret/data/broken#a", "is not Vault"),
        ("vault:secret/data/holdfast", "must be vault:PATH#FIELD"),
        ("vault:../sys/seal#a", "must be vault:PATH#FIELD"),
    ] {
        let said = refused(&program(&address).with("HOLDFAST_REDIS_URL", reference));
        assert!(said.contains("HOLDFAST_REDIS_URL is '"), "{reference}: {said}");
        assert!(said.contains(words), "{reference}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_vault_itself_is_said_too() {
    let address = vault().await;
    let with = |name: &str, value: &str| {
        program(&address)
            .with("HOLDFAST_REDIS_URL", "vault:secret/data/holdfast#redis_url")
            .with(name, value)
    };
    for (name, value, words) in [
        ("VAULT_TOKEN", "other", "does not let this token read secret/data/holdfast"),
        ("VAULT_NAMESPACE", "other", "does not let this token read"),
        ("VAULT_ADDR", "http://127.0.0.1:1", "does not answer"),
        ("VAULT_ADDR", "http://vault.example:8200", "must begin with https://"),
        ("VAULT_ADDR", "vault", "must be a URL"),
        ("VAULT_CACERT", "/nowhere", "must be a file that can be read"),
    ] {
        let said = refused(&with(name, value));
        assert!(said.contains(words), "{name}={value}: {said}");
    }
    let bare = Program::new().with("HOLDFAST_REDIS_URL", "vault:secret/data/holdfast#redis_url");
    let said = refused(&bare);
    assert!(said.contains("VAULT_ADDR: ") && said.contains("VAULT_TOKEN: "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_serves_leaves_no_core_unless_it_is_told_to() {
    for (setting, limit) in [("off", "0"), ("on", "")] {
        let program = Program::new()
            .with("HOLDFAST_LISTEN", "127.0.0.1:0")
            .with("HOLDFAST_CORE_DUMPS", setting);
        let mut running = program.start(&["dev"]);
        running.line_of_stdout("Holdfast listens on");
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.id())).unwrap();
        let line = |name: &str| {
            let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len()..].split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let core = line("Max core file size");
        assert!(limit.is_empty() || core[..2] == [limit, limit], "{limits}");
        let files = line("Max open files");
        assert_eq!(files[0], files[1], "{limits}");
        running.signal("TERM");
        assert_eq!(running.ended().code, Some(0));
    }
}
