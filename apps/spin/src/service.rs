use sys::clock::Clock;
use units::CoreId;
use zygix::{Cx, Next, Peer, Received, Reply};

use crate::wire::{self, HEADER, Request};
use crate::work::Work;

/// How the time of a request is spent.
#[derive(Clone, Debug)]
pub enum Spend {
    /// By polling the clock on the thread that executes the handler. It is time on the wall: if the kernel takes the core away meanwhile, that counts as spent, and the reply
    /// says how much it came to.
    Time(Clock),
    /// By as much work as took that time when it was measured; the reply says that time.
    Work(Work),
}

impl Default for Spend {
    fn default() -> Spend {
        Spend::Time(Clock::default())
    }
}

/// The spin server.
///
/// Requests of one connection are served in order. Those that arrived together are served in one call, so the first
/// of them is answered when the last is done. A call does at most as many as there is room for replies (4096).
///
/// A malformed request (see [`wire::Malformed`]) aborts its connection; a malformed datagram is not answered.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// How the time is spent.
    pub by: Spend,
}

/// State of one connection: the request whose header has been read, and how much of its padding is to come.
#[derive(Debug, Default)]
pub struct Conn {
    reading: Option<(Request, usize)>,
}

impl zygix::Service for Service {
    type Conn = Conn;
    type Core = ();
    type Msg = ();

    fn core(&self, _id: CoreId) {}

    fn accept(&self, _core: &mut (), _peer: &Peer) -> Option<Conn> {
        Some(Conn::default())
    }

    fn recv(&self, _cx: &mut Cx<'_, Self>, conn: &mut Conn, rx: &mut Received<'_>, tx: &mut Reply<'_>) -> Next {
        loop {
            let Some((request, padding)) = &mut conn.reading else {
                let mut header = [0; HEADER];
                if rx.copy_to(&mut header) < HEADER {
                    // The rest of a request that is cut short is of no interest once the peer has finished.
                    return if rx.fin() { Next::Close } else { Next::AtLeast(HEADER) };
                }
                let Ok(request) = Request::decode(&header) else { return Next::Abort };
                rx.consume(HEADER);
                conn.reading = Some((request, request.length as usize - HEADER));
                continue;
            };
            // Padding is dropped as it comes: a whole request may be more than the receive window.
            let here = rx.len().min(*padding);
            rx.consume(here);
            *padding -= here;
            if *padding > 0 {
                return if rx.fin() { Next::Close } else { Next::AtLeast(*padding) };
            }
            if !self.serve(request, tx) {
                return Next::Read;
            }
            conn.reading = None;
        }
    }

    fn writable(&self, _cx: &mut Cx<'_, Self>, conn: &mut Conn, tx: &mut Reply<'_>) -> Next {
        if let Some((request, 0)) = &conn.reading
            && self.serve(request, tx)
        {
            conn.reading = None;
        }
        Next::Read
    }

    fn datagram(&self, _core: &mut (), _peer: &Peer, data: &[u8], tx: &mut Reply<'_>) {
        let Some(header) = data.first_chunk::<HEADER>() else { return };
        if let Ok(request) = Request::decode(header)
            && request.length as usize == data.len()
        {
            self.serve(&request, tx);
        }
    }
}

impl Service {
    /// Spends the time and answers. False: there is no room for the answer, and nothing was spent.
    fn serve(&self, request: &Request, tx: &mut Reply<'_>) -> bool {
        if !tx.reserve(HEADER) {
            return false;
        }
        let spent = match &self.by {
            Spend::Time(clock) => clock.spend(request.time),
            Spend::Work(work) => work.spend(request.time),
        };
        tx.write(&wire::Reply { id: request.id, spent }.encode());
        true
    }
}
