//! A PostgreSQL server of the tests' own, on loopback. It ends with this process, however that ends.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Makes a cluster, serves it until the standard input ends, and removes it. `$1` are the programs, `$2` is the port.
const SCRIPT: &str = r#"
set -eu
umask 077
dir=$(mktemp -d)
cd "$dir"
trap 'rm -rf "$dir"' EXIT
"$1/initdb" --pgdata data --username postgres --auth trust --no-sync --encoding UTF8 --locale C > log 2>&1 || {
    cat log >&2
    exit 1
}
cat > data/pg_hba.conf <<-END
	host all +by_scram 127.0.0.1/32 scram-sha-256
	host all +by_md5 127.0.0.1/32 md5
	host all +by_password 127.0.0.1/32 password
	host all all 127.0.0.1/32 trust
	local all all trust
END
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test -addext subjectAltName=IP:127.0.0.1 \
    -addext basicConstraints=critical,CA:FALSE -keyout data/server.key -out data/server.crt 2>> log
"$1/postgres" -D data -p "$2" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$dir" \
    -c fsync=off -c shared_buffers=16MB -c max_connections=60 -c max_prepared_transactions=4 \
    -c log_statement=all -c ssl=on >> log 2>&1 < /dev/null &
server=$!
echo "$dir"
cat > /dev/null
kill -QUIT "$server"
wait "$server" || true
"#;

/// A running server.
pub struct Server {
    programs: PathBuf,
    dir: PathBuf,
    port: u16,
    keeper: Child,
    stop: Option<ChildStdin>,
}

impl Server {
    /// The server that the tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a server on a port that is free.
    pub fn start() -> Self {
        // Between here and the start somebody else may take the port.
        (0..5).find_map(|_| Self::try_start()).expect("a PostgreSQL server (`cargo xtask test` installs it)")
    }

    fn try_start() -> Option<Self> {
        use std::io::BufRead as _;
        let programs = programs()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        // The server refuses to run as root; Debian's package makes a user for it.
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        let mut keeper = command
            .args(["-c", SCRIPT, "sh"])
            .arg(&programs)
            .arg(port.to_string())
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut dir = String::new();
        std::io::BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut dir).unwrap();
        let stop = keeper.stdin.take();
        let server = Self { programs, dir: dir.trim_end().into(), port, keeper, stop };
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until && !dir.is_empty() {
            let ready = server.program("pg_isready").output().unwrap().status.success();
            // Somebody else's server on this port would have no such socket.
            if ready && server.dir.join(format!(".s.PGSQL.{port}")).exists() {
                server.admin("postgres", "CREATE ROLE by_scram; CREATE ROLE by_md5; CREATE ROLE by_password");
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of its socket.
    pub fn socket(&self) -> &Path {
        &self.dir
    }

    /// The certificate that it shows, to be trusted: PEM.
    pub fn certificate(&self) -> Vec<u8> {
        std::fs::read(self.dir.join("data/server.crt")).unwrap()
    }

    /// What it has written down: every statement that reached it.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap()
    }

    /// Runs SQL as the superuser, and returns what `psql` shows: values only.
    pub fn admin(&self, database: &str, sql: &str) -> String {
        let output = self
            .program("psql")
            .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", sql])
            .output()
            .unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().into()
    }

    /// A fresh database, owned by a fresh role without special rights.
    pub fn database(&self) -> Database<'_> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.admin("postgres", &format!("CREATE ROLE {name} LOGIN"));
        self.admin("postgres", &format!("CREATE DATABASE {name} OWNER {name}"));
        Database { server: self, name }
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        drop(self.keeper.wait());
    }
}

/// A database of its own, and the role of the same name that owns it.
pub struct Database<'a> {
    server: &'a Server,
    /// Of the database and of the role.
    pub name: String,
}

impl Database<'_> {
    /// How the role reaches it.
    pub fn url(&self) -> String {
        self.url_of(&self.name)
    }

    /// How another role, perhaps with a password (`name:password`), reaches it.
    pub fn url_of(&self, role: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{}", self.server.port, self.name)
    }

    /// Runs SQL in it as the superuser.
    pub fn admin(&self, sql: &str) -> String {
        self.server.admin(&self.name, sql)
    }

    /// Runs SQL in it as its owner.
    pub fn own(&self, sql: &str) -> String {
        self.admin(&format!("SET SESSION AUTHORIZATION {}; {sql}", self.name))
    }
}

/// Where the newest server's programs are: Debian keeps them out of the path.
#[expect(clippy::disallowed_methods, reason = "programs are looked for as a shell would")]
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let asked = Command::new("pg_config").arg("--bindir").output().ok().map(|output| output.stdout);
    let asked = asked.and_then(|bytes| String::from_utf8(bytes).ok()).map(|text| PathBuf::from(text.trim_end()));
    let mut debian: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    debian.sort();
    let places = asked.into_iter().chain(debian.into_iter().rev()).chain(std::env::split_paths(&path));
    places
        .into_iter()
        .find(|dir| ["initdb", "postgres", "psql", "pg_isready"].iter().all(|name| dir.join(name).exists()))
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}
