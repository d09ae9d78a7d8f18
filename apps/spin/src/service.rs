use units::{CoreId, Nanos};
use zygix::{Cx, Next, Peer, Received, Reply};

use crate::wire::{self, HEADER, Request};

/// The spin server.
///
/// The time is spent by polling the clock on the thread that executes the handler. It is time on the wall: if the
/// kernel takes the core away meanwhile, that counts as spent, and the reply says how much it came to.
///
/// Requests of one connection are served in order. Those that arrived together are served in one call, so the first
/// of them is answered when the last is done. A call does at most as many as there is room for replies (4096).
///
/// A malformed request (see [`wire::Malformed`]) aborts its connection; a malformed datagram is not answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Service;

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
            if !serve(request, tx) {
                return Next::Read;
            }
            conn.reading = None;
        }
    }

    fn writable(&self, _cx: &mut Cx<'_, Self>, conn: &mut Conn, tx: &mut Reply<'_>) -> Next {
        if let Some((request, 0)) = &conn.reading
            && serve(request, tx)
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
            serve(&request, tx);
        }
    }
}

/// Spends the time and answers. False: there is no room for the answer, and nothing was spent.
fn serve(request: &Request, tx: &mut Reply<'_>) -> bool {
    if !tx.reserve(HEADER) {
        return false;
    }
    let spent = spend(request.time);
    tx.write(&wire::Reply { id: request.id, spent }.encode());
    true
}

/// Polls the clock until `time` has passed; returns how much has.
///
/// There is no PAUSE in the loop: it would lend the core to its hyperthread, which the work that this stands for would
/// not do, and a hypervisor may take it for an invitation to run somebody else.
fn spend(time: Nanos) -> Nanos {
    let begun = sys::clock::now();
    loop {
        let spent = Nanos(sys::clock::now().0.saturating_sub(begun.0));
        if spent >= time {
            return spent;
        }
    }
}
