//! The files in `profiles/system` are read by the programs that they are for, as far as those are installed here: systemd,
//! sysctl, tuned and the shell. A test whose program is missing says so and passes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn system() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/system")
}

fn read(path: &str) -> String {
    let path = system().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a program says; `None`, with the reason told, if it is not there.
fn run(command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: {:?}: {error}", command.get_program());
            None
        }
    }
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What `systemd-analyze verify` has to say of the units with a drop-in, whose programs are not installed here.
fn verified(drop_in: &str) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    let installed = |text: &str| {
        let lines = text.lines().map(|line| match line.split_once("=") {
            Some((key, _)) if key.starts_with("Exec") => format!("{key}=/bin/true"),
            _ => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n") + "\n"
    };
    let units = ["systemd/brightwire.service", "irq/brightwire-irq.service"].map(|path| {
        let unit = directory.path().join(path.rsplit('/').next().unwrap());
        std::fs::write(&unit, installed(&read(path))).unwrap();
        unit
    });
    let drop_ins = directory.path().join("brightwire.service.d");
    std::fs::create_dir(&drop_ins).unwrap();
    std::fs::write(drop_ins.join("test.conf"), installed(drop_in)).unwrap();
    let output = run(Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(units))?;
    // It ends with 0 whatever it has ignored; and it may complain of other units of this machine.
    let complaints = words(&output);
    let ours = complaints
        .lines()
        .filter(|line| line.contains("brightwire"));
    Some(ours.collect::<Vec<_>>().join("\n"))
}

#[test]
fn systemd_knows_every_key_of_the_units() {
    for profile in ["low-latency", "high-fanout"] {
        let drop_in = read(&format!("systemd/brightwire.service.d/{profile}.conf"));
        let Some(complaints) = verified(&drop_in) else {
            return;
        };
        assert_eq!(complaints, "", "{profile}");
    }
    // That a mistake would have been told is no matter of course.
    for mistake in ["LimitNOFLE=5", "LimitNOFILE=many"] {
        let complaints = verified(&format!("[Service]\n{mistake}\n")).unwrap();
        assert!(complaints.contains("ignoring"), "{mistake}: {complaints}");
    }
}

/// The unit lets through the calls without which the server would run on epoll, or not be pinned.
#[test]
fn the_units_filter_lets_io_uring_through() {
    assert!(read("systemd/brightwire.service").contains("\nSystemCallFilter=@system-service\n"));
    let group = |name: &str| {
        let output = run(Command::new("systemd-analyze").args(["syscall-filter", name]))?;
        Some(words(&output))
    };
    let Some(service) = group("@system-service") else {
        return;
    };
    for (part, call) in [
        ("@aio", "io_uring_setup"),
        ("@resources", "sched_setaffinity"),
    ] {
        assert!(service.contains(part), "{service}");
        let calls = group(part).unwrap();
        assert!(calls.contains(call), "{part}: {calls}");
    }
}

#[test]
fn sysctl_reads_every_line() {
    for profile in ["low-latency", "high-fanout"] {
        let path = format!("sysctl/60-brightwire-{profile}.conf");
        // "Dry" reads the file and writes nothing.
        let Some(output) = run(Command::new("sysctl")
            .args(["--dry-run", "--load"])
            .arg(system().join(&path)))
        else {
            return;
        };
        let said = words(&output);
        if said.contains("option") {
            println!("skipped: this sysctl has no --dry-run");
            return;
        }
        assert!(!said.contains("syntax"), "{path}: {said}");
        let text = read(&path);
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        for line in lines {
            let (key, _) = line
                .split_once(" = ")
                .unwrap_or_else(|| panic!("{path}: {line}"));
            // A key that this kernel does not have is told, unless there is a minus before it.
            let name = key.trim_start_matches('-').replace('.', "/");
            let is_told = said.contains(line) || said.contains(&name);
            assert!(key.starts_with('-') || is_told, "{path}: {line}: {said}");
        }
    }
}

/// Loads each profile with tuned's own code and looks for its options among those that its plugins have.
const TUNED: &str = r#"
import sys
try:
    from tuned.profiles.loader import Loader
    from tuned.profiles.locator import Locator
    from tuned.profiles.factory import Factory
    from tuned.profiles.merger import Merger
    from tuned.profiles.variables import Variables
    from tuned.utils.global_config import GlobalConfig
    from tuned.plugins.plugin_cpu import CPULatencyPlugin
    from tuned.plugins.plugin_vm import VMPlugin
except ImportError as error:
    print("skipped:", error)
    sys.exit()
known = {"cpu": CPULatencyPlugin, "vm": VMPlugin}
loader = Loader(Locator([sys.argv[1]]), Factory(), Merger(), GlobalConfig(), Variables())
for name in sys.argv[2:]:
    for unit in loader.load([name]).units.values():
        for option in unit.options:
            assert option in known[unit.type]._get_config_options(), (name, unit.type, option)
    print("read:", name)
"#;

#[test]
fn tuned_knows_every_option() {
    let names = ["brightwire-low-latency", "brightwire-high-fanout"];
    // Debian's own Python, whose packages tuned is among.
    let Some(output) = run(Command::new("/usr/bin/python3")
        .args(["-c", TUNED])
        .arg(system().join("tuned"))
        .args(names))
    else {
        return;
    };
    let said = words(&output);
    assert!(output.status.success(), "{said}");
    if said.contains("skipped:") {
        return print!("{said}");
    }
    for name in names {
        assert!(said.contains(&format!("read: {name}")), "{said}");
    }
}

#[test]
fn the_shell_reads_what_it_is_given() {
    for path in [
        "irq/brightwire-irq",
        "irq/brightwire-irq.default",
        "irq/irqbalance.default",
    ] {
        let output = run(Command::new("sh").arg("-n").arg(system().join(path))).unwrap();
        assert!(output.status.success(), "{path}: {}", words(&output));
    }
    // As `update-grub` does it: what is there already stays.
    let output = run(Command::new("sh")
        .args(["-c", r#". "$1"; echo "$GRUB_CMDLINE_LINUX_DEFAULT""#, "sh"])
        .arg(system().join("grub/brightwire.cfg"))
        .env("GRUB_CMDLINE_LINUX_DEFAULT", "quiet"))
    .unwrap();
    assert_eq!(
        words(&output).trim(),
        "quiet isolcpus=managed_irq,domain,2-3 nohz_full=2-3 rcu_nocbs=2-3"
    );
}

/// The commands of the README find what they install, and install all that there is.
#[test]
fn the_commands_to_install_find_their_files() {
    let readme = std::fs::read_to_string(system().join("../README.md")).unwrap();
    let commands = readme
        .lines()
        .filter_map(|line| line.strip_prefix("    install "));
    let mut installed = Vec::new();
    for command in commands {
        let file = command.split(' ').find(|word| word.contains('/'));
        let file = file.unwrap_or_else(|| panic!("no file in {command}"));
        match file.split('/').next() {
            Some("target" | "profiles") => {} // from the top directory
            _ => assert!(system().join(file).exists(), "{command}"),
        }
        installed.push(file.to_owned());
    }
    for directory in ["systemd", "sysctl", "grub", "tuned", "irq"] {
        let prefix = format!("{directory}/");
        assert!(
            installed.iter().any(|file| file.starts_with(&prefix)),
            "{directory}"
        );
    }
}
