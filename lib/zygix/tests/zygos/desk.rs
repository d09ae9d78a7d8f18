//! The service under test: a line comes, a line goes back that names the core which did it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use units::{CoreId, Nanos};
use zygix::{Cx, Dead, Next, Peer, Received, Reply, RxBuf, Service};

pub(crate) type Hook = Box<dyn FnOnce() + Send>;

/// What the test and the service share.
#[derive(Default)]
pub(crate) struct Desk {
    /// Virtual time in nanoseconds, where the test uses it.
    pub(crate) clock: AtomicU64,
    /// How long each batch takes.
    pub(crate) cost: AtomicU64,
    /// Lines as their handlers began, "line@core"; and how connections ended.
    pub(crate) log: Mutex<Vec<String>>,
    /// What happens while the handler of a line runs: once.
    pub(crate) hooks: Mutex<HashMap<String, Hook>>,
    /// What happens while any handler runs.
    pub(crate) during: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Connections whose handlers run, by any core: none twice.
    running: Mutex<Vec<zygix::ConnRef>>,
}

impl Desk {
    pub(crate) fn now(&self) -> Nanos {
        Nanos(self.clock.load(Relaxed))
    }

    pub(crate) fn tick(&self, span: Nanos) {
        self.clock.fetch_add(span.0, Relaxed);
    }

    pub(crate) fn note(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }

    /// Once, while the handler of `line` runs, `act` does.
    pub(crate) fn when<R: Send + 'static>(
        &self,
        line: &str,
        act: impl FnOnce() -> R + Send + 'static,
    ) -> Arc<Mutex<Option<R>>> {
        let outcome = Arc::new(Mutex::new(None));
        let keep = outcome.clone();
        // What is found out here is judged by the test: a panic in a handler would cost a connection only.
        let hook: Hook = Box::new(move || {
            let found = act();
            *keep.lock().unwrap() = Some(found);
        });
        self.hooks.lock().unwrap().insert(line.into(), hook);
        outcome
    }

    fn enter(&self, who: zygix::ConnRef) {
        let mut running = self.running.lock().unwrap();
        if running.contains(&who) {
            self.note(format!("{who:?} runs twice at a time"));
        }
        running.push(who);
    }

    fn leave(&self, who: zygix::ConnRef) {
        let mut running = self.running.lock().unwrap();
        if let Some(at) = running.iter().position(|w| *w == who) {
            running.swap_remove(at);
        }
    }
}

/// One connection.
#[derive(Default)]
pub(crate) struct Conn {
    kept: Vec<RxBuf>,
}

impl Service for Desk {
    type Conn = Conn;
    type Core = CoreId;
    type Msg = ();

    fn core(&self, id: CoreId) -> CoreId {
        id
    }

    fn accept(&self, _: &mut CoreId, _: &Peer) -> Option<Conn> {
        Some(Conn::default())
    }

    fn recv(&self, cx: &mut Cx<'_, Desk>, conn: &mut Conn, rx: &mut Received<'_>, tx: &mut Reply<'_>) -> Next {
        self.enter(cx.me());
        let next = self.lines(cx, conn, rx, tx);
        self.leave(cx.me());
        match next {
            Next::Read if rx.fin() && rx.is_empty() => Next::Close,
            // Left for the end, so that the books above are right.
            Next::Abort => panic!("asked to"),
            next => next,
        }
    }

    fn timer(&self, cx: &mut Cx<'_, Desk>, _: &mut Conn, tx: &mut Reply<'_>) -> Next {
        tx.write(format!("tick@{}\n", cx.core.0).as_bytes());
        Next::Read
    }

    fn closed(&self, _: &mut CoreId, _: Conn, why: Dead) {
        self.note(format!("closed: {why}"));
    }

    fn datagram(&self, core: &mut CoreId, _: &Peer, data: &[u8], tx: &mut Reply<'_>) {
        let line = String::from_utf8_lossy(data);
        self.begins(&line, *core);
        tx.write(format!("{line}@{}", core.0).as_bytes());
    }

    fn batch_end(&self, _: &mut CoreId) {
        self.tick(Nanos(self.cost.load(Relaxed)));
    }
}

impl Desk {
    fn begins(&self, line: &str, core: CoreId) {
        self.note(format!("{line}@{}", core.0));
        let hook = self.hooks.lock().unwrap().remove(line);
        if let Some(hook) = hook {
            hook();
        }
        if let Some(act) = self.during.get() {
            act();
        }
    }

    fn lines(&self, cx: &mut Cx<'_, Desk>, conn: &mut Conn, rx: &mut Received<'_>, tx: &mut Reply<'_>) -> Next {
        let core = *cx.core;
        loop {
            let mut bytes = [0; 64];
            let have = rx.copy_to(&mut bytes);
            let Some(end) = bytes[..have].iter().position(|b| *b == b'\n') else { return Next::Read };
            let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
            self.begins(&line, core);
            match line.split(' ').next() {
                Some("keep") => {
                    if let Some(kept) = rx.take(end + 1, tx.pool()) {
                        conn.kept.push(kept);
                        continue;
                    }
                }
                Some("panic") => return Next::Abort,
                Some("greedy") => {
                    rx.consume(end + 1);
                    (0..40).for_each(|n| cx.set_timer(Nanos::from_secs(n)));
                    tx.write(b"bye\n");
                    return Next::Close;
                }
                Some("close") => {
                    rx.consume(end + 1);
                    tx.write(b"bye\n");
                    return Next::Close;
                }
                // No answer before that of the timer.
                Some("timer") => cx.set_timer(Nanos::from_millis(90)),
                _ => {
                    tx.write(format!("{line}@{}\n", core.0).as_bytes());
                }
            }
            rx.consume(end + 1);
        }
    }
}
