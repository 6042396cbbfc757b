//! Notification channels with an SMTP server and an HTTPS server from Python libraries, with private certificates.

use std::net::TcpListener;

use monlight::client::{Delivery, OutboundSettings, ProxyPolicy};
use monlight::clock::Timestamp;
use monlight::env::Env;
use monlight::notify::{Fact, Message, MessageId, Notifier, OLDER_CA_FILE, VARIABLES};
use serde_json::Value;

use crate::support::harness::skip;
use crate::support::python::Listener;

fn message(title: &str) -> Message {
    Message {
        event: "new_error",
        title: title.to_owned(),
        facts: vec![Fact { key: "project", label: "Project", value: "shöp".to_owned() }],
        excerpt: format!("Traceback\n.\n..\n  {}\nFrom here", "x".repeat(5_000)),
        link: Some("http://localhost:5010/".to_owned()),
    }
}

/// Sends a message by SMTP with additional settings.
fn send_mail(listener: &Listener, settings: &[(&str, &str)], message: &Message) -> Delivery {
    let defaults = [
        ("SMTP_HOST", "127.0.0.1"),
        ("SMTP_PORT", &listener.port),
        ("ALERT_EMAILS", "a@example.com, B <b@example.com>"),
    ];
    deliver(&[settings, &defaults].concat(), message)
}

/// Sends a message once by the channel that the settings configure.
fn deliver(settings: &[(&str, &str)], message: &Message) -> Delivery {
    let lookup = |name: &str| settings.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let variables = [VARIABLES, &OutboundSettings::variables(ProxyPolicy::Environment)].concat();
    let mut env = Env::new(&variables, lookup);
    let outbound = OutboundSettings::from_env(&mut env, ProxyPolicy::Environment, Some(OLDER_CA_FILE));
    let notifier = Notifier::from_env(&mut env, &outbound);
    assert_eq!((env.finish(), notifier.missing()), (Ok(()), None));
    let id = MessageId { id: "7.example".to_owned(), created_at: Timestamp::now() };
    notifier.into_channels().remove(0).send(message, &id)
}

fn headers<'a>(mail: &'a Value, name: &str) -> Vec<&'a str> {
    let all = mail["headers"].as_array().unwrap().iter();
    all.filter(|header| header[0] == name).map(|header| header[1].as_str().unwrap()).collect()
}

/// Returns the reason of a failure that does not concern the message, so it is sent again.
fn temporary_failure(result: Delivery) -> String {
    match result {
        Delivery::Retry { reason, .. } => reason,
        other => panic!("{other:?} is not temporary"),
    }
}

#[test]
fn mail_without_tls_has_all_headers_and_parts() {
    let Some(listener) = Listener::start("smtp_listener.py", &[]) else { return };
    let message = message("Boom");
    assert_eq!(send_mail(&listener, &[], &message), Delivery::Accepted);
    let mail = listener.next_event();
    assert_eq!((mail["from"].as_str(), mail["tls"].as_bool()), (Some("errors@example.com"), Some(false)));
    assert_eq!(mail["to"], serde_json::json!(["a@example.com", "b@example.com"]));
    assert_eq!(headers(&mail, "Auto-Submitted"), ["auto-generated"]);
    assert_eq!(headers(&mail, "To"), ["a@example.com, B <b@example.com>"]);
    assert_eq!(headers(&mail, "Message-ID"), ["<7.example@example.com>"]);
    assert_eq!((headers(&mail, "Date").len(), mail["defects"].as_array().unwrap().len()), (1, 0));
    let (text, html) = (&mail["parts"][0], &mail["parts"][1]);
    assert_eq!((text["type"].as_str(), html["type"].as_str()), (Some("text/plain"), Some("text/html")));
    let text = text["text"].as_str().unwrap().replace("\r\n", "\n");
    assert!(text.starts_with("Boom\n\nProject:  shöp\n\nhttp://localhost:5010/\n\nTraceback\n.\n..\n  xxx"), "{text}");
    assert_eq!(
        text.split_once("\n\nTraceback").unwrap().1.trim_end(),
        message.excerpt.strip_prefix("Traceback").unwrap()
    );
    assert!(html["text"].as_str().unwrap().contains("<td style=\"padding:2px 0;word-break:break-word\">shöp</td>"));
}

#[test]
fn title_becomes_a_single_subject_header() {
    let Some(listener) = Listener::start("smtp_listener.py", &[]) else { return };
    let long = "Ünïcödé ".repeat(40);
    let truncated = format!("{}…", &long[..long.char_indices().nth(199).unwrap().0]);
    for (title, subject) in [
        ("Größe überschritten 😀", "Größe überschritten 😀"),
        ("Boom\r\nBcc: evil@example.com\r\n\r\n<h1>", "Boom Bcc: evil@example.com <h1>"),
        ("Bööm\nBcc: evil@example.com", "Bööm Bcc: evil@example.com"),
        ("=?utf-8?q?Boom=0D=0ABcc:_evil?=", "= ?utf-8?q?Boom=0D=0ABcc:_evil?="),
        (&long, &truncated),
        (&"x".repeat(190), &"x".repeat(190)),
    ] {
        assert_eq!(send_mail(&listener, &[], &message(title)), Delivery::Accepted);
        let mail = listener.next_event();
        assert_eq!(headers(&mail, "Subject"), [subject]);
        assert_eq!((headers(&mail, "Bcc").len(), mail["to"].as_array().unwrap().len()), (0, 2));
    }
}

#[test]
fn login_follows_starttls() {
    let Some(listener) = Listener::start("smtp_listener.py", &["--mode", "starttls", "--auth", "me:s3cret"]) else {
        return;
    };
    let login = [("SMTP_USERNAME", "me"), ("SMTP_PASSWORD", "s3cret"), ("ALERT_CA_FILE", &listener.ca_file)];
    assert_eq!(send_mail(&listener, &login, &message("m")), Delivery::Accepted);
    assert_eq!(listener.next_event(), serde_json::json!({ "login": "me", "accepted": true }));
    assert_eq!(listener.next_event()["tls"], true);
    let wrong = [("SMTP_USERNAME", "me"), ("SMTP_PASSWORD", "invalid"), ("ALERT_CA_FILE", &listener.ca_file)];
    let reason = temporary_failure(send_mail(&listener, &wrong, &message("m")));
    assert!(reason.starts_with("127.0.0.1: SMTP error 535: ") && !reason.contains("invalid"), "{reason}");
}

#[test]
fn port_465_uses_implicit_tls() {
    let privileged = ("127.0.0.2", 465);
    if let Err(error) = TcpListener::bind(privileged) {
        return skip(&format!("port 465 cannot be bound ({error}); mail over implicit TLS is not tested"));
    }
    let arguments = ["--mode", "tls", "--auth", "me:s3cret", "--host", "127.0.0.2", "--port", "465"];
    let Some(listener) = Listener::start("smtp_listener.py", &arguments) else { return };
    let login = [
        ("SMTP_HOST", "127.0.0.2"),
        ("SMTP_USERNAME", "me"),
        ("SMTP_PASSWORD", "s3cret"),
        ("ALERT_CA_FILE", &listener.ca_file),
    ];
    assert_eq!(send_mail(&listener, &login, &message("m")), Delivery::Accepted);
    assert_eq!(listener.next_event()["login"], "me");
    assert_eq!(listener.next_event()["tls"], true);
}

#[test]
fn untrusted_root_certificate_is_rejected() {
    let Some(listener) = Listener::start("smtp_listener.py", &["--mode", "starttls"]) else { return };
    let Some(other) = Listener::start("smtp_listener.py", &[]) else { return };
    for settings in [vec![], vec![("ALERT_CA_FILE", other.ca_file.as_str())]] {
        let reason = temporary_failure(send_mail(&listener, &settings, &message("m")));
        assert!(reason.contains("TLS failed") && reason.contains("UnknownIssuer"), "{reason}");
    }
    assert_eq!(listener.stop_and_drain(), [""; 0]);
}

#[test]
fn login_requires_tls_and_server_support_for_auth() {
    let login = [("SMTP_USERNAME", "me"), ("SMTP_PASSWORD", "s3cret")];
    let Some(plain) = Listener::start("smtp_listener.py", &["--auth", "me:s3cret"]) else { return };
    let reason = temporary_failure(send_mail(&plain, &login, &message("m")));
    assert_eq!(reason, "127.0.0.1: the server does not offer TLS, and the password is only sent over TLS");
    assert_eq!(plain.stop_and_drain(), [""; 0]);
    let Some(no_auth) = Listener::start("smtp_listener.py", &["--mode", "starttls"]) else { return };
    let with_ca = [login[0], login[1], ("ALERT_CA_FILE", no_auth.ca_file.as_str())];
    let reason = temporary_failure(send_mail(&no_auth, &with_ca, &message("m")));
    assert_eq!(reason, "127.0.0.1: the server offers neither AUTH PLAIN nor AUTH LOGIN, but SMTP_USERNAME is set");
    assert_eq!(no_auth.stop_and_drain(), [""; 0]);
}

#[test]
fn webhook_trusts_the_configured_root_certificate() {
    let Some(listener) = Listener::start("https_listener.py", &[]) else { return };
    let url = format!("https://127.0.0.1:{}/hook", listener.port);
    let reason = temporary_failure(deliver(&[("ALERT_WEBHOOK_URL", &url)], &message("m")));
    assert!(reason.contains("UnknownIssuer") && reason.contains("CA_FILE"), "{reason}");
    let with_ca = [("ALERT_WEBHOOK_URL", url.as_str()), ("ALERT_CA_FILE", &listener.ca_file)];
    assert_eq!(deliver(&with_ca, &message("m")), Delivery::Accepted);
    let post = listener.next_event();
    assert_eq!((post["path"].as_str(), post["body"]["title"].as_str()), (Some("/hook"), Some("m")));
    assert_eq!(listener.stop_and_drain(), [""; 0]);
}
