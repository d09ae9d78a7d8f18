//! A dataplane without any traffic, and all that can happen at its door.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use abi::{Answer, Command, LINE_MAX, PageSched, Refusal, Reply};
use attach::{AttachError, Dataplane as Attached};
use dataplane::{App, BatchView, Dataplane, RunnerConfig, Sched};
use door::{Called, Door, DoorConfig, DoorError, NameError};
use netstack::StackConfig;
use nic::Nic;
use wire::Mac;

struct Idler;

impl App for Idler {
    fn run(&mut self, _: &mut BatchView<'_>) {}
}

/// A dataplane of two cores, and where its door is. Fields end in this order.
struct House {
    door: Option<Door>,
    _dataplane: Dataplane,
    /// The other end of its wire.
    _far: shm::ShmNic,
    directory: PathBuf,
}

impl House {
    fn new() -> House {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("zygix-door-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let directory = std::env::temp_dir().join(name);
        let config = shm::Config { queues: 2, ..shm::Config::default() };
        let (mut near, far) = shm::pair(&config, &config).unwrap();
        let queues = near.queues();
        let stack = StackConfig { max_conns: 64, ..StackConfig::new(Mac::local(1), Ipv4Addr::new(198, 18, 0, 2), 24) };
        let flows = move |t: &wire::Tuple| near.flow_group(t);
        let dataplane = Dataplane::start(stack, queues, flows, &RunnerConfig::default(), |_, _| Idler).unwrap();
        let mut house = House { door: None, _dataplane: dataplane, _far: far, directory };
        house.door = Some(house.open("house").unwrap());
        house
    }

    fn open(&self, name: &str) -> Result<Door, DoorError> {
        let config = DoorConfig {
            called: Called::By(name.into()),
            about: "nothing".into(),
            sched: Sched::Ix,
            directory: Some(self.directory.clone()),
        };
        Door::open(&self._dataplane, None, &config)
    }

    fn path(&self) -> PathBuf {
        self.directory.join("house.sock")
    }

    fn attach(&self) -> Attached {
        Attached::attach_at(&self.path()).unwrap()
    }

    fn raw(&self) -> UnixStream {
        let socket = UnixStream::connect(self.path()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.door = None;
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn refused(answer: Result<Answer, AttachError>) -> Refusal {
    match answer {
        Err(AttachError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn reply(socket: &UnixStream) -> Reply {
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"))
}

#[test]
fn the_page_tells_and_commands_are_carried_out() {
    let house = House::new();
    let mut attached = house.attach();
    let hello = attached.hello().clone();
    assert_eq!((hello.name.as_str(), hello.about.as_str(), hello.cores), ("house", "nothing", 2));
    let snapshot = attached.snapshot().unwrap();
    assert_eq!((snapshot.header.pid, snapshot.header.sched), (std::process::id(), PageSched::Ix));
    assert_eq!((snapshot.cores.len(), snapshot.group_load.len()), (2, 128));
    let groups = |core: u16| Command::Move { groups: "0-127".parse().unwrap(), to: core };
    assert_eq!(refused(attached.command(&groups(0))).code, "same-core");
    let ask = Command::Move { groups: "1,3,5".parse().unwrap(), to: 0 };
    let Answer::Moved(moved) = attached.command(&ask).unwrap() else { panic!() };
    assert_eq!((moved.len(), moved[0].from, moved[0].to, moved[0].groups.to_string()), (1, 1, 0, "1,3,5".into()));
    // No NIC's table was given.
    assert_eq!(moved[0].forwarded, moved[0].groups);
    let Answer::Groups(owners) = attached.command(&Command::Groups).unwrap() else { panic!() };
    assert_eq!((&owners[..6], owners.len()), (&[0, 0, 0, 0, 0, 0][..], 128));
    attached.command(&Command::Park { core: 1 }).unwrap();
    for (command, code) in [
        (Command::Park { core: 1 }, "parked"),
        (Command::Park { core: 0 }, "last-core"),
        (Command::Unpark { core: 0, more: 0 }, "not-parked"),
        (Command::Park { core: 2 }, "no-such-core"),
        (Command::Pin { core: 2, cpu: None }, "no-such-core"),
        (Command::Pin { core: 0, cpu: Some(u32::MAX) }, "pin"),
        (Command::Move { groups: "-".parse().unwrap(), to: 0 }, "no-groups"),
        (groups(1), "parked"),
    ] {
        assert_eq!(refused(attached.command(&command)).code, code, "{command:?}");
    }
    wait_for("the page to tell that core 1 is parked", || attached.snapshot().unwrap().cores[1].parked);
    let cores = attached.snapshot().unwrap().cores;
    assert_eq!((cores[0].groups.to_string(), cores[1].groups.to_string()), ("0-127".into(), "-".into()));
    attached.command(&Command::Unpark { core: 1, more: 0 }).unwrap();
    let cpu = *sys::thread::allowed_cores().unwrap().last().unwrap() as u32;
    attached.command(&Command::Pin { core: 1, cpu: Some(cpu) }).unwrap();
    wait_for("the page to tell of the pin", || attached.snapshot().unwrap().cores[1].cpu == Some(cpu));
    attached.command(&Command::Pin { core: 1, cpu: None }).unwrap();
    let Answer::Log(log) = attached.command(&Command::Log).unwrap() else { panic!() };
    assert_eq!(log.iter().map(|m| (m.from, m.to)).collect::<Vec<_>>(), [(1, 0), (1, 0), (0, 1)]);
    let Answer::Dump(dump) = attached.command(&Command::Dump).unwrap() else { panic!() };
    assert_eq!((dump.hello, dump.counters.len(), dump.log), (hello, 2, log));
    assert!(dump.counters[0].counted["groups_in"] >= 3);
}

#[test]
fn the_page_goes_on_and_outlives_the_door() {
    let mut house = House::new();
    let mut attached = house.attach();
    let first = attached.snapshot().unwrap();
    wait_for("three more pages", || attached.snapshot().unwrap().header.published > first.header.published + 2);
    let later = attached.snapshot().unwrap();
    assert!(later.header.heartbeat > first.header.heartbeat && later.is_fresh() && !attached.has_ended());
    house.door = None;
    assert!(!house.path().exists());
    wait_for("the end to be seen", || attached.has_ended());
    assert!(!attached.snapshot().unwrap().is_fresh());
    assert!(matches!(attached.command(&Command::Hello), Err(AttachError::Gone(_))));
    assert!(matches!(Attached::attach_at(&house.path()), Err(AttachError::Denied { .. })));
}

#[test]
fn a_name_is_one_dataplanes() {
    let house = House::new();
    assert!(matches!(house.open("house"), Err(DoorError::Name(NameError::Taken(_)))));
    assert!(matches!(house.open("../house"), Err(DoorError::Name(NameError::Bad(_)))));
    house.attach();
    let other = house.open("other").unwrap();
    assert_eq!(Attached::attach_at(other.path()).unwrap().hello().name, "other");
}

#[test]
fn nonsense_is_answered_and_others_are_served_meanwhile() {
    let house = House::new();
    let mut good = house.attach();
    let mut served = || {
        let Answer::Groups(owners) = good.command(&Command::Groups).unwrap() else { panic!() };
        assert_eq!(owners.len(), 128);
    };
    for line in
        ["\n", "hello\n", "{\"cmd\":\"dance\"}\n", "\u{1F980}\n", "{\"cmd\":\"move\",\"groups\":\"0-999\",\"to\":0}\n"]
    {
        let mut socket = house.raw();
        socket.write_all(line.as_bytes()).unwrap();
        assert!(matches!(reply(&socket), Reply::Error(r) if r.code == "bad-command"), "{line:?}");
        socket.write_all(b"{\"cmd\":\"groups\"}\n").unwrap();
        assert!(matches!(reply(&socket), Reply::Ok(Answer::Groups(_))), "after {line:?}");
    }
    served();
    // Bytes that are no text, a line without an end, half a line and away; descriptors that nobody asked for.
    let mut socket = house.raw();
    socket.write_all(b"\xff\xfe\0\n").unwrap();
    assert!(matches!(reply(&socket), Reply::Error(_)));
    let mut socket = house.raw();
    let _ = socket.write_all(&vec![b'['; 3 * LINE_MAX]);
    assert!(matches!(reply(&socket), Reply::Error(r) if r.text.contains("4096")));
    wait_for("it to be thrown out", || matches!(socket.read(&mut [0; 64]), Ok(0) | Err(_)));
    house.raw().write_all(b"{\"cmd\":").unwrap();
    let socket = house.raw();
    let gift = std::fs::File::open("/dev/null").unwrap();
    sys::unix::send_fds(&socket, b"{\"cmd\":\"groups\"}\n", &[gift.as_fd(); 8]).unwrap();
    assert!(matches!(reply(&socket), Reply::Ok(_)));
    served();
    // What is asked before the end is answered after it, command by command.
    let mut socket = house.raw();
    socket.write_all(b"{\"cmd\":\"groups\"}\n{\"cmd\":\"groups\"}\n{\"cmd\":\"groups\"}\n").unwrap();
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 3);
    served();
}

#[test]
fn crowds_and_those_who_do_not_read_do_not_keep_others_out() {
    let house = House::new();
    let mut good = house.attach();
    // They ask and ask, and take no answer.
    let mut deaf: Vec<UnixStream> = (0..14).map(|_| house.raw()).collect();
    for socket in &mut deaf {
        socket.set_nonblocking(true).unwrap();
        while socket.write(&b"{\"cmd\":\"dump\"}\n".repeat(64)).is_ok() {}
    }
    for _ in 0..20 {
        assert!(matches!(good.command(&Command::Groups), Ok(Answer::Groups(_))));
    }
    let _sixteenth = house.attach();
    let late = house.raw();
    assert!(matches!(reply(&late), Reply::Error(r) if r.code == "busy"));
    drop(deaf);
    wait_for("room at the door", || Attached::attach_at(&house.path()).is_ok());
    assert!(matches!(good.command(&Command::Cores), Ok(Answer::Cores(c)) if c.len() == 2));
}
