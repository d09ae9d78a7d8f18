use std::sync::Arc;
use std::thread::JoinHandle;

use dataplane::{Dataplane, Idle, RunnerConfig};
use netstack::StackConfig;
use nic::Nic;
use requests::{Asker, Workload};
use sys::clock;
use sys::wait::EventFd;
use units::Nanos;

use crate::desk::{Attendance, Desk, Live};
use crate::engine::Engine;
use crate::job::Order;
use crate::native::Native;
use crate::spec::ZygixNet;
use crate::{LoadError, Outcome, Place, Spec, Window, linux};

/// The time between an order and its beginning, so that all threads begin together.
const LEAD: Nanos = Nanos::from_millis(5);

/// Running client threads. Their connections stay open from window to window, and end with this value.
pub struct Load {
    spec: Spec,
    live: Arc<Live>,
    desks: Vec<Arc<Desk>>,
    bells: Vec<Arc<EventFd>>,
    body: Body,
}

enum Body {
    Threads(Vec<JoinHandle<()>>),
    Stack(Option<Dataplane>),
}

impl Load {
    /// Opens all connections, over the kernel's TCP.
    ///
    /// # Errors
    /// The spec makes no sense; the server does not answer; descriptors or ports ran out; a core is not to be had.
    pub fn linux(spec: &Spec, place: &Place) -> Result<Load, LoadError> {
        spec.check()?;
        let mut load = Load::new(spec);
        let mut threads = Vec::new();
        for index in 0..spec.threads {
            let bell = Arc::new(EventFd::new()?);
            load.bells.push(bell.clone());
            let (desk, engine) = load.engine(index);
            let spin = place.spin;
            let core = place.cores.get(index as usize % place.cores.len().max(1)).copied();
            let body = move || {
                let attendance = Attendance(desk);
                attendance.0.tid.store(sys::thread::id(), std::sync::atomic::Ordering::Relaxed);
                let done = core.map_or(Ok(()), |core| sys::thread::pin(core).map_err(LoadError::from));
                let done = done.and_then(|()| linux::run(engine, &bell, spin));
                if let Err(e) = done {
                    attendance.0.done(Err(e));
                }
            };
            threads.push(std::thread::Builder::new().name(format!("load-{index}")).spawn(body)?);
        }
        load.body = Body::Threads(threads);
        load.all_done()?;
        Ok(load)
    }

    /// Opens all connections, over a stack of our own on `nic`, one elastic thread for each of its queues: `spec.threads` of them.
    ///
    /// # Errors
    /// As [`Load::linux`]; memory for the stack cannot be had.
    pub fn zygix<N>(spec: &Spec, place: &Place, mut nic: N, net: ZygixNet) -> Result<Load, LoadError>
    where
        N: Nic + Send + Sync + 'static,
        N::Queue: 'static,
    {
        spec.check()?;
        let mut load = Load::new(spec);
        let queues = nic.queues();
        if queues.len() != spec.threads as usize {
            return Err(LoadError::Spec(format!("{} threads on a NIC of {} queues", spec.threads, queues.len())));
        }
        let conns = (spec.connections + spec.probe) as usize;
        let mtu = queues.first().map_or(1500, |q| nic::Queue::caps(q).mtu);
        let config = StackConfig {
            // Churned connections may linger in TIME-WAIT.
            max_conns: conns + conns / 2 + 4096,
            tcp: tcp::Config { mss: mtu - 40, ..tcp::Config::default() },
            ..StackConfig::new(net.mac, net.ip, net.prefix)
        };
        let idle = if place.spin { Idle::Spin } else { Idle::default() };
        let runner = RunnerConfig { pin: place.cores.clone(), idle, ..RunnerConfig::default() };
        let apps = &mut load;
        let stack = Dataplane::start(
            config,
            queues,
            move |t| nic.flow_group(t),
            &runner,
            |core, _| {
                let (desk, engine) = apps.engine(u32::from(core.0));
                Manned { native: Native::new(engine, apps.spec.target), desk: Attendance(desk) }
            },
        );
        load.body = Body::Stack(Some(stack.map_err(|e| LoadError::Stack(e.to_string()))?));
        load.all_done()?;
        Ok(load)
    }

    fn new(spec: &Spec) -> Load {
        let body = Body::Threads(Vec::new());
        Load { spec: spec.clone(), live: Arc::default(), desks: Vec::new(), bells: Vec::new(), body }
    }

    fn engine(&mut self, index: u32) -> (Arc<Desk>, Engine) {
        let desk = Arc::new(Desk::default());
        self.desks.push(desk.clone());
        (desk.clone(), Engine::new(&self.spec, index, desk, self.live.clone()))
    }

    /// What the client has done so far, to be watched while it runs.
    pub fn live(&self) -> Arc<Live> {
        self.live.clone()
    }

    /// What this client was told to be.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The kernel's ids of the client threads.
    pub fn tids(&self) -> Vec<u32> {
        self.desks.iter().map(|d| d.tid.load(std::sync::atomic::Ordering::Relaxed)).filter(|tid| *tid != 0).collect()
    }

    /// Stores all records of the workload and waits until the server has said so for each; nothing to do for workloads without.
    ///
    /// # Errors
    /// One was refused; there was no answer for 10 s; somebody asked for the end.
    pub fn preload(&mut self) -> Result<(), LoadError> {
        let records = Asker::new(&self.spec.workload, draw::stream(0, 0, draw::Purpose::Requests)).records();
        if records == 0 {
            return Ok(());
        }
        let of = self.desks.len() as u64;
        let edge = |i: u64| (u64::from(records) * i / of) as u32;
        for (i, desk) in (0..).zip(&self.desks) {
            desk.put(Order::Preload { from: edge(i), to: edge(i + 1) });
        }
        self.ring();
        self.all_done().map(drop)
    }

    /// Asks something else from the next window on, over the same connections.
    ///
    /// # Errors
    /// A client thread has died.
    pub fn ask(&mut self, workload: Workload) -> Result<(), LoadError> {
        self.spec.workload = workload.clone();
        self.desks.iter().for_each(|desk| desk.put(Order::Ask(workload.clone())));
        self.ring();
        self.all_done().map(drop)
    }

    /// Runs a window, to its end or until somebody asks the process to stop: then the outcome says so.
    ///
    /// # Errors
    /// A client thread has died.
    pub fn run(&mut self, window: &Window) -> Result<Outcome, LoadError> {
        self.start(window).join()
    }

    /// Begins a window, for those who have something to do meanwhile.
    pub fn start(&mut self, window: &Window) -> Running<'_> {
        let start = clock::now() + LEAD;
        self.desks.iter().for_each(|desk| desk.put(Order::Run { window: window.clone(), start }));
        self.ring();
        Running { opens: start + window.warmup, closes: start + window.warmup + window.window, load: self }
    }

    fn ring(&self) {
        self.bells.iter().for_each(|b| b.ring());
    }

    /// Waits for all threads; what they did, together.
    fn all_done(&self) -> Result<Outcome, LoadError> {
        let mut sum: Option<Outcome> = None;
        let mut failed = None;
        for desk in &self.desks {
            match desk.wait() {
                Ok(outcome) => match &mut sum {
                    Some(sum) => sum.merge(&outcome),
                    None => sum = Some(outcome),
                },
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        match failed {
            Some(e) => Err(e),
            None => sum.ok_or(LoadError::Dead),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for desk in &self.desks {
            desk.halt();
            desk.put(Order::End);
        }
        self.ring();
        match &mut self.body {
            Body::Threads(threads) => {
                for t in threads.drain(..) {
                    // A panic has been printed already.
                    let _ = t.join();
                }
            }
            // Ends all connections with RST, then its threads.
            Body::Stack(stack) => drop(stack.take()),
        }
    }
}

/// A window that is running.
pub struct Running<'a> {
    load: &'a Load,
    opens: Nanos,
    closes: Nanos,
}

impl Running<'_> {
    /// The instant, on [`sys::clock`], at which the measured window opens.
    pub fn opens(&self) -> Nanos {
        self.opens
    }

    /// The instant at which it closes, unless it is ended early.
    pub fn closes(&self) -> Nanos {
        self.closes
    }

    /// Ends it early.
    pub fn halt(&self) {
        self.load.desks.iter().for_each(|d| d.halt());
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// A client thread has died.
    pub fn join(self) -> Result<Outcome, LoadError> {
        self.load.all_done()
    }
}

/// An elastic thread's application, and its attendance at the desk.
struct Manned {
    native: Native,
    desk: Attendance,
}

impl dataplane::App for Manned {
    fn start(&mut self, _: &mut dataplane::BatchView<'_>) {
        self.desk.0.tid.store(sys::thread::id(), std::sync::atomic::Ordering::Relaxed);
    }

    fn run(&mut self, batch: &mut dataplane::BatchView<'_>) {
        self.native.run(batch);
    }

    fn returned(&mut self, batch: &netstack::Batch) {
        self.native.returned(batch);
    }

    fn wake_at(&self) -> Nanos {
        self.native.wake_at()
    }
}
