//! Topology, clocks, turbo and power on machines made of files.

mod fake;

use actuate::{ActuateError, Clocks, Knobs, Rapl, Speed, Topology, Tree, Turbo};
use fake::Fake;
use units::Nanos;

const CPUFREQ: &str = "sys/devices/system/cpu/cpufreq";

#[test]
fn hardware_threads_are_found_wherever_linux_counts_them() {
    let fake = Fake::new(&[]);
    // Two packages of two cores; siblings as servers number them.
    let places = [(0, "0,4", "0"), (1, "1,5", "0"), (2, "2,6", "1"), (3, "3,7", "1")];
    fake.cpus("0-7", &places);
    for (cpu, siblings, package) in places {
        let (other, dir) = (cpu + 4, format!("sys/devices/system/cpu/cpu{}/topology", cpu + 4));
        assert!(siblings.ends_with(&other.to_string()));
        fake.put(&format!("{dir}/thread_siblings_list"), siblings);
        fake.put(&format!("{dir}/physical_package_id"), package);
    }
    let topology = Topology::read(&fake.tree()).unwrap();
    assert_eq!((topology.cores(), topology.threads(), topology.packages()), (4, 2, 2));
    assert_eq!(topology.in_use(2, 1), [0, 1]);
    assert_eq!(topology.in_use(2, 2), [0, 1, 4, 5]);
    assert_eq!(topology.in_use(99, 99), [0, 1, 2, 3, 4, 5, 6, 7]);
    let part = topology.only(&[2, 6, 7]).unwrap();
    assert_eq!((part.cores(), part.in_use(2, 1)), (2, vec![2, 7]));
    assert_eq!(topology.only(&[1, 9]).unwrap_err().to_string(), "cpu 9 is offline");
    assert_eq!(topology.flat().in_use(8, 1).len(), 8);
    assert_eq!(topology.to_string(), "cpus 0-7: 4 core(s) of 2 hardware thread(s), 2 package(s)");
}

#[test]
fn an_offline_sibling_is_no_sibling_and_a_cpu_that_says_nothing_is_a_core() {
    let fake = Fake::new(&[]);
    fake.cpus("0,2-3", &[(0, "0-1", "0")]);
    let topology = Topology::read(&fake.tree()).unwrap();
    assert_eq!((topology.cores(), topology.threads()), (3, 1));
    fake.put("sys/devices/system/cpu/online", "many");
    let wrong = Topology::read(&fake.tree()).unwrap_err().to_string();
    assert!(wrong.ends_with("says `many`, expected a list of cpus"), "{wrong}");
    assert!(Topology::read(&Fake::new(&[]).tree()).unwrap_err().is_missing());
}

#[test]
fn acpi_clocks_are_set_by_userspace_and_found_again() {
    let fake = Fake::new(&[]);
    fake.acpi(0, "0 1 2 3");
    fake.put(&format!("{CPUFREQ}/boost"), "1");
    let before = fake.all();
    let clocks = Clocks::open(&fake.tree(), &[0, 1]).unwrap();
    assert_eq!((clocks.steps_mhz(), clocks.has_turbo(), clocks.per_cpu()), (vec![1200.0, 1800.0, 2400.0], true, false));
    let mut knobs = Knobs::new(fake.tree(), None);
    let setting = || {
        let of = |name: &str| fake.get(&format!("{CPUFREQ}/policy0/{name}"));
        (of("scaling_governor"), of("scaling_setspeed"), fake.get(&format!("{CPUFREQ}/boost")))
    };
    let is = |speed: &str, boost: &str| ("userspace".to_owned(), speed.to_owned(), boost.to_owned());
    clocks.set(&mut knobs, &[0], Speed::Mhz(1200.0)).unwrap();
    assert_eq!(setting(), is("1200000", "0"));
    clocks.set(&mut knobs, &[0], Speed::Mhz(1799.0)).unwrap();
    assert_eq!(setting(), is("1800000", "0"), "the step next to it");
    clocks.set(&mut knobs, &[0], Speed::Turbo).unwrap();
    assert_eq!(setting(), is("2401000", "1"));
    assert_eq!(clocks.now_mhz(&fake.tree(), &[3]), Some(1800.0));
    assert_eq!(knobs.restore().len(), 0);
    assert_eq!(fake.all(), before);
}

#[test]
fn without_userspace_the_limits_move_and_never_cross() {
    let fake = Fake::new(&[]);
    fake.pstate(0, "0");
    fake.pstate(1, "1");
    let before = fake.all();
    let clocks = Clocks::open(&fake.tree(), &[0, 1]).unwrap();
    let steps = clocks.steps_mhz();
    assert_eq!((steps[0], steps[steps.len() - 1], steps.len()), (800.0, 2000.0, 13));
    assert!(clocks.per_cpu() && clocks.has_turbo());
    let mut knobs = Knobs::new(fake.tree(), None);
    let limits = |policy: usize| {
        let of = |name: &str| fake.get(&format!("{CPUFREQ}/policy{policy}/{name}"));
        (of("scaling_min_freq"), of("scaling_max_freq"))
    };
    let both = |khz: &str| (khz.to_owned(), khz.to_owned());
    clocks.set(&mut knobs, &[0], Speed::Mhz(800.0)).unwrap();
    assert_eq!((limits(0), limits(1)), (both("800000"), ("800000".into(), "3500000".into())), "a cpu has its own");
    assert_eq!(fake.get("sys/devices/system/cpu/intel_pstate/no_turbo"), "1");
    clocks.set(&mut knobs, &[0, 1], Speed::Turbo).unwrap();
    assert_eq!((limits(0), limits(1)), (both("3500000"), both("3500000")));
    assert_eq!(fake.get("sys/devices/system/cpu/intel_pstate/no_turbo"), "0");
    clocks.set_all(&mut knobs, &[(vec![0], Speed::Mhz(1000.0)), (vec![1], Speed::Turbo)]).unwrap();
    assert_eq!((limits(0), limits(1)), (both("1000000"), both("3500000")));
    assert_eq!(fake.get("sys/devices/system/cpu/intel_pstate/no_turbo"), "0", "one of them wants it");
    drop(knobs);
    assert_eq!(fake.all(), before, "dropping restores");
}

#[test]
fn clocks_that_nobody_wants_any_more_are_as_they_were_found() {
    let fake = Fake::new(&[]);
    fake.pstate(0, "0");
    fake.acpi(1, "1");
    fake.put(&format!("{CPUFREQ}/policy1/scaling_available_frequencies"), "2000000 1200000 800000");
    let before = fake.all();
    let clocks = Clocks::open(&fake.tree(), &[0, 1]).unwrap();
    let mut knobs = Knobs::new(fake.tree(), None);
    let of = |policy: usize, name: &str| fake.get(&format!("{CPUFREQ}/policy{policy}/{name}"));
    clocks.set_all(&mut knobs, &[(vec![0], Speed::Mhz(800.0)), (vec![1], Speed::Mhz(800.0))]).unwrap();
    assert_eq!((of(0, "scaling_max_freq").as_str(), of(1, "scaling_governor").as_str()), ("800000", "userspace"));
    clocks.set_all(&mut knobs, &[(vec![1], Speed::Mhz(1200.0))]).unwrap();
    assert_eq!((of(0, "scaling_max_freq").as_str(), of(1, "scaling_setspeed").as_str()), ("3500000", "1200000"));
    assert_eq!(fake.get("sys/devices/system/cpu/intel_pstate/no_turbo"), "1");
    clocks.set_all(&mut knobs, &[]).unwrap();
    assert_eq!(fake.all(), before);
    // And wanted again, they are found as before.
    clocks.set(&mut knobs, &[0, 1], Speed::Mhz(800.0)).unwrap();
    assert_eq!(knobs.restore().len(), 0);
    assert_eq!(fake.all(), before);
}

#[test]
fn clocks_without_a_common_step_are_left_alone() {
    let fake = Fake::new(&[]);
    fake.acpi(0, "0");
    fake.acpi(1, "1");
    fake.put(&format!("{CPUFREQ}/policy1/scaling_available_frequencies"), "2300000 1100000");
    let none = Clocks::open(&fake.tree(), &[0, 1]).unwrap_err();
    assert_eq!(none.to_string(), "a step of the clock that all cpus have: not on this machine");
    assert_eq!(Clocks::open(&fake.tree(), &[1]).unwrap().steps_mhz(), [1100.0, 2300.0]);
}

#[test]
fn old_kernels_have_a_directory_for_each_cpu() {
    let fake = Fake::new(&[]);
    fake.acpi(0, "0");
    let policy = fake.root.join(CPUFREQ).join("policy0");
    std::fs::create_dir_all(fake.root.join("sys/devices/system/cpu/cpu0")).unwrap();
    std::fs::rename(policy, fake.root.join("sys/devices/system/cpu/cpu0/cpufreq")).unwrap();
    let clocks = Clocks::open(&fake.tree(), &[0]).unwrap();
    let mut knobs = Knobs::new(fake.tree(), None);
    clocks.set(&mut knobs, &[0], Speed::Mhz(2400.0)).unwrap();
    assert_eq!(fake.get("sys/devices/system/cpu/cpu0/cpufreq/scaling_setspeed"), "2400000");
}

#[test]
fn what_is_missing_or_refused_is_one_line() {
    let fake = Fake::new(&[]);
    let none = Clocks::open(&fake.tree(), &[0]).unwrap_err();
    assert_eq!(none.to_string(), "sys/devices/system/cpu/cpufreq: not on this machine");
    assert!(Turbo::open(&fake.tree()).unwrap_err().is_missing());

    fake.acpi(0, "0");
    fake.acpi(1, "1");
    fake.read_only(&format!("{CPUFREQ}/policy0/scaling_governor"));
    let clocks = Clocks::open(&fake.tree(), &[0, 1]).unwrap();
    let mut knobs = Knobs::new(fake.tree(), None);
    let refused = clocks.set(&mut knobs, &[0, 1], Speed::Mhz(1200.0)).unwrap_err();
    assert!(matches!(refused, ActuateError::ReadOnly(..)), "{refused}");
    assert!(!refused.to_string().contains('\n'));
    assert_eq!(fake.get(&format!("{CPUFREQ}/policy1/scaling_setspeed")), "1200000", "the rest goes on");
    fake.put(&format!("{CPUFREQ}/policy1/related_cpus"), "first");
    let nonsense = Clocks::open(&fake.tree(), &[0, 1]).unwrap_err().to_string();
    assert!(nonsense.contains("says `first`"), "{nonsense}");
}

#[test]
fn turbo_is_switched_by_either_interface_and_restored() {
    for (path, on, off) in
        [("sys/devices/system/cpu/intel_pstate/no_turbo", "0", "1"), (&format!("{CPUFREQ}/boost"), "1", "0")]
    {
        let fake = Fake::new(&[(path, on)]);
        let turbo = Turbo::open(&fake.tree()).unwrap();
        let mut knobs = Knobs::new(fake.tree(), None);
        assert!(turbo.is_on(&fake.tree()).unwrap());
        turbo.set(&mut knobs, false).unwrap();
        assert_eq!((fake.get(path).as_str(), turbo.is_on(&fake.tree()).unwrap()), (off, false));
        knobs.restore();
        assert_eq!(fake.get(path), on);
    }
}

#[test]
fn a_killed_control_planes_changes_are_found_and_taken_back() {
    let fake = Fake::new(&[]);
    fake.acpi(0, "0");
    let before = fake.all();
    let record = fake.root.with_extension("record");
    let mut knobs = Knobs::new(fake.tree(), Some(record.clone()));
    Clocks::open(&fake.tree(), &[0]).unwrap().set(&mut knobs, &[0], Speed::Mhz(1200.0)).unwrap();
    // Killed: nothing is dropped.
    std::mem::forget(knobs);
    assert_ne!(fake.all(), before);
    let (count, errors) = Knobs::recover(fake.tree(), record.clone()).unwrap();
    assert_eq!((count, errors.len()), (2, 0));
    assert_eq!(fake.all(), before);
    assert!(Knobs::recover(fake.tree(), record).is_none(), "once");
}

#[test]
fn what_cannot_be_taken_back_stays_in_the_record() {
    let fake = Fake::new(&[]);
    fake.acpi(0, "0");
    fake.acpi(1, "1");
    let before = fake.all();
    let record = fake.root.with_extension("record");
    let open = || Clocks::open(&fake.tree(), &[0, 1]).unwrap();
    let mut knobs = Knobs::new(fake.tree(), Some(record.clone()));
    open().set(&mut knobs, &[0, 1], Speed::Mhz(1200.0)).unwrap();
    let speed = format!("{CPUFREQ}/policy1/scaling_setspeed");
    fake.read_only(&speed);
    assert_eq!(knobs.restore().len(), 1);
    drop(knobs);
    let (count, errors) = Knobs::recover(fake.tree(), record.clone()).unwrap();
    assert_eq!((count, errors.len()), (1, 1), "the other changes are taken back and forgotten");
    // The next one begins with it, changes the same file, and knows what stood there at first.
    let mut next = Knobs::new(fake.tree(), Some(record.clone()));
    std::fs::remove_file(fake.root.join(&speed)).unwrap();
    fake.put(&speed, "1200000");
    open().set(&mut next, &[0, 1], Speed::Mhz(1800.0)).unwrap();
    assert_eq!(next.restore().len(), 0);
    assert_eq!((fake.all(), record.exists()), (before, false));
}

#[test]
fn a_damaged_record_touches_nothing_outside_of_sys() {
    let fake = Fake::new(&[("etc/passwd", "root")]);
    let record = fake.root.with_extension("record");
    let lines = [
        r#"{"write":{"path":"etc/passwd","value":"me"}}"#,
        r#"{"write":{"path":"sys/../etc/passwd","value":"me"}}"#,
        r#"{"remove":{"path":"etc"}}"#,
        r#"{"rest":{"group":"sys/fs/cgroup/system.slice","to":null}}"#,
        r#"{"write":{"path":"sys/x","va"#,
    ];
    std::fs::write(&record, lines.join("\n")).unwrap();
    let (count, errors) = Knobs::recover(fake.tree(), record.clone()).unwrap();
    assert_eq!((count, errors.len(), record.exists()), (4, 4, false));
    assert!(errors.iter().all(|e| matches!(e, ActuateError::Foreign(_))));
    assert_eq!(fake.get("etc/passwd"), "root");
}

#[test]
fn watts_are_energy_by_time_also_around_the_end_of_the_counter() {
    let zone = "sys/class/powercap/intel-rapl:0";
    let fake = Fake::new(&[]);
    for (dir, name, energy) in [(zone, "package-0", "1000000"), ("sys/class/powercap/intel-rapl:1", "package-1", "0")] {
        fake.put(&format!("{dir}/name"), name);
        fake.put(&format!("{dir}/energy_uj"), energy);
        fake.put(&format!("{dir}/max_energy_range_uj"), "9000000");
    }
    // Parts of a package, and the platform, are not counted beside it.
    for other in ["intel-rapl:0:0", "intel-rapl:2"] {
        fake.put(&format!("sys/class/powercap/{other}/name"), "psys");
        fake.put(&format!("sys/class/powercap/{other}/energy_uj"), "77");
    }
    let tree = fake.tree();
    let mut rapl = Rapl::open(&tree, Nanos(0)).unwrap();
    fake.put(&format!("{zone}/energy_uj"), "5000000");
    assert_eq!(rapl.watts(&tree, Nanos(2_000_000_000)).unwrap(), Some(2.0));
    assert_eq!(rapl.watts(&tree, Nanos(2_000_000_000)).unwrap(), None, "no time has passed");
    // 4 J to the end, 1 J from the beginning.
    fake.put(&format!("{zone}/energy_uj"), "1000000");
    assert_eq!(rapl.watts(&tree, Nanos(3_000_000_000)).unwrap(), Some(5.0));
    std::fs::remove_file(fake.root.join(zone).join("energy_uj")).unwrap();
    assert!(rapl.watts(&tree, Nanos(4_000_000_000)).unwrap_err().is_missing());
    assert!(Rapl::open(&Tree::fake("/nowhere"), Nanos(0)).unwrap_err().is_missing());
}
