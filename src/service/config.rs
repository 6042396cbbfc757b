//! The settings every service has, as one table and one value.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use log::LevelFilter;

use crate::clock::Timestamp;
use crate::db::{self, Database, Schema, SizeLimit, Synchronous};
use crate::env::{Env, Variable};
use crate::http::{
    AdmissionSettings, AllowedOrigins, Bound, ConnectionLimits, Keys, Network, Proxies, PublicKeySettings, PublicKeys,
    Sessions, Settings,
};

use super::StartError;

/// Connections that look: one for each thread that makes pages, for a health check and for a background job. Each keeps
/// up to 512 KB of pages.
const READERS: usize = 4;

/// Where services differ in their common settings.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// The variable of the key that may do everything.
    pub key: &'static str,
    /// `PORT`.
    pub port: &'static str,
    /// `DATABASE_PATH`.
    pub database_path: &'static str,
    /// `RATE_LIMIT`, in requests a minute.
    pub rate_limit: &'static str,
    /// `KEY_RATE_LIMIT`, in requests a minute.
    pub key_rate_limit: &'static str,
    /// `MAX_BODY_SIZE`, in bytes.
    pub max_body_size: &'static str,
    /// `SYNCHRONOUS`.
    pub synchronous: &'static str,
}

/// The rows of the common table.
#[must_use]
pub fn variables(defaults: Defaults) -> Vec<Variable> {
    vec![
        Variable::secret(defaults.key, "The key that may do everything; required"),
        Variable::secret("API_KEYS", "More keys, name:scope:key,... with scope ingest, read, admin or ingest@project"),
        Variable::plain("PORT", defaults.port, "Port to listen on, 0-65535; 0 takes a free one and logs it"),
        Variable::plain("LISTEN_ADDR", "0.0.0.0", "Address to listen on; :: for IPv6 and IPv4"),
        Variable::plain("DATABASE_PATH", defaults.database_path, "The database file; its folder is created"),
        Variable::plain(
            "SYNCHRONOUS",
            defaults.synchronous,
            "FULL: acknowledged means flushed to the disk; NORMAL: a power cut may take the last moments",
        ),
        Variable::plain(
            "MAX_DB_MB",
            "0",
            "Megabytes the database may take, the oldest payloads going first; 0 is no bound",
        ),
        Variable::plain("RATE_LIMIT", defaults.rate_limit, "Requests a minute from one address; 0 is no limit"),
        Variable::plain(
            "KEY_RATE_LIMIT",
            defaults.key_rate_limit,
            "Requests a minute with one key, from wherever; 0 is no limit",
        ),
        Variable::plain("MAX_BODY_SIZE", defaults.max_body_size, "Bytes a request's body may have, decoded"),
        Variable::plain("MAX_CONNECTIONS", "512", "Connections open at once, 8-10000"),
        Variable::plain(
            "MAX_CONNECTIONS_PER_ADDRESS",
            "64",
            "Connections from one address, 1-10000; trusted proxies are exempt",
        ),
        Variable::plain("TRUSTED_PROXIES", "", "Networks whose X-Forwarded-For is believed, 10.0.0.0/8,..."),
        Variable::plain("METRICS_OPEN", "0", "1 lets anybody read GET /metrics"),
        Variable::plain("LOG_LEVEL", "info", "error, warn, info or debug"),
    ]
}

/// The common settings, read.
pub struct Common {
    /// `METRICS_OPEN`.
    pub metrics_open: bool,
    address: SocketAddr,
    database_path: PathBuf,
    synchronous: Synchronous,
    max_db_bytes: u64,
    connection_limits: ConnectionLimits,
    admission: AdmissionSettings,
    log_level: LevelFilter,
}

impl Common {
    /// Reads them; what is wrong is noted in `env`.
    #[must_use]
    pub fn read(env: &mut Env<'_>) -> Self {
        Self::read_with_key(env, "API_KEY")
    }

    /// The same where the key that may do everything has a variable of another name.
    #[must_use]
    pub fn read_with_key(env: &mut Env<'_>, key: &'static str) -> Self {
        let address = SocketAddr::new(env.address("LISTEN_ADDR"), env.number("PORT", 0..=u16::MAX));
        let connection_limits = ConnectionLimits {
            connections: env.number("MAX_CONNECTIONS", 8..=10_000),
            connections_per_address: env.number("MAX_CONNECTIONS_PER_ADDRESS", 1..=10_000),
        };
        let synchronous = match env.one_of("SYNCHRONOUS", &["FULL", "NORMAL"]) {
            "NORMAL" => Synchronous::Normal,
            _ => Synchronous::Full,
        };
        let log_level = match env.one_of("LOG_LEVEL", &["error", "warn", "info", "debug"]) {
            "error" => LevelFilter::Error,
            "warn" => LevelFilter::Warn,
            "debug" => LevelFilter::Debug,
            _ => LevelFilter::Info,
        };
        Self {
            metrics_open: env.boolean("METRICS_OPEN"),
            address,
            database_path: env.string("DATABASE_PATH").unwrap_or_default().into(),
            synchronous,
            max_db_bytes: env.number("MAX_DB_MB", 0..=1_000_000u64) * 1_000_000,
            connection_limits,
            admission: read_admission(env, key),
            log_level,
        }
    }

    /// Lets pages in that hold one of these keys, within the rates of the settings.
    pub fn accept_public_keys(&mut self, keys: Arc<PublicKeys>, origins: AllowedOrigins) {
        let (rate_per_address, rate_per_key) = (self.admission.rate_per_address, self.admission.rate_per_key);
        self.admission.public_keys = PublicKeySettings { keys, origins, rate_per_address, rate_per_key };
    }

    /// Starts the log, takes the port and opens the database, in the order in which failing is cheapest. `cookie` is
    /// what browsers that show a key get, and where there is an interface for them.
    ///
    /// # Errors
    /// [`StartError::Start`], in one sentence.
    pub fn open(
        mut self,
        cookie: &'static str,
        schema: Schema,
        evict: fn(&rusqlite::Connection) -> crate::error::Result<bool>,
    ) -> Result<(Bound, Settings, Database), StartError> {
        start_log(self.log_level);
        let bound = Bound::bind(self.address).map_err(StartError::Start)?;
        let limit = (self.max_db_bytes > 0).then_some(SizeLimit { bytes_max: self.max_db_bytes, evict });
        let path = self.database_path;
        let spool_dir =
            path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(".".as_ref()).to_owned();
        let settings = db::Settings { path, schema, synchronous: self.synchronous, readers: READERS, limit };
        let database = db::open(&settings).map_err(StartError::Start)?;
        let sessions = Sessions::new(cookie, &self.admission.keys);
        let cannot_start = |why| StartError::Start(format!("cannot start: {why}"));
        let stored = database.readers.acquire().and_then(|reader| db::sessions(&reader, Timestamp::now()));
        for session in stored.map_err(cannot_start)? {
            sessions.insert(session.token, session.key, session.until);
        }
        self.admission.sessions = Arc::new(sessions);
        Ok((
            bound,
            Settings { connection_limits: self.connection_limits, admission: self.admission, spool_dir },
            database,
        ))
    }
}

fn read_admission(env: &mut Env<'_>, key: &'static str) -> AdmissionSettings {
    let main = env.required_secret(key);
    let named = env.list("API_KEYS");
    let keys = Keys::new(main.clone(), &named).or_else(|faults| {
        for fault in faults {
            env.error("API_KEYS", fault);
        }
        Keys::new(main, &[])
    });
    let mut networks = Vec::new();
    for text in env.list("TRUSTED_PROXIES") {
        match Network::parse(&text) {
            Some(network) => networks.push(network),
            None => env.error("TRUSTED_PROXIES", format_args!("has '{text}', which is no network such as 10.0.0.0/8")),
        }
    }
    AdmissionSettings {
        keys: keys.unwrap_or_else(|_| unreachable!("no named keys, no faults")),
        proxies: Proxies::new(networks),
        rate_per_address: env.number("RATE_LIMIT", 0..=10_000_000),
        rate_per_key: env.number("KEY_RATE_LIMIT", 0..=10_000_000),
        body_bytes_max: env.number("MAX_BODY_SIZE", 1_024..=64 * 1024 * 1024),
        public_keys: PublicKeySettings::default(),
        sessions: Arc::default(),
    }
}

/// One line an event on stderr, in UTC. Only this house's own lines: libraries say too much at `debug`, headers included.
fn start_log(level: LevelFilter) {
    let config = simplelog::ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_thread_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .add_filter_allow_str("monlight")
        .build();
    // It fails when there is a log already, as in tests that start two services in one process.
    let _ = simplelog::WriteLogger::init(level, config, std::io::stderr());
}
