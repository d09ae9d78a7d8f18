//! The boundary: what a wrong or hostile application gets back, and that nothing else happens.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use abi::{Code, Cookie, Dead, Event, Handle, RxRef, Syscall, TcpOption, TxRange};
use dataplane::{App, Assist, BatchView, ElasticThread, Sched};
use mem::MbufQueue;
use netstack::{Batch, Pending, Shared, StackConfig};
use nic::Nic;
use shm::ShmQueue;
use units::{CoreId, FlowGroupId, Nanos};
use wire::Mac;

const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

type Handler = Box<dyn FnMut(&mut BatchView<'_>, &mut Vec<String>) + Send>;

/// An application made of closures: one at start, one for each batch.
struct Probe {
    start: Option<Handler>,
    handle: Handler,
    log: Arc<Mutex<Vec<String>>>,
    /// The return values of each batch that had syscalls.
    returns: Arc<Mutex<Vec<Vec<i64>>>>,
}

impl App for Probe {
    fn start(&mut self, view: &mut BatchView<'_>) {
        if let Some(mut start) = self.start.take() {
            start(view, &mut self.log.lock().unwrap());
        }
    }

    fn run(&mut self, view: &mut BatchView<'_>) {
        (self.handle)(view, &mut self.log.lock().unwrap());
    }

    fn returned(&mut self, batch: &Batch) {
        if !batch.returns().is_empty() {
            self.returns.lock().unwrap().push(batch.returns().to_vec());
        }
    }
}

struct Side {
    thread: ElasticThread<ShmQueue>,
    app: Probe,
    log: Arc<Mutex<Vec<String>>>,
    returns: Arc<Mutex<Vec<Vec<i64>>>>,
}

fn side(mac: u32, ip: Ipv4Addr, mut nic: shm::ShmNic, start: Option<Handler>, handle: Handler) -> Side {
    let queue = nic.queues().pop().unwrap();
    let config = StackConfig {
        max_conns: 64,
        tcp_ports: vec![7],
        udp_ports: vec![9],
        ..StackConfig::new(Mac::local(mac), ip, 24)
    };
    let shared = Arc::new(Shared::new(config, 1, [mac as u8; 48], move |t| nic.flow_group(t), |_| {}).unwrap());
    let (log, returns) = (Arc::default(), Arc::default());
    let app = Probe { start, handle, log: Arc::clone(&log), returns: Arc::clone(&returns) };
    Side { thread: ElasticThread::new(CoreId(0), shared, queue).unwrap(), app, log, returns }
}

struct World {
    server: Side,
    client: Side,
    now: Nanos,
}

/// A server that runs `server` on each batch, and a client that opens one connection and runs `client`.
fn world(server: Handler, client: Handler) -> World {
    let end = |mac| shm::Config { mac: Mac::local(mac), ..shm::Config::default() };
    let (a, b) = shm::pair(&end(1), &end(2)).unwrap();
    let open: Handler = Box::new(|view, _| view.connect(Cookie(77), SocketAddr::from((SERVER, 7))).unwrap());
    let mut w = World {
        server: side(1, SERVER, a, None, server),
        client: side(2, CLIENT, b, Some(open), client),
        now: Nanos::from_secs(1),
    };
    let now = w.now;
    w.client.thread.start(now, &mut w.client.app);
    w
}

impl World {
    fn run(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.now += Nanos::from_micros(20);
            let now = self.now;
            self.server.thread.turn(now, || now, &mut self.server.app);
            self.client.thread.turn(now, || now, &mut self.client.app);
        }
    }
}

/// Accepts knocks with cookie 5; notes everything else.
fn accepting(mut then: impl FnMut(&mut BatchView<'_>, usize) + Send + 'static) -> Handler {
    Box::new(move |view, log| {
        for i in 0..view.len() {
            log.extend(view.batch().events(i).map(|e| name(&e)));
            let e = view.entry(i);
            if e.pending.contains(Pending::KNOCK) {
                view.accept(i, Cookie(5)).unwrap();
            } else {
                then(view, i);
            }
        }
    })
}

fn name(e: &Event) -> String {
    match *e {
        Event::Knock { .. } => "knock".into(),
        Event::Connected { cookie, outcome, .. } => format!("connected {} {outcome:?}", cookie.0),
        Event::Recv { cookie, len, .. } => format!("recv {} {len}", cookie.0),
        Event::Sent { cookie, bytes, .. } => format!("sent {} {bytes}", cookie.0),
        Event::Dead { cookie, reason } => format!("dead {} {reason}", cookie.0),
        ref other => format!("{other:?}"),
    }
}

fn text(view: &mut BatchView<'_>, bytes: &[u8]) -> MbufQueue {
    let mut m = view.arena().alloc().unwrap();
    m.reset(0);
    m.extend(bytes);
    MbufQueue::from(m)
}

/// A client that sends one message once it is connected, and closes at the first end it sees.
fn talking() -> Handler {
    Box::new(|view, log| {
        for i in 0..view.len() {
            log.extend(view.batch().events(i).map(|e| name(&e)));
            let e = view.entry(i);
            let (handle, connected, unread) = (e.handle, e.pending.contains(Pending::CONNECTED), e.rx.bytes());
            if connected && e.dead.is_none() {
                let mut out = text(view, b"request");
                view.sendv(i, &mut out, false).unwrap();
            }
            if unread > 0 {
                view.recv_done(i, unread).unwrap();
                view.close(handle).unwrap();
            }
        }
    })
}

#[test]
fn event_conditions_tell_the_life_of_a_connection() {
    let serve = accepting(|view, i| {
        let (handle, unread, fin) = (view.entry(i).handle, view.entry(i).rx.bytes(), view.entry(i).fin);
        assert!(view.batch().rx_buffer(i, RxRef(99)).is_none(), "a buffer that is not the entry's");
        if unread > 0 {
            assert_eq!(view.batch().rx_buffer(i, RxRef(0)), Some(&b"request"[..]));
            view.recv_done(i, unread).unwrap();
            let mut out = text(view, b"reply");
            view.sendv(i, &mut out, false).unwrap();
        }
        if fin {
            view.close(handle).unwrap();
        }
    });
    let mut w = world(serve, talking());
    w.run(50);
    assert_eq!(*w.server.log.lock().unwrap(), ["knock", "recv 5 7", "sent 5 5", "recv 5 0"]);
    assert_eq!(*w.client.log.lock().unwrap(), ["connected 77 Ok", "sent 77 7", "recv 77 5"]);
}

#[test]
fn nobody_listening_is_told_as_connected_with_an_outcome() {
    let mut w = world(Box::new(|_, _| {}), talking());
    // Another port: the server's stack refuses it.
    w.client.app.start = Some(Box::new(|view, _| view.connect(Cookie(78), SocketAddr::from((SERVER, 8))).unwrap()));
    let now = w.now;
    w.client.thread.start(now, &mut w.client.app);
    w.run(50);
    let log = w.client.log.lock().unwrap();
    assert!(
        log.contains(&"connected 78 ConnRefused".into()) && log.contains(&format!("dead 78 {}", Dead::Refused)),
        "{log:?}"
    );
}

#[test]
fn wrong_arguments_get_codes_and_change_nothing() {
    let serve = accepting(|view, i| {
        let e = view.entry(i);
        let (handle, unread, window) = (e.handle, e.rx.bytes(), e.window);
        if unread == 0 {
            return;
        }
        let stale = Handle::new(handle.group(), handle.slot(), handle.generation().wrapping_add(1));
        let elsewhere = Handle::new(handle.group(), handle.slot() + 1, 0);
        let nowhere = Handle::new(FlowGroupId(200), handle.slot(), handle.generation());
        for wrong in [stale, elsewhere, nowhere, Handle::from_bits(u64::MAX), Handle::from_bits(0)] {
            if wrong != handle {
                view.shutdown(wrong).unwrap();
                view.close(wrong).unwrap();
                view.abort(wrong).unwrap();
                view.timer(wrong, Nanos::ZERO).unwrap();
                view.set_option(wrong, TcpOption::Cork(true)).unwrap();
                view.raw(Syscall::Accept { handle: wrong, cookie: Cookie(1) }).unwrap();
            }
        }
        view.raw(Syscall::Accept { handle, cookie: Cookie(6) }).unwrap();
        view.recv_done(i, unread + 1).unwrap();
        view.connect(Cookie(1), SocketAddr::from((SERVER, 7))).unwrap();
        view.connect(Cookie(1), SocketAddr::from(([255, 255, 255, 255], 7))).unwrap();
        view.connect(Cookie(1), SocketAddr::from(([198, 18, 0, 1], 0))).unwrap();
        view.connect(Cookie(1), "[2001:2::1]:7".parse().unwrap()).unwrap();
        for (first, count) in [(3, 1), (u32::MAX, u32::MAX), (0, 99)] {
            view.raw(Syscall::Sendv { handle, sg: TxRange { first, count }, waiting: 0 }).unwrap();
        }
        for span in [Nanos::ZERO, Nanos::MAX] {
            view.set_option(handle, TcpOption::UserTimeout(Some(span))).unwrap();
        }
        view.set_option(handle, TcpOption::Linger(Some(Nanos::MAX))).unwrap();
        assert!(window < 1 << 30);
        view.recv_done(i, unread).unwrap();
        let mut out = text(view, b"fine");
        view.sendv(i, &mut out, false).unwrap();
    });
    let mut w = world(serve, talking());
    w.run(50);
    let returns = w.server.returns.lock().unwrap();
    let batch = returns.iter().find(|r| r.len() > 20).expect("the batch with the wrong calls");
    let (wrong, last) = batch.split_at(batch.len() - 2);
    assert!(wrong.iter().all(|r| *r < 0), "{batch:?}");
    assert_eq!(last, [7, 4], "the right calls had their effect");
    for code in [Code::BadHandle, Code::Invalid, Code::NotSupported, Code::Fault] {
        assert!(wrong.contains(&(code as i64)), "{code:?} in {wrong:?}");
    }
    assert!(w.client.log.lock().unwrap().contains(&"recv 77 4".into()), "the peer got the reply");
}

#[test]
fn closing_twice_harms_nobody() {
    let serve = accepting(|view, i| {
        let handle = view.entry(i).handle;
        for _ in 0..2 {
            view.close(handle).unwrap();
            view.abort(handle).unwrap();
        }
    });
    let mut w = world(serve, talking());
    w.run(50);
    let codes = w.server.returns.lock().unwrap().iter().flatten().filter(|r| **r == Code::BadHandle as i64).count();
    assert_eq!(codes, 3, "all but the first close name nothing");
    assert_eq!(w.server.thread.stack().unwrap().connections(), 0);
}

/// The same on another core than the connection's home, which never turns: the other lends itself and steals.
#[test]
fn closing_twice_on_a_thief_harms_nobody() {
    let handle: Handler = accepting(|view, i| {
        let handle = view.entry(i).handle;
        for _ in 0..2 {
            view.close(handle).unwrap();
            view.abort(handle).unwrap();
        }
    });
    let end = |mac, queues| shm::Config { mac: Mac::local(mac), queues, ..shm::Config::default() };
    let (mut a, b) = shm::pair(&end(1, 2), &end(2, 1)).unwrap();
    let config = StackConfig { max_conns: 64, tcp_ports: vec![7], ..StackConfig::new(Mac::local(1), SERVER, 24) };
    let queues = a.queues();
    let shared = Arc::new(Shared::new(config, 2, [1; 48], move |t| a.flow_group(t), |_| {}).unwrap());
    let mut cores = ElasticThread::crew(&shared, queues, Sched::Zygos(Assist::Lend)).unwrap();
    let mut app = Probe { start: None, handle, log: Arc::default(), returns: Arc::default() };
    let open: Handler = Box::new(|view, _| {
        (0..8).for_each(|_| view.connect(Cookie(77), SocketAddr::from((SERVER, 7))).unwrap());
    });
    let mut client = side(2, CLIENT, b, Some(open), talking());
    let mut now = Nanos::from_secs(1);
    client.thread.start(now, &mut client.app);
    for _ in 0..200 {
        now += Nanos::from_micros(20);
        cores[1].turn(now, || now, &mut app);
        client.thread.turn(now, || now, &mut client.app);
    }
    assert!(shared.metrics(CoreId(1)).steals.get() > 0, "core 0 has some of the eight");
    assert_eq!(shared.total(|m| m.syscalls_refused.get()), 8 * 3, "all but the first close name nothing");
    assert!(cores.iter().all(|core| core.stack().unwrap().connections() == 0));
}

#[test]
fn a_sendv_beyond_the_promised_window_is_refused_whole() {
    let serve = accepting(|view, i| {
        if view.entry(i).rx.is_empty() {
            return;
        }
        let (handle, window) = (view.entry(i).handle, view.entry(i).window);
        let mut bytes = 0;
        let mut count = 0;
        while bytes <= window {
            let mut one = text(view, &[b'x'; 2048]);
            bytes += one.bytes();
            count += 1;
            view.gather(&mut one);
        }
        view.raw(Syscall::Sendv { handle, sg: TxRange { first: 0, count }, waiting: 0 }).unwrap();
        let unread = view.entry(i).rx.bytes();
        view.recv_done(i, unread).unwrap();
    });
    let mut w = world(serve, talking());
    w.run(50);
    assert!(w.server.returns.lock().unwrap().iter().any(|r| r[..] == [Code::Invalid as i64, 7]));
    assert_eq!(w.server.thread.shared().metrics(CoreId(0)).tcp_bytes_out.get(), 0);
}

/// Answers nothing at first; sends by the clock later, half of the window that it was told and then the rest.
#[derive(Default)]
struct Later {
    told: Option<(Handle, u32)>,
    runs: usize,
    returns: Vec<i64>,
}

impl App for Later {
    fn run(&mut self, view: &mut BatchView<'_>) {
        if !view.is_empty() {
            let entry = view.entry(0);
            let (knock, handle, unread) = (entry.pending.contains(Pending::KNOCK), entry.handle, entry.rx.bytes());
            self.told = Some((handle, entry.window));
            if knock {
                return view.accept(0, Cookie(1)).unwrap();
            }
            return view.recv_done(0, unread).unwrap();
        }
        self.runs += 1;
        let Some((handle, window)) = self.told.filter(|_| self.runs == 10 || self.runs == 100_000) else { return };
        let mut half = MbufQueue::new();
        while half.bytes() < window / 2 {
            let left = (window / 2 - half.bytes()).min(1024) as usize;
            half.append(&mut text(view, &vec![b'h'; left]));
        }
        let sg = view.gather(&mut half);
        view.raw(Syscall::Sendv { handle, sg, waiting: 0 }).unwrap();
    }

    fn returned(&mut self, batch: &Batch) {
        let sends = batch.outcomes().filter(|(call, _)| matches!(call, Syscall::Sendv { .. }));
        self.returns.extend(sends.map(|(_, ret)| ret));
    }

    fn wake_at(&self) -> Nanos {
        Nanos::ZERO
    }
}

#[test]
fn a_window_once_told_is_kept_when_the_network_has_become_worse_since() {
    let mut w = world(Box::new(|_, _| {}), talking());
    let mut app = Later::default();
    for round in 0..100_100 {
        w.now += Nanos::from_micros(20);
        let now = w.now;
        w.server.thread.turn(now, || now, &mut app);
        // The peer falls silent after its request: what we send is lost, and the congestion window with it.
        if round < 5 {
            w.client.thread.turn(now, || now, &mut w.client.app);
        }
    }
    let half = i64::from(app.told.unwrap().1 / 2);
    assert!(half > 0 && w.server.thread.shared().metrics(CoreId(0)).tcp_retransmits.get() > 0);
    assert_eq!(app.returns, [half, half]);
}
