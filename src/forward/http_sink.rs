//! A store that receives records over HTTP.

use std::time::Duration;

use crate::client::{
    ClientSettings, Delivery, Endpoint, HEADER_LIST_RULE, HttpClient, OutboundSettings, URL_RULE, parse_header_list,
};
use crate::env::Env;

const CLIENT_SETTINGS: ClientSettings = ClientSettings {
    connect_timeout: Duration::from_secs(5),
    exchange_timeout: Duration::from_secs(30),
    idle_connections_max: 1,
    // A response is only read for one line of reason.
    response_bytes_max: 4 * 1024,
};
/// The URL of a store, with the headers of each request.
#[derive(Debug)]
pub struct HttpSink {
    client: HttpClient,
}

impl HttpSink {
    /// Reads the URL and the headers from the variables of these names. Returns `None` if the URL is not set or invalid,
    /// and reports errors to `env`.
    ///
    /// `insert_table` is the table in ClickHouse to insert into, if the URL has no `query` parameter of its own.
    pub fn from_env(
        env: &mut Env<'_>,
        outbound: &OutboundSettings,
        [url_name, headers_name]: [&'static str; 2],
        insert_table: Option<&str>,
    ) -> Option<Self> {
        let headers = env.secret(headers_name);
        let url = env.string(url_name)?;
        let Some(endpoint) = Endpoint::parse(&insert_table.map_or(url.clone(), |table| with_insert_query(&url, table)))
        else {
            env.error(url_name, format_args!("{URL_RULE} http://localhost:8428/api/v1/write"));
            return None;
        };
        let Some(headers) = parse_header_list(headers.as_ref().map_or("", |headers| headers.reveal())) else {
            env.error(headers_name, HEADER_LIST_RULE);
            return None;
        };
        Some(Self { client: outbound.client(env, endpoint.with_headers(headers), CLIENT_SETTINGS) })
    }

    /// Posts a body with headers that describe it.
    #[must_use]
    pub fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> Delivery {
        match self.client.post(headers, body) {
            Ok(response) => Delivery::from_response(&response).at(self.client.peer()),
            Err(error) => error.into(),
        }
    }
}

/// Returns `url` with the query that inserts lines into a table of ClickHouse.
fn with_insert_query(url: &str, table: &str) -> String {
    if url.contains("query=") {
        return url.to_owned();
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    let query = format!("query=INSERT%20INTO%20{table}%20FORMAT%20JSONEachRow");
    format!("{url}{separator}{query}&input_format_skip_unknown_fields=1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ProxyPolicy;
    use crate::client::test_server::http;
    use crate::env::Variable;

    const TABLE: &[Variable] = &[Variable::plain("URL", "", ""), Variable::secret("HEADERS", "")];

    fn sink(pairs: &[(&str, &str)], insert_table: Option<&str>) -> Result<Option<HttpSink>, Vec<String>> {
        let lookup = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let variables = [TABLE, &OutboundSettings::variables(ProxyPolicy::Direct)].concat();
        let mut env = Env::new(&variables, lookup);
        let outbound = OutboundSettings::from_env(&mut env, ProxyPolicy::Direct, None);
        let sink = HttpSink::from_env(&mut env, &outbound, ["URL", "HEADERS"], insert_table);
        env.finish().map(|()| sink)
    }

    #[test]
    fn responses_that_an_operator_can_change_are_retried() {
        let retry = |reason: &str| Delivery::retry(format!("127.0.0.1: {reason}"));
        let rejected = |reason: &str| Delivery::rejected(format!("127.0.0.1: {reason}"));
        for (response, delivery) in [
            ("204 No Content\r\n\r\n", Delivery::Accepted),
            ("401 Unauthorized\r\n\r\nno Bearer s3cret", retry("HTTP 401: no ***")),
            ("403 Forbidden\r\n\r\n", retry("HTTP 403")),
            ("404 Not Found\r\n\r\n", retry("HTTP 404")),
            ("301 Moved\r\n\r\n", retry("HTTP 301: redirects are not followed")),
            ("308 Moved\r\n\r\n", retry("HTTP 308: redirects are not followed")),
            ("405 No\r\n\r\n", retry("HTTP 405")),
            ("411 No\r\n\r\n", retry("HTTP 411")),
            ("415 No\r\n\r\n", retry("HTTP 415")),
            ("407 Proxy Authentication Required\r\n\r\n", retry("HTTP 407")),
            ("502 Bad Gateway\r\n\r\n", retry("HTTP 502")),
            ("400 Bad Request\r\n\r\nline 1", rejected("HTTP 400: line 1")),
            ("413 Too Large\r\n\r\n", rejected("HTTP 413")),
            ("422 No\r\n\r\n", rejected("HTTP 422")),
        ] {
            let (address, requests) = http(Vec::leak(vec![response]));
            let url = format!("http://{address}/in");
            let headers = "Authorization: Bearer s3cret; Cookie: a=1; b=2";
            let sink = sink(&[("URL", &url), ("HEADERS", headers)], None).unwrap().unwrap();
            assert_eq!(sink.post(&[("Content-Type", "text/plain")], b"body"), delivery);
            let request = requests.recv().unwrap().to_ascii_lowercase();
            for line in ["authorization: bearer s3cret", "cookie: a=1; b=2", "content-type: text/plain", "body"] {
                assert!(request.lines().any(|found| found == line), "{line} in {request}");
            }
        }
    }

    #[test]
    fn invalid_settings_are_errors() {
        assert!(sink(&[("HEADERS", "A: 1")], None).unwrap().is_none());
        let errors = sink(&[("URL", "store.example:8428")], None).unwrap_err();
        assert!(errors[0].starts_with("URL") && errors[0].contains("must be an absolute http(s) URL"), "{errors:?}");
        let errors = sink(&[("URL", "http://store.example"), ("HEADERS", "s3cret")], None).unwrap_err();
        assert!(errors[0].starts_with("HEADERS") && !errors[0].contains("s3cret"), "{errors:?}");
    }

    #[test]
    fn clickhouse_urls_without_a_query_get_one() {
        let query = "query=INSERT%20INTO%20t%20FORMAT%20JSONEachRow&input_format_skip_unknown_fields=1";
        for (url, expected) in [
            ("http://h/", format!("http://h/?{query}")),
            ("http://h/?user=u", format!("http://h/?user=u&{query}")),
            ("http://h/?query=x", "http://h/?query=x".to_owned()),
        ] {
            assert_eq!(with_insert_query(url, "t"), expected);
        }
    }
}
