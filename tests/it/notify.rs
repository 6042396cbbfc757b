//! Alerts over the wire: to a mail server and a web server that are not ours, with certificates of their own.

use std::net::TcpListener;

use monlight::env::Env;
use monlight::notify::{Delivery, Fact, Message, Notifier, VARIABLES};
use serde_json::Value;

use crate::harness::skip;
use crate::python::Listener;

fn message(title: &str) -> Message {
    Message {
        event: "new_error",
        title: title.to_owned(),
        facts: vec![Fact { key: "project", label: "Project", value: "shöp".to_owned() }],
        excerpt: format!("Traceback\n.\n..\n  {}\nFrom here", "x".repeat(5_000)),
        link: Some("http://localhost:5010/".to_owned()),
    }
}

/// Sends by SMTP with `more` settings, without waiting between attempts.
fn send(listener: &Listener, more: &[(&str, &str)], message: &Message) -> Delivery {
    let usual = [
        ("SMTP_HOST", "127.0.0.1"),
        ("SMTP_PORT", &listener.port),
        ("ALERT_EMAILS", "a@example.com, B <b@example.com>"),
    ];
    deliver(&[more, &usual].concat(), message)
}

fn deliver(given: &[(&str, &str)], message: &Message) -> Delivery {
    let lookup = |name: &str| given.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let mut env = Env::new(VARIABLES, lookup);
    let notifier = Notifier::from_env(&mut env);
    assert_eq!((env.finish(), notifier.missing()), (Ok(()), None));
    notifier.send(message, &|_| true).remove(0)
}

fn headers<'a>(mail: &'a Value, name: &str) -> Vec<&'a str> {
    let all = mail["headers"].as_array().unwrap().iter();
    all.filter(|header| header[0] == name).map(|header| header[1].as_str().unwrap()).collect()
}

fn sent(attempts: u32) -> Delivery {
    Delivery { channel: "smtp", attempts, outcome: Ok(()) }
}

/// The reason of a failure that was not tried again.
fn refusal(delivery: Delivery) -> String {
    assert_eq!(delivery.attempts, 1, "{delivery:?}");
    delivery.outcome.unwrap_err()
}

#[test]
fn a_plain_server_gets_the_whole_mail() {
    let Some(listener) = Listener::start("smtp_listener.py", &[]) else { return };
    let message = message("Boom");
    assert_eq!(send(&listener, &[], &message), sent(1));
    let mail = listener.next_event();
    assert_eq!((mail["from"].as_str(), mail["tls"].as_bool()), (Some("errors@example.com"), Some(false)));
    assert_eq!(mail["to"], serde_json::json!(["a@example.com", "b@example.com"]));
    assert_eq!(headers(&mail, "Auto-Submitted"), ["auto-generated"]);
    assert_eq!(headers(&mail, "To"), ["a@example.com, B <b@example.com>"]);
    assert!(headers(&mail, "Message-ID")[0].ends_with("@example.com>"), "{mail}");
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
fn titles_arrive_as_one_subject() {
    let Some(listener) = Listener::start("smtp_listener.py", &[]) else { return };
    let long = "Ünïcödé ".repeat(40);
    let cut = format!("{}…", &long[..long.char_indices().nth(199).unwrap().0]);
    for (title, subject) in [
        ("Größe überschritten 😀", "Größe überschritten 😀"),
        ("Boom\r\nBcc: evil@example.com\r\n\r\n<h1>", "Boom Bcc: evil@example.com <h1>"),
        ("Bööm\nBcc: evil@example.com", "Bööm Bcc: evil@example.com"),
        ("=?utf-8?q?Boom=0D=0ABcc:_evil?=", "= ?utf-8?q?Boom=0D=0ABcc:_evil?="),
        (&long, &cut),
        (&"x".repeat(190), &"x".repeat(190)),
    ] {
        assert_eq!(send(&listener, &[], &message(title)), sent(1));
        let mail = listener.next_event();
        assert_eq!(headers(&mail, "Subject"), [subject]);
        assert_eq!((headers(&mail, "Bcc").len(), mail["to"].as_array().unwrap().len()), (0, 2));
    }
}

#[test]
fn starttls_then_a_login() {
    let Some(listener) = Listener::start("smtp_listener.py", &["--mode", "starttls", "--auth", "me:s3cret"]) else {
        return;
    };
    let login = [("SMTP_USERNAME", "me"), ("SMTP_PASSWORD", "s3cret"), ("ALERT_CA_FILE", &listener.ca_file)];
    assert_eq!(send(&listener, &login, &message("m")), sent(1));
    assert_eq!(listener.next_event(), serde_json::json!({ "login": "me", "accepted": true }));
    assert_eq!(listener.next_event()["tls"], true);
    let wrong = [("SMTP_USERNAME", "me"), ("SMTP_PASSWORD", "invalid"), ("ALERT_CA_FILE", &listener.ca_file)];
    let reason = refusal(send(&listener, &wrong, &message("m")));
    assert!(reason.starts_with("127.0.0.1 answered 535: ") && !reason.contains("invalid"), "{reason}");
}

#[test]
fn port_465_speaks_tls_at_once() {
    let privileged = ("127.0.0.2", 465);
    if let Err(why) = TcpListener::bind(privileged) {
        return skip(&why.to_string());
    }
    let arguments = ["--mode", "tls", "--auth", "me:s3cret", "--host", "127.0.0.2", "--port", "465"];
    let Some(listener) = Listener::start("smtp_listener.py", &arguments) else { return };
    let login = [
        ("SMTP_HOST", "127.0.0.2"),
        ("SMTP_USERNAME", "me"),
        ("SMTP_PASSWORD", "s3cret"),
        ("ALERT_CA_FILE", &listener.ca_file),
    ];
    assert_eq!(send(&listener, &login, &message("m")), sent(1));
    assert_eq!(listener.next_event()["login"], "me");
    assert_eq!(listener.next_event()["tls"], true);
}

#[test]
fn an_unknown_root_is_refused() {
    let Some(listener) = Listener::start("smtp_listener.py", &["--mode", "starttls"]) else { return };
    let Some(other) = Listener::start("smtp_listener.py", &[]) else { return };
    for more in [vec![], vec![("ALERT_CA_FILE", other.ca_file.as_str())]] {
        let reason = refusal(send(&listener, &more, &message("m")));
        assert!(reason.contains("TLS failed") && reason.contains("UnknownIssuer"), "{reason}");
    }
    assert_eq!(listener.stop_and_drain(), [""; 0]);
}

#[test]
fn a_login_waits_for_tls_and_for_auth() {
    let login = [("SMTP_USERNAME", "me"), ("SMTP_PASSWORD", "s3cret")];
    let Some(plain) = Listener::start("smtp_listener.py", &["--auth", "me:s3cret"]) else { return };
    let reason = refusal(send(&plain, &login, &message("m")));
    assert_eq!(reason, "127.0.0.1 offers no TLS, and a password never goes without");
    assert_eq!(plain.stop_and_drain(), [""; 0]);
    let Some(no_auth) = Listener::start("smtp_listener.py", &["--mode", "starttls"]) else { return };
    let trusting = [login[0], login[1], ("ALERT_CA_FILE", no_auth.ca_file.as_str())];
    let reason = refusal(send(&no_auth, &trusting, &message("m")));
    assert_eq!(reason, "127.0.0.1 offers no login by AUTH PLAIN or LOGIN, but SMTP_USERNAME is set");
    assert_eq!(no_auth.stop_and_drain(), [""; 0]);
}

#[test]
fn a_webhook_trusts_the_private_root() {
    let Some(listener) = Listener::start("https_listener.py", &[]) else { return };
    let url = format!("https://127.0.0.1:{}/hook", listener.port);
    let reason = refusal(deliver(&[("ALERT_WEBHOOK_URL", &url)], &message("m")));
    assert!(reason.contains("UnknownIssuer") && reason.contains("ALERT_CA_FILE"), "{reason}");
    let trusting = [("ALERT_WEBHOOK_URL", url.as_str()), ("ALERT_CA_FILE", &listener.ca_file)];
    let delivery = deliver(&trusting, &message("m"));
    assert_eq!(delivery, Delivery { channel: "webhook", attempts: 1, outcome: Ok(()) });
    let post = listener.next_event();
    assert_eq!((post["path"].as_str(), post["body"]["title"].as_str()), (Some("/hook"), Some("m")));
    assert_eq!(listener.stop_and_drain(), [""; 0]);
}
