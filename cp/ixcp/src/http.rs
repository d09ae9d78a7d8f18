//! The web page and its data, over HTTP/1.1: `GET` only, one answer per connection, bounded in every way. It is for the people of this machine (127.0.0.1 by default): it has no
//! passwords, and nothing can be changed through it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::daemon::{Shared, locked};
use crate::metrics;

const PAGE: &str = include_str!("page.html");
/// What is said to who asks for another name.
const MISLED: &str = "ask for this page by an IP address or as localhost: other names are refused (DNS rebinding)\n";
/// Bytes of a request's head at most.
const HEAD: usize = 8 * 1024;
/// Clients at once.
const CLIENTS: usize = 16;
/// How long a client may take for its request, and for taking the answer in.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an answer that [`get`] takes at most.
const ANSWER: u64 = 16 << 20;

/// The listener and its thread. Dropping it ends both.
pub(crate) struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(listen: SocketAddr, shared: Shared) -> io::Result<Server> {
        let listener = TcpListener::bind(listen)?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("cp-http".into()).spawn({
            let stop = stop.clone();
            move || accept(&listener, &shared, &stop)
        })?;
        Ok(Server { address, stop, thread: Some(thread) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        // Wakes the thread; if that fails, it ends with the process.
        if TcpStream::connect_timeout(&self.address, PATIENCE).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Shared, stop: &AtomicBool) {
    let clients = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        if stop.load(SeqCst) {
            return;
        }
        let Ok(stream) = stream else {
            // Out of descriptors, most likely: not a reason to spin.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        if clients.fetch_add(1, SeqCst) >= CLIENTS {
            clients.fetch_sub(1, SeqCst);
            continue;
        }
        let (shared, counted) = (shared.clone(), clients.clone());
        let serve = move || {
            // Whoever does not listen to the answer does not want it.
            let _ = answer(stream, &shared);
            counted.fetch_sub(1, SeqCst);
        };
        if std::thread::Builder::new().name("cp-http".into()).spawn(serve).is_err() {
            clients.fetch_sub(1, SeqCst);
        }
    }
}

fn answer(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let until = std::time::Instant::now() + PATIENCE;
    let near = stream.local_addr().is_ok_and(|at| at.ip().to_canonical().is_loopback());
    let mut head = Vec::new();
    let (status, kind, body) = loop {
        match parse(&head, near) {
            Parsed::Partial if head.len() < HEAD => {}
            Parsed::Partial | Parsed::Bad => break ("400 Bad Request", "text/plain", "not understood\n".into()),
            Parsed::Other => break ("405 Method Not Allowed", "text/plain", "GET only\n".into()),
            Parsed::Misled => break ("403 Forbidden", "text/plain", MISLED.into()),
            Parsed::Get(path) => break found(&path, shared),
        }
        let left = until.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        let mut piece = [0; 1024];
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            n => head.extend_from_slice(&piece[..n]),
        }
    };
    let length = body.len();
    // No other page may embed this one or read it: what it shows is this machine's.
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nAllow: GET\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

enum Parsed {
    Partial,
    Bad,
    /// Another method.
    Other,
    /// By a name that anybody may have given to this address.
    Misled,
    Get(String),
}

/// `near`: it came over loopback, where only this machine's own are meant to ask. Who listens elsewhere lets the network read, by whatever name.
fn parse(head: &[u8], near: bool) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Err(_) => Parsed::Bad,
        Ok(httparse::Status::Partial) => Parsed::Partial,
        Ok(httparse::Status::Complete(_)) => match (request.method, request.path) {
            _ if near && request.headers.iter().any(|h| h.name.eq_ignore_ascii_case("host") && !is_ours(h.value)) => {
                Parsed::Misled
            }
            (Some("GET"), Some(path)) => Parsed::Get(path.split('?').next().unwrap_or_default().to_owned()),
            _ => Parsed::Other,
        },
    }
}

/// Whether a Host header can be that of who means us: an address, or localhost. Any other name may be of a page elsewhere that has its name point here, so that its script may
/// read what we answer (DNS rebinding). Who is no browser may leave it out.
fn is_ours(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match inner {
        // With an interface, as in [fe80::1%2].
        Some(inner) => inner.split('%').next().is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()),
        None => name.parse::<Ipv4Addr>().is_ok() || name.eq_ignore_ascii_case("localhost"),
    }
}

fn found(path: &str, shared: &Shared) -> (&'static str, &'static str, String) {
    let json = |text: serde_json::Result<String>| ("200 OK", "application/json", text.unwrap_or_default());
    match path {
        "/" => ("200 OK", "text/html", PAGE.into()),
        "/metrics" => {
            let view = locked(shared).view.clone();
            ("200 OK", "text/plain; version=0.0.4", metrics::text(&view))
        }
        "/api/view" => {
            let view = locked(shared).view.clone();
            json(serde_json::to_string(&view))
        }
        "/api/history" => {
            let history = locked(shared).history.clone();
            json(serde_json::to_string(&history))
        }
        _ => ("404 Not Found", "text/plain", "there is /, /metrics, /api/view and /api/history\n".into()),
    }
}

/// Fetches a document of a control plane's page: `zygix top` does.
///
/// # Errors
/// It is not there, is slow, or answers with anything but 200.
pub fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.take(ANSWER).read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    match head.starts_with("HTTP/1.1 200 ") {
        true => Ok(body.to_owned()),
        false => Err(io::Error::other(head.lines().next().unwrap_or("no answer").to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    }

    #[test]
    fn the_page_and_its_data_are_served_and_nonsense_is_refused() {
        let shared = Shared::default();
        locked(&shared).view.host.topology = "two".into();
        let server = Server::start("127.0.0.1:0".parse().unwrap(), shared).unwrap();
        let at = server.address();
        assert!(get(at, "/").unwrap().starts_with("<!doctype html>"));
        let view: crate::View = serde_json::from_str(&get(at, "/api/view").unwrap()).unwrap();
        assert_eq!(view.host.topology, "two");
        let _: crate::History = serde_json::from_str(&get(at, "/api/history?x=1").unwrap()).unwrap();
        assert!(get(at, "/metrics").unwrap().contains("# TYPE zygix_up gauge"));
        assert!(get(at, "/etc/passwd").unwrap_err().to_string().contains("404"));
        for (request, status) in
            [(&b"POST / HTTP/1.1\r\n\r\n"[..], "405"), (b"\x00\xff\r\n\r\n", "400"), (&[b'a'; HEAD + 1], "400")]
        {
            let text = raw(at, request);
            assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{text}");
        }
        for (host, status) in [
            ("127.0.0.1:9797", "200"),
            ("[::1]:9797", "200"),
            ("[fe80::1%2]", "200"),
            ("LocalHost", "200"),
            ("evil.example", "403"),
            ("evil.example:9797", "403"),
            ("127.0.0.1.evil.example", "403"),
            ("", "403"),
            ("127.0.0.1\r\nHost: evil.example", "403"),
        ] {
            let text = raw(at, format!("GET /api/view HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
            assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {text}");
            assert_eq!(text.contains("rebinding"), status == "403");
        }
        // Who connects and says nothing keeps nobody from the page.
        let silent: Vec<TcpStream> = (0..CLIENTS / 2).map(|_| TcpStream::connect(at).unwrap()).collect();
        assert!(get(at, "/").is_ok());
        drop(silent);
        drop(server);
        assert!(get(at, "/").is_err());
    }

    /// A scraper elsewhere asks by this machine's name.
    #[test]
    fn the_network_may_ask_by_any_name_where_it_is_listened_to() {
        let head = b"GET /metrics HTTP/1.1\r\nHost: server1:9797\r\n\r\n";
        assert!(matches!(parse(head, false), Parsed::Get(path) if path == "/metrics"));
        assert!(matches!(parse(head, true), Parsed::Misled));
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            let found = PAGE.matches(outside).count();
            let of_svg = PAGE.matches("http://www.w3.org/2000/svg").count();
            let allowed = if outside == "http://" { of_svg } else { 0 };
            assert_eq!(found, allowed, "{outside}");
        }
    }
}
