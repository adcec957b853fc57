//! Running the program, once or for a while.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take; not how long it should.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// Settings of who is let in.
const AUTH: [&str; 2] = ["HOLDFAST_AUTH", "HOLDFAST_INSECURE_NO_AUTH"];

/// The program in a working directory of its own, with nothing of this process's configuration.
pub struct Program {
    dir: TempDir,
    env: Vec<(String, String)>,
}

/// What a run of the program left.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    pub fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), env: Vec::new() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What it was given for a setting.
    pub fn given(&self, name: &str) -> &str {
        let found = self.env.iter().rev().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("{name} was not given")).1
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file into the working directory.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, args: &[&str]) -> Command {
        let built = std::env::var_os("HOLDFAST_TEST_PROGRAM");
        let mut command = Command::new(built.unwrap_or(env!("CARGO_BIN_EXE_holdfast").into()));
        let ours = |name: &str| {
            let theirs = ["HOLDFAST_", "DB_", "VAULT_"];
            theirs.iter().any(|prefix| name.starts_with(prefix)) || name == "RUST_LOG"
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| ours(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        // Who is let in has tests of its own; where a test says nothing of it, everybody is.
        if !self.env.iter().any(|(name, _)| AUTH.contains(&name.as_str())) {
            command.env("HOLDFAST_INSECURE_NO_AUTH", "true");
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.start(args).ended()
    }

    /// Runs it to its end, which must be exit code 0.
    pub fn succeed(&self, args: &[&str]) -> Output {
        let output = self.run(args);
        assert_eq!(output.code, Some(0), "{args:?}: {output:?}");
        output
    }

    /// Runs it to its end, which must be exit code 0, and reads its JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.extend(["--format", "json"]);
        let output = self.succeed(&args);
        serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{args:?}: {output:?}"))
    }

    pub fn start(&self, args: &[&str]) -> Running {
        Running::of(self.command(args))
    }

    /// Starts it so that it dies by SIGKILL at one of the places of `src/crash.rs`.
    pub fn start_to_die(&self, args: &[&str], place: &str) -> Running {
        let mut command = self.command(args);
        command.env("FAILPOINTS", place);
        Running::of(command)
    }
}

/// The program while it runs; killed when dropped.
pub struct Running {
    /// How it was started.
    command: String,
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    seen: String,
    said: String,
}

impl Running {
    fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let command = format!("{command:?}");
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Self { command, child, stdout, stderr, seen: String::new(), said: String::new() }
    }

    /// The next line of stdout that contains `words`.
    pub fn line_of_stdout(&mut self, words: &str) -> String {
        next_line(&self.stdout, &mut self.seen, words)
    }

    /// The next line of stderr that contains `words`.
    pub fn line_of_stderr(&mut self, words: &str) -> String {
        next_line(&self.stderr, &mut self.said, words)
    }

    /// The address that it says it listens on, as `http://…`.
    pub fn listening(&mut self) -> String {
        let line = self.line_of_stderr("\"message\":\"listening\"");
        let line: Value = serde_json::from_str(&line).unwrap();
        format!("http://{}", line["address"].as_str().unwrap())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap();
        assert!(sent.success(), "kill -{name} {pid}");
    }

    /// Waits for its end.
    pub fn ended(mut self) -> Output {
        let status = self.wait();
        let rest = |lines: &Receiver<String>| lines.iter().collect::<String>();
        let stdout = self.seen.clone() + &rest(&self.stdout);
        let stderr = self.said.clone() + &rest(&self.stderr);
        Output { code: status.code(), stdout, stderr }
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{} does not end; it said {}",
                self.command,
                self.said
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = String::new();
        while from.read_line(&mut line).is_ok_and(|read| read > 0) {
            if sender.send(std::mem::take(&mut line)).is_err() {
                return;
            }
        }
    });
    receiver
}

fn next_line(lines: &Receiver<String>, seen: &mut String, words: &str) -> String {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                seen.push_str(&line);
                if line.contains(words) {
                    return line;
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                panic!("no line with '{words}' came; this did:\n{seen}")
            }
        }
    }
}

/// Made once, for that reads all certificates; it keeps no connection, for each test has a runtime of
/// its own.
fn client() -> &'static reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap())
}

/// The JSON at a URL, as soon as it has this status.
pub async fn answer(url: &str, status: u16) -> Value {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let found = match client().get(url).send().await {
            Ok(answer) if answer.status() == status => return answer.json().await.unwrap(),
            found => found,
        };
        assert!(Instant::now() < deadline, "{url} does not answer {status}: {found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An address where nobody listens.
pub fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}
