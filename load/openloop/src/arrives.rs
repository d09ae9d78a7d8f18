//! Segments from the server, and the replies in them.

use load::Recorder;
use requests::Verdict;
use units::Nanos;
use wire::tcp::{Flags, Header};

use crate::conn::{MSS, Phase};
use crate::flows::{Flows, refuse, skip_sent};
use crate::slab::NIL;

/// A server that does not say takes segments of 536 bytes (RFC 9293 section 3.7.1).
const MSS_DEFAULT: u16 = 536;

/// What came makes no sense: where the next reply begins is unknown.
struct Garbage;

impl Flows {
    /// Takes a segment of connection `id`, with its `payload`, transmitted at `now`.
    #[inline]
    pub(crate) fn segment(
        &mut self,
        id: u32,
        h: &Header,
        payload: &[u8],
        now: Nanos,
        mut recorder: Option<&mut Recorder>,
    ) {
        let c = &mut self.conns[id as usize];
        if c.phase != Phase::Open || h.flags.intersects(Flags::RST | Flags::SYN) {
            return self.handshake(id, h, recorder);
        }
        self.acknowledged(id, h);
        if !payload.is_empty() {
            let c = &mut self.conns[id as usize];
            let old = c.rcv_nxt.since(h.seq) as usize;
            match payload.get(old..).filter(|fresh| !fresh.is_empty()) {
                Some(fresh) => {
                    c.rcv_nxt += fresh.len() as u32;
                    self.owe(id, now);
                    if self.replies(id, fresh, now, recorder.as_deref_mut()).is_err() {
                        return self.broke(id, true, recorder);
                    }
                }
                // Wholly known already, or beyond a gap (`old` is huge then): say again what is expected.
                None => {
                    c.ack_now = true;
                    self.soil(id);
                }
            }
        }
        if h.flags.contains(Flags::FIN) {
            self.broke(id, true, recorder);
        }
    }

    #[inline]
    fn acknowledged(&mut self, id: u32, h: &Header) {
        let c = &mut self.conns[id as usize];
        if !h.flags.contains(Flags::ACK) || h.ack.lt(c.una) || h.ack.gt(c.max) {
            return;
        }
        if h.ack != c.una {
            c.una = h.ack;
            c.stuck_since = self.now;
            if c.nxt.lt(c.una) {
                c.nxt = c.una;
                skip_sent(c, &self.slab);
            }
        }
        c.wnd = h.window.into();
        if std::mem::take(&mut c.shut) {
            self.send_rest(id);
        }
    }

    /// Anything but plain segments of an open connection.
    #[cold]
    fn handshake(&mut self, id: u32, h: &Header, recorder: Option<&mut Recorder>) {
        let c = &mut self.conns[id as usize];
        let (rst, syn, ack) =
            (h.flags.contains(Flags::RST), h.flags.contains(Flags::SYN), h.flags.contains(Flags::ACK));
        match c.phase {
            Phase::Open if rst => self.broke(id, false, recorder),
            Phase::Open => {
                // Our last step of the handshake was lost.
                c.ack_now = true;
                self.soil(id);
            }
            // Nobody listens. The next SYN follows when this one is overdue.
            Phase::Opening if rst && ack && h.ack == c.una => {
                self.refused += 1;
                if let Some(recorder) = recorder {
                    recorder.refused();
                }
            }
            Phase::Opening if syn && ack && h.ack == c.una => {
                c.rcv_nxt = h.seq + 1;
                c.wnd = h.window.into();
                c.mss = h.options.mss.unwrap_or(MSS_DEFAULT).clamp(1, MSS);
                self.opened(id, recorder);
            }
            Phase::Opening | Phase::Closed if ack && !rst => refuse(self, id, h.ack),
            _ => {}
        }
    }

    /// Judges the bytes that have come next on connection `id`.
    #[inline]
    fn replies(&mut self, id: u32, bytes: &[u8], now: Nanos, recorder: Option<&mut Recorder>) -> Result<(), Garbage> {
        let c = &mut self.conns[id as usize];
        if c.partial.is_empty() {
            let used = self.judge(id, bytes, now, recorder)?;
            if used < bytes.len() {
                self.conns[id as usize].partial.extend_from_slice(&bytes[used..]);
            }
            return Ok(());
        }
        c.partial.extend_from_slice(bytes);
        if c.partial.len() < c.need {
            return Ok(());
        }
        let mut all = std::mem::take(&mut c.partial);
        let used = self.judge(id, &all, now, recorder);
        all.drain(..*used.as_ref().unwrap_or(&all.len()));
        self.conns[id as usize].partial = all;
        used.map(drop)
    }

    /// Judges as many replies as are complete; returns the bytes that they took.
    #[inline]
    fn judge(
        &mut self,
        id: u32,
        bytes: &[u8],
        now: Nanos,
        mut recorder: Option<&mut Recorder>,
    ) -> Result<usize, Garbage> {
        let mut at = 0;
        while at < bytes.len() {
            let c = &mut self.conns[id as usize];
            let head = c.head;
            // Bytes that nobody asked for, or before the request was sent: a server out of step.
            if head == NIL || self.slab[head].start.ge(c.max) {
                return Err(Garbage);
            }
            let request = self.slab[head];
            let (len, right) = match self.asker.judge(request.ask, &bytes[at..]) {
                Verdict::Right(len) => (len, true),
                Verdict::Wrong(len) => (len, false),
                Verdict::Incomplete(need) => {
                    c.need = need;
                    break;
                }
                Verdict::Garbage => return Err(Garbage),
            };
            // A reply may begin before the whole request is there, but not end.
            if len == 0 || len > bytes.len() - at || request.end().gt(c.max) {
                return Err(Garbage);
            }
            at += len;
            c.head = request.next;
            if c.head == NIL {
                c.tail = NIL;
            }
            // Who has answered has received.
            c.una = c.una.max(request.end());
            if c.nxt.lt(c.una) {
                c.nxt = c.una;
            }
            if c.cursor == head {
                c.cursor = request.next;
            }
            self.slab.free(head);
            self.end(id);
            match &mut recorder {
                Some(recorder) if right => recorder.right(request.meant, now),
                Some(recorder) => recorder.wrong(request.meant),
                None => {}
            }
        }
        Ok(at)
    }
}
