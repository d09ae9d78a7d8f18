//! A backend for one thread: feeds a `Kv` with bytes cut anywhere and collects what it answers.

use std::net::SocketAddr;

use mem::{MbufQueue, Pool, Room};
use units::{CoreId, FlowGroupId, Nanos};
use zygix::{ConnRef, Cx, Dead, Next, Peer, Received, Reply, SEND_CAP, SEND_MARK, Service};

use crate::{Config, Conn, Core, Kv};

pub(super) struct Bench {
    pub(super) kv: Kv,
    core: Core,
    inward: Pool,
    outward: Pool,
    now: Nanos,
    /// What each call may write.
    pub(super) room: usize,
}

/// A connection from the client's side.
pub(super) struct Client {
    conn: Option<Conn>,
    queue: MbufQueue,
    wanted: usize,
    pub(super) closed: bool,
}

pub(super) fn config() -> Config {
    Config { start_wall: Some(1_700_000_000), hash_key: Some([1, 2]), ..Config::default() }
}

impl Bench {
    pub(super) fn new() -> Bench {
        Bench::with(config())
    }

    pub(super) fn with(config: Config) -> Bench {
        let kv = Kv::new(config);
        let core = kv.core(CoreId(0));
        Bench {
            kv,
            core,
            inward: Pool::new(Room::Received, 2304, 2048).expect("pool"),
            outward: Pool::new(Room::Exchange, 128, 2048).expect("pool"),
            now: Nanos::from_secs(1000),
            room: SEND_CAP - SEND_MARK,
        }
    }

    /// Lets time pass.
    pub(super) fn sleep(&mut self, secs: u64) {
        self.now += Nanos::from_secs(secs);
    }

    /// Opens a connection, if it is accepted.
    pub(super) fn try_open(&mut self) -> Option<Client> {
        let peer = Peer {
            remote: SocketAddr::from(([198, 18, 0, 2], 4000)),
            local: SocketAddr::from(([198, 18, 0, 1], 11211)),
        };
        let conn = self.kv.accept(&mut self.core, &peer)?;
        Some(Client { conn: Some(conn), queue: MbufQueue::new(), wanted: 0, closed: false })
    }

    pub(super) fn open(&mut self) -> Client {
        self.try_open().expect("accepted")
    }

    /// The peer is gone.
    pub(super) fn close(&mut self, mut client: Client) {
        let conn = client.conn.take().expect("open");
        self.kv.closed(&mut self.core, conn, Dead::Reset);
    }

    /// Queues bytes as received buffers of at most `piece` bytes, without telling the service.
    pub(super) fn arrive(&mut self, client: &mut Client, bytes: &[u8], piece: usize) {
        for part in bytes.chunks(piece) {
            let mut mbuf = self.inward.alloc().expect("receive buffers");
            assert_eq!(mbuf.extend(part), part.len());
            client.queue.push_back(mbuf);
        }
    }

    /// Calls handlers until nothing more can be done; returns the answer.
    pub(super) fn run(&mut self, client: &mut Client, fin: bool) -> Vec<u8> {
        let mut answer = Vec::new();
        let conn = client.conn.as_mut().expect("open");
        let me = ConnRef::new(abi::Handle::new(FlowGroupId(0), 0, 0));
        let (mut starved, mut first) = (false, true);
        while !client.closed {
            let bytes = client.queue.bytes() as usize;
            let readable = if starved { bytes > 0 } else { first && (fin || bytes >= client.wanted.max(1)) };
            if !readable && !starved {
                break;
            }
            let (mut ops, mut out) = (Vec::new(), MbufQueue::new());
            let mut cx = Cx::new(&mut self.core, self.now, me, &mut ops);
            let mut tx = Reply::new(&mut out, &mut self.outward, self.room);
            let mut rx = Received::new(&client.queue, fin, &mut []);
            let next = if readable {
                self.kv.recv(&mut cx, conn, &mut rx, &mut tx)
            } else {
                self.kv.writable(&mut cx, conn, &mut tx)
            };
            let used = rx.consumed();
            starved = tx.starved();
            first = false;
            client.queue.consume(used as u32, Some(&mut self.inward));
            assert!(!starved || used > 0 || out.bytes() > 0 || !first, "no progress");
            out.iter().for_each(|part| answer.extend_from_slice(part));
            self.outward.free_queue(out);
            match next {
                Next::Read => client.wanted = 0,
                Next::AtLeast(n) => {
                    assert!(n > client.queue.bytes() as usize, "it could have gone on");
                    client.wanted = n;
                }
                Next::Close => client.closed = true,
                Next::Pause | Next::Abort => panic!("never asked for"),
            }
        }
        self.kv.batch_end(&mut self.core);
        assert_eq!(self.outward.available(), self.outward.count(), "no reply buffer is kept");
        answer
    }

    /// Sends bytes in full buffers; returns the answer.
    pub(super) fn send(&mut self, client: &mut Client, bytes: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        for window in bytes.chunks(1 << 20) {
            self.arrive(client, window, 2048);
            answer.extend(self.run(client, false));
        }
        answer
    }

    /// The same for text.
    pub(super) fn say(&mut self, client: &mut Client, text: &str) -> String {
        String::from_utf8_lossy(&self.send(client, text.as_bytes())).into_owned()
    }
}

/// Runs a conversation on one fresh connection: what is sent, and the answer that must come. Newlines stand for line ends.
#[track_caller]
pub(super) fn converse(lines: &[(&str, &str)]) {
    let mut bench = Bench::new();
    let mut client = bench.open();
    for (said, wanted) in lines {
        let answer = bench.say(&mut client, &crlf(said));
        assert_eq!(answer, crlf(wanted), "after {said:?}");
    }
}

pub(super) fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

/// The number after a flag letter in the first line of a meta answer, or after `name` in a line of `stats`.
pub(super) fn number_after(answer: &str, mark: &str) -> u64 {
    let from = answer.find(mark).unwrap_or_else(|| panic!("{mark:?} in {answer:?}")) + mark.len();
    let digits: String = answer[from..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}
