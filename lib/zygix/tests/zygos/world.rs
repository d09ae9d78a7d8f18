//! Two elastic threads of one crew and a client, each turned by hand: also by handlers, while "application code" runs.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};

use dataplane::{ElasticThread, Sched};
use netstack::{PoolSizes, Shared, StackConfig};
use nic::Nic;
use shm::ShmQueue;
use units::{CoreId, Nanos};
use wire::Mac;
use zygix::{Runtime, ServiceApp};

use crate::client::{CLIENT, Client, PORT, SERVER};
use crate::desk::Desk;

pub(crate) const POOLS: PoolSizes = PoolSizes { rx: 512, spill: 1, tx: 256, small: 64 };
/// Ports from which the client sends datagrams.
pub(crate) const CAST_PORTS: std::ops::Range<u16> = 9000..9016;

pub(crate) struct Half<A> {
    pub(crate) thread: ElasticThread<ShmQueue>,
    pub(crate) app: A,
}

pub(crate) struct World {
    pub(crate) desk: Arc<Desk>,
    pub(crate) shared: Arc<Shared>,
    cores: [Mutex<Half<ServiceApp<Desk>>>; 2],
    client: Mutex<Half<Client>>,
}

pub(crate) fn server_config(batch: usize) -> StackConfig {
    let ports = (vec![PORT], vec![PORT]);
    let mac = Mac::local(1);
    StackConfig {
        pools: POOLS,
        max_conns: 256,
        batch,
        tcp_ports: ports.0,
        udp_ports: ports.1,
        ..StackConfig::new(mac, SERVER, 24)
    }
}

pub(crate) fn client_half(mut nic: shm::ShmNic, cores: usize) -> Half<Client> {
    let config = StackConfig {
        pools: POOLS,
        max_conns: 256,
        udp_ports: CAST_PORTS.collect(),
        ..StackConfig::new(Mac::local(2), CLIENT, 24)
    };
    let queue = nic.queues().pop().unwrap();
    let nic = Arc::new(nic);
    let group = nic.clone();
    let shared = Shared::new(config, 1, [2; 48], move |t| nic.flow_group(t), |_| {}).unwrap();
    Half {
        app: Client::new(Arc::new(move |t| group.flow_group(t)), cores),
        thread: ElasticThread::new(CoreId(0), Arc::new(shared), queue).unwrap(),
    }
}

/// A wire with so many queues at the server's end.
pub(crate) fn wire(cores: u16) -> (shm::ShmNic, shm::ShmNic) {
    let end = |mac, queues| shm::Config { mac: Mac::local(mac), queues, ..shm::Config::default() };
    shm::pair(&end(1, cores), &end(2, 1)).unwrap()
}

impl World {
    /// A server in this mode, whose batches take 50 us each, and `links` connections to it.
    pub(crate) fn new(sched: Sched, links: usize) -> Arc<World> {
        World::with_batch(sched, links, 64)
    }

    /// The same with another bound on batches.
    pub(crate) fn with_batch(sched: Sched, links: usize, batch: usize) -> Arc<World> {
        let (mut a, b) = wire(2);
        let queues = a.queues();
        let shared = Shared::new(server_config(batch), 2, [1; 48], move |t| a.flow_group(t), |_| {}).unwrap();
        let shared = Arc::new(shared);
        let desk = Arc::new(Desk::default());
        let runtime = Runtime::new(desk.clone(), shared.clone());
        let mut threads = ElasticThread::crew(&shared, queues, sched).unwrap();
        let mut core = |n: u16| {
            let thread = threads.remove(0);
            Mutex::new(Half { thread, app: runtime.app(CoreId(n)) })
        };
        let cores = [core(0), core(1)];
        desk.clock.store(Nanos::from_secs(1).0, Relaxed);
        desk.cost.store(Nanos::from_micros(50).0, Relaxed);
        let w = World { desk, shared, cores, client: Mutex::new(client_half(b, 2)) };
        for _ in 0..links {
            w.client().app.dial();
        }
        w.settle();
        Arc::new(w)
    }

    pub(crate) fn core(&self, core: usize) -> MutexGuard<'_, Half<ServiceApp<Desk>>> {
        self.cores[core].lock().unwrap()
    }

    pub(crate) fn client(&self) -> MutexGuard<'_, Half<Client>> {
        self.client.lock().unwrap()
    }

    /// One turn of a core. Nothing if it is in one already, up the stack.
    pub(crate) fn turn(&self, core: usize) {
        if let Ok(mut half) = self.cores[core].try_lock() {
            let Half { thread, app } = &mut *half;
            self.desk.tick(Nanos::from_micros(10));
            thread.turn(self.desk.now(), || self.desk.now(), app);
        }
    }

    /// One turn of the client, unless it is in one.
    pub(crate) fn turn_client(&self) {
        if let Ok(mut half) = self.client.try_lock() {
            let Half { thread, app } = &mut *half;
            self.desk.tick(Nanos::from_micros(10));
            thread.turn(self.desk.now(), || self.desk.now(), app);
        }
    }

    /// The client says this now.
    pub(crate) fn say(&self, link: usize, text: &str) {
        self.client().app.say(link, &format!("{text}\n"));
        self.turn_client();
    }

    /// Everybody turns until all has been said and done.
    pub(crate) fn settle(&self) {
        self.run(Nanos::from_millis(10));
    }

    /// Everybody turns for so long.
    pub(crate) fn run(&self, span: Nanos) {
        let end = self.desk.now() + span;
        while self.desk.now() < end {
            self.turn(0);
            self.turn(1);
            self.turn_client();
            self.desk.tick(Nanos::from_micros(50));
        }
    }

    /// What the client got on a connection since the last time.
    pub(crate) fn got(&self, link: usize) -> String {
        std::mem::take(&mut self.client().app.links[link].got)
    }

    /// How a connection ended, as the client sees it.
    pub(crate) fn end(&self, link: usize) -> Option<String> {
        self.client().app.links[link].end.clone()
    }

    /// The connections that belong to a core.
    pub(crate) fn of(&self, core: usize) -> Vec<usize> {
        let client = self.client();
        (0..client.app.links.len()).filter(|i| client.app.links[*i].home == core).collect()
    }

    /// What the server logged since the last time.
    pub(crate) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.desk.log.lock().unwrap())
    }

    pub(crate) fn count(&self, core: u16, of: impl Fn(&netstack::Metrics) -> u64) -> u64 {
        of(self.shared.metrics(CoreId(core)))
    }

    /// Ends what is left and checks that the server is as it was at the start: no connections, all buffers at home.
    pub(crate) fn ends_clean(&self) {
        let links = self.client().app.links.len();
        for link in 0..links {
            self.client().app.close(link);
        }
        self.run(Nanos::from_secs(5));
        for core in 0..2 {
            let half = self.core(core);
            let stack = half.thread.stack().expect("nobody has it");
            assert_eq!(stack.connections(), 0, "core {core}");
            assert_eq!(stack.ready(), 0, "core {core}");
            assert!(!stack.has_returned() && stack.shuffle().offered() == 0, "core {core}");
            assert_eq!(stack.rx_available(), POOLS.rx as usize, "receive buffers of core {core}");
            drop(stack);
            assert_eq!(half.thread.tx_available(), POOLS.tx as usize, "transmit buffers of core {core}");
        }
    }
}
