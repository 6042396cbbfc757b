//! Settings of the notification channels.

use lettre::message::Mailbox;

use crate::env::{Env, Variable};

/// The older name of `CA_FILE`, which is still read.
pub const OLDER_CA_FILE: &str = "ALERT_CA_FILE";

/// The variables that configure the channels, in the order of `--help`.
pub const VARIABLES: &[Variable] = &[
    Variable::secret("POSTMARK_API_TOKEN", "Postmark server token; enables email through Postmark"),
    Variable::plain("POSTMARK_FROM_EMAIL", "", "Sender address for Postmark; must be a confirmed sender signature"),
    Variable::plain("POSTMARK_API_BASE", "https://api.postmarkapp.com", "Base URL of the Postmark API"),
    Variable::plain("ALERT_EMAILS", "", "Comma-separated list of email addresses that receive alerts, at most 50"),
    Variable::plain("SMTP_HOST", "", "Host of the SMTP server; enables email through SMTP"),
    Variable::plain("SMTP_PORT", "25", "Port of the SMTP server; 465 uses TLS, any other port STARTTLS if offered"),
    Variable::plain("SMTP_USERNAME", "", "User name for the SMTP server; only sent over TLS"),
    Variable::secret("SMTP_PASSWORD", "Password for the SMTP server"),
    Variable::plain(
        "SMTP_FROM",
        "errors@example.com",
        "Sender address for SMTP; if unset, SMTP_USERNAME if that is an address",
    ),
    Variable::secret("ALERT_WEBHOOK_URL", "URL that receives alerts as HTTP POST requests"),
    Variable::plain("ALERT_WEBHOOK_FORMAT", "auto", "Webhook payload: auto (by host), json, slack, discord or ntfy"),
    Variable::plain(OLDER_CA_FILE, "", "Older name of CA_FILE; both files are trusted"),
];

/// Maximum number of recipients of one email through Postmark.
const RECIPIENTS_MAX: usize = 50;

/// Reads the addresses in `ALERT_EMAILS`.
pub(super) fn recipients(env: &mut Env<'_>) -> Vec<Mailbox> {
    let addresses = env.list("ALERT_EMAILS");
    if addresses.len() > RECIPIENTS_MAX {
        env.error("ALERT_EMAILS", format_args!("must contain at most {RECIPIENTS_MAX} addresses"));
    }
    addresses.iter().filter_map(|address| parse_mailbox(env, "ALERT_EMAILS", address)).collect()
}

/// Parses an address with or without a display name, and reports an invalid one to `env`. An address that is not ASCII
/// would need SMTPUTF8 on every server along its way.
pub(super) fn parse_mailbox(env: &mut Env<'_>, name: &str, address: &str) -> Option<Mailbox> {
    let mailbox = parse_address(address);
    if mailbox.is_none() {
        env.error(name, format_args!("'{address}' is not an ASCII email address"));
    }
    mailbox
}

/// Parses an address with or without a display name. Returns `None` unless it is an ASCII email address.
pub(super) fn parse_address(address: &str) -> Option<Mailbox> {
    address.trim().parse::<Mailbox>().ok().filter(|mailbox| mailbox.email.to_string().is_ascii())
}
