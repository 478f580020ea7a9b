//! Twenty stops in the middle of work: nothing is lost, and nothing is done twice.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

const STOPS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("consumers-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It is in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A broker of this test's own, on a Unix socket in a folder of its own.
struct Broker {
    child: Child,
    folder: Folder,
}

impl Drop for Broker {
    fn drop(&mut self) {
        // PostgreSQL's fast shutdown is SIGINT; Redis takes it, too.
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        let _ = self.child.wait();
    }
}

fn output(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn redis(name: &str) -> Broker {
    let folder = Folder::new(name);
    let socket = folder.0.join("redis.sock");
    let mut server = Command::new("redis-server");
    server.args(["--port", "0", "--save", "", "--unixsocket"]).arg(&socket);
    let child = server.current_dir(&folder.0).stdout(Stdio::null()).spawn().unwrap();
    let broker = Broker { child, folder };
    wait_for("Redis listens", || socket.exists());
    broker
}

impl Broker {
    fn url(&self) -> String {
        format!("redis+unix://{}", self.folder.0.join("redis.sock").display())
    }

    fn cli(&self, words: &[&str]) -> String {
        let socket = self.folder.0.join("redis.sock");
        output(Command::new("redis-cli").arg("-s").arg(socket).args(words))
    }

    /// How often each has been done.
    fn hash(&self, name: &str) -> BTreeMap<String, String> {
        let text = self.cli(&["HGETALL", name]);
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    }
}

/// Runs the program until it has begun so many, stops it in the middle of the last one, and checks
/// that it ends well.
fn run(program: &str, variable: (&str, &str), signal: Signal, begun: usize) -> String {
    let mut command = Command::new(program);
    let mut child = command
        .env(variable.0, variable.1)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..begun {
        let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("begins ")));
        assert!(line.is_some(), "{program} has ended before its time");
    }
    kill_process(Pid::from_child(&child), signal).unwrap();
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest:#?}");
    rest.join("\n")
}

/// All of them, once each.
fn check(done: &BTreeMap<String, String>, count: usize) {
    let twice: Vec<_> = done.iter().filter(|(_, times)| *times != "1").collect();
    assert!(twice.is_empty(), "done more than once: {twice:?}");
    assert_eq!(done.len(), count, "lost");
}

const JOBS: usize = 100;

fn stop_often(broker: &Broker, program: &str) {
    for _ in 0..STOPS {
        run(program, ("REDIS", &broker.url()), Signal::TERM, 3);
    }
    let left = JOBS - broker.hash("done").len();
    assert!(left > 0, "the stops were to come in the middle");
    // The rest; the last one is brought to its end by the stop.
    run(program, ("REDIS", &broker.url()), Signal::TERM, left);
    check(&broker.hash("done"), JOBS);
}

#[test]
fn a_list_of_redis() {
    let broker = redis("list");
    for job in 0..JOBS {
        broker.cli(&["RPUSH", "jobs", &job.to_string()]);
    }
    stop_often(&broker, env!("CARGO_BIN_EXE_redis_list"));
    assert_eq!(broker.cli(&["LLEN", "working"]).trim(), "0");
}

/// What a message becomes that arrives while the program stops: lost in the trap, and left for the
/// next instance by the cure.
#[test]
fn a_command_that_is_given_up_loses_a_message_and_one_that_is_told_to_end_does_not() {
    for (program, left) in
        [(env!("CARGO_BIN_EXE_redis_trap"), "0"), (env!("CARGO_BIN_EXE_redis_list"), "1")]
    {
        let broker = redis(if left == "0" { "trap" } else { "cure" });
        let mut command = Command::new(program);
        command.env("REDIS", broker.url()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        wait_for("it blocks", || {
            let clients = broker.cli(&["CLIENT", "LIST"]);
            clients.contains("cmd=blpop") || clients.contains("cmd=blmove")
        });
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        if left == "0" {
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let given_up = |line: std::io::Result<String>| line.unwrap() == "given up";
            assert!(lines.map(given_up).any(|it| it));
        } else {
            assert_eq!(child.wait().unwrap().code(), Some(0));
        }
        broker.cli(&["RPUSH", "jobs", "late"]);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(broker.cli(&["LLEN", "jobs"]).trim(), left, "{program}");
        assert!(broker.hash("done").is_empty());
    }
}

#[test]
fn a_stream_of_redis() {
    let broker = redis("stream");
    for job in 0..JOBS {
        broker.cli(&["XADD", "events", "*", "job", &job.to_string()]);
    }
    stop_often(&broker, env!("CARGO_BIN_EXE_redis_stream"));
    let pending = broker.cli(&["XPENDING", "events", "workers"]);
    assert_eq!(pending.lines().next(), Some("0"), "{pending}");
}

#[test]
fn a_scheduler() {
    let broker = redis("cron");
    for _ in 0..STOPS {
        run(env!("CARGO_BIN_EXE_cron"), ("REDIS", &broker.url()), Signal::TERM, 1);
    }
    let begun = broker.hash("begun");
    assert!(begun.len() >= STOPS);
    check(&broker.hash("done"), begun.len());
}

/// Debian's, whose tools are not in the path.
fn postgres_tools() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL (Debian: postgresql)");
    versions.map(|version| version.unwrap().path().join("bin")).max().expect("a version")
}

/// As a user who may run it: root may not.
fn as_user(program: &Path) -> Command {
    if !rustix::process::getuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

#[test]
fn a_table_of_postgresql() {
    let (tools, folder) = (postgres_tools(), Folder::new("postgres"));
    if rustix::process::getuid().is_root() {
        output(Command::new("chown").arg("postgres").arg(&folder.0));
    }
    let data = folder.0.join("data");
    output(as_user(&tools.join("initdb")).args(["-A", "trust", "-U", "test", "-D"]).arg(&data));
    let mut server = as_user(&tools.join("postgres"));
    server.arg("-D").arg(&data).arg("-k").arg(&folder.0).args(["-c", "listen_addresses="]);
    let child = server.stderr(Stdio::null()).spawn().unwrap();
    let broker = Broker { child, folder };
    let psql = |query: &str| {
        let mut psql = Command::new(tools.join("psql"));
        psql.args(["-qtA", "-U", "test", "-d", "postgres", "-h"]).arg(&broker.folder.0);
        psql.args(["-c", query]).output().unwrap()
    };
    wait_for("PostgreSQL answers", || psql("SELECT 1").status.success());
    let ask = |query: &str| String::from_utf8(psql(query).stdout).unwrap();
    ask("CREATE TABLE jobs (id int PRIMARY KEY, done int NOT NULL DEFAULT 0)");
    ask(&format!("INSERT INTO jobs SELECT generate_series(1, {JOBS})"));
    let url = format!("host={} user=test dbname=postgres", broker.folder.0.display());
    let program = env!("CARGO_BIN_EXE_postgres");
    for _ in 0..STOPS {
        run(program, ("POSTGRES", &url), Signal::TERM, 3);
    }
    let left: usize = ask("SELECT count(*) FROM jobs WHERE done = 0").trim().parse().unwrap();
    assert!(left > 0, "the stops were to come in the middle");
    run(program, ("POSTGRES", &url), Signal::TERM, left);
    let each = ask("SELECT min(done), max(done), count(*) FROM jobs");
    assert_eq!(each.trim(), format!("1|1|{JOBS}"));
}

#[test]
fn a_batch() {
    let folder = Folder::new("batch");
    let file = folder.0.join("records");
    let path = file.to_str().unwrap();
    for stop in 1..=STOPS {
        let said = run(env!("CARGO_BIN_EXE_batch"), ("RECORDS", path), Signal::INT, 3);
        let records = fs::read_to_string(&file).unwrap();
        assert!(
            said.contains(&format!("stopped after {} of 200", records.lines().count())),
            "{said}"
        );
        assert!(records.lines().count() >= 3 * stop);
    }
    let records = fs::read_to_string(&file).unwrap();
    let expected: Vec<_> = (0..records.lines().count()).map(|it| it.to_string()).collect();
    assert_eq!(records.lines().collect::<Vec<_>>(), expected);
}
