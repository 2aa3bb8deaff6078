//! What `doctor` says of machines that nobody has at hand: directories laid out like `/proc` and `/sys`, made as a profile
//! and the files in `profiles/system` want them, and then spoiled in one place after the other.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use brightwire::config::Plan;
use brightwire::preflight::{Finding, Level, Machine, Report, examine};
use brightwire::reactor::probe::{Features, Probe};
use tempfile::TempDir;

use crate::profiles_directory;

/// Files by their paths.
#[derive(Clone)]
struct Fake(BTreeMap<String, Vec<u8>>);

impl Fake {
    /// Four cores of which two are isolated, on two nodes, with interrupts, swap and all limits at what systems without
    /// any settings have, or better where no file of ours could help.
    fn bare() -> Self {
        let mut fake = Self(BTreeMap::new());
        for (path, text) in [
            ("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-3\n"),
            (
                "proc/self/limits",
                "Max open files  1024  524288  files\nMax locked memory  8388608  8388608  bytes\n",
            ),
            ("proc/self/cgroup", "0::/x\n"),
            ("proc/meminfo", "MemTotal:  64000000 kB\n"),
            ("proc/swaps", "Filename Type\n/dev/sda2 partition\n"),
            ("proc/sys/kernel/osrelease", "6.12.0\n"),
            ("proc/sys/kernel/numa_balancing", "1\n"),
            ("proc/sys/kernel/nmi_watchdog", "1\n"),
            ("proc/sys/vm/swappiness", "60\n"),
            ("proc/sys/fs/nr_open", "1048576\n"),
            ("proc/sys/fs/file-max", "1500000\n"),
            ("proc/sys/net/core/somaxconn", "4096\n"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768 60999\n"),
            ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1\n"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "262144\n"),
            (
                "sys/devices/system/clocksource/clocksource0/current_clocksource",
                "tsc\n",
            ),
            (
                "sys/kernel/mm/transparent_hugepage/enabled",
                "[always] madvise never\n",
            ),
            (
                "sys/devices/system/cpu/vulnerabilities/spectre_v2",
                "Mitigation: Retpolines\n",
            ),
            (
                "sys/devices/system/cpu/vulnerabilities/meltdown",
                "Not affected\n",
            ),
            ("sys/devices/system/cpu/online", "0-3\n"),
            ("sys/devices/system/cpu/isolated", "\n"),
            ("proc/irq/24/smp_affinity_list", "0-3\n"),
            ("proc/irq/24/eth0/spurious", "\n"),
            // Nobody has asked for this one.
            ("proc/irq/25/smp_affinity_list", "0-3\n"),
        ] {
            fake.write(path, text);
        }
        for core in 0..4 {
            let directory = format!("sys/devices/system/cpu/cpu{core}");
            fake.write(
                &format!("{directory}/topology/thread_siblings_list"),
                &format!("{core}\n"),
            );
            // Cores 2 and 3 on a node of their own.
            fake.write(&format!("{directory}/node{}/x", core / 2), "");
            fake.write(
                &format!("{directory}/cpufreq/scaling_governor"),
                "schedutil\n",
            );
            for (state, name, wake_us) in [
                ("state0", "POLL", 0),
                ("state1", "C1", 2),
                ("state2", "C6", 133),
            ] {
                let state = format!("{directory}/cpuidle/{state}");
                fake.write(&format!("{state}/name"), &format!("{name}\n"));
                fake.write(&format!("{state}/latency"), &format!("{wake_us}\n"));
                fake.write(&format!("{state}/disable"), "0\n");
            }
        }
        fake
    }

    /// As the files in `profiles/system` make it, for one of the profiles.
    fn prepared(profile: &str) -> Self {
        let mut fake = Self::bare();
        let system = profiles_directory().join("system");
        for (key, value) in settings(&system.join(format!("sysctl/60-brightwire-{profile}.conf"))) {
            let path = format!("proc/sys/{}", key.trim_start_matches('-').replace('.', "/"));
            assert!(
                fake.0.contains_key(&path),
                "{key} is not on the bare machine"
            );
            fake.write(&path, &value);
        }
        let tuned = settings(&system.join(format!("tuned/brightwire-{profile}/tuned.conf")));
        let tuned: BTreeMap<String, String> = tuned.into_iter().collect();
        fake.write(
            "sys/kernel/mm/transparent_hugepage/enabled",
            &format!("always [{}] never", tuned["transparent_hugepages"]),
        );
        let governor = tuned["governor"].split('|').next().unwrap();
        for core in 0..4 {
            let path = format!("sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor");
            fake.write(&path, governor);
        }
        if let Some(us) = tuned.get("force_latency") {
            let us: i32 = us.parse().unwrap();
            fake.0
                .insert("dev/cpu_dma_latency".into(), us.to_ne_bytes().to_vec());
        }
        let unit = system.join("systemd/brightwire.service");
        let drop_in = system.join(format!("systemd/brightwire.service.d/{profile}.conf"));
        let mut limits: BTreeMap<String, String> = settings(&unit).into_iter().collect();
        limits.extend(settings(&drop_in));
        let files = &limits["LimitNOFILE"];
        fake.write(
            "proc/self/limits",
            &format!("Max open files  {files}  {files}  files\nMax locked memory  unlimited  unlimited  bytes\n"),
        );
        if profile == "low-latency" {
            let grub = fs::read_to_string(system.join("grub/brightwire.cfg")).unwrap();
            let list = |key: &str| {
                let (_, rest) = grub.rsplit_once(key).expect("the key is there");
                let words = rest.split([' ', '"']).next().unwrap();
                words
                    .rsplit(|c: char| c.is_ascii_alphabetic() || c == ',')
                    .next()
                    .unwrap()
                    .to_owned()
            };
            fake.write("sys/devices/system/cpu/isolated", &list("isolcpus="));
            fake.write("sys/devices/system/cpu/nohz_full", &list("nohz_full="));
            fake.write("proc/irq/24/smp_affinity_list", "0-1\n");
        }
        fake
    }

    fn write(&mut self, path: &str, text: &str) {
        self.0.insert(path.into(), text.into());
    }

    fn remove(&mut self, prefix: &str) {
        self.0.retain(|path, _| !path.starts_with(prefix));
    }

    fn examine(&self, config: &str) -> Report {
        let root = TempDir::new().unwrap();
        for (path, bytes) in &self.0 {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let probe = Probe {
            features: Features::default(),
            obstacle: None,
        };
        let machine = Machine::below(root.path(), probe);
        let topology = machine.topology().unwrap();
        let plan = Plan::from_text(config, &topology, Path::new("/"), "test").unwrap();
        examine(&machine, Some(&plan))
    }
}

/// Keys and values of a file in which lines are `key = value`, `key=value`, comments or headers.
fn settings(path: &Path) -> Vec<(String, String)> {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().filter(|line| !line.starts_with(['#', '[']));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// A profile, with ingest and one shard for the two isolated cores, or eight shards for the many clients of high-fanout.
fn profile(name: &str) -> String {
    let text = fs::read_to_string(profiles_directory().join(format!("{name}.toml"))).unwrap();
    let shards = if name == "high-fanout" { 8 } else { 1 };
    text.replacen("[runtime]\n", &format!("[runtime]\nshards = {shards}\n"), 1)
}

fn bad(report: &Report) -> Vec<&Finding> {
    let findings = report.0.iter();
    findings
        .filter(|finding| finding.level != Level::Ok)
        .collect()
}

#[test]
fn a_machine_prepared_by_our_files_is_what_the_profiles_want() {
    for name in ["low-latency", "high-fanout"] {
        let report = Fake::prepared(name).examine(&profile(name));
        assert!(bad(&report).is_empty(), "{name}:\n{report}");
    }
}

#[test]
fn each_setting_of_our_files_is_missed_where_it_is_missing() {
    let bare = Fake::bare();
    for name in ["low-latency", "high-fanout"] {
        let path = profiles_directory().join(format!("system/sysctl/60-brightwire-{name}.conf"));
        for (key, value) in settings(&path) {
            let key = key.trim_start_matches('-');
            let path = format!("proc/sys/{}", key.replace('.', "/"));
            let mut fake = Fake::prepared(name);
            fake.0.insert(path.clone(), bare.0[&path].clone());
            let report = fake.examine(&profile(name));
            let found = bad(&report);
            assert!(
                found.len() == 1 && found[0].fix.contains(key) && !found[0].why.is_empty(),
                "{name}: {key} = {value}\n{report}"
            );
        }
    }
}

#[test]
fn what_a_low_latency_machine_lacks_is_told_with_what_to_do() {
    type Spoil = fn(&mut Fake);
    let governor = |fake: &mut Fake| {
        fake.write(
            "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor",
            "powersave",
        );
    };
    let cases: [(&str, Spoil, &str, &str); 9] = [
        (
            "governor",
            governor,
            "governor: performance, powersave",
            "cpupower",
        ),
        (
            "interrupts",
            |fake| fake.write("proc/irq/24/effective_affinity_list", "3"),
            "interrupts: 24 eth0 come to cores 2,3",
            "brightwire-irq 2,3",
        ),
        (
            "idle states",
            |fake| fake.remove("dev/cpu_dma_latency"),
            "idle states: down to C6, 133 us",
            "force_latency=10",
        ),
        (
            "timer tick",
            |fake| fake.write("sys/devices/system/cpu/nohz_full", "(null)"),
            "timer tick: on cores 2,3",
            "nohz_full=2,3",
        ),
        (
            "isolation",
            |fake| fake.write("sys/devices/system/cpu/isolated", "3"),
            "not isolated",
            "isolcpus=",
        ),
        (
            "huge pages",
            |fake| {
                fake.write(
                    "sys/kernel/mm/transparent_hugepage/enabled",
                    "[always] never",
                )
            },
            "huge pages: always",
            "madvise",
        ),
        (
            "nodes",
            |fake| {
                fake.remove("sys/devices/system/cpu/cpu3/node1");
                fake.write("sys/devices/system/cpu/cpu3/node0/x", "");
            },
            "NUMA: ingest and shards are on nodes 0,1",
            "one node",
        ),
        (
            "locked memory",
            |fake| {
                fake.write(
                    "proc/self/limits",
                    "Max open files 524288 524288 files\nMax locked memory 65536 x bytes\n",
                )
            },
            "locked memory: 65536",
            "LimitMEMLOCK",
        ),
        (
            "clock",
            |fake| {
                fake.write(
                    "sys/devices/system/clocksource/clocksource0/current_clocksource",
                    "hpet",
                );
            },
            "clock source: hpet",
            "tsc",
        ),
    ];
    for (name, spoil, what, fix) in cases {
        let mut fake = Fake::prepared("low-latency");
        spoil(&mut fake);
        let report = fake.examine(&profile("low-latency"));
        let found = bad(&report);
        assert!(
            found
                .iter()
                .any(|finding| finding.what.contains(what) && finding.fix.contains(fix)),
            "{name}:\n{report}"
        );
    }
}

#[test]
fn sleep_may_be_forbidden_state_by_state_as_well() {
    let mut fake = Fake::prepared("low-latency");
    fake.remove("dev/cpu_dma_latency");
    for core in 0..4 {
        fake.write(
            &format!("sys/devices/system/cpu/cpu{core}/cpuidle/state2/disable"),
            "1",
        );
    }
    let report = fake.examine(&profile("low-latency"));
    assert!(bad(&report).is_empty(), "{report}");
    assert!(report.to_string().contains("C1 at most, 2 us"), "{report}");
}

#[test]
fn a_virtual_machine_that_tells_little_is_no_reason_to_complain() {
    let mut fake = Fake::prepared("low-latency");
    for core in 0..4 {
        fake.remove(&format!("sys/devices/system/cpu/cpu{core}/cpufreq"));
        fake.remove(&format!("sys/devices/system/cpu/cpu{core}/cpuidle"));
    }
    fake.remove("proc/sys/kernel/n");
    let report = fake.examine(&profile("low-latency"));
    assert!(bad(&report).is_empty(), "{report}");
    assert_eq!(report.to_string().matches("the host decides").count(), 2);
}

#[test]
fn nobody_is_told_to_isolate_every_core() {
    let text = profile("low-latency").replace("shards = 1\n", "shards = 3\n");
    let report = Fake::prepared("low-latency").examine(&text);
    let said = report.to_string();
    assert!(said.contains("ingest and shards take every core"), "{said}");
    assert!(
        !said.contains("isolcpus") && !said.contains("nohz_full"),
        "{said}"
    );
}

#[test]
fn what_spins_nowhere_needs_nothing_of_that() {
    let report = Fake::bare().examine(&profile("balanced"));
    for finding in bad(&report) {
        // Limits and huge pages concern every server.
        assert!(
            ["open files", "huge pages"]
                .iter()
                .any(|known| finding.what.starts_with(known)),
            "{report}"
        );
    }
}

#[test]
fn memory_is_that_of_the_control_group() {
    let mut fake = Fake::prepared("high-fanout");
    fake.write("sys/fs/cgroup/x/memory.max", "max");
    assert!(bad(&fake.examine(&profile("high-fanout"))).is_empty());
    fake.write("sys/fs/cgroup/x/memory.max", "1073741824");
    let report = fake.examine(&profile("high-fanout"));
    assert!(
        bad(&report)[0].what.contains("memory: 1024 MiB"),
        "{report}"
    );
}

#[test]
fn mitigations_are_told() {
    let report = Fake::bare().examine("").to_string();
    assert!(
        report.contains("mitigations: 1 active (spectre_v2)"),
        "{report}"
    );
}

/// Every line that does something has a reason above it, or shares the one of the lines before it.
#[test]
fn the_files_for_the_system_explain_themselves() {
    let mut pending = vec![profiles_directory().join("system")];
    let mut files = 0;
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            pending.extend(entries.map(|entry| entry.unwrap().path()));
            continue;
        }
        files += 1;
        let text = fs::read_to_string(&path).unwrap();
        let name = path.display();
        assert!(text.starts_with('#'), "{name}");
        if path
            .extension()
            .is_some_and(|extension| extension == "service")
            || text.starts_with("#!")
        {
            continue; // what units say by themselves needs no sentence
        }
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2) {
            let is_setting = !pair[1].is_empty() && !pair[1].starts_with(['#', '[']);
            let needs_none = pair[1].starts_with("summary=");
            assert!(
                !is_setting || needs_none || pair[0].starts_with('#'),
                "{name}: no sentence for {}",
                pair[1]
            );
        }
    }
    assert_eq!(files, 12);
}

/// The script writes the other cores to every interrupt, names what cannot be moved, and refuses to leave none.
#[test]
fn interrupts_are_moved_to_the_other_cores() {
    let root = TempDir::new().unwrap();
    let online = root.path().join("online");
    fs::write(&online, "0-3,6\n").unwrap();
    for number in ["24", "25"] {
        let directory = root.path().join("irq").join(number);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("smp_affinity_list"), "0-6\n").unwrap();
    }
    // Nobody can write to a directory, root neither.
    fs::create_dir_all(root.path().join("irq/26/smp_affinity_list")).unwrap();
    let run = |cores: &str| {
        std::process::Command::new("sh")
            .arg(profiles_directory().join("system/irq/brightwire-irq"))
            .arg(cores)
            .env("BRIGHTWIRE_IRQ_DIR", root.path().join("irq"))
            .env("BRIGHTWIRE_ONLINE", &online)
            .output()
            .unwrap()
    };
    let output = run("1-2,6");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(
        said.contains("irq/26/smp_affinity_list") && said.lines().count() == 1,
        "{said}"
    );
    for number in ["24", "25"] {
        let path = root
            .path()
            .join("irq")
            .join(number)
            .join("smp_affinity_list");
        assert_eq!(fs::read_to_string(path).unwrap(), "0,3\n");
    }
    assert_eq!(run("0-7").status.code(), Some(2));
}
