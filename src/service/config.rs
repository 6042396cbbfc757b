//! Settings that all services share.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use log::LevelFilter;

use crate::clock::Timestamp;
use crate::db::{self, Database, Schema, SizeLimit, Synchronous};
use crate::env::{Env, Variable};
use crate::http::{
    AdmissionSettings, AllowedOrigins, BoundListener, ConnectionLimits, Keys, PublicKeySettings, PublicKeys, Sessions,
    Settings, TrustedProxies,
};
use crate::ip_network::IpNetwork;

use super::logging;
use super::start_error::StartError;

/// Read-only connections: as many as queries run at once, even slow ones, and one for health checks or background jobs. Each
/// caches up to 512 KB of pages.
const READERS: usize = 5;

/// Time after which the connection of a client that reads nothing of its response is reset.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// The defaults of the common settings, which differ between services.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// The name of the variable of the main key.
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
    /// `MAX_DB_MB`, in megabytes.
    pub max_db_mb: &'static str,
}

/// Returns the variables that all services share.
#[must_use]
pub fn common_variables(defaults: Defaults) -> Vec<Variable> {
    vec![
        Variable::secret(defaults.key, "Main API key with all permissions; required"),
        Variable::secret(
            "API_KEYS",
            "Comma-separated list of further keys, name:scope:key with scope ingest, read, admin or ingest@project",
        ),
        Variable::plain("PORT", defaults.port, "Port to listen on, 0-65535; 0 = a free port, which is logged"),
        Variable::plain("LISTEN_ADDR", "0.0.0.0", "Address to listen on; :: = IPv6 and IPv4"),
        Variable::plain(
            "DATABASE_PATH",
            defaults.database_path,
            "Path of the database file; a missing folder is created",
        ),
        Variable::plain(
            "SYNCHRONOUS",
            defaults.synchronous,
            "Durability: FULL = acknowledged writes are flushed to disk; NORMAL = recent writes may be lost on power failure",
        ),
        Variable::plain(
            "MAX_DB_MB",
            defaults.max_db_mb,
            "Maximum database size in MB; the oldest data is deleted first; 0 = unlimited",
        ),
        Variable::plain(
            "RATE_LIMIT",
            defaults.rate_limit,
            "Maximum requests per minute from one address; 0 = unlimited",
        ),
        Variable::plain(
            "KEY_RATE_LIMIT",
            defaults.key_rate_limit,
            "Maximum requests per minute with one key, from all addresses; 0 = unlimited",
        ),
        Variable::plain("MAX_BODY_SIZE", defaults.max_body_size, "Maximum size of a decoded request body in bytes"),
        Variable::plain("MAX_CONNECTIONS", "512", "Maximum open connections, 8-10000"),
        Variable::plain(
            "MAX_CONNECTIONS_PER_ADDRESS",
            "64",
            "Maximum open connections from one address, 1-10000; trusted proxies are exempt",
        ),
        Variable::plain(
            "TRUSTED_PROXIES",
            "",
            "Comma-separated list of trusted proxies (addresses or CIDR ranges), whose X-Forwarded-For counts",
        ),
        Variable::plain("METRICS_OPEN", "0", "1 = GET /metrics requires no key"),
        Variable::plain("LOG_LEVEL", "info", "Minimum level of log lines: error, warn, info or debug"),
    ]
}

/// The values of the common settings.
pub struct CommonConfig {
    /// `METRICS_OPEN`.
    pub metrics_open: bool,
    address: SocketAddr,
    database_path: PathBuf,
    synchronous: Synchronous,
    max_db_bytes: u64,
    /// Whether `MAX_DB_MB` is not set.
    is_default_size: bool,
    connection_limits: ConnectionLimits,
    admission: AdmissionSettings,
    log_level: LevelFilter,
}

impl CommonConfig {
    /// Reads the settings. Invalid ones are recorded in `env`.
    #[must_use]
    pub fn from_env(env: &mut Env<'_>) -> Self {
        Self::from_env_with_key(env, "API_KEY")
    }

    /// Reads the settings of a service whose main key has a variable of another name.
    #[must_use]
    pub fn from_env_with_key(env: &mut Env<'_>, key: &'static str) -> Self {
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
        let database_path: PathBuf = env.string("DATABASE_PATH").unwrap_or_default().into();
        if let Some(problem) = db::path_problem(&database_path) {
            env.error("DATABASE_PATH", problem);
        }
        Self {
            metrics_open: env.boolean("METRICS_OPEN"),
            address,
            database_path,
            synchronous,
            max_db_bytes: env.number("MAX_DB_MB", 0..=1_000_000u64) * 1_000_000,
            is_default_size: !env.is_set("MAX_DB_MB"),
            connection_limits,
            admission: read_admission(env, key),
            log_level,
        }
    }

    /// Accepts requests with these public keys, within the configured rates.
    pub fn accept_public_keys(&mut self, keys: Arc<PublicKeys>, origins: AllowedOrigins) {
        let (rate_per_address, rate_per_key) = (self.admission.rate_per_address, self.admission.rate_per_key);
        self.admission.public_keys = PublicKeySettings { keys, origins, rate_per_address, rate_per_key };
    }

    /// Starts logging, binds the port and opens the database, in the order in which a failure is cheapest. `cookie` is the name
    /// of the session cookie, and `evict` deletes data when the database exceeds `MAX_DB_MB`.
    ///
    /// # Errors
    /// Returns why the port or the database is not available.
    pub fn open(
        mut self,
        cookie: &'static str,
        schema: Schema,
        evict: fn(&rusqlite::Connection) -> crate::error::Result<bool>,
    ) -> Result<(BoundListener, Settings, Database), StartError> {
        logging::start(self.log_level);
        let bound = BoundListener::bind(self.address).map_err(StartError::Start)?;
        let limit = (self.max_db_bytes > 0).then_some(SizeLimit {
            bytes_max: self.max_db_bytes,
            is_default: self.is_default_size,
            evict,
        });
        let path = self.database_path;
        let spool_dir =
            path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(".".as_ref()).to_owned();
        let settings = db::Settings { path, schema, synchronous: self.synchronous, readers: READERS, limit };
        let database = db::open(&settings)?;
        let sessions = Sessions::new(cookie, &self.admission.keys);
        let start_error = |why| StartError::Start(format!("cannot start: {why}"));
        let stored = database.readers.acquire().and_then(|reader| db::sessions(&reader, Timestamp::now()));
        for session in stored.map_err(start_error)? {
            sessions.insert(session.token, session.key, session.until);
        }
        self.admission.sessions = Arc::new(sessions);
        let settings = Settings {
            connection_limits: self.connection_limits,
            admission: self.admission,
            spool_dir,
            response_timeout: RESPONSE_TIMEOUT,
        };
        Ok((bound, settings, database))
    }
}

fn read_admission(env: &mut Env<'_>, key: &'static str) -> AdmissionSettings {
    let main = env.required_secret(key);
    let named = env.list("API_KEYS");
    let keys = Keys::new(main.clone(), &named).or_else(|errors| {
        for error in errors {
            env.error("API_KEYS", error);
        }
        Keys::new(main, &[])
    });
    let mut networks = Vec::new();
    for text in env.list("TRUSTED_PROXIES") {
        match IpNetwork::parse(&text) {
            Some(network) => networks.push(network),
            None => env.error(
                "TRUSTED_PROXIES",
                format_args!("'{text}' is not an IP address or CIDR range (example: 10.0.0.0/8)"),
            ),
        }
    }
    AdmissionSettings {
        keys: keys.unwrap_or_else(|_| unreachable!("a list without named keys has no errors")),
        proxies: TrustedProxies::new(networks),
        rate_per_address: env.number("RATE_LIMIT", 0..=10_000_000),
        rate_per_key: env.number("KEY_RATE_LIMIT", 0..=10_000_000),
        body_bytes_max: env.number("MAX_BODY_SIZE", 1_024..=64 * 1024 * 1024),
        public_keys: PublicKeySettings::default(),
        sessions: Arc::default(),
    }
}
