//! The process from the outside: asked to stop by a signal, and telling where it listens.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::termios::{self, LocalFlags, SetArg};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::{flag, low_level};
use tracing_subscriber::EnvFilter;

use crate::runtime::host::{self, Host, HostWaker, WakeSource};

/// A wish to stop that came as SIGINT or SIGTERM. The first one is reported here; a second one ends the process at
/// once with the shell's exit status for that signal (130 or 143), so that a stuck shutdown needs no SIGKILL. SIGUSR1 asks
/// for no more new sessions, SIGUSR2 for them again.
#[derive(Debug)]
pub struct StopSignal {
    /// One flag per signal of [`SIGNALS`].
    seen: [Arc<AtomicBool>; SIGNALS.len()],
    /// 1 behind SIGUSR1, 0 behind SIGUSR2.
    blocked: Arc<AtomicUsize>,
    source: WakeSource,
}

/// Which signal it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C in a terminal.
    Interrupt,
    /// What service managers and container runtimes send.
    Terminate,
}

impl fmt::Display for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

impl StopSignal {
    /// Takes the signals over from now on. Call it once, early, and before other threads are started that could
    /// receive them with the default effect.
    pub fn install() -> io::Result<Self> {
        let (waker, source) = host::wake_pair()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let seen = SIGNALS.map(|_| Arc::new(AtomicBool::new(false)));
        for ((signal, _), seen) in SIGNALS.into_iter().zip(&seen) {
            // Handlers run in the order of registration: the first signal finds the flag unset and sets it
            // afterwards; the second finds it set and does not return.
            flag::register_conditional_shutdown(signal, 128 + signal, stopping.clone())?;
            flag::register(signal, stopping.clone())?;
            flag::register(signal, seen.clone())?;
            low_level::pipe::register(signal, waker.try_clone_stream()?)?;
        }
        let blocked = Arc::new(AtomicUsize::new(0));
        for (signal, value) in [(SIGUSR1, 1), (SIGUSR2, 0)] {
            flag::register_usize(signal, blocked.clone(), value)?;
            low_level::pipe::register(signal, waker.try_clone_stream()?)?;
        }
        Ok(Self {
            seen,
            blocked,
            source,
        })
    }

    /// The same wish, for another host: see [`WakeSource::try_clone`].
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            seen: self.seen.clone(),
            blocked: self.blocked.clone(),
            source: self.source.try_clone()?,
        })
    }

    /// Returns when the first signal has come, which may have been before. Until then `block` is told whenever it changes
    /// whether sessions shall be opened: they shall not when it is true.
    pub async fn wait(self, host: &Host, block: impl FnMut(bool)) -> io::Result<Signal> {
        let blocked = || self.blocked.load(Ordering::Acquire) != 0;
        let stopped = || {
            let mut seen = self.seen.iter().zip(SIGNALS);
            let (_, (_, signal)) = seen.find(|(seen, _)| seen.load(Ordering::Acquire))?;
            Some(signal)
        };
        wait(host, self.source, blocked, stopped, block).await
    }
}

/// What a program wants of a server that it has started.
#[derive(Debug)]
pub struct Wishes {
    wanted: Arc<Wanted>,
    waker: HostWaker,
}

/// The server's end of them.
#[derive(Debug)]
pub struct WishSource {
    wanted: Arc<Wanted>,
    source: WakeSource,
}

#[derive(Debug, Default)]
struct Wanted {
    stop: AtomicBool,
    blocked: AtomicBool,
}

/// Both ends. The program wants nothing yet.
pub fn wishes() -> io::Result<(Wishes, WishSource)> {
    let (waker, source) = host::wake_pair()?;
    let wanted = Arc::new(Wanted::default());
    let wishes = Wishes {
        wanted: wanted.clone(),
        waker,
    };
    Ok((wishes, WishSource { wanted, source }))
}

impl Wishes {
    /// The server shall stop.
    pub fn stop(&self) {
        self.wanted.stop.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// It shall open no sessions, or shall again.
    pub fn block(&self, blocked: bool) {
        self.wanted.blocked.store(blocked, Ordering::Release);
        self.waker.wake();
    }
}

impl WishSource {
    /// The same wishes, for another host: see [`WakeSource::try_clone`].
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            wanted: self.wanted.clone(),
            source: self.source.try_clone()?,
        })
    }

    /// Returns when the server shall stop; `block` is told as by [`StopSignal::wait`].
    pub async fn wait(self, host: &Host, block: impl FnMut(bool)) -> io::Result<()> {
        let blocked = || self.wanted.blocked.load(Ordering::Acquire);
        let stopped = || self.wanted.stop.load(Ordering::Acquire).then_some(());
        wait(host, self.source, blocked, stopped, block).await
    }
}

/// Looks at both whenever `source` wakes, until one says that it is over.
async fn wait<T>(
    host: &Host,
    source: WakeSource,
    blocked: impl Fn() -> bool,
    stopped: impl Fn() -> Option<T>,
    mut block: impl FnMut(bool),
) -> io::Result<T> {
    let mut waiter = host.waiter(source)?;
    let mut told = false;
    loop {
        let blocked = blocked();
        if std::mem::replace(&mut told, blocked) != blocked {
            block(blocked);
        }
        if let Some(reason) = stopped() {
            return Ok(reason);
        }
        waiter.wait(None).await?;
    }
}

/// Writes the addresses that the listeners got as TOML: table `listeners`, one `name = "address"` each. Whoever
/// waits for the file sees all of it or nothing, because it is renamed into its place when it is complete.
pub fn write_ports_file(path: &Path, listeners: &[(String, SocketAddr)]) -> io::Result<()> {
    let addresses: BTreeMap<&str, String> = listeners
        .iter()
        .map(|(name, address)| (name.as_str(), address.to_string()))
        .collect();
    let text =
        toml::to_string(&BTreeMap::from([("listeners", addresses)])).map_err(io::Error::other)?;

    // Beside the target: a rename is atomic only within one file system. The process id keeps two servers apart.
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
    let temporary = path.with_file_name(format!(
        ".{}.{}",
        name.to_string_lossy(),
        std::process::id()
    ));
    let written = std::fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Logs to the standard error stream. The environment variable `BRIGHTWIRE_LOG` chooses how much: `error`, `warn`, `info`
/// (if it is not set), `debug` or `trace`. Does nothing if the program logs already.
pub fn log_to_stderr() {
    let filter =
        EnvFilter::try_from_env("BRIGHTWIRE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(filter)
        .try_init();
}

/// Reads a line from the standard input. If that is a terminal, asks for it and does not show what is typed.
pub fn read_password() -> io::Result<String> {
    let stdin = io::stdin();
    let shown = stdin.is_terminal().then(|| termios::tcgetattr(&stdin));
    let shown = shown.transpose()?;
    if let Some(shown) = &shown {
        let mut hidden = shown.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        termios::tcsetattr(&stdin, SetArg::TCSANOW, &hidden)?;
        eprint!("Password: ");
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if let Some(shown) = &shown {
        termios::tcsetattr(&stdin, SetArg::TCSANOW, shown)?;
        eprintln!();
    }
    if read? == 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "there is no password on the standard input",
        ));
    }
    let password = line.trim_end_matches(['\r', '\n']);
    Ok(password.to_owned())
}

const SIGNALS: [(i32, Signal); 2] = [(SIGINT, Signal::Interrupt), (SIGTERM, Signal::Terminate)];

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;
    use crate::runtime::host::HostKind;

    #[test]
    fn the_ports_file_appears_whole_and_replaces_an_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ports.toml");
        std::fs::write(&path, "old").unwrap();
        let web = "127.0.0.1:41234".parse().unwrap();
        let second = "[::1]:80".parse().unwrap();
        write_ports_file(&path, &[("demo".into(), web), ("a b".into(), second)]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "[listeners]\n\"a b\" = \"[::1]:80\"\ndemo = \"127.0.0.1:41234\"\n"
        );
        assert_eq!(
            std::fs::read_dir(directory.path()).unwrap().count(),
            1,
            "the temporary file is gone"
        );
    }

    #[test]
    fn a_ports_file_that_cannot_be_written_is_an_error_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("absent/ports.toml");
        let error = write_ports_file(&path, &[]).unwrap_err();
        assert!(error.to_string().contains("absent/ports.toml"), "{error}");
        // Renaming over a directory fails after the temporary file was written.
        let error = write_ports_file(directory.path(), &[]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(directory.path().to_str().unwrap())
        );
    }

    /// Signals concern a whole process, so the test runs itself once more for each case. The child raises a signal
    /// while its host sleeps, must be told, raises another one, and must not outlive it.
    #[test]
    fn the_first_signal_is_reported_and_the_second_one_ends_the_process() {
        for kind in ["smol", "auto"] {
            for (first, second, status) in [("int", "term", 143), ("term", "int", 130)] {
                let output = Command::new(std::env::current_exe().unwrap())
                    .args([
                        "--exact",
                        "lifecycle::tests::child_that_is_signalled",
                        "--ignored",
                        "--nocapture",
                    ])
                    .env("BRIGHTWIRE_TEST_CHILD", format!("{kind} {first} {second}"))
                    .output()
                    .unwrap();
                let text = String::from_utf8_lossy(&output.stdout);
                let name = if first == "int" { "SIGINT" } else { "SIGTERM" };
                assert!(
                    text.contains(&format!("told {name}")),
                    "{kind} {first}: {output:?}"
                );
                assert_eq!(
                    output.status.code(),
                    Some(status),
                    "{kind} {first}: {output:?}"
                );
            }
        }
    }

    #[test]
    #[ignore = "run by the_first_signal_is_reported_and_the_second_one_ends_the_process"]
    fn child_that_is_signalled() {
        let Ok(script) = std::env::var("BRIGHTWIRE_TEST_CHILD") else {
            return;
        };
        let words: Vec<&str> = script.split(' ').collect();
        let number = |word: &str| if word == "int" { SIGINT } else { SIGTERM };
        let (first, second) = (number(words[1]), number(words[2]));
        let kind = if words[0] == "smol" {
            HostKind::Smol
        } else {
            HostKind::Auto
        };
        let stop = StopSignal::install().unwrap();
        let signal = host::run(kind, "test", None, move |host| async move {
            let sender = host.clone();
            host.spawn(async move {
                sender.sleep(Duration::from_millis(1)).await;
                low_level::raise(first).unwrap();
            });
            stop.wait(&host, |_| ()).await.unwrap()
        })
        .unwrap();
        println!("told {signal}");
        low_level::raise(second).unwrap();
        println!("still here");
    }
}
