use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use load::requests::Workload;
use load::{Churn, Load, Pace, Place, Spec, ZygixNet};
use shm::ShmNic;
use units::Nanos;

use crate::measure::{self, Point};
use crate::net::{Link, PREFIX};
use crate::server::Server;
use crate::stack::{Serving, Stack};
use crate::{Contender, Lab};

/// How long the other end of an shm wire may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first link of these benches: those before belong to the stacks comparison.
const FIRST_LINK: u8 = 10;

/// How a server is reached, and by whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// A server on this stack, loaded through ordinary Linux sockets.
    Sockets(Stack),
    /// Zygix at both ends of a wire in shared memory: the client's cost does not hide the server's.
    Shm,
}

impl Way {
    /// Who, and over what.
    pub(super) fn name(self) -> String {
        match self {
            Way::Sockets(stack) => format!("{} ({})", stack.name(), stack.wire()),
            Way::Shm => "zygix (shm, own client)".into(),
        }
    }
}

/// What the client is, and what it asks.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Shape {
    pub(super) workload: Workload,
    pub(super) connections: u32,
    pub(super) depth: u32,
    pub(super) churn: Option<Churn>,
}

impl Shape {
    /// Connections that stay.
    pub(super) fn new(workload: Workload, connections: u32, depth: u32) -> Shape {
        Shape { workload, connections, depth, churn: None }
    }

    fn spec(&self, serving: &Serving) -> Spec {
        let Shape { workload, connections, depth, churn } = self.clone();
        Spec { connections, depth, churn, ..Spec::new(workload, serving.addr()) }
    }
}

/// A server with its client, started when they are first needed.
///
/// On Linux sockets both stay, asleep while others are measured. At the two ends of an shm wire both poll all the time: they are
/// ended by [`Side::rest`] before somebody else is measured.
pub(super) struct Side {
    /// In the legend.
    pub(super) name: String,
    /// Requests that went wrong where none should have.
    pub(super) errors: u64,
    /// Why there is nothing more of it.
    pub(super) skipped: Option<String>,
    way: Way,
    app: &'static str,
    more: Vec<String>,
    cores: Option<Vec<usize>>,
    place: Option<Place>,
    link: Link,
    running: Option<Running>,
}

struct Running {
    // The client first: a server that goes away before it would be an error of the load.
    load: Option<(Shape, Load)>,
    server: Contender,
    /// The records are stored.
    stored: bool,
}

impl Side {
    /// Nothing is started yet. `index` tells the sides of a bench apart.
    pub(super) fn new(way: Way, app: &'static str, index: usize) -> Side {
        Side {
            name: way.name(),
            errors: 0,
            skipped: None,
            way,
            app,
            more: Vec::new(),
            cores: None,
            place: None,
            link: Link(FIRST_LINK + index as u8),
            running: None,
        }
    }

    /// Called otherwise.
    pub(super) fn named(self, name: &str) -> Side {
        Side { name: name.to_owned(), ..self }
    }

    /// With more arguments of `zygix serve`.
    pub(super) fn with(self, more: &[&str]) -> Side {
        Side { more: more.iter().map(|m| (*m).to_owned()).collect(), ..self }
    }

    /// On these cores, a thread each, with the client elsewhere than on the load's core, or not spinning.
    pub(super) fn on(self, cores: &[usize], place: &Place) -> Side {
        Side { cores: Some(cores.to_vec()), place: Some(place.clone()), ..self }
    }

    /// One window of this shape. Opens, asks and stores what has to be before.
    ///
    /// # Errors
    /// [`Interrupted`](crate::Interrupted); the server's and the load's.
    pub(super) fn measure(&mut self, lab: &mut Lab, shape: &Shape, pace: Pace, length: Nanos) -> Result<Point> {
        let (load, server) = self.ready(lab, shape)?;
        lab.measure(load, server, pace, length)
    }

    /// The client, of this shape, and its server.
    ///
    /// # Errors
    /// As [`Side::measure`].
    pub(super) fn ready(&mut self, lab: &mut Lab, shape: &Shape) -> Result<(&mut Load, &mut Contender)> {
        let same = |r: &Running| {
            r.load.as_ref().is_some_and(|(now, _)| Shape { workload: shape.workload.clone(), ..now.clone() } == *shape)
        };
        if self.way == Way::Shm && !self.running.as_ref().is_some_and(same) {
            // Its server has one peer in its life.
            self.running = None;
            self.running = Some(self.over_shm(lab, shape)?);
        }
        let running = match self.running.take() {
            Some(running) => running,
            None => Running { load: None, server: lab.serve(&self.serving(lab))?, stored: false },
        };
        let running = self.running.insert(running);
        if !same(running) {
            running.load = None;
            let place = self.place.clone().unwrap_or_else(|| lab.place());
            let load = Load::linux(&shape.spec(&running.server.serving), &place).map_err(measure::refusal)?;
            running.load = Some((shape.clone(), load));
        }
        let Running { load, server, stored } = running;
        let (now, load) = load.as_mut().context("the load is gone")?;
        if now.workload != shape.workload {
            load.ask(shape.workload.clone()).map_err(measure::refusal)?;
            now.workload = shape.workload.clone();
        }
        if !std::mem::replace(stored, true) {
            load.preload().map_err(measure::refusal)?;
        }
        Ok((load, server))
    }

    /// Lets others have the cores.
    pub(super) fn rest(&mut self) {
        if self.way == Way::Shm {
            self.running = None;
        }
    }

    /// Ends server and client.
    pub(super) fn end(&mut self) {
        self.running = None;
    }

    fn serving(&self, lab: &Lab) -> Serving {
        let stack = match self.way {
            Way::Sockets(stack) => stack,
            Way::Shm => Stack::Zygix,
        };
        let cores = self.cores.clone().unwrap_or_else(|| vec![lab.accounting.server_core]);
        Serving { stack, app: self.app, link: self.link, cores, more: self.more.clone() }
    }

    /// Server and client at the two ends of an shm wire.
    fn over_shm(&self, lab: &Lab, shape: &Shape) -> Result<Running> {
        let serving = self.serving(lab);
        let place = Place { cores: vec![lab.accounting.load_core], spin: !lab.accounting.shared() };
        let folder = Folder::new(self.link)?;
        let path = folder.0.join("wire");
        let (server, nic) = meet(&serving, &path, place.spin, true)?;
        let net = ZygixNet { mac: wire::Mac::local(2), ip: self.link.host().into(), prefix: PREFIX };
        let load = Load::zygix(&shape.spec(&serving), &place, nic, net).map_err(measure::refusal)?;
        let server = Contender { serving, server };
        Ok(Running { load: Some((shape.clone(), load)), server, stored: false })
    }
}

/// Starts the server, which waits for its other end before it says that it is ready, and meanwhile is that: one with a NIC's offloads,
/// checksums and super-frames, if `offload`.
pub(super) fn meet(serving: &Serving, path: &Path, spin: bool, offload: bool) -> Result<(Server, ShmNic)> {
    let given_up = Arc::new(AtomicBool::new(false));
    let other_end = {
        let (path, given_up) = (path.to_owned(), given_up.clone());
        thread::spawn(move || connect(&path, offload, &given_up))
    };
    let started = Server::ours("zygix", serving.app, &arguments(serving, path, spin));
    given_up.store(started.is_err(), Ordering::Relaxed);
    let nic = other_end.join().map_err(|_| anyhow!("the other end of the shm wire has ended unexpectedly"))?;
    Ok((started?, nic.with_context(|| format!("shm:{}", path.display()))?))
}

/// As soon as somebody listens there.
fn connect(path: &Path, offload: bool, given_up: &AtomicBool) -> io::Result<ShmNic> {
    let config = shm::Config { trusted: offload, large: offload, mac: wire::Mac::local(2), ..shm::Config::default() };
    let until = Instant::now() + PATIENCE;
    loop {
        match ShmNic::connect(path, &config) {
            Err(_) if Instant::now() < until && !given_up.load(Ordering::Relaxed) => {
                thread::sleep(Duration::from_millis(2));
            }
            done => return done,
        }
    }
}

/// The arguments of `zygix serve APP` at one end of an shm wire.
fn arguments(serving: &Serving, path: &Path, spin: bool) -> Vec<String> {
    let Serving { link, cores, more, .. } = serving;
    let pin = cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let (idle, addr) = (if spin { "spin" } else { "adaptive" }, serving.addr());
    let line = format!(
        "--addr {}/{PREFIX} -p {} -t {} --pin {pin} -c 4096 --idle {idle} --nic",
        link.server(),
        addr.port(),
        cores.len()
    );
    let nic = format!("shm:{}", path.display());
    line.split(' ').map(str::to_owned).chain([nic]).chain(more.iter().cloned()).collect()
}

/// A folder of our own for a wire's socket, which ends with this value.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(link: Link) -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("zygix-wire-{}-{}", std::process::id(), link.0));
        fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Folder(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Whoever has tidied up before us may have.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_shm_server_is_started_in_its_own_way() {
        let side = Side::new(Way::Shm, "spin", 3).with(&["--batch", "1"]);
        let serving =
            Serving { stack: Stack::Zygix, app: "spin", link: side.link, cores: vec![1], more: side.more.clone() };
        assert_eq!(
            arguments(&serving, Path::new("/run/a b"), true).join("|"),
            "--addr|198.18.13.2/24|-p|11211|-t|1|--pin|1|-c|4096|--idle|spin|--nic|shm:/run/a b|--batch|1"
        );
    }

    #[test]
    fn a_folder_is_private_and_ends_with_its_value() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new(Link(250)).unwrap();
        let path = folder.0.clone();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(Folder::new(Link(250)).is_err(), "nobody else's is taken");
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn nobody_at_the_wire_is_given_up_on() {
        let given_up = AtomicBool::new(true);
        assert!(connect(Path::new("/no/such/wire"), false, &given_up).is_err());
    }
}
